"""The order of axes: reshapes and transpositions that move no data, and those that must."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgekit.export.tflite import lower_tflite
from edgekit.export.tflite.layout import (
    Held,
    channels_last,
    moves_data,
    reshape_blocks,
    reshaped_order,
    stored_shape,
    without_axes,
)
from edgekit.export.tflite.schema import Tensor
from tests.export.tflite.comparing import check, codes, graph, noise, single

NHWC = (0, 2, 3, 1)


def test_held_counts_axes_as_onnx_does():
    held = Held(Tensor("x", (1, 7, 9, 6), np.dtype(np.float32)), NHWC)
    assert held.shape == (1, 6, 7, 9)
    assert held.stored(1) == 3
    assert held.permuted((0, 2, 3, 1)).order == (0, 1, 2, 3)
    assert held.permuted((0, 2, 3, 1)).shape == (1, 7, 9, 6)


def test_channels_last():
    assert [channels_last(rank) for rank in range(2, 6)] == [
        (0, 1),
        (0, 2, 1),
        (0, 2, 3, 1),
        (0, 2, 3, 4, 1),
    ]


def test_axes_of_size_one_move_for_free():
    assert not moves_data((1, 1, 1, 8), (0, 3, 1, 2))
    assert not moves_data((2, 1, 5, 1), (0, 3, 1, 2))
    assert moves_data((1, 2, 1, 8), (0, 3, 1, 2))


def test_dropped_axes_renumber_the_others():
    assert without_axes(NHWC, {2}) == (0, 2, 1)
    assert without_axes(NHWC, {2, 3}) == (0, 1)


@pytest.mark.parametrize(
    ("old", "new", "blocks"),
    [
        ((1, 8, 5, 5), (1, 2, 4, 25), [([1], [1, 2]), ([2, 3], [3])]),
        ((2, 3, 4), (6, 4), [([0, 1], [0]), ([2], [1])]),
        ((4, 6), (6, 4), [([0, 1], [0, 1])]),
        ((1, 1), (1,), []),
    ],
)
def test_a_reshape_falls_into_blocks(old, new, blocks):
    assert reshape_blocks(old, new) == blocks


@pytest.mark.parametrize(
    ("order", "old", "new", "before", "after"),
    [
        # Splitting and merging channels, and merging the map, need no other order.
        (NHWC, (1, 8, 5, 5), (1, 2, 4, 5, 5), NHWC, (0, 3, 4, 1, 2)),
        (NHWC, (1, 8, 5, 5), (1, 8, 25), NHWC, (0, 2, 1)),
        ((0, 3, 4, 1, 2), (1, 2, 4, 5, 5), (1, 8, 5, 5), (0, 3, 4, 1, 2), NHWC),
        # The pooled map is free.
        (NHWC, (1, 8, 1, 1), (1, 8), NHWC, (0, 1)),
        # Flattening a map is not: the channels must lie in front.
        (NHWC, (2, 8, 5, 5), (2, 200), (0, 1, 2, 3), (0, 1)),
        # After a shuffle only the channels need to move, behind the map.
        ((0, 3, 4, 2, 1), (1, 2, 4, 5, 5), (1, 8, 5, 5), (0, 3, 4, 1, 2), NHWC),
    ],
)
def test_a_reshape_keeps_the_order_where_it_can(order, old, new, before, after):
    assert reshaped_order(order, old, new) == (before, after)


@st.composite
def reshapes(draw):
    """(order, old shape, new shape) with equal products."""
    factors = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))

    def grouped() -> tuple[int, ...]:
        cuts = sorted(draw(st.lists(st.integers(0, len(factors)), max_size=4)))
        edges = [0, *cuts, len(factors)]
        return tuple(math.prod(factors[a:b]) for a, b in itertools.pairwise(edges))

    old, new = grouped(), grouped()
    order = tuple(draw(st.permutations(range(len(old)))))
    return order, old, new


@given(reshapes())
@settings(max_examples=200, deadline=None)
def test_the_orders_of_a_reshape_agree_with_numpy(example):
    order, old, new = example
    value = np.arange(math.prod(old)).reshape(old)
    before, after = reshaped_order(order, old, new)
    stored = np.transpose(value, before)
    reshaped = stored.reshape(stored_shape(new, after))
    back = np.transpose(reshaped, np.argsort(after))
    assert np.array_equal(back, value.reshape(new))


def chain(shape: tuple[int, ...], steps: list[tuple[str, object]]):
    """A graph of ``steps`` on an input of ``shape``: operator and its axes or shape."""
    nodes, constants, name = [], {}, "x"
    for i, (op, detail) in enumerate(steps):
        inputs = [name]
        attributes: dict[str, Any] = {}
        if op == "Transpose":
            attributes["perm"] = detail
        elif detail is not None:
            constants[f"c{i}"] = np.asarray(detail, np.int64)
            inputs.append(f"c{i}")
        name = f"v{i}"
        nodes.append(helper.make_node(op, inputs, [name], **attributes))
    feeds = {"x": noise(*shape)}
    return graph(nodes, feeds, constants, [name]), feeds


@st.composite
def chains(draw):
    """Reshapes, transpositions, unary operators and reductions, one after the other."""
    shape = start = tuple(draw(st.lists(st.integers(1, 4), min_size=2, max_size=5)))
    steps: list[tuple[str, object]] = []
    for _ in range(draw(st.integers(1, 6))):
        rank = len(shape)
        op = draw(st.sampled_from(["Transpose", "Reshape", "Neg", "ReduceMax", "Concat"]))
        if op == "Transpose":
            perm = draw(st.permutations(range(rank)))
            steps.append((op, perm))
            shape = tuple(shape[axis] for axis in perm)
        elif op == "Reshape":
            shape = draw(st.sampled_from(_regroupings(shape)))
            steps.append((op, shape))
        elif op == "ReduceMax":
            axis = draw(st.integers(0, rank - 1))
            shape = tuple(1 if i == axis else n for i, n in enumerate(shape))
            steps.append((op, [axis]))
        else:
            steps.append(("Neg", None))
    return start, steps


def _regroupings(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes of up to five axes with as many elements: neighbours merged, or one axis split."""
    merged = [(*shape[:i], shape[i] * shape[i + 1], *shape[i + 2 :]) for i in range(len(shape) - 1)]
    split = [
        (*shape[:i], n // d, d, *shape[i + 1 :])
        for i, n in enumerate(shape)
        for d in (1, 2, 3)
        if n % d == 0 and len(shape) < 5
    ]
    return [shape, shape[::-1], *merged, *split]


@given(chains())
@settings(max_examples=60, deadline=None)
def test_any_chain_of_rearrangements_is_right(example):
    model, feeds = chain(*example)
    check(model, feeds, tolerance=0.0)


def transposes(model) -> int:
    return codes(lower_tflite(model)).count("TRANSPOSE")


@pytest.mark.parametrize(
    ("shape", "steps", "count"),
    [
        # There and back.
        ((1, 8, 5, 5), [("Transpose", [0, 2, 3, 1]), ("Transpose", [0, 3, 1, 2])], 0),
        # A vision transformer's patches: N, C, H, W to N, HW, C.
        ((1, 8, 5, 5), [("Reshape", [1, 8, 25]), ("Transpose", [0, 2, 1])], 0),
        # A channel shuffle.
        (
            (1, 8, 5, 5),
            [
                ("Reshape", [1, 2, 4, 5, 5]),
                ("Transpose", [0, 2, 1, 3, 4]),
                ("Reshape", [1, 8, 5, 5]),
            ],
            1,
        ),
        ((1, 8, 1, 1), [("Flatten", None)], 0),
        ((1, 8, 5, 5), [("Flatten", None)], 1),
    ],
)
def test_how_often_data_moves(shape, steps, count):
    model, feeds = chain(shape, steps)
    check(model, feeds, tolerance=0.0)
    assert transposes(model) == count


def test_mixing_the_channels_of_a_map_by_a_computed_matrix_moves_no_data():
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["f"]),
        helper.make_node("MatMul", ["m", "f"], ["p"]),
        helper.make_node("Reshape", ["p", "map"], ["y"]),
    ]
    feeds = {"x": noise(2, 4, 5, 6), "m": noise(2, 3, 4)}
    shapes = {"flat": np.asarray([2, 4, 30]), "map": np.asarray([2, 3, 5, 6])}
    model = graph(nodes, feeds, shapes, ["y"])
    assert check(model, feeds, tolerance=1e-5) == ["RESHAPE", "BATCH_MATMUL", "RESHAPE"]


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_a_product_with_a_transposed_matrix(op):
    nodes = [
        helper.make_node("Transpose", ["k"], ["t"], perm=[1, 0]),
        helper.make_node(op, ["q", "t"], ["p"]),
        helper.make_node("Softmax", ["p"], ["y"]),
    ]
    for rows in (5, 9):
        feeds = {"q": noise(5, 4), "k": noise(rows, 4, seed=1)}
        operators = check(graph(nodes, feeds, {}, ["y"]), feeds, tolerance=1e-5)
        assert "BATCH_MATMUL" in operators


