"""Channel order: exact for any order, and a good order where one is known."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.errors import GraphError
from edgekit.export.passes.costs import COSTS
from edgekit.export.passes.graph import Array
from edgekit.export.passes.infra import PassResult, run_passes
from edgekit.export.passes.linear import as_linear
from edgekit.export.passes.notation import parse, render
from edgekit.export.passes.order import ChannelOrder
from edgekit.export.passes.order.classes import Classes
from edgekit.export.passes.order.plan import plan_orders
from edgekit.export.passes.order.relations import Relation, channels, relation
from edgekit.export.passes.order.rewrite import Orders, Rewriter, finest_groups, moves, runs
from tests.export.passes.graph_numerics import EXACT, relative_difference, to_double

LITERT = "litert-x86"

# Every relation, every kind of operand: the graph that random orders are tried on.
EVERYTHING = """
    x: float[2, 6, 8, 8]
    stem = Conv(x, w0[12, 6, 3, 3], b0[12], pads=[1, 1, 1, 1])
    act = Clip(stem, 0.0, 6.0)
    shuffled = Gather(act, [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11], axis=1)
    deep = Conv(shuffled, w1[12, 1, 3, 3], b1[12], group=12, pads=[1, 1, 1, 1])
    wide = Conv(deep, w2[24, 1, 1, 1], b2[24], group=12)
    pooled = GlobalAveragePool(wide)
    squeezed = Conv(pooled, w3[5, 24, 1, 1], b3[5])
    hidden = Relu(squeezed)
    theta = Conv(hidden, w4[48, 5, 1, 1], b4[48])
    offset = Add(theta, c0[1, 48, 1, 1])
    a, b = Split(offset, [24, 24], axis=1)
    rolled = Gather(wide, [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
                           23, 0, 1, 2, 3, 4], axis=1)
    left = Mul(wide, a)
    right = Mul(b, rolled)
    both = Max(left, right)
    scaled = Mul(c1[24, 1, 1], both)
    grouped = Conv(scaled, w5[12, 6, 1, 1], b5[12], group=4)
    skip = Add(grouped, act)
    slope = PRelu(skip, c2[12, 1, 1])
    half = Slice(slope, [3], [9], [1], [1])
    joined = Concat(half, deep, axis=1)
    padded = Pad(joined, [0, 0, 1, 1, 0, 0, 1, 1])
    small = AveragePool(padded, kernel_shape=[2, 2], strides=[2, 2])
    mixed = Softmax(small, axis=1)
    mean = GlobalAveragePool(mixed)
    flat = Reshape(mean, [2, 18])
    y = Gemm(flat, w6[7, 18], b6[7], transB=1)
    return y, skip, rolled
