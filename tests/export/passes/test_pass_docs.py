"""The ``Given:`` / ``Result:`` graphs in the docstrings of the passes are run, so they hold."""

from __future__ import annotations

import inspect
import textwrap

import onnx_ir as ir
import pytest

from edgekit.export.passes import CANONICAL, choice_passes, run_passes
from edgekit.export.passes.clean import StripMetadata
from edgekit.export.passes.infra import GraphPass
from edgekit.export.passes.notation import parse, render
from edgekit.targets import TARGETS, GraphChoices
from tests.export.passes.graph_numerics import EXACT, relative_difference, to_double


def _documented_passes() -> dict[str, GraphPass]:
    everything = GraphChoices()
    chosen = [c for target in TARGETS.values() for c in target.choices.values()]
    chosen.append(TARGETS["x86"].choices["onnxruntime"])  # last: the costs of the examples
    passes = [*CANONICAL, *(p for c in (everything, *chosen) for p in choice_passes(c))]
    return {graph_pass.name: graph_pass for graph_pass in passes}


def _examples(graph_pass: GraphPass) -> list[tuple[str, str]]:
    text = textwrap.dedent("    " + (inspect.getdoc(type(graph_pass)) or ""))
    examples = []
    for block in text.split("Given:\n")[1:]:
        given, _, rest = block.partition("Result:\n")
        lines = rest.splitlines()
        stop = next((i for i, line in enumerate(lines) if line.strip().startswith("return")), 0)
        examples.append((given, "\n".join(lines[: stop + 1])))
    return examples


PASSES = _documented_passes()
EXAMPLES = [
    pytest.param(graph_pass, given, result, id=f"{name}-{number}")
    for name, graph_pass in PASSES.items()
    for number, (given, result) in enumerate(_examples(graph_pass), 1)
]


def test_every_pass_shows_what_it_does() -> None:
    without = [name for name, graph_pass in PASSES.items() if not _examples(graph_pass)]
    assert without == [StripMetadata.name]  # metadata is not part of the notation
    assert len(EXAMPLES) >= len(PASSES) - 1


@pytest.mark.parametrize(("graph_pass", "given", "result"), EXAMPLES)
def test_example_holds(graph_pass: GraphPass, given: str, result: str) -> None:
    rewritten, (record,) = run_passes(parse(given), [graph_pass])
    assert render(rewritten) == render(parse(result))
    assert record.modified > 0


@pytest.mark.parametrize(("graph_pass", "given", "result"), EXAMPLES)
def test_example_is_exact(graph_pass: GraphPass, given: str, result: str) -> None:
    before = to_double(parse(given))
    after, _ = run_passes(before, [graph_pass])
    assert relative_difference(before, after, seeds=3) <= EXACT


@pytest.mark.parametrize(("graph_pass", "given", "result"), EXAMPLES)
def test_result_is_left_alone(graph_pass: GraphPass, given: str, result: str) -> None:
    once, _ = run_passes(parse(given), [graph_pass])
    twice, (record,) = run_passes(once, [graph_pass])
    assert record.modified == 0
    assert render(twice) == render(once)


def test_to_double_changes_the_dtype_only() -> None:
    model = parse("x: float[1, 8]\ny = Mul(x, w[1, 8])\nreturn y")
    double = to_double(model)
    assert model.graph.inputs[0].dtype == ir.DataType.FLOAT
    assert double.graph.inputs[0].dtype == ir.DataType.DOUBLE
    assert double.graph.outputs[0].dtype == ir.DataType.DOUBLE
