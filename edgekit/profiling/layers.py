"""Time per layer: what each kernel of the engine takes, and which layers of the model it computes.

    child    work(job, clock)                      kernel, its type, node names, ms
    parent   layer_run(document, counts, total)    the same with scope, MACs and bytes beside

    kernel                       layers                       scope               ms   macs
    node_relu/relu.1:0_nchwc     node_linear/conv.1, relu.1   features.1.fc     .003    128
    ReorderOutput_token_165      none: the engine's own                         .019

It is a run of its own, because an engine that times its kernels is slower: ONNX Runtime writes a
line of JSON after each, which empties caches, and small kernels seem to take twice as long. So
the sum stands beside the total of the engine that times nothing, and shares are to be trusted
only as far as the two agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.bundle import schema
from edgekit.errors import EdgekitError
from edgekit.profiling.clock import Clock
from edgekit.profiling.counts import LayerCount
from edgekit.profiling.counts_file import BundleCounts
from edgekit.profiling.job import Job
from edgekit.profiling.opening import golden_inputs, import_runtime, open_model
from edgekit.profiling.result import LayerRun, LayerTime
from edgekit.runtimes.session import KernelTime, Session

_SECONDS = 1.5  # of inferences without timing, of which there are
_FEWEST, _MOST = 10, 150


@dataclass(frozen=True)
class LayerDocument:
    """What the child says. ``note`` is why there are no ``kernels``."""

    runtime: str
    threads: int
    source: str
    note: str
    inferences: int
    kernels: tuple[KernelTime, ...]


def work(job: Job, clock: Clock) -> dict[str, Any]:
    """Time the kernels of one runtime; where it has no times, say why."""
    import_runtime(job)
    with open_model(job) as model:
        inputs, session = golden_inputs(model), model.session
        count = _inferences(session, inputs, clock)
        kernels, note = [], ""
        try:
            kernels = session.layer_times(inputs, count)
        except EdgekitError as error:  # a profile is worth having without it
            note = str(error)
        document = LayerDocument(
            runtime=job.runtime,
            threads=job.threads,
            source=session.layer_source,
            note=note,
            inferences=count if kernels else 0,
            kernels=tuple(kernels),
        )
    encoded: dict[str, Any] = schema.encode(document)
    return encoded


def _inferences(session: Session, inputs: Mapping[str, Any], clock: Clock) -> int:
    """As many as take about a second and a half, within bounds."""
    session.run(inputs)  # the first is slower
    start = clock.now_ns()
    session.run(inputs)
    took = max(clock.now_ns() - start, 1)
    return int(min(max(_SECONDS * 1e9 / took, _FEWEST), _MOST))


def layer_run(
    document: Mapping[str, Any], counts: BundleCounts | None, total_ms: float | None
) -> LayerRun:
    """Join the kernels of a child with the counts of the artifact's graph.

    Args:
        document: of ``work``.
        counts: of the bundle; without them no MACs and scopes are known.
        total_ms: p50 of the engine that times nothing, with the same threads.

    Raises:
        SchemaError: something else than a document of ``work``.
    """
    said = schema.decode(LayerDocument, dict(document))
    graph = counts.artifacts.get(said.runtime) if counts else None
    nodes = {node.name: node for node in graph.nodes} if graph else None
    return LayerRun(
        runtime=said.runtime,
        threads=said.threads,
        source=said.source if said.kernels else "",
        note=said.note,
        inferences=said.inferences,
        sum_ms=sum(kernel.ms for kernel in said.kernels) if said.kernels else None,
        total_ms=total_ms,
        layers=_join(said.kernels, nodes),
    )


def named_share(run: LayerRun) -> float | None:
    """Share of the kernels' time that layers of the model have; the rest is the engine's own."""
    if not run.sum_ms:
        return None
    return sum(layer.ms for layer in run.layers if layer.layers) / run.sum_ms


def _join(
    kernels: Sequence[KernelTime], nodes: Mapping[str, LayerCount] | None
) -> tuple[LayerTime, ...]:
    if nodes is None:
        return tuple(LayerTime(k.kernel, k.kind, k.layers, "", k.ms, None) for k in kernels)
    found = [tuple(name for name in kernel.layers if name in nodes) for kernel in kernels]
    counted = _counted_once(kernels, found)
    return tuple(
        _layer_time(kernel, [nodes[name] for name in names], [nodes[name] for name in own])
        for kernel, names, own in zip(kernels, found, counted, strict=True)
    )


def _counted_once(
    kernels: Sequence[KernelTime], found: Sequence[tuple[str, ...]]
) -> list[list[str]]:
    """Per kernel the layers whose MACs are its own: of a layer in several kernels, the longest."""
    owner: dict[str, int] = {}
    for index, names in enumerate(found):
        for name in names:
            if name not in owner or kernels[index].ms > kernels[owner[name]].ms:
                owner[name] = index
    return [[name for name in names if owner[name] == index] for index, names in enumerate(found)]


def _layer_time(
    kernel: KernelTime, layers: Sequence[LayerCount], own: Sequence[LayerCount]
) -> LayerTime:
    return LayerTime(
        kernel=kernel.kernel,
        kind=kernel.kind,
        layers=tuple(layer.name for layer in layers),
        scope=next((layer.scope for layer in layers if layer.scope), ""),
        ms=kernel.ms,
        macs=sum(layer.macs for layer in own) if layers else None,
        bytes_moved=sum(layer.bytes_moved for layer in own) if layers else None,
    )
