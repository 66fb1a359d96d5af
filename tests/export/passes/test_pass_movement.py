"""Chains of data movement: recognised by what they do, whatever they are made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.export.passes.infra import GraphPass, run_passes
from edgekit.export.passes.movement import ConcatToGather, SimplifyMovement, SlicesToSplit
from edgekit.export.passes.notation import parse, render
from tests.export.passes.graph_numerics import relative_difference


def _run(graph_pass: GraphPass, text: str) -> tuple[str, tuple[str, ...]]:
    before = parse(text)
    after, (record,) = run_passes(before, [graph_pass])
    assert relative_difference(before, after, seeds=1) == 0.0  # nothing is computed
    return render(after), record.notes


def _same(text: str) -> str:
    return render(parse(text))


def _shuffle(value: str, name: str, groups: int, batch: int = 1) -> str:
    return (
        f"{name}1 = Reshape({value}, [{batch}, {groups}, {12 // groups}, 5, 5])\n"
        f"{name}2 = Transpose({name}1, perm=[0, 2, 1, 3, 4])\n"
        f"{name} = Reshape({name}2, [{batch}, 12, 5, 5])\n"
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_a_shuffle(batch: int) -> None:
    text = f"x: float[{batch}, 12, 5, 5]\n{_shuffle('x', 'y', 4, batch)}return y"
    index = np.arange(12).reshape(4, 3).T.ravel().tolist()
    expected = f"x: float[{batch}, 12, 5, 5]\ny = Gather(x, {index}, axis=1)\nreturn y"
    assert _run(SimplifyMovement(), text)[0] == _same(expected)


def test_two_shuffles_are_one_permutation() -> None:
    text = f"x: float[1, 12, 5, 5]\n{_shuffle('x', 'a', 4)}{_shuffle('a', 'y', 2)}return y"
    index = np.arange(12).reshape(4, 3).T.ravel().reshape(2, 6).T.ravel().tolist()
    expected = f"x: float[1, 12, 5, 5]\ny = Gather(x, {index}, axis=1)\nreturn y"
    assert _run(SimplifyMovement(), text)[0] == _same(expected)


def test_a_shuffle_and_its_inverse_are_nothing() -> None:
    text = (
        f"x: float[1, 12, 5, 5]\nr = Relu(x)\n"
        f"{_shuffle('r', 'a', 4)}{_shuffle('a', 'y', 3)}z = Abs(y)\nreturn z"
    )
    expected = "x: float[1, 12, 5, 5]\nr = Relu(x)\nz = Abs(r)\nreturn z"
    assert _run(SimplifyMovement(), text)[0] == _same(expected)


def test_shuffles_that_share_their_middle_reshape() -> None:
    """As torch's exporter merges them: only one Reshape between two transpositions."""
    text = """
        x: float[1, 12, 5, 5]
        a = Reshape(x, [1, 3, 4, 5, 5])
        b = Transpose(a, perm=[0, 2, 1, 3, 4])
        c = Reshape(b, [1, 6, 2, 5, 5])
        d = Transpose(c, perm=[0, 2, 1, 3, 4])
        y = Reshape(d, [1, 12, 5, 5])
        return y
    """
    result, _ = _run(SimplifyMovement(), text)
    assert result.count("Gather") == 1 and "Reshape" not in result


def test_something_read_on_the_way_stays() -> None:
    text = """
        x: float[1, 4, 3, 3]
        a = Gather(x, [3, 1, 2, 0], axis=1)
        b = Relu(a)
        c = Gather(a, [0, 1, 3, 2], axis=1)
        y = Mul(b, c)
        return y
    """
    expected = text.replace("Gather(a, [0, 1, 3, 2]", "Gather(x, [3, 1, 0, 2]")
    assert _run(SimplifyMovement(), text)[0] == _same(expected)


def test_negative_indices_and_scalar_axes() -> None:
    text = "x: float[1, 4, 3, 3]\ny = Gather(x, [-4, -3], axis=-3)\nreturn y"
    expected = "x: float[1, 4, 3, 3]\ny = Slice(x, [0], [2], [1], [1])\nreturn y"
    assert _run(SimplifyMovement(), text)[0] == _same(expected)


