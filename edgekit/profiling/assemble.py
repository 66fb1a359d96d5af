"""What the processes answered, put together as a ``ProfileResult``: at any time, for Ctrl-C."""

from __future__ import annotations

import datetime
import hashlib
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from edgekit import __version__, optional
from edgekit.bundle import Bundle, Manifest, manifest_to_json, schema
from edgekit.bundle.schema import SchemaError
from edgekit.errors import EdgekitError
from edgekit.profiling.counts_file import read_counts
from edgekit.profiling.environment import allowed_cpus, notes, read_machine, read_state
from edgekit.profiling.job import Job
from edgekit.profiling.latency import LatencyDocument
from edgekit.profiling.layers import layer_run
from edgekit.profiling.memory import memory
from edgekit.profiling.references import reference_rows, reference_warnings
from edgekit.profiling.request import Request
from edgekit.profiling.result import (
    ENGINE,
    ColdStart,
    Cost,
    Environment,
    LayerRun,
    Memory,
    Model,
    Process,
    ProfileResult,
    Reference,
    Run,
    Sustained,
)
from edgekit.profiling.statistics import Summary, summarise
from edgekit.profiling.verdict import Evidence, judge
from edgekit.runtimes import RUNTIMES, provider
from edgekit.runtimes.model import RANDOM_WEIGHTS

Key = tuple[str, int, str, float]  # runtime, threads, scope, pace