def test_few_queries_of_many_keys_move_no_data():
    nodes = [
        helper.make_node("Transpose", ["k"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "t"], ["p"]),
        helper.make_node("Softmax", ["p"], ["y"]),
    ]
    feeds = {"q": noise(3, 2, 8), "k": noise(3, 20, 8, seed=1)}
    operators = check(graph(nodes, feeds, {}, ["y"]), feeds, tolerance=1e-5)
    assert operators == ["BATCH_MATMUL", "SOFTMAX"]


def test_two_permutations_of_channels_share_their_transpositions():
    nodes = [
        helper.make_node("Gather", ["x", "p"], ["a"], axis=1),
        helper.make_node("Gather", ["a", "p"], ["y"], axis=1),
    ]
    feeds = {"x": noise(1, 6, 4, 4)}
    model = graph(nodes, feeds, {"p": np.asarray([3, 0, 5, 1, 4, 2])}, ["y"])
    assert check(model, feeds, tolerance=0.0) == ["TRANSPOSE", "GATHER", "GATHER", "TRANSPOSE"]


@pytest.mark.parametrize(
    ("indices", "form"),
    [
        ([*range(48, 96), *range(48)], ["SLICE", "SLICE", "CONCATENATION"]),
        ([*range(1, 96), 0], ["SLICE", "SLICE", "CONCATENATION"]),
        ([*range(95, -1, -1)], ["TRANSPOSE", "GATHER", "TRANSPOSE"]),
        ([*range(10, 20)], ["SLICE"]),
        ([*range(96)], []),
    ],
)
def test_the_form_of_a_permutation_follows_its_runs(indices, form):
    feeds = {"x": noise(1, 96, 3, 3)}
    nodes = [
        helper.make_node("Gather", ["x", "p"], ["a"], axis=1),
        helper.make_node("Neg", ["a"], ["y"]),
    ]
    model = graph(nodes, feeds, {"p": np.asarray(indices)}, ["y"])
    assert check(model, feeds, tolerance=0.0) == [*form, "NEG"]


def test_an_operator_that_takes_any_order_keeps_the_map_as_it_is():
    for op in ("Relu", "Softmax", "ReduceMean", "Sigmoid"):
        attributes = {"axis": 1} if op == "Softmax" else {}
        model, _ = single(op, [noise(1, 4, 3, 3)], **attributes)
        assert transposes(model) == 0