def test_what_looks_like_a_shuffle_and_is_none_is_refused_with_a_reason() -> None:
    text = """
        x: float[1, 4, 3, 3]
        a = Reshape(x, [1, 4, 9])
        b = Transpose(a, perm=[0, 2, 1])
        y = Reshape(b, [1, 4, 3, 3])
        return y
    """
    result, notes = _run(SimplifyMovement(), text)
    assert result == _same(text)
    assert notes == (
        "not composed at y: because the 3 nodes from a on are no selection of channels",
    )


def test_a_larger_tensor_than_any_feature_map_is_not_traced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgekit.export.passes.movement._TRACED_CAP", 100)
    text = f"x: float[1, 12, 5, 5]\n{_shuffle('x', 'y', 4)}return y"
    assert _run(SimplifyMovement(), text)[0] == _same(text)


def test_attention_heads_are_left_alone_without_a_note() -> None:
    text = (
        "x: float[1, 10, 24]\na = Reshape(x, [1, 10, 4, 6])\n"
        "y = Transpose(a, perm=[0, 2, 1, 3])\nreturn y"
    )
    assert _run(SimplifyMovement(), text) == (_same(text), ())


def test_an_index_from_the_input_is_left_alone() -> None:
    text = "x: float[1, 4, 3, 3]\ni: int64[4]\na = Gather(x, i, axis=1)\ny = Relu(a)\nreturn y"
    after, (record,) = run_passes(parse(text), [SimplifyMovement()])
    assert render(after) == _same(text) and record.modified == 0


_VIEWS = ([1, 8, 3, 2], [1, 2, 4, 3, 2], [1, 4, 2, 3, 2], [1, 48])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_the_chain_the_numbers_stay(data: st.DataObject) -> None:
    """Random chains: equal results always, and never more nodes than before."""
    sizes, lines, value = [1, 8, 3, 2], [], "x"
    for step in range(data.draw(st.integers(1, 5))):
        name, kind = f"v{step}", data.draw(st.sampled_from(["view", "swap", "index"]))
        axes = list(range(len(sizes)))
        if kind == "view":
            sizes = data.draw(
                st.sampled_from([[1, 8, 3, 2], [1, 2, 4, 3, 2], [1, 4, 2, 3, 2], [1, 48]])
            )
            lines.append(f"{name} = Reshape({value}, {sizes})")
        elif kind == "swap":
            perm = data.draw(st.permutations(axes))
            sizes = [sizes[axis] for axis in perm]
            lines.append(f"{name} = Transpose({value}, perm={perm})")
        else:
            axis = data.draw(st.sampled_from(axes))
            index = data.draw(st.permutations(range(sizes[axis])))
            lines.append(f"{name} = Gather({value}, {index}, axis={axis})")
        value = name
    text = "\n".join(["x: float[1, 8, 3, 2]", *lines, f"y = Neg({value})", "return y"])
    before = parse(text)
    after, _ = run_passes(before, [SimplifyMovement()])
    assert relative_difference(before, after, seeds=1) == 0.0
    assert len(after.graph) <= len(before.graph)


def test_a_concat_of_strangers_is_left_alone() -> None:
    text = """
        x: float[1, 4, 3, 3]
        z: float[1, 4, 3, 3]
        a = Slice(x, [0], [2], [1], [1])
        b = Slice(z, [2], [4], [1], [1])
        y = Concat(a, b, axis=1)
        return y
    """
    assert _run(ConcatToGather(), text)[0] == _same(text)


def test_a_concat_of_the_parts_of_a_split_is_a_permutation() -> None:
    text = (
        "x: float[1, 6, 3, 3]\na, b = Split(x, [2, 4], axis=1)\ny = Concat(b, a, axis=-3)\nreturn y"
    )
    expected = "x: float[1, 6, 3, 3]\ny = Gather(x, [2, 3, 4, 5, 0, 1], axis=1)\nreturn y"
    assert _run(ConcatToGather(), text)[0] == _same(expected)


@pytest.mark.parametrize("stops", [(0, 3, 3, 7), (0, 4, 3, 8), (1, 4, 4, 8)])
def test_slices_that_leave_a_gap_or_overlap_are_no_split(stops: tuple[int, ...]) -> None:
    text = f"""
        x: float[1, 8, 3, 3]
        a = Slice(x, [{stops[0]}], [{stops[1]}], [1], [1])
        b = Slice(x, [{stops[2]}], [{stops[3]}], [1], [1])
        c = Relu(a)
        d = Relu(b)
        return c, d
    """
    assert _run(SlicesToSplit(), text)[0] == _same(text)
