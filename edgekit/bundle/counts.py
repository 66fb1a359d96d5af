"""``counts.json``: what the model and each artifact's graph compute, node by node.

    {"artifacts": {"openvino": "openvino", "onnxruntime": "openvino"},   equal graphs stand once
     "graphs": {"model":    {...},                                       as defined
                "openvino": {"params": ..., "peak_activation_bytes": ..., "peak_at": ...,
                             "nodes": [[NAME, OPERATOR, SCOPE, [SHAPE], MACS, ...], ...]}},
     "schema_version": 1}

A file that a bundle may lack: bundles of earlier versions do. One line a node, in the order of
the graph and with the columns of ``COLUMNS``. Totals are not written: they are sums of the lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgekit.bundle import schema
from edgekit.bundle.schema import SchemaError
from edgekit.errors import BundleError

COUNTS = "counts.json"
COUNTS_VERSION = 1
AS_DEFINED = "model"  # the graph before any rewrite; no runtime is called so
MAX_COUNTS_BYTES = 32 << 20
MAX_NODES = 200_000  # of all graphs; tiny models have hundreds
_MAX_TEXT = 4096

COLUMNS = (
    "name", "op_type", "scope", "output_shape", "macs", "elementwise_multiplies",
    "other_multiplies", "other_kind", "params", "weight_bytes", "input_bytes", "output_bytes",
)  # fmt: skip

NodeRow = tuple[str, str, str, tuple[int, ...], int, int, int, str, int, int, int, int]


@dataclass(frozen=True)
class GraphCounts:
    """One graph. ``peak_activation_bytes`` is None where the size of a value is not known."""

    params: int
    peak_activation_bytes: int | None
    peak_at: str
    nodes: tuple[NodeRow, ...]


@dataclass(frozen=True)
class CountsFile:
    """All of ``counts.json``: graphs by name, and which one each runtime's artifact computes."""

    graphs: Mapping[str, GraphCounts]
    artifacts: Mapping[str, str]
    schema_version: int = COUNTS_VERSION


def counts_to_json(counts: CountsFile) -> str:
    """Canonical JSON: the same counts are always the same bytes, one line a node."""
    graphs = {name: _graph_text(graph) for name, graph in sorted(counts.graphs.items())}
    listed = ",\n".join(f"    {_compact(name)}: {text}" for name, text in graphs.items())
    return (
        f'{{\n  "artifacts": {_compact(dict(sorted(counts.artifacts.items())))},\n'
        f'  "graphs": {{\n{listed}\n  }},\n  "schema_version": {counts.schema_version}\n}}\n'
    )


def counts_from_json(text: str) -> CountsFile | None:
    """Parse and validate ``counts.json``; None for one of a newer edgekit.

    Raises:
        BundleError: not JSON, or with the JSON path of what is wrong.
    """
    try:
        document = schema.loads(text)
        if _version(document) > COUNTS_VERSION:
            return None
        counts = schema.decode(CountsFile, document)
        for path, problem in _problems(counts):
            raise SchemaError(path, problem)
    except SchemaError as error:
        raise BundleError(f"{COUNTS}: {error}") from None
    return counts


def check_counts(name: str, data: bytes) -> None:
    """Refuse ``data`` if it is no ``counts.json``; its lines are judged by whoever reads them.

    An app opens the bundle to run it, and must not wait for thousands of lines to be judged.

    Raises:
        BundleError: too large, or not JSON of this kind.
    """
    if len(data) > MAX_COUNTS_BYTES:
        raise BundleError(f"{name} has {len(data)} bytes: at most {MAX_COUNTS_BYTES} are accepted")
    try:
        document = schema.loads(data.decode("utf-8"))
        if _version(document) == COUNTS_VERSION and not _has_graphs(document):
            raise SchemaError("graphs", f"no {AS_DEFINED!r}, the graph as defined")
    except UnicodeDecodeError as error:
        raise BundleError(f"{name} is not UTF-8: {error}") from None
    except SchemaError as error:
        raise BundleError(f"{name}: {error}") from None


def _has_graphs(document: dict[str, object]) -> bool:
    graphs = document.get("graphs")
    return isinstance(graphs, dict) and AS_DEFINED in graphs


def _graph_text(graph: GraphCounts) -> str:
    rows = ",\n".join(f"      {_compact(row)}" for row in graph.nodes)
    return (
        f'{{\n      "params": {graph.params}, '
        f'"peak_activation_bytes": {_compact(graph.peak_activation_bytes)}, '
        f'"peak_at": {_compact(graph.peak_at)}, "nodes": [\n{rows}\n    ]}}'
    )


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _version(document: object) -> int:
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise SchemaError("schema_version", "missing or not a number: not edgekit's counts")
    return version


def _problems(counts: CountsFile) -> Iterator[tuple[str, str]]:
    if AS_DEFINED not in counts.graphs:
        yield "graphs", f"no {AS_DEFINED!r}, the graph as defined"
    for runtime, name in counts.artifacts.items():
        if name not in counts.graphs:
            yield f'artifacts["{runtime}"]', f"{name!r} is none of graphs"
    total = sum(len(graph.nodes) for graph in counts.graphs.values())
    if total > MAX_NODES:
        yield "graphs", f"{total} nodes: at most {MAX_NODES} are accepted"
    for name, graph in counts.graphs.items():
        yield from _graph_problems(f'graphs["{name}"]', graph)


def _graph_problems(path: str, graph: GraphCounts) -> Iterator[tuple[str, str]]:
    if min(graph.params, graph.peak_activation_bytes or 0) < 0:
        yield path, "counts are 0 or more"
    for index, row in enumerate(graph.nodes):
        name, op_type, scope, shape, *rest = row
        numbers = [item for item in rest if isinstance(item, int)]
        if min(*numbers, *shape) < 0:
            yield f"{path}.nodes[{index}]", "counts and sizes are 0 or more"
        if max(map(len, (name, op_type, scope))) > _MAX_TEXT or len(shape) > 64:
            yield f"{path}.nodes[{index}]", f"a text longer than {_MAX_TEXT}, or 64 axes"