"""


class DropDeadCode:
    """Nothing: the wrapper removes what nobody reads after any pass that changed something."""

    name: ClassVar[str] = "drop-dead-code"

    def rewrite(self, model: ir.Model) -> PassResult:
        return PassResult(1)


class InOrders:
    """Stores values in given orders."""

    name: ClassVar[str] = "in-orders"

    def __init__(self, seed: int, *, feed: bool) -> None:
        self.rng, self.feed = np.random.default_rng(seed), feed

    def rewrite(self, model: ir.Model) -> PassResult:
        stored, fed, written = {}, {}, {}
        for node in model.graph:
            kind = relation(node)
            if kind is not Relation.FIXED:
                stored.update({v: self.rng.permutation(channels(v)) for v in node.outputs})
            linear = as_linear(node)
            if self.feed and linear is not None:
                fed[node] = self.rng.permutation(linear.inputs)
                written[node] = self.rng.permutation(linear.outputs)
        costs = COSTS[LITERT] if self.feed else None
        return PassResult(Rewriter(model.graph, Orders(stored, fed, written, costs)).run())


@pytest.mark.parametrize("feed", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_any_order_is_exact(seed: int, feed: bool) -> None:
    before = to_double(parse(EVERYTHING))
    after, (record,) = run_passes(before, [InOrders(seed, feed=feed)])
    assert relative_difference(before, after, seeds=2) <= EXACT
    assert record.modified > 10


def test_every_relation_is_in_that_graph() -> None:
    assert {relation(node) for node in parse(EVERYTHING).graph} == set(Relation)


def test_the_true_order_changes_nothing() -> None:
    model = parse(EVERYTHING)
    text = render(model)
    assert Rewriter(model.graph, Orders({})).run() == 2  # the two Gathers, written anew
    assert render(run_passes(model, [DropDeadCode()])[0]) == text


def test_a_node_that_knows_no_order_cannot_be_given_one() -> None:
    model = parse("x: float[1, 4]\ny = Softmax(x)\nreturn y")
    with pytest.raises(GraphError, match="Softmax 'y' can only write in the true order"):
        Rewriter(model.graph, Orders({model.graph[0].outputs[0]: np.arange(4)[::-1]})).run()


@pytest.mark.parametrize("costs", COSTS)
def test_the_plan_is_exact(costs: str) -> None:
    before = to_double(parse(EVERYTHING))
    after, _ = run_passes(before, [ChannelOrder(costs)])
    assert relative_difference(before, after, seeds=2) <= EXACT


def test_inputs_and_outputs_keep_their_order() -> None:
    """Nothing to gain here, and a permutation of an input or output must stay one."""
    text = "x: float[1, 4, 5, 5]\ny = Gather(x, [2, 0, 3, 1], axis=1)\nreturn y"
    after, (record,) = run_passes(parse(text), [ChannelOrder(LITERT)])
    assert [node.op_type for node in after.graph] == ["Gather"]
    assert record.notes == ("not reordered: because no order costs less than the true one",)


def test_a_graph_without_permutations_is_not_touched() -> None:
    text = "x: float[1, 4, 5, 5]\ny = Conv(x, w[4, 2, 1, 1], group=2)\nreturn y"
    after, (record,) = run_passes(parse(text), [ChannelOrder(LITERT)])
    assert render(after) == render(parse(text))
    assert (record.modified, record.notes) == (0, ())


def _count(model: ir.Model, *op_types: str) -> int:
    return sum(node.op_type in op_types for node in model.graph)


def test_a_shuffle_between_grouped_convolutions_with_a_depthwise_one_between() -> None:
    """As in ShuffleNet, but with a dense convolution first."""
    text = """
        x: float[1, 16, 14, 14]
        a = Conv(x, w[64, 16, 1, 1], b[64])
        s = Gather(a, [0, 16, 32, 48, 1, 17, 33, 49, 2, 18, 34, 50, 3, 19, 35, 51, 4, 20, 36, 52,
                       5, 21, 37, 53, 6, 22, 38, 54, 7, 23, 39, 55, 8, 24, 40, 56, 9, 25, 41, 57,
                       10, 26, 42, 58, 11, 27, 43, 59, 12, 28, 44, 60, 13, 29, 45, 61, 14, 30, 46,
                       62, 15, 31, 47, 63], axis=1)
        d = Conv(s, k[64, 1, 3, 3], c[64], group=64, pads=[1, 1, 1, 1])
        y = Conv(d, v[64, 16, 1, 1], e[64], group=4)
        return y
    """
    before = to_double(parse(text))
    after, _ = run_passes(before, [ChannelOrder(LITERT)])
    assert relative_difference(before, after, seeds=2) <= EXACT
    assert _count(after, "Gather", "Slice", "Concat") == 0
    assert "group=4" in render(after)  # and no group was lost for it


def _shift(groups: int, size: int) -> list[int]:
    grid = np.arange(groups * size).reshape(groups, size)
    return np.roll(grid, (-1, -1), (0, 1)).ravel().tolist()


def test_a_shift_of_groups_and_places_becomes_a_few_slices() -> None:
    """(i, j) -> (i + 1, j + 1) is no roll in the true order: 8 groups, 16 contiguous runs."""
    index = _shift(8, 24)
    assert len(runs(np.asarray(index))) == 16
    text = f"""
        x: float[1, 32, 14, 14]
        a = Conv(x, w[192, 4, 1, 1], b[192], group=8)
        s = Gather(a, {index}, axis=1)
        m = Max(a, s)
        y = Conv(m, v[192, 1, 3, 3], c[192], group=192, pads=[1, 1, 1, 1])
        z = Conv(y, u[32, 192, 1, 1], d[32])
        return z
    """
    before = to_double(parse(text))
    after, _ = run_passes(before, [ChannelOrder(LITERT)])
    assert relative_difference(before, after, seeds=2) <= EXACT
    assert _count(after, "Gather") == 0 and _count(after, "Concat") == 1
    assert _count(after, "Slice") <= 4
    assert "group=8" in render(after)


def test_a_dense_producer_makes_a_shift_one_roll() -> None:
    text = f"""
        x: float[1, 32, 14, 14]
        a = Conv(x, w[192, 32, 1, 1], b[192])
        s = Gather(a, {_shift(8, 24)}, axis=1)
        m = Max(a, s)
        z = Conv(m, u[32, 192, 1, 1], d[32])
        return z
    """
    after, _ = run_passes(parse(text), [ChannelOrder(LITERT)])
    assert _count(after, "Slice") == 2 and _count(after, "Concat") == 1


# ---------------------------------------------------------------------------
# Parts
# ---------------------------------------------------------------------------


def test_moves_and_runs() -> None:
    have, want = np.array([2, 0, 1, 3]), np.array([0, 1, 3, 2])
    assert np.array_equal(have[moves(have, want)], want)
    assert runs(np.array([4, 5, 6, 0, 1, 3])) == [(4, 7), (0, 2), (3, 4)]


def _finest(fed: Array, stored: Array) -> int:
    model = parse("x: float[1, 8, 2, 2]\ny = Conv(x, w[12, 2, 1, 1], group=4)\nreturn y")
    linear = as_linear(model.graph[0])
    assert linear is not None
    return finest_groups(linear, fed, stored)


def test_how_many_groups_two_orders_allow() -> None:
    by_group = np.arange(8), np.arange(12)
    inside = np.array([1, 0, 3, 2, 5, 4, 7, 6]), np.array([2, 1, 0, *range(3, 12)])
    swapped = np.array([2, 3, 0, 1, 4, 5, 6, 7]), np.array([*range(3, 6), *range(3), *range(6, 12)])
    paired = np.array([0, 2, 1, 3, 4, 5, 6, 7]), np.arange(12)
    mixed = np.array([0, 7, 1, 2, 3, 4, 5, 6]), np.arange(12)
    crossed = swapped[0], by_group[1]
    found = [_finest(*orders) for orders in (by_group, inside, swapped, paired, mixed, crossed)]
    assert found == [4, 4, 4, 2, 1, 2]


def test_classes_share_names_across_permutations() -> None:
    graph = parse(
        "x: float[1, 4, 2, 2]\na = Conv(x, w[4, 4, 1, 1])\nb = Gather(a, [1, 2, 3, 0], axis=1)\n"
        "c = Relu(b)\nd = Conv(c, k[4, 1, 1, 1], group=4)\ne = Softmax(d, axis=1)\nreturn e"
    ).graph
    classes = Classes(graph)
    values = {str(v.name): v for node in graph for v in node.outputs}
    assert len(classes.all) == 3  # x, what follows the convolution, and the softmax
    shared = classes.of[values["a"]]
    assert shared is classes.of[values["d"]] and shared.pinned is None
    assert classes.of[values["e"]].pinned is values["e"]
    order = shared.order_from(values["b"], np.arange(4))
    assert np.array_equal(shared.order_of(values["d"], order), np.arange(4))
    assert np.array_equal(shared.order_of(values["a"], order), [1, 2, 3, 0])


def test_a_plan_is_the_same_every_time() -> None:
    plans = []
    for _ in range(2):
        graph = parse(EVERYTHING).graph
        orders, saved_us = plan_orders(graph, COSTS[LITERT])
        assert saved_us > 0
        plans.append({str(v.name): o.tolist() for v, o in orders.stored.items()})
    assert plans[0] == plans[1]
