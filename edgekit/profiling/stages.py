"""Where the time of a vision-language bundle goes: each stage, and the whole.

    round       look at an image, ask short and long, write a caption: every stage by its own clock
    process     warm-up rounds, then rounds for some seconds
    profile     processes of all runtimes and thread counts in turns, each one fresh

A stage is what stands between two arrays: one call of a graph with its copies, or the numpy that
stands between two graphs. The rows ``look``, ``ask`` and ``caption`` are all that these calls
compute, and ``ask`` and ``caption`` include ``look``; what an app's call has besides, cutting the
text into tokens and naming the answer, is some tenths of a millisecond.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundle import schema
from edgekit.bundle.assembly import open_assembly
from edgekit.errors import UsageError
from edgekit.profiling.assemble import versions
from edgekit.profiling.clock import Clock, cpu_share, read_usage
from edgekit.profiling.environment import choose_cpus, read_machine, read_state
from edgekit.profiling.job import Job, run_job
from edgekit.profiling.latency import no_collection
from edgekit.profiling.result import Process, State, WarmUp
from edgekit.profiling.stages_result import ASK, LOOK, WRITE, StageRun, StagesResult
from edgekit.profiling.statistics import summarise
from edgekit.profiling.verdict import Evidence, judge
from edgekit.runtimes import is_available, require_runtime
from edgekit.runtimes.model import artifact_of
from edgekit.runtimes.preprocess import load_image
from edgekit.runtimes.vision_language.loaded import LoadedVlm, load_vlm
from edgekit.runtimes.vision_language.model import (
    CAPTION,
    DETECTOR,
    FUSED,
    JUDGE,
    NLVR2,
    VQA,
    Seen,
    fusion_name,
)

DRAWN = (480, 640)  # height and width of the image where none is given
_LEAST_ROUNDS = 5
# kind of length -> processes, seconds and rounds of warm-up in each
PRESETS: Mapping[str, tuple[int, float, int]] = {
    "quick": (1, 4.0, 2),
    "default": (3, 6.0, 3),
    "thorough": (5, 15.0, 5),
}

Samples = dict[str, list[float]]


def profile_stages(
    bundle: str | Path,
    *,
    runtimes: Sequence[str] = (),
    threads: Sequence[int] = (1,),
    preset: str = "default",
    image: str = "",
    cpus: str = "auto",
    progress: Callable[[str], None] = lambda _: None,
    run: Callable[[Job], dict[str, Any]] = run_job,
) -> StagesResult:
    """Time each stage of a vision-language bundle on this machine.

    Args:
        bundle: its folder.
        runtimes: by default all of the bundle that are installed.
        threads: of the graphs; each is measured.
        preset: key of `PRESETS`.
        image: file to look at; a drawn one by default.
        cpus: to pin to, as ``edgekit profile --cpus``.
        progress: told what is being done.
        run: does a job in a fresh process.

    Raises:
        UsageError: no such preset or runtime.
        BundleError, InputError: the bundle or the image cannot be read.
    """
    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r} is none of {', '.join(PRESETS)}")
    processes, seconds, warm = PRESETS[preset]
    if image:
        load_image(image)
    with open_assembly(bundle) as opened:
        chosen = _runtimes(opened.parts[DETECTOR], runtimes)
        model, weights = opened.assembly.model, opened.assembly.weights
        machine = read_machine(packages=versions(opened.parts[DETECTOR].manifest))
    jobs = [
        Job("stages", str(bundle), runtime, count, choose_cpus(cpus, count), seconds=seconds,
            warm_runs=warm, image=image)
        for runtime in chosen
        for count in threads
    ]  # fmt: skip
    before = read_state()
    found: dict[tuple[str, int], list[Document]] = {}
    for number in range(processes):
        for job in jobs:
            progress(f"{job.runtime}, threads {job.threads}: process {number + 1} of {processes}")
            done = schema.decode(Document, run(replace(job, epoch_ns=time.perf_counter_ns())))
            found.setdefault((job.runtime, job.threads), []).append(done)
    after = read_state()
    runs = [
        row for key, documents in found.items() for row in _rows(*key, documents, before, after)
    ]
    tokens = {runtime: documents[0].tokens for (runtime, _), documents in found.items()}
    return StagesResult(
        model.id, model.params, model.macs, weights.random, next(iter(found.values()))[0].image,
        tokens, machine, before, after, tuple(runs),
    )  # fmt: skip


def _runtimes(part: Any, wanted: Sequence[str]) -> list[str]:
    if wanted:
        return [require_runtime(artifact_of(part, name).runtime).name for name in wanted]
    names = [artifact.runtime for artifact in part.manifest.artifacts]
    return [name for name in names if is_available(name)] or [artifact_of(part, None).runtime]


def _rows(
    runtime: str, threads: int, documents: Sequence[Document], before: State, after: State
) -> list[StageRun]:
    rows = []
    for stage in documents[0].samples_ms:
        samples = tuple(document.samples_ms[stage] for document in documents)
        whole = tuple(tuple(round(ms * 1e6) for ms in each) for each in samples)
        summary = summarise(whole)
        processes = tuple(
            _alone(document.process, each) for document, each in zip(documents, whole, strict=True)
        )
        judged = judge(
            Evidence(
                processes, summary.p50_ms, summary.p50_interval_ms, summary.spread, before, after,
                os.cpu_count() or 1,
            )
        )  # fmt: skip
        p10 = float(np.quantile(np.concatenate(samples), 0.1))
        rows.append(
            StageRun(
                stage, runtime, threads, samples, p10, summary.p50_ms, summary.p90_ms,
                summary.spread, judged.verdict, judged.reasons,
            )
        )  # fmt: skip
    return rows


def _alone(process: Process, samples_ns: tuple[int, ...]) -> Process:
    """Of a process as if it had done one stage only, as often interrupted a second as it was."""
    share = sum(samples_ns) / max(sum(process.samples_ns), 1)
    return replace(process, samples_ns=samples_ns, preempted=round(share * process.preempted))


# ---- the work of a fresh process -------------------------------------------------------------


@dataclass(frozen=True)
class Document:
    """What the child says.

    Attributes:
        samples_ms: by stage.
        tokens: of its caption.
        image: what it looked at, in words.
        process: how undisturbed it was while it measured; its samples are whole rounds.
    """

    samples_ms: Mapping[str, tuple[float, ...]]
    tokens: int
    image: str
    process: Process


def work(job: Job, clock: Clock) -> dict[str, Any]:
    """Rounds, as `profile_stages` puts them together."""
    with load_vlm(job.bundle, job.runtime, job.threads) as model, no_collection():
        image, words = _image(job.image)
        tokens, warmed = 0, clock.now_ns()
        for _ in range(max(job.warm_runs, 1)):
            _, tokens = _round(model, image, clock)
        samples: Samples = {}
        before, started = read_usage(), clock.now_ns()
        end = started + int(job.seconds * 1e9)
        rounds: list[int] = []
        while len(rounds) < _LEAST_ROUNDS or clock.now_ns() < end:
            begun = clock.now_ns()
            found, _ = _round(model, image, clock)
            rounds.append(clock.now_ns() - begun)
            for stage, times in found.items():
                samples.setdefault(stage, []).extend(times)
        after = read_usage()
    process = Process(
        start_ms=(started - job.epoch_ns) / 1e6,
        warm_up=WarmUp(max(job.warm_runs, 1), (started - warmed) / 1e9, True),
        samples_ns=tuple(rounds),
        cpu_share=cpu_share(before, after, sum(rounds)),
        preempted=max(after.preempted - before.preempted, 0),
    )
    kept = {stage: tuple(times) for stage, times in samples.items()}
    encoded: dict[str, Any] = schema.encode(Document(kept, tokens, words, process))
    return encoded


def _image(file: str) -> tuple[Any, str]:
    if file:
        picture = load_image(file)
        return picture, f"{Path(file).name}, {picture.size[0]} x {picture.size[1]} pixels"
    pixels = np.random.default_rng(0).integers(0, 256, (*DRAWN, 3)).astype(np.uint8)
    return load_image(pixels), f"noise, {DRAWN[1]} x {DRAWN[0]} pixels"


def _round(model: LoadedVlm, image: Any, clock: Clock) -> tuple[Samples, int]:
    """Milliseconds of each stage and of the whole calls; tokens of the caption."""
    begun = clock.now_ns()
    seen = model.look(image)
    looked = (clock.now_ns() - begun) / 1e6
    found: Samples = {**model.times, LOOK: [looked]}
    tasks, lengths = model.settings.tasks, model.settings.lengths
    if FUSED & {*tasks}:
        for length in lengths:
            took = _fuse(model, seen, length, clock)
            found[fusion_name(length)] = model.times[fusion_name(length)]
            if length == lengths[0] and VQA in tasks:
                found[ASK] = [looked + took]
    if NLVR2 in tasks:
        model.judge_words(seen, seen, [model.vocabulary.mask])
        found[JUDGE] = model.times[JUDGE]
    tokens = 0
    if CAPTION in tasks:
        begun = clock.now_ns()
        tokens = len(model.caption_tokens(seen))
        took = (clock.now_ns() - begun) / 1e6
        found.update(model.times)
        found[WRITE] = [looked + took]
    return found, tokens


def _fuse(model: LoadedVlm, seen: Seen, length: int, clock: Clock) -> float:
    """A question that fills the graph of ``length`` tokens."""
    words = [model.vocabulary.mask] * (length - 2)
    model.times = {}
    begun = clock.now_ns()
    model.fuse(seen, model.vocabulary.question(words))
    return (clock.now_ns() - begun) / 1e6
