"""Depth multipliers and groups: every form is exact, and the cost table decides between them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.export.passes import costs as cost_table
from edgekit.export.passes.costs import COSTS, Costs
from edgekit.export.passes.infra import GraphPass, run_passes
from edgekit.export.passes.merge_groups import MergeGroups, divisors
from edgekit.export.passes.multiplier import DepthMultiplier
from edgekit.export.passes.notation import parse, render
from tests.export.passes.graph_numerics import EXACT, relative_difference, to_double

FREE = Costs(
    gather=(0.0, 0.0), slices=(0.0, 0.0, 0.0, 0.0), concat=(0.0, 0.0, 0.0),
    convolution=(0.0, 1.0, 0.0), tile=1, depthwise=(0.0, 0.0, 0.0), fitted="nowhere",
)  # fmt: skip
FAR = 1e9
CHEAP_DENSE = replace(FREE, concat=(FAR, 0.0, 0.0), depthwise=(FAR, 0.0, 0.0))
CHEAP_PARALLEL = replace(FREE, convolution=(FAR, FAR, FAR), concat=(1.0, 1e-6, 0.0))
CHEAP_CONVOLUTION = replace(FREE, convolution=(0.0, 0.0, 1e-9), concat=(FAR, FAR, 0.0))
KEEP = replace(FREE, convolution=(0.0, 0.0, 1.0), concat=(FAR, 0.0, 0.0), depthwise=(FAR, 0.0, 0.0))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch):
    def install(costs: Costs) -> str:
        monkeypatch.setitem(cost_table.COSTS, "test", costs)
        return "test"

    return install


def _run(graph_pass: GraphPass, text: str) -> list[str]:
    before = to_double(parse(text))
    after, _ = run_passes(before, [graph_pass])
    assert relative_difference(before, after, seeds=2) <= EXACT
    return [node.op_type for node in after.graph]


def _multiplied(before: str = "a = Relu(x)", times: int = 3) -> str:
    return (
        f"x: float[2, 4, 9, 9]\n{before}\n"
        f"y = Conv(a, k[{4 * times}, 1, 3, 3], c[{4 * times}], group=4, strides=[2, 1])\nreturn y"
    )


@pytest.mark.parametrize("times", [2, 3])
def test_dense(use, times: int) -> None:
    assert _run(DepthMultiplier(use(CHEAP_DENSE)), _multiplied(times=times)) == ["Relu", "Conv"]


@pytest.mark.parametrize("times", [2, 3])
def test_parallel(use, times: int) -> None:
    costs = replace(CHEAP_PARALLEL, depthwise=(0.0, 0.0, 1e-9))
    ops = _run(
        DepthMultiplier(use(replace(costs, concat=(0.0, 1.0, 0.0)))), _multiplied(times=times)
    )
    assert ops in (
        ["Relu", *["Conv"] * times, "Concat", "Gather"],
        ["Relu", "Concat", "Conv", "Gather"],
    )


@pytest.mark.parametrize(
    ("before", "ops"),
    [
        ("a = Conv(x, w[4, 4, 1, 1], b[4])", ["Conv", "Conv"]),
        ("a = Conv(x, w[4, 2, 1, 1], b[4], group=2)", ["Conv", "Conv"]),
        ("d = Conv(x, w[4, 4, 1, 1], b[4])\na = Clip(d, 0.0, 6.0)", ["Conv", "Clip", "Conv"]),
        ("d = Conv(x, w[4, 4, 1, 1])\na = Gather(d, [2, 0, 3, 1], axis=1)",
         ["Conv", "Conv", "Gather"]),
        ("d = Conv(x, w[4, 4, 1, 1])\na = Conv(d, v[4, 1, 1, 1], group=4)",
         ["Conv", "Conv", "Conv"]),
    ],
)  # fmt: skip
def test_repeated_by_the_convolution_before(use, before: str, ops: list[str]) -> None:
    costs = replace(CHEAP_CONVOLUTION, convolution=(0.0, 1e-6, 1e-3), depthwise=(0.0, 0.0, 1e-9))
    assert _run(DepthMultiplier(use(costs)), _multiplied(before)) == ops


def test_repeated_by_concat(use) -> None:
    costs = replace(FREE, convolution=(FAR, FAR, FAR), depthwise=(1.0, 0.0, 0.0))
    text = _multiplied("a = Relu(x)")
    assert _run(DepthMultiplier(use(costs)), text) == ["Relu", "Concat", "Conv", "Gather"]


def test_the_parts_of_a_concat_are_repeated(use) -> None:
    costs = replace(FREE, convolution=(FAR, FAR, FAR), concat=(1.0, 0.0, 0.0))
    before = "d = Conv(x, w[2, 4, 1, 1])\ne = Conv(x, v[2, 4, 1, 1])\na = Concat(d, e, axis=1)"
    ops = _run(DepthMultiplier(use(costs)), _multiplied(before))
    assert ops == ["Conv", "Conv", "Concat", "Conv", "Gather"]


def test_a_value_that_is_read_elsewhere_is_not_recomputed(use) -> None:
    costs = replace(CHEAP_CONVOLUTION, convolution=(0.0, 1e-6, 1e-3), depthwise=(0.0, 0.0, 1e-9))
    text = """
        x: float[2, 4, 9, 9]
        a = Conv(x, w[4, 4, 1, 1])
        d = Conv(a, k[8, 1, 1, 1], c[8], group=4)
        e = Conv(a, v[8, 4, 1, 1])
        y = Add(d, e)
        return y
    """
    assert _run(DepthMultiplier(use(costs)), text).count("Conv") == 3


def test_what_is_cheapest_as_it_is_stays(use) -> None:
    text = _multiplied()
    assert _run(DepthMultiplier(use(KEEP)), text) == ["Relu", "Conv"]
    after, (record,) = run_passes(parse(text), [DepthMultiplier(use(KEEP))])
    assert render(after) == render(parse(text)) and record.modified == 0


@pytest.mark.parametrize(
    "node",
    [
        "Conv(x, k[4, 1, 3, 3], group=4)",
        "Conv(x, k[8, 2, 3, 3], group=2)",
        "Conv(x, k[8, 4, 3, 3])",
    ],
)
def test_other_convolutions_are_left_alone(use, node: str) -> None:
    text = f"x: float[2, 4, 9, 9]\ny = {node}\nreturn y"
    after, (record,) = run_passes(parse(text), [DepthMultiplier(use(CHEAP_DENSE))])
    assert render(after) == render(parse(text)) and record.modified == 0


@pytest.mark.parametrize("groups", [2, 3, 4, 6, 12])
def test_merged_groups(use, groups: int) -> None:
    text = (
        f"x: float[2, 24, 5, 5]\n"
        f"y = Conv(x, w[36, {24 // groups}, 3, 3], b[36], group={groups})\n"
        f"return y"
    )
    before = to_double(parse(text))
    after, _ = run_passes(before, [MergeGroups(use(replace(FREE, tile=36)))])
    assert relative_difference(before, after, seeds=2) <= EXACT
    assert "group" not in render(after)


def test_half_merged_groups(use) -> None:
    """A kernel that computes 8 outputs at once: 4 groups of 2 outputs become one of 8."""
    costs = replace(FREE, convolution=(0.0, 1e-6, 1.0), tile=8)
    text = "x: float[1, 32, 5, 5]\ny = Conv(x, w[16, 4, 1, 1], b[16], group=8)\nreturn y"
    before = to_double(parse(text))
    after, _ = run_passes(before, [MergeGroups(use(costs))])
    assert relative_difference(before, after, seeds=2) <= EXACT
    assert "group=2" in render(after)


def test_divisors() -> None:
    assert list(divisors(12)) == [12, 6, 4, 3, 2, 1]


@pytest.mark.parametrize("name", COSTS)
def test_cost_rows_are_sane(name: str) -> None:
    """Non-negative constants, and the orders of magnitude of a real machine."""
    row = COSTS[name]
    constants = (*row.gather, *row.slices, *row.concat, *row.convolution, *row.depthwise)
    assert min(constants) >= 0 and row.tile in (4, 8, 16, 32)
    assert row.fitted and name.endswith(("-x86", "-arm"))
    assert 0.2 < row.gather_us(20_000) < 50
    assert 0.5 < row.convolution_us(196, 4, 16, 48) < 50
    assert row.slices_us(20_000, 196, 2) < row.slices_us(20_000, 196, 40)
