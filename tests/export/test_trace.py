"""Tracing: the opset is read back, nothing of this machine stays, and failures say why."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from edgekit.errors import GraphError
from edgekit.export.onnx_file import to_bytes
from edgekit.export.trace import SCOPE_KEY, trace


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.norm(self.conv(x)))


EXAMPLE = [torch.zeros(1, 3, 8, 8)]


def test_names_shapes_and_opset_are_as_asked() -> None:
    model = trace(Block(), EXAMPLE, ["image"], ["features"], opset=18)
    assert [value.name for value in model.graph.inputs] == ["image"]
    assert [value.name for value in model.graph.outputs] == ["features"]
    assert model.graph.outputs[0].shape is not None
    assert model.graph.outputs[0].shape.numpy() == (1, 4, 6, 6)
    assert model.opset_imports[""] == 18


def test_the_mode_of_the_module_is_given_back() -> None:
    module = Block().train()
    module.norm.eval()  # frozen
    graph = trace(module, EXAMPLE, ["x"], ["y"], opset=18)
    assert module.training
    assert module.drop.training
    assert not module.norm.training
    assert "Dropout" not in {node.op_type for node in graph.graph}, "traced in eval mode"


def test_scopes_stay_and_paths_go() -> None:
    model = trace(Block(), EXAMPLE, ["x"], ["y"], opset=18)
    assert any("norm" in node.metadata_props.get(SCOPE_KEY, "") for node in model.graph)
    data = to_bytes(model)
    assert b"stack_trace" not in data
    assert b".py" not in data


def test_an_opset_the_exporter_ignored_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = trace(Block(), EXAMPLE, ["x"], ["y"], opset=18)

    def ignores_the_opset(*args: Any, **options: Any) -> SimpleNamespace:
        return SimpleNamespace(model=honest)

    monkeypatch.setattr(torch.onnx, "export", ignores_the_opset)
    with pytest.raises(GraphError, match="asked the exporter for opset 19 and it wrote opset 18"):
        trace(Block(), EXAMPLE, ["x"], ["y"], opset=19)


def test_a_module_that_fails_is_named_by_its_root_cause() -> None:
    with pytest.raises(
        GraphError, match="cannot be traced to ONNX: .*must have same reduction dim"
    ):
        trace(nn.Linear(3, 4), [torch.zeros(1, 5)], ["x"], ["y"], opset=18)


@pytest.mark.parametrize(
    ("module", "shape", "left"),
    [
        (nn.GroupNorm(2, 6), (1, 6, 4, 4), {"Reshape", "InstanceNormalization", "Mul", "Add"}),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout()), (1, 3, 4, 4), {"Conv"}),
        (nn.Flatten(), (1, 4), {"Identity"}),
    ],
)
def test_what_the_tracer_computes_of_shapes_and_types_is_folded(
    module: nn.Module, shape: tuple[int, ...], left: set[str]
) -> None:
    graph = trace(module, [torch.zeros(shape)], ["input"], ["output"], opset=18).graph
    assert {node.op_type for node in graph} == left
    assert [value.name for value in graph.inputs] == ["input"]
    assert all(value.shape is not None and value.shape.is_static() for value in graph.outputs)
