"""Known networks, timed in turns with the model: ratios travel, milliseconds do not.

    one process, the model M and the references A, B opened with the same runtime and threads

    turn 1   M M M M   A A A A A A   B B B      a block of each is some 30 ms of inferences
    turn 2   A A A A A A   B B B   M M M M      the order moves on by one
    ...
    ratio M / A = median over the turns of  median of M's block / median of A's block

A clock that steps for longer than a turn slows both blocks of it, and falls out of the ratio;
a spike is in neither median. Other processes on the same cores do move it, because they displace
caches, and more of a large network's: that is a warning. The engine's own call is timed, on each
bundle's golden input.

Accuracies are what others published of a network of that size, with their source: nothing here
measures one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from edgekit.bundle import Manifest
from edgekit.errors import EdgekitError, InputError
from edgekit.models.zoo import VARIANTS
from edgekit.profiling.clock import Clock, Usage, cpu_share, read_usage
from edgekit.profiling.job import Job
from edgekit.profiling.latency import plan_of, warm_up
from edgekit.profiling.opening import golden_inputs, import_runtime, open_model
from edgekit.profiling.result import Model, Reference
from edgekit.profiling.statistics import ratio_of_turns
from edgekit.profiling.verdict import WAITED

Call = Callable[[], object]

BLOCK_MS = 30.0  # long beside the first, cold inferences; short beside a change of clock
LEAST_TURNS = 40
MOST_TURNS = 2000


@dataclass(frozen=True)
class ReferenceNet:
    """A row of the zoo at the size that its published figures are of."""

    name: str
    model_id: str
    image_size: int


REFERENCES = (
    ReferenceNet("MobileNetV2-0.5 @ 96", "mobilenetv2-x0.5", 96),
    ReferenceNet("MobileNetV3-small", "mobilenetv3-small", 224),
)

# ---- what a bundle is called, and what was published of it ------------------------------------


def name_of(model_id: str, image_size: int) -> str:
    """As in ``REFERENCES``, or the id with a size that is not the published one."""
    for row in REFERENCES:
        if (row.model_id, row.image_size) == (model_id, image_size):
            return row.name
    variant = VARIANTS.get(model_id)
    usual = variant is None or variant.image_size == image_size
    return model_id if usual or not image_size else f"{model_id} @ {image_size}"


def metric_of(model_id: str, params: int, image_size: int) -> str:
    """Which published figure is the accuracy of a network; "" where none can be.

    Args:
        model_id: a row of the zoo, or anything.
        params: with another head they are others, and nothing that was published holds.
        image_size: in pixels.
    """
    variant = VARIANTS.get(model_id)
    if variant is None or params != variant.params:
        return ""
    return "top-1" if image_size == variant.image_size else f"top-1 at {image_size} pixels"


def published_accuracy(manifest: Manifest) -> tuple[str, str]:
    """Accuracy and source, from the manifest's figures; empty where none fits."""
    facts = manifest.model
    metric = metric_of(facts.id, facts.params, _side(manifest.inputs[0].shape))
    figures = {figure.metric: (figure.value, figure.source) for figure in facts.published}
    return figures.get(metric, ("", ""))


def _side(shape: Sequence[int]) -> int:
    """Side of a square image (1, 3, side, side), else 0."""
    return shape[3] if len(shape) == 4 and shape[2] == shape[3] else 0


# ---- the work of a fresh process -------------------------------------------------------------


@dataclass(frozen=True)
class Net:
    """One network that is ready to be timed.

    Attributes:
        facts: what the document says of it.
        call: one inference of the engine.
        block: inferences in a block.
    """

    facts: Mapping[str, Any]
    call: Call
    block: int = 1


def work(job: Job, clock: Clock, *, usage: Callable[[], Usage] = read_usage) -> dict[str, Any]:
    """Time ``job.bundle`` in turns with ``job.others``.

    A reference that cannot be opened with the job's runtime is a warning; the model that cannot
    is an error.

    Args:
        job: kind ``turns``.
        clock: the system's, or a test's.
        usage: reads the counters of this process.

    Raises:
        EdgekitError: the model cannot be opened or run, as ``open_model`` says.
    """
    import_runtime(job)
    warnings: list[str] = []
    with ExitStack() as opened:
        nets = [_ready(job, clock, opened, warnings)]
        for path in job.others:
            try:
                nets.append(_ready(replace(job, bundle=path), clock, opened, warnings, first=False))
            except EdgekitError as error:
                warnings.append(f"not timed as a reference: {error}")
        before = usage()
        turns = take_turns(nets, clock, job) if len(nets) > 1 else []
        warnings += _disturbances(before, usage(), nets, turns)
    return {
        "runtime": job.runtime,
        "threads": job.threads,
        "nets": [{**net.facts, "block": net.block} for net in nets],
        "turns_ns": turns,
        "warnings": warnings,
    }


def _ready(
    job: Job, clock: Clock, opened: ExitStack, warnings: list[str], *, first: bool = True
) -> Net:
    """The network of ``job.bundle``, open and warm, with the length of its blocks."""
    model = opened.enter_context(open_model(job))
    manifest = model.manifest
    if manifest is None:
        raise InputError(f"{job.bundle!r} is no bundle: a reference is made by edgekit export")
    call = model.session.engine_call(golden_inputs(model))
    warm = warm_up(call, clock, plan_of(job, first=first))
    accuracy, source = published_accuracy(manifest)
    name = name_of(manifest.model.id, _side(manifest.inputs[0].shape))
    if not warm.settled:
        warnings.append(
            f"{name} still changed after {warm.seconds:.0f} s of warm-up, before it was timed in "
            "turns: the ratios may be off"
        )
    facts = {"name": name, "accuracy": accuracy, "source": source, "macs": manifest.model.macs}
    return Net(facts, call, inferences_per_block(call, clock))


