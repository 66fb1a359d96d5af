"""How many images a bundle of a network of the zoo takes at once.

    1, N         the network is traced with so many images, and everything follows from that
    "dynamic"    any number: the graph of one image, with axis 0 set free after the passes

The passes and the rows that choose between forms of a graph need static shapes, so that a free
axis is the last thing a graph gets. Where the one image is written into a Reshape, -1 is written
instead; where it is written into anything else, the graph is refused. Whether the result computes
the same for every batch is proven by running it: see `Source` and ``parity.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

import onnx_ir as ir

from edgekit.bundle import TensorSpec
from edgekit.errors import GraphError, UsageError
from edgekit.export.lowerings import LOWERINGS
from edgekit.export.parity import SAMPLES
from edgekit.export.passes.clean import DeduplicateInitializers
from edgekit.export.passes.graph import Builder, forget_names, infer_types, remove_dead, shape
from edgekit.profiling.counts import Counts, LayerCount
from edgekit.targets import Target

Batch = int | Literal["dynamic"]
DYNAMIC: Literal["dynamic"] = "dynamic"

MAX_BATCH = 128  # parity runs several such inputs through the source, in float32
# Where any batch is possible, some of another size than 1 are run, too; most is proven with one.
_OTHER_BATCH, _OTHER_SAMPLES = 3, 2

_AXIS = "batch"  # what axis 0 is called in the graph


def check_batch(batch: Batch, target: Target, skip: Collection[str]) -> None:
    """Refuse what no export of ``target`` without ``skip`` can have, before any work.

    Raises:
        UsageError: no whole number of 1 or more and not "dynamic", or a runtime of the target
            whose files are of one batch.
    """
    if batch == DYNAMIC:
        _check_free(target, skip)
    elif type(batch) is not int or not 1 <= batch <= MAX_BATCH:
        raise UsageError(
            f"batch is {batch!r}; 1 to {MAX_BATCH} images, or {DYNAMIC!r}, are possible"
        )


def _check_free(target: Target, skip: Collection[str]) -> None:
    wanted = [runtime for runtime in target.runtimes if runtime not in skip]
    fixed = [runtime for runtime in wanted if not LOWERINGS[runtime].dynamic_batch]
    if not fixed:
        return
    without = " ".join(f"--skip {runtime}" for runtime in fixed)
    leaves = ", ".join(runtime for runtime in wanted if runtime not in fixed)
    raise UsageError(
        f"batch {DYNAMIC!r} is not possible for {', '.join(fixed)}, whose files are of one batch: "
        "give a number, e.g. --batch 4 (batch=4)"
        + (f", or {without} (skip={fixed}), which leaves {leaves}" if leaves else "")
    )


def images(batch: Batch) -> int:
    """With how many images the network is traced."""
    return batch if isinstance(batch, int) else 1


def batches(batch: Batch) -> tuple[int, ...]:
    """With how many images each proof of an artifact is run."""
    other = (_OTHER_BATCH,) * _OTHER_SAMPLES if batch == DYNAMIC else ()
    return (images(batch),) * SAMPLES + other


def any_batch(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The interface ``specs`` of one image with a free axis 0."""
    return with_batch(specs, -1)


def with_batch(specs: Sequence[TensorSpec], count: int) -> tuple[TensorSpec, ...]:
    """The interface ``specs`` for ``count`` images."""
    return tuple(replace(spec, shape=(count, *spec.shape[1:])) for spec in specs)


# ---- the free axis -----------------------------------------------------------------------------


def with_dynamic_batch(model: ir.Model) -> ir.Model:
    """A clone of the graph ``model`` of one image that takes any number of them.

    Raises:
        GraphError: an input has no axis 0 of size 1, or a node keeps the one image; it is named.
    """
    model = model.clone()
    graph = model.graph
    forget_names(graph)
    free = set(graph.inputs)
    for value in graph.inputs:
        _free_input(value)
    for node in tuple(graph):
        if not free.isdisjoint(node.inputs):
            _free_node(node, model.opset_imports[""])
            free.update(node.outputs)
    DeduplicateInitializers().rewrite(model)
    _drop_unused(graph)
    return model


def _free_input(value: ir.Value) -> None:
    sizes = shape(value)
    if not sizes or sizes[0] != 1:
        raise GraphError(
            f"input {value.name!r} is {list(sizes)}: a free batch is axis 0 of a graph of one image"
        )
    value.shape = ir.Shape((_AXIS, *sizes[1:]))


def _free_node(node: ir.Node, opset: int) -> None:
    """Infer the outputs of ``node`` anew, whose inputs have a free axis."""
    before = [shape(value) for value in node.outputs]
    # One image before and after: as many numbers follow axis 0, so that -1 is the batch.
    view = node.op_type == "Reshape" and before[0][:1] == (1,)
    if view:
        node.replace_input_with(1, Builder(node).ints((-1, *before[0][1:]), "view"))
    infer_types(node, opset)
    for value, sizes in zip(node.outputs, before, strict=True):
        found = tuple(value.shape or ())
        free = bool(found) and found[0] == _AXIS
        if not (view or free) or found[1:] != sizes[1:]:
            raise GraphError(
                f"node {node.name!r} ({node.op_type}) keeps the batch of 1: its output is "
                f"{value.shape}; export with a number, e.g. --batch 4 (batch=4)"
            )
        value.shape = ir.Shape((_AXIS, *sizes[1:]))


def _drop_unused(graph: ir.Graph) -> None:
    for node in reversed(tuple(graph)):
        remove_dead(node)
    for name, value in tuple(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


# ---- counts ------------------------------------------------------------------------------------


def of_one_image(counts: Counts, batch: int) -> Counts:
    """What a graph of ``batch`` images computes and moves for each of them; weights stay whole.

    Raises:
        GraphError: a node computes something that is no multiple of the batch.
    """
    peak = counts.peak_activation_bytes
    return replace(
        counts,
        nodes=tuple(_node_of_one(node, batch) for node in counts.nodes),
        peak_activation_bytes=None if peak is None else peak // batch,
    )


_PER_IMAGE = (
    "macs", "elementwise_multiplies", "other_multiplies", "input_bytes", "output_bytes"
)  # fmt: skip


def _node_of_one(node: LayerCount, batch: int) -> LayerCount:
    figures = {name: getattr(node, name) for name in _PER_IMAGE}
    odd = [name for name, figure in figures.items() if figure % batch]
    if odd:
        raise GraphError(f"{odd[0]} of node {node.name!r} is no multiple of the batch {batch}")
    first, *rest = node.output_shape or (0,)
    one = (first // batch, *rest) if first and first % batch == 0 else node.output_shape
    return replace(
        node, output_shape=one, **{name: figure // batch for name, figure in figures.items()}
    )
