"""Counts of what has a graph to be read: a network of the zoo, an ``.onnx`` file, an old bundle.

The first two take the way an export takes, up to the graph as defined. A bundle without
``counts.json`` has at least the graph of its ``model.onnx``, after the rewrites.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from edgekit.bundle import Bundle
from edgekit.errors import GraphError
from edgekit.profiling.counts import Counts, count_graph, printable

if TYPE_CHECKING:
    from torch import nn

Progress = Callable[[str], None]
InputShapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class CountedGraph:
    """The counts of a graph and the input shapes they are for, by name."""

    input_shapes: InputShapes
    counts: Counts


def count_zoo(
    model_id: str,
    *,
    num_classes: int | None = None,
    image_size: int | None = None,
    fc_squeeze: int | None = None,
    progress: Progress = lambda _: None,
) -> CountedGraph:
    """A network of the zoo as defined; weights play no part in it.

    Raises:
        UnknownNameError: no such model.
        UsageError: sizes, or an fc-squeeze, that it cannot have.
    """
    import torch

    from edgekit.export.sources import OPSET
    from edgekit.export.trace import trace
    from edgekit.models.building import select_variant
    from edgekit.models.checkpoint import build_network

    variant = select_variant(model_id, fc_squeeze)
    classes, size = num_classes or variant.num_classes, image_size or variant.image_size
    progress(f"build {variant.id} and trace it to ONNX")
    module = build_network(variant, classes, size).eval()
    _draw(module)
    graph = trace(module, [torch.zeros(1, 3, size, size)], ["image"], ["logits"], opset=OPSET)
    params = sum(parameter.numel() for parameter in module.parameters())
    return CountedGraph(_inputs(graph), replace(count_graph(graph), params=params))


def _draw(module: nn.Module) -> None:
    """Give every weight a value: the tracer drops a bias of zeros, which no trained network has.

    Constants of the network are no weights and keep theirs.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5, generator=generator)


def count_onnx(
    path: Path, *, input_shapes: InputShapes, progress: Progress = lambda _: None
) -> CountedGraph:
    """A user's own ``.onnx`` file, untrusted.

    Raises:
        GraphError, UsageError: as ``user_onnx.load_onnx``.
    """
    from edgekit.export.sources import OPSET
    from edgekit.export.user_onnx import load_onnx

    progress(f"read {path.name}")
    graph = load_onnx(path, opset=OPSET, input_shapes=input_shapes).graph
    return CountedGraph(_inputs(graph), count_graph(graph))


def count_artifacts(bundle: Bundle) -> dict[str, Counts]:
    """The graphs of the artifacts that are ``.onnx`` files, by runtime; needs no torch.

    Raises:
        GraphError: a file is not the graph that the manifest says it is.
    """
    found = {}
    for artifact in bundle.manifest.artifacts:
        if not artifact.files[0].endswith(".onnx"):
            continue
        counts = _count_file(bundle.file(artifact.files[0]))
        if counts.macs != artifact.macs:
            raise GraphError(
                f"{artifact.files[0]} does {counts.macs} MACs and the manifest says "
                f"{artifact.macs}: export the bundle again"
            )
        found[artifact.runtime] = counts
    return found


def _count_file(path: Path) -> Counts:
    try:
        return count_graph(ir.load(path))
    except GraphError:
        raise
    except Exception as error:  # the reader raises what its parts raise
        raise GraphError(f"{path.name} cannot be read as ONNX: {error}") from error


def _inputs(model: ir.Model) -> InputShapes:
    return {
        printable(value.name or ""): value.shape.numpy()
        for value in model.graph.inputs
        # Older files list their weights among the inputs.
        if value.shape is not None and value.name not in model.graph.initializers
    }