class Collected:
    """Answers so far, of one profile."""

    def __init__(self, request: Request, bundle: Bundle, processes: int) -> None:
        self._request, self._wanted = request, processes
        self._counts = read_counts(bundle)
        self._started = datetime.datetime.now(datetime.timezone.utc)
        self.epoch_ns = time.perf_counter_ns()
        self._facts = model_facts(bundle.manifest)
        self._machine = read_machine(packages=versions(bundle.manifest))
        self._before = read_state()
        self._processes: dict[Key, list[Process]] = {}
        self._summaries: dict[Key, tuple[int, Summary]] = {}
        self._starts: list[ColdStart] = []
        self._costs: list[Cost] = []
        self._layers: list[tuple[Job, dict[str, Any]]] = []
        self._memory: list[Memory] = []
        self._references: list[Reference] = []
        self._sustained: list[Sustained] = []
        self._cpus: set[int] = set()
        self._image = ""
        self._warnings: list[str] = [RANDOM_WEIGHTS] if bundle.manifest.weights.random else []
        for sentence in batch_remarks(bundle.manifest):
            self.warn(sentence)

    def warn(self, sentence: str) -> None:
        """Say ``sentence`` beside the figures, once."""
        if sentence not in self._warnings:
            self._warnings.append(sentence)

    def add(self, job: Job, document: dict[str, Any]) -> None:
        """Take the answer of one process.

        Raises:
            EdgekitError: it is not what that kind of process answers.
        """
        self._cpus |= set(job.cpus)
        try:
            _TAKERS[job.kind](self, job, document)
        except (SchemaError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise EdgekitError(
                f"the {job.kind} process of {job.runtime} answered nonsense: {error}"
            ) from None

    def _latency(self, job: Job, document: dict[str, Any]) -> None:
        answer = schema.decode(LatencyDocument, document)
        if not all(process.samples_ns for process in answer.runs.values()):
            raise SchemaError("runs", "a scope without a sample")
        for scope, process in answer.runs.items():
            key = (job.runtime, job.threads, scope, job.pace_hz)
            self._processes.setdefault(key, []).append(process)
        for scope, problem in answer.problems.items():
            self.warn(f"scope {scope} is not measured: {problem}")
        self._image = answer.image or self._image
        self._costs.append(answer.cost)
        if not job.pace_hz:
            times = (answer.import_ms, answer.load_ms, answer.first_ms)
            self._starts.append(ColdStart(job.runtime, job.threads, *times))

    def _take_layers(self, job: Job, document: dict[str, Any]) -> None:
        layer_run(document, self._counts, None)  # now, so that nonsense is refused like any other
        self._layers.append((job, document))

    def _take_memory(self, job: Job, document: dict[str, Any]) -> None:
        self._memory.append(memory(document))

    def _take_turns(self, job: Job, document: dict[str, Any]) -> None:
        self._references += reference_rows(document)
        for warning in reference_warnings(document):
            self.warn(f"{job.runtime}: {warning}")

    def _take_sustained(self, job: Job, document: dict[str, Any]) -> None:
        self._sustained.append(schema.decode(Sustained, document))

    def result(self, *, complete: bool) -> ProfileResult:
        """All that was measured so far."""
        after = read_state()
        runs = tuple(self._run(key, after) for key in self._ordered())
        return ProfileResult(
            bundle=self._request.bundle,
            model=self._facts.id,
            facts=self._facts,
            command=tuple(map(_printable, self._request.command)),
            device="local",
            started=self._started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            seconds=(time.perf_counter_ns() - self.epoch_ns) / 1e9,
            preset=self._request.preset,
            image=self._image,
            complete=complete,
            runs=runs,
            starts=tuple(self._starts),
            layers=tuple(self._layer_run(*item, runs) for item in self._layers),
            memory=tuple(self._memory),
            references=tuple(self._references),
            sustained=tuple(self._sustained),
            instructions=(),
            cost=_median_cost(self._costs),
            environment=Environment(
                machine=self._machine,
                before=self._before,
                after=after,
                cpus=tuple(sorted(self._cpus)),
                allowed_cpus=allowed_cpus(),
                notes=notes(self._machine, self._before, after),
            ),
            warnings=(*self._warnings, *_shortages(runs)),
        )

    def _ordered(self) -> list[Key]:
        """Back-to-back before paced, and within that as they were measured first."""
        return sorted(self._processes, key=lambda key: key[3] > 0)

    def _run(self, key: Key, after: Any) -> Run:
        runtime, threads, scope, pace_hz = key
        processes = tuple(self._processes[key])
        summary = self._summary(key)
        fell = [
            row.throttled_at_s
            for row in self._sustained
            if (row.runtime, row.threads) == (runtime, threads)
        ]
        judgement = judge(
            Evidence(
                processes=processes,
                p50_ms=summary.p50_ms,
                p50_interval_ms=summary.p50_interval_ms,
                spread=summary.spread,
                before=self._before,
                after=after,
                cpus=self._machine.cores,
                sustained_fell_s=fell[0] if fell else None,
                paced=pace_hz > 0,
            )
        )
        return Run(
            runtime=runtime,
            threads=threads,
            scope=scope,
            pace_hz=pace_hz,
            verdict=judgement.verdict,
            reasons=judgement.reasons,
            complete=len(processes) >= self._wanted,
            processes=processes,
            **asdict(summary),
        )

    def _summary(self, key: Key) -> Summary:
        """Of the processes so far; it is asked after every piece, and changes with few."""
        processes = self._processes[key]
        known = self._summaries.get(key)
        if known is None or known[0] != len(processes):
            known = len(processes), summarise([process.samples_ns for process in processes])
            self._summaries[key] = known
        return known[1]

    def _layer_run(self, job: Job, document: dict[str, Any], runs: Sequence[Run]) -> LayerRun:
        key = (job.runtime, job.threads, ENGINE, 0.0)
        totals = [
            run.p50_ms for run in runs if (run.runtime, run.threads, run.scope, run.pace_hz) == key
        ]
        return layer_run(document, self._counts, totals[0] if totals else None)


_TAKERS = {
    "latency": Collected._latency,
    "layers": Collected._take_layers,
    "memory": Collected._take_memory,
    "turns": Collected._take_turns,
    "sustained": Collected._take_sustained,
}


def model_facts(manifest: Manifest) -> Model:
    """What was measured, from its manifest: a free axis is 1, as it is in the golden input."""
    facts, files = manifest.model, manifest.files
    return Model(
        id=facts.id,
        target=manifest.target,
        precision=manifest.precision,
        inputs={spec.name: tuple(max(size, 1) for size in spec.shape) for spec in manifest.inputs},
        random_weights=manifest.weights.random,
        weights=manifest.weights.source,
        params=facts.params,
        macs=facts.macs,
        elementwise_multiplies=facts.elementwise_multiplies,
        madds=facts.madds,
        flops=facts.flops,
        published={
            figure.metric: f"{figure.value} ({figure.source})" for figure in facts.published
        },
        bundle_sha256=hashlib.sha256(manifest_to_json(manifest).encode()).hexdigest(),
        artifacts={
            artifact.runtime: files[artifact.files[0]].sha256 for artifact in manifest.artifacts
        },
    )


def batch_remarks(manifest: Manifest) -> Iterator[str]:
    """What one inference is, where it is not that of one image alone."""
    if any(-1 in spec.shape for spec in manifest.inputs):
        yield "the bundle takes any batch, and batch 1 is measured"
    if manifest.batch > 1:
        yield f"an inference is of {manifest.batch} images, the counts of the model are of one"


def versions(manifest: Manifest) -> dict[str, str]:
    """Of edgekit, numpy, and of what opens the bundle's artifacts here."""
    found = {"edgekit": __version__, "numpy": optional.version("numpy") or "unknown"}
    for artifact in manifest.artifacts:
        package = provider(RUNTIMES[artifact.runtime]) if artifact.runtime in RUNTIMES else None
        if package:
            found[package] = optional.version(package) or "unknown"
    return found


def _median_cost(costs: Sequence[Cost]) -> Cost | None:
    if not costs:
        return None
    return Cost(
        statistics.median(cost.clock_ns for cost in costs),
        statistics.median(cost.call_ns for cost in costs),
    )


LEAST_SAMPLES = 1000


def _shortages(runs: Sequence[Run]) -> list[str]:
    """Back-to-back runs with too few samples: the model is slow, or the look was quick."""
    return [
        f"{run.runtime}, {run.threads} thread{'s' * (run.threads > 1)}, {run.scope}: "
        f"{run.samples} samples instead of {LEAST_SAMPLES}, so that p99 is not given; "
        "--thorough takes the time that more of them need"
        for run in runs
        if run.samples < LEAST_SAMPLES and run.complete and not run.pace_hz
    ]


def _printable(text: str) -> str:
    """Half a character, which Python makes of a file name that is no UTF-8, as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()
