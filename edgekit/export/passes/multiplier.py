"""Depthwise convolutions with a depth multiplier, in forms that have fast kernels.

Few libraries have a kernel for a depthwise convolution that writes m channels for each one it
reads; they run it as a grouped convolution with one input per group. Exact alternatives:

    dense      one dense convolution with zeros
    parallel   m plain depthwise convolutions on the same input, joined by Concat
    repeated   a plain depthwise convolution of an input in which every channel is repeated m
               times: by the convolution that computes it (more rows), or by a Concat

The cost table chooses. Parallel and repeated write their channels in another order; a Gather
restores it, which the channel-order pass absorbs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.costs import COSTS, Costs
from edgekit.export.passes.gates import UNARY
from edgekit.export.passes.graph import (
    Array,
    Builder,
    attribute,
    only_use,
    producer,
    replace,
    shape,
)
from edgekit.export.passes.infra import NodePass
from edgekit.export.passes.linear import Linear, as_linear
from edgekit.export.passes.merge_groups import merged_us, merged_weight
from edgekit.export.passes.permutations import permutation


@dataclass(frozen=True)
class DepthMultiplier(NodePass):
    """A depthwise convolution with a multiplier takes the form that costs least.

    Given:
        x: float[1, 3, 56, 56]
        a = Conv(x, w[8, 3, 1, 1], b[8])
        y = Conv(a, k[16, 1, 3, 3], c[16], group=8)
        return y
    Result:
        x: float[1, 3, 56, 56]
        a = Conv(x, w[16, 3, 1, 1], b[16])
        y = Conv(a, k[16, 1, 3, 3], c[16], group=16)
        return y

    Given:
        x: float[1, 4, 28, 28]
        y = Conv(x, k[8, 1, 3, 1], c[8], group=4)
        return y
    Result:
        x: float[1, 4, 28, 28]
        y = Conv(x, k[8, 4, 3, 1], c[8])
        return y

    Given:
        x: float[1, 12, 14, 14]
        y = Conv(x, k[24, 1, 5, 5], c[24], group=12)
        return y
    Result:
        x: float[1, 12, 14, 14]
        j = Concat(x, x, axis=1)
        a = Conv(j, k[24, 1, 5, 5], c[24], group=24)
        y = Gather(a, [0, 12, 1, 13, 2, 14, 3, 15, 4, 16, 5, 17, 6, 18, 7, 19, 8, 20, 9, 21,
                       10, 22, 11, 23], axis=1)
        return y

    Attributes:
        costs: key of ``COSTS``.
    """

    costs: str
    name: ClassVar[str] = "depth-multiplier"
    op_types: ClassVar[tuple[str, ...]] = ("Conv",)

    def rewrite_node(self, node: ir.Node) -> bool | str:
        linear = as_linear(node)
        if linear is None or linear.groups != linear.inputs or linear.outputs <= linear.inputs:
            return False
        if linear.inputs == 1:
            return False  # one group is dense already
        costs = COSTS[self.costs]
        best = min(_forms(linear, costs), key=lambda form: form.us)
        if best.us >= merged_us(linear, linear.groups, costs):
            return False
        replace(node.outputs[0], best.build())
        return True


@dataclass(frozen=True)
class _Form:
    us: float
    build: Callable[[], ir.Value]


def _forms(linear: Linear, costs: Costs) -> list[_Form]:
    result, times = linear.node.outputs[0], linear.outputs // linear.inputs
    pixels, kernel = _pixels(result), math.prod(linear.weight.shape[2:])
    parallel = times * costs.depthwise_us(pixels, linear.inputs, kernel)
    parallel += costs.concat_us(linear.outputs * pixels, pixels, times)
    repeated = _repeated(linear.source, linear.node, times, costs)
    plain = costs.depthwise_us(pixels, linear.outputs, kernel)
    return [
        _Form(merged_us(linear, 1, costs), lambda: _dense(linear)),
        _Form(parallel, lambda: _parallel(linear, times)),
        _Form(repeated.us + plain, lambda: _plain(linear, times, repeated)),
    ]


def _pixels(value: ir.Value) -> int:
    sizes = shape(value)
    return sizes[0] * math.prod(sizes[2:])


def _dense(linear: Linear) -> ir.Value:
    return linear.rebuild(Builder(linear.node), weight=merged_weight(linear, 1), groups=1)


def _parallel(linear: Linear, times: int) -> ir.Value:
    builder = Builder(linear.node)
    parts = [
        linear.rebuild(builder, weight=linear.weight[j::times], bias=linear.bias[j::times])
        for j in range(times)
    ]
    written = np.arange(linear.outputs).reshape(-1, times).T.ravel()
    return _restored(builder, builder.one("Concat", *parts, axis=1), written)


def _plain(linear: Linear, times: int, repeated: _Repeated) -> ir.Value:
    source = repeated.build()
    written = repeated.index * times + _occurrence(repeated.index)
    builder = Builder(linear.node)
    weight, bias = linear.weight[written], linear.bias[written]
    return _restored(
        builder, linear.rebuild(builder, source, weight, bias, linear.outputs), written
    )


def _restored(builder: Builder, value: ir.Value, written: Array) -> ir.Value:
    """The true order of a value whose channel ``i`` is channel ``written[i]``."""
    index = np.argsort(written)
    if (index == np.arange(len(index))).all():
        return value
    return builder.one("Gather", value, builder.ints(index.tolist(), "channels"), axis=1)


def _occurrence(index: Array) -> Array:
    """How often each number occurred before."""
    seen = dict.fromkeys(index.tolist(), -1)
    counts = []
    for number in index.tolist():
        seen[number] += 1
        counts.append(seen[number])
    return np.asarray(counts)


# ---------------------------------------------------------------------------
# Repeated channels
# ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Repeated:
    """A value with each channel several times: channel ``i`` of it is ``index[i]`` of the value.

    ``us`` is what it costs more than the value itself.
    """

    us: float
    index: Array
    build: Callable[[], ir.Value]


def _repeated(value: ir.Value, reader: ir.Node, times: int, costs: Costs) -> _Repeated:
    """The cheapest way to compute ``value`` with every channel ``times`` times for ``reader``."""
    options = [_by_concat([value], value, reader, times, costs)]
    node = producer(value)
    if node is not None and only_use(value):
        linear, index = as_linear(node), permutation(node)
        if linear is not None and node.op_type == "Conv":
            make = _by_depthwise if linear.depthwise else _by_convolution
            options.append(make(linear, times, costs))
        elif node.inputs[0] is not None and (index is not None or node.op_type in UNARY):
            options.append(_by_passing_on(node, index, times, costs))
        elif node.op_type == "Concat" and attribute(node, "axis") == 1:
            parts = [part for part in node.inputs if part is not None]
            options.append(_by_concat(parts, value, reader, times, costs))
    return min(options, key=lambda option: option.us)


def _by_concat(
    parts: list[ir.Value], value: ir.Value, reader: ir.Node, times: int, costs: Costs
) -> _Repeated:
    """One value, or the parts of a Concat, several times one after the other."""
    channels, pixels = shape(value)[1], _pixels(value)
    us = costs.concat_us(times * channels * pixels, pixels, times * len(parts))
    if len(parts) > 1:  # it is a Concat already
        us -= costs.concat_us(channels * pixels, pixels, len(parts))
    index = np.tile(np.arange(channels), times)

    return _Repeated(us, index, lambda: Builder(reader).one("Concat", *parts * times, axis=1))


def _by_convolution(linear: Linear, times: int, costs: Costs) -> _Repeated:
    """More rows: nearly free while the outputs fit one tile of the kernel."""
    pixels, kernel = _pixels(linear.node.outputs[0]), math.prod(linear.weight.shape[2:])
    groups = linear.groups
    inputs, outputs = linear.inputs // groups * kernel, linear.outputs // groups
    us = costs.convolution_us(pixels, groups, inputs, outputs * times)
    us -= costs.convolution_us(pixels, groups, inputs, outputs)
    index = np.repeat(np.arange(linear.outputs), times)
    return _Repeated(
        us,
        index,
        lambda: linear.rebuild(
            Builder(linear.node), weight=linear.weight[index], bias=linear.bias[index]
        ),
    )


def _by_depthwise(linear: Linear, times: int, costs: Costs) -> _Repeated:
    """A depthwise convolution repeats what its own input repeats."""
    pixels, kernel = _pixels(linear.node.outputs[0]), math.prod(linear.weight.shape[2:])
    source = _repeated(linear.source, linear.node, times, costs)
    us = costs.depthwise_us(pixels, linear.outputs * times, kernel)
    us -= costs.depthwise_us(pixels, linear.outputs, kernel)
    index = source.index
    return _Repeated(
        source.us + us,
        index,
        lambda: linear.rebuild(
            Builder(linear.node), source.build(), linear.weight[index], linear.bias[index],
            len(index),
        ),
    )  # fmt: skip


def _by_passing_on(node: ir.Node, index: Array | None, times: int, costs: Costs) -> _Repeated:
    """A clamp, or a permutation, of a repeated input; a permutation needs no node for it."""
    value = node.inputs[0]
    assert value is not None  # _repeated has seen it
    source = _repeated(value, node, times, costs)
    if index is not None:
        return _Repeated(source.us, np.argsort(index)[source.index], source.build)
    return _Repeated(
        source.us,
        source.index,
        lambda: Builder(node).again(node, source.build(), *node.inputs[1:])[0],
    )
