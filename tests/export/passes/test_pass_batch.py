"""What a pass does to the graph of one image, it does to that of three."""

from __future__ import annotations

import re

import pytest

from edgekit.export.passes import run_passes
from edgekit.export.passes.infra import GraphPass
from edgekit.export.passes.notation import parse, render
from edgekit.export.passes.sums import FoldIntoSum
from tests.export.passes.graph_numerics import EXACT, relative_difference, to_double
from tests.export.passes.test_pass_docs import EXAMPLES

BATCH = 3

# Examples in which the batch is no batch, or where the best form depends on how much there is.
_OTHERS = {
    "fold-constants-1",  # [1, 8] becomes [2, 4] and comes back
    "simplify-movement-2",  # a Transpose brings the channels to axis 0
    "depth-multiplier-3",  # a form that is the fastest for one image only
}


def _of_three(text: str) -> str:
    """The example ``text``, which is of one image, for three: in its inputs and its Reshapes."""
    text = re.sub(r": float\[1,", f": float[{BATCH},", text)
    return re.sub(r"(Reshape\(\w+, \[)1,", rf"\g<1>{BATCH},", text)


SAME = [example for example in EXAMPLES if str(example.id) not in _OTHERS]


def test_nearly_every_example_is_tried() -> None:
    assert len(SAME) == len(EXAMPLES) - len(_OTHERS)


@pytest.mark.parametrize(("graph_pass", "given", "result"), SAME)
def test_the_example_holds_for_three_images(graph_pass: GraphPass, given: str, result: str) -> None:
    before = parse(_of_three(given))
    after, (record,) = run_passes(before, [graph_pass])
    assert record.modified > 0
    assert render(after) == render(parse(_of_three(result)))


@pytest.mark.parametrize(("graph_pass", "given", "result"), SAME)
def test_and_is_exact_for_them(graph_pass: GraphPass, given: str, result: str) -> None:
    before = to_double(parse(_of_three(given)))
    after, _ = run_passes(before, [graph_pass])
    assert relative_difference(before, after, seeds=2) <= EXACT


def test_places_of_a_map_are_no_rows_of_a_matrix() -> None:
    """A view that mixes places into the batch looks like one of so many images."""
    text = """
        x: float[1, 8, 2, 2]
        q: float[4, 4, 16]
        a = Conv(x, w[16, 8, 1, 1])
        m = Reshape(a, [4, 4, 4])
        b = MatMul(m, q)
        y = Mul(b, s[1, 4, 1])
        return y"""
    before = to_double(parse(text))
    after, (record,) = run_passes(before, [FoldIntoSum()])
    assert record.modified == 0
    assert relative_difference(before, after, seeds=1) <= EXACT
