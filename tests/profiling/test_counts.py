"""Counts equal torch's own counter, and a hand count where torch has none."""

from __future__ import annotations

import onnx_ir as ir
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgekit.errors import GraphError
from edgekit.export.trace import trace
from edgekit.profiling.counts import Counts, count_graph


class Gate(nn.Module):
    """Squeeze and excitation: its product is counted apart from the MACs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.fc(x.mean((2, 3))))[:, :, None, None]


class Attention(nn.Module):
    """Two matrix products of computed operands."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x @ x.transpose(1, 2), -1) @ x


NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "dense": (nn.Conv2d(3, 8, 3, stride=2, padding=1), (1, 3, 17, 19)),
    "grouped": (nn.Conv2d(8, 12, (3, 1), groups=4), (1, 8, 9, 9)),
    "depthwise with multiplier": (nn.Conv2d(8, 16, 5, groups=8), (1, 8, 9, 9)),
    "conv1d": (nn.Conv1d(4, 6, 3), (1, 4, 20)),
    "transposed": (nn.ConvTranspose2d(6, 4, 3, stride=2), (1, 6, 5, 5)),
    "linear": (nn.Linear(7, 5), (1, 7)),
    "linear on a sequence": (nn.Linear(7, 5), (1, 11, 7)),
    "gate": (Gate(6), (1, 6, 8, 8)),
    "attention": (Attention(), (1, 10, 16)),
}


def _count(module: nn.Module, shape: tuple[int, ...]) -> Counts:
    graph = trace(module.eval(), [torch.randn(shape)], ["x"], ["y"], opset=18)
    return count_graph(graph)


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_equal_half_of_torchs_flops(name: str) -> None:
    module, shape = NETWORKS[name]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(torch.randn(shape))
    counts = _count(module, shape)
    assert counts.macs > 0
    assert 2 * counts.macs == counter.get_total_flops()


def test_gate_products_are_counted_apart() -> None:
    counts = _count(*NETWORKS["gate"])
    assert counts.macs == 6 * 6
    assert counts.elementwise_multiplies == 6 * 8 * 8
    assert counts.madds == 36 + 384
    assert counts.flops == 2 * 36 + 384


def test_params_are_those_of_torch() -> None:
    module, shape = NETWORKS["grouped"]
    assert _count(module, shape).params == sum(p.numel() for p in module.parameters())


def test_layers_name_their_place_and_sum_to_the_total() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1))
    counts = _count(module, (1, 3, 4, 4))
    assert [layer.op_type for layer in counts.layers] == ["Conv", "Conv"]
    assert sum(layer.macs for layer in counts.layers) == counts.macs == 16 * (12 + 20)
    assert counts.layers[1].output_shape == (1, 5, 4, 4)
    assert counts.layers[1].scope == "2"


def test_what_is_not_counted_is_listed() -> None:
    counts = _count(*NETWORKS["attention"])
    assert "Softmax x1" in counts.not_counted
    assert counts.missing == ()


def test_what_makes_the_total_a_lower_bound_is_told_apart() -> None:
    graph = ir.from_onnx_text(
        """<ir_version: 8, opset_import: ["" : 18]>
        g (float[2,3] x, float[3,4] v) => (float[2,4] y) {
            a = Relu(x)
            y = Einsum<equation = "ij,jk->ik">(a, v)
        }"""
    )
    assert count_graph(graph).missing == ("Einsum x1",)


def test_an_unknown_shape_is_an_error_that_names_the_node() -> None:
    graph = trace(nn.Conv2d(3, 4, 1), [torch.randn(1, 3, 4, 4)], ["x"], ["y"], opset=18)
    node = graph.graph[0]
    node.name = "the_conv"
    node.outputs[0].shape = ir.Shape([1, "channels", 4, 4])
    with pytest.raises(GraphError, match=r"'the_conv'.*'y' is not known"):
        count_graph(graph)