def _disturbances(
    before: Usage, after: Usage, nets: Sequence[Net], turns: Sequence[Sequence[float]]
) -> list[str]:
    """Whether others had the CPU meanwhile, by the limit that a verdict has."""
    blocks = [net.block for net in nets]
    busy = sum(ns * runs for turn in turns for ns, runs in zip(turn, blocks, strict=True))
    waited = 1 - cpu_share(before, after, round(busy))
    if not turns or waited <= WAITED:
        return []
    return [
        f"others had the CPU for {waited:.0%} of the time beside the reference networks (limit "
        f"{WAITED:.0%}): the ratios are of a busy machine"
    ]


def inferences_per_block(call: Call, clock: Clock) -> int:
    """Inferences that take ``BLOCK_MS``, from the median of five; at least one."""
    typical = statistics.median(time_block(call, clock, 5))
    return max(1, round(BLOCK_MS * 1e6 / max(typical, 1.0)))


def take_turns(nets: Sequence[Net], clock: Clock, job: Job) -> list[list[float]]:
    """Per turn the median of each net's block, in nanoseconds and in the order of ``nets``.

    At least ``LEAST_TURNS`` and the job's seconds; slow networks end at ``most_seconds`` a net.
    """
    begin = clock.now_ns()
    most = max(job.most_seconds, job.seconds) * len(nets)
    turns: list[list[float]] = []
    while len(turns) < MOST_TURNS:
        medians = {
            index: statistics.median(time_block(nets[index].call, clock, nets[index].block))
            for index in rotated(len(nets), len(turns))
        }
        turns.append([float(medians[index]) for index in range(len(nets))])
        seconds = (clock.now_ns() - begin) / 1e9
        if (seconds >= job.seconds and len(turns) >= LEAST_TURNS) or seconds >= most:
            break
    return turns


def rotated(count: int, turn: int) -> list[int]:
    """The order of a turn: one further than that of the turn before."""
    return [(turn + index) % count for index in range(count)]


def time_block(call: Call, clock: Clock, runs: int) -> list[int]:
    """Nanoseconds of each of ``runs`` inferences."""
    now = clock.now_ns
    samples = [0] * runs
    for index in range(runs):
        start = now()
        call()
        samples[index] = now() - start
    return samples


# ---- what the parent makes of it -------------------------------------------------------------


def reference_rows(document: Mapping[str, Any]) -> tuple[Reference, ...]:
    """One row a reference that was timed, from what ``work`` returned."""
    if not document["turns_ns"]:
        return ()
    model_ns, *others = zip(*document["turns_ns"], strict=True)
    facts = document["nets"][1:]
    return tuple(
        _row(document, row, model_ns, reference_ns)
        for row, reference_ns in zip(facts, others, strict=True)
    )


def reference_warnings(document: Mapping[str, Any]) -> tuple[str, ...]:
    """What must be said beside the rows: references that could not be timed, and why."""
    return tuple(document["warnings"])


def _row(
    document: Mapping[str, Any],
    facts: Mapping[str, Any],
    model_ns: Sequence[float],
    reference_ns: Sequence[float],
) -> Reference:
    ratio, interval = ratio_of_turns(model_ns, reference_ns)
    return Reference(
        runtime=document["runtime"],
        threads=document["threads"],
        name=facts["name"],
        accuracy=facts["accuracy"],
        source=facts["source"],
        macs=facts["macs"],
        p50_ms=statistics.median(reference_ns) / 1e6,
        model_p50_ms=statistics.median(model_ns) / 1e6,
        ratio=ratio,
        ratio_interval=interval,
        turns=len(model_ns),
    )


def model_accuracy(facts: Model) -> tuple[str, str]:
    """Published accuracy and source of what a result is of; empty where none fits its input."""
    side = _side(next(iter(facts.inputs.values()), ()))
    value, _, source = facts.published.get(metric_of(facts.id, facts.params, side), "").partition(
        " ("
    )
    return value, source.removesuffix(")")


def accuracy_note(facts: Model, references: Sequence[Reference]) -> str:
    """Whose the accuracies beside ratios are; "" where there are none."""
    named = {name_of(facts.id, _side(next(iter(facts.inputs.values()), ()))): model_accuracy(facts)}
    named |= {row.name: (row.accuracy, row.source) for row in references}
    of_source: dict[str, list[str]] = {}
    for name, (accuracy, source) in named.items():
        if accuracy:
            of_source.setdefault(source or "no source given", []).append(name)
    whose = "; ".join(f"{' and '.join(names)}: {source}" for source, names in of_source.items())
    return f"Accuracies are published, and none is measured here. {whose}." if whose else ""


def sentence(facts: Model, reference: Reference) -> str:
    """The comparison in words; `accuracy_note` belongs beside it.

    "micronet-m1: 51.4 % at 1.23 ms; on this machine MobileNetV2-0.5 @ 96, 51.2 %, takes 0.63 ms:
    1.95 times as long (1.93 to 1.97)."
    """
    name = name_of(facts.id, _side(next(iter(facts.inputs.values()), ())))
    accuracy, _ = model_accuracy(facts)
    own = f"{accuracy} at " if accuracy else ""
    of_it = f"{reference.accuracy}, " if reference.accuracy else ""
    low, high = reference.ratio_interval
    return (
        f"{name}: {own}{reference.model_p50_ms:.3g} ms; on this machine "
        f"{reference.name}, {of_it}takes {reference.p50_ms:.3g} ms: the model takes "
        f"{reference.ratio:.3g} times as long ({low:.3g} to {high:.3g})."
    )
