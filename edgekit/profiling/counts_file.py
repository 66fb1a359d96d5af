"""``counts.json`` of a bundle <-> counts: written by an export, read on a board without ONNX.

The names of an artifact's nodes are those of the graph that its file was made from, so that a
runtime's kernels, which carry them, can be told what they compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields

from edgekit.bundle import Bundle, Manifest
from edgekit.bundle.counts import (
    AS_DEFINED,
    COLUMNS,
    COUNTS,
    CountsFile,
    GraphCounts,
    NodeRow,
    counts_from_json,
    counts_to_json,
)
from edgekit.errors import BundleError
from edgekit.profiling.counts import Counts, LayerCount

assert tuple(field.name for field in fields(LayerCount)) == COLUMNS


@dataclass(frozen=True)
class BundleCounts:
    """Of the model as defined, and of each artifact's rewritten graph, by runtime."""

    model: Counts
    artifacts: Mapping[str, Counts]


def counts_bytes(counts: BundleCounts) -> bytes:
    """``counts.json``: equal counts give equal bytes; equal graphs are written once."""
    graphs = {AS_DEFINED: counts.model}
    artifacts = {}
    for runtime, graph in counts.artifacts.items():
        same = (name for name, other in graphs.items() if other.nodes == graph.nodes)
        artifacts[runtime] = next(same, runtime)
        graphs.setdefault(artifacts[runtime], graph)
    document = CountsFile({name: _encode(graph) for name, graph in graphs.items()}, artifacts)
    return counts_to_json(document).encode("utf-8")


def read_counts(bundle: Bundle) -> BundleCounts | None:
    """The counts that ``bundle`` carries; None where it has none that this edgekit reads.

    Raises:
        BundleError: they are damaged, or contradict the manifest.
    """
    if COUNTS not in bundle.manifest.files:
        return None
    document = counts_from_json(bundle.file(COUNTS).read_text(encoding="utf-8"))
    if document is None:
        return None
    graphs = {name: _decode(graph) for name, graph in document.graphs.items()}
    artifacts = {runtime: graphs[name] for runtime, name in document.artifacts.items()}
    _compare_with_manifest(graphs[AS_DEFINED], artifacts, bundle.manifest)
    # In the order of the manifest, which is the one they are tried in.
    ordered = {a.runtime: artifacts[a.runtime] for a in bundle.manifest.artifacts}
    return BundleCounts(graphs[AS_DEFINED], ordered)


def _compare_with_manifest(
    model: Counts, artifacts: Mapping[str, Counts], manifest: Manifest
) -> None:
    facts = manifest.model
    said = {artifact.runtime: artifact.macs for artifact in manifest.artifacts}
    counted = {runtime: graph.macs for runtime, graph in artifacts.items()}
    same = (facts.macs, facts.elementwise_multiplies) == (model.macs, model.elementwise_multiplies)
    if said != counted or not same:
        raise BundleError(
            f"{COUNTS} has {model.macs} MACs and {counted} of the artifacts, the manifest "
            f"{facts.macs} and {said}: export the bundle again"
        )


def _encode(graph: Counts) -> GraphCounts:
    rows: tuple[NodeRow, ...] = tuple(astuple(node) for node in graph.nodes)
    return GraphCounts(graph.params, graph.peak_activation_bytes, graph.peak_at, rows)


def _decode(graph: GraphCounts) -> Counts:
    nodes = tuple(LayerCount(*row) for row in graph.nodes)
    return Counts(graph.params, nodes, graph.peak_activation_bytes, graph.peak_at)
