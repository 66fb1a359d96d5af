"""Counts equal torch's own counter, and a hand count where torch has none."""

from __future__ import annotations

import functools
import math

import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgekit.errors import GraphError
from edgekit.export.counting import count_zoo
from edgekit.export.trace import trace
from edgekit.models.checkpoint import build_network
from edgekit.models.dcd import DynamicConv, DynamicLinear
from edgekit.models.micronet import DynamicShiftMax
from edgekit.models.mobilenetv3 import SqueezeExcite
from edgekit.models.zoo import get_variant
from edgekit.profiling.counts import Counts, count_graph
from tests.variants import SAMPLED, marked


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


class Batched(nn.Module):
    """A batched matrix product with a constant."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.bmm(x, self.weight)


class Broadcast(Batched):
    """(B, H, N, K) @ (K, M): one matrix for all."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "dense": (nn.Conv2d(3, 8, 3, stride=2, padding=1), (1, 3, 17, 19)),
    "grouped": (nn.Conv2d(8, 12, (3, 1), groups=4), (1, 8, 9, 9)),
    "depthwise with multiplier": (nn.Conv2d(8, 16, 5, groups=8), (1, 8, 9, 9)),
    "dilated": (nn.Conv2d(3, 4, 3, dilation=2, padding=2), (2, 3, 11, 10)),
    "conv1d": (nn.Conv1d(4, 6, 3), (1, 4, 20)),
    "conv3d": (nn.Conv3d(2, 4, (1, 3, 2), groups=2), (1, 2, 4, 5, 6)),
    "transposed": (nn.ConvTranspose2d(6, 4, 3, stride=2), (1, 6, 5, 5)),
    "transposed in groups": (nn.ConvTranspose2d(6, 4, 3, groups=2), (1, 6, 5, 5)),
    "transposed 1d": (nn.ConvTranspose1d(3, 5, 4, stride=3), (1, 3, 7)),
    "linear": (nn.Linear(7, 5), (1, 7)),
    "linear on a sequence": (nn.Linear(7, 5), (1, 11, 7)),
    "linear without a bias": (nn.Linear(7, 5, bias=False), (3, 7)),
    "batched matrix product": (Batched(3, 6, 4), (3, 5, 6)),
    "one matrix for all": (Broadcast(6, 4), (2, 3, 5, 6)),
    "gate": (Gate(6), (1, 6, 8, 8)),
    "attention": (Attention(), (1, 10, 16)),
}


@functools.cache
def _counted(name: str) -> Counts:
    """Of ``NETWORKS``, each traced once."""
    return _count(*NETWORKS[name])


def _pointwise() -> ir.Model:
    """A 1x1 convolution from 3 to 4 channels on 4 x 4 pixels, to be changed at will."""
    return ir.from_onnx_text(
        """<ir_version: 8, opset_import: ["" : 18]>
        g (float[1,3,4,4] x) => (float[1,4,4,4] y)
          <float[4,3,1,1] w = {1,2,3,4,5,6,7,8,9,10,11,12}> { y = Conv(x, w) }"""
    )


def _count(module: nn.Module, shape: tuple[int, ...]) -> Counts:
    graph = trace(module.eval(), [torch.randn(shape)], ["x"], ["y"], opset=18)
    return count_graph(graph)


def _flops(module: nn.Module, shape: tuple[int, ...]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(torch.randn(shape))
    return counter.get_total_flops()


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_equal_half_of_torchs_flops(name: str) -> None:
    module, shape = NETWORKS[name]
    counts = _counted(name)
    assert counts.macs > 0
    assert 2 * counts.macs == _flops(module, shape)


class Beside(nn.Module):
    """Layers beside each other on the first channels of one input, and a head on all of them."""

    def __init__(self, layers: list[nn.Module], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(self._joined(torch.zeros(shape)).shape[1], 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self._joined(x))

    def _joined(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([layer(x[:, : layer.in_channels]).flatten(1) for layer in self.layers], 1)


WIDEST = 9


def _convolution(data: st.DataObject) -> nn.Module:
    groups = data.draw(st.sampled_from([1, 2, 3]))
    widths = [groups * data.draw(st.integers(1, WIDEST // groups)) for _ in "io"]
    kernel = data.draw(st.sampled_from([1, 2, 3, (3, 1), (1, 5)]))
    options = {"stride": data.draw(st.integers(1, 2)), "padding": 2, "groups": groups}
    kind = data.draw(st.sampled_from([nn.Conv2d, nn.ConvTranspose2d]))
    return kind(*widths, kernel, **options)


@settings(max_examples=2, deadline=None)
@given(st.data())
def test_any_convolution_and_head_equal_torchs_count(data: st.DataObject) -> None:
    """Eight of them a graph: a trace takes longer than they do."""
    layers = [_convolution(data) for _ in range(8)]
    size = (data.draw(st.integers(5, 9)), data.draw(st.integers(5, 9)))
    shape = (data.draw(st.integers(1, 2)), WIDEST, *size)
    module = Beside(layers, shape)
    assert 2 * _count(module, shape).macs == _flops(module, shape)


# ---- the zoo ---------------------------------------------------------------------------------

# At 224 pixels the rows of the zoo are proven against torch by tests/models/test_zoo.py, and the
# graph of micronet-m2 against its row by tests/cli/test_cli_count.py.


def _products(model_id: str, size: int, classes: int | None = None) -> tuple[int, int]:
    """FLOPs by torch, and products of coefficients and maps by the modules that make them.

    On shapes alone: the meta device computes nothing.
    """
    products: list[int] = []
    with torch.device("meta"):
        module = build_network(get_variant(model_id), classes, size)

    def shift_max(part: nn.Module, _: object, output: torch.Tensor) -> None:
        assert isinstance(part, DynamicShiftMax)
        products.append(2 * part.branches * output.numel())

    def one_each(_: nn.Module, __: object, output: torch.Tensor) -> None:
        products.append(output.numel())

    for part in module.modules():
        if isinstance(part, DynamicShiftMax):
            part.register_forward_hook(shift_max)
        if isinstance(part, SqueezeExcite | DynamicConv | DynamicLinear):
            part.register_forward_hook(one_each)
    with torch.device("meta"):
        return _flops(module, (1, 3, size, size)), sum(products)


# Nodes that are activations with a product in them, by family: h-swish and swish.
SWISHES = {
    "micronet": {3}, "mobilenetv2": {0}, "mobilenetv3": {19, 21}, "efficientnet": {49, 69},
    "resnet": {0}, "dcd": {0},
}  # fmt: skip


# Two with coefficients and maps to tell apart, two without; the others in the zoo run.
SHRUNK = ("micronet-m1", "mobilenetv3-small", "dcd-mobilenetv2-x0.35", "resnet18")


@pytest.mark.parametrize("model_id", marked(SAMPLED, SHRUNK))
def test_the_zoo_at_a_size_where_maps_shrink_to_one_pixel(model_id: str) -> None:
    """32 pixels: the last maps are 1 x 1, where shapes tell no coefficient from its map."""
    row = get_variant(model_id)
    counts = count_zoo(model_id, image_size=32).counts
    flops, products = _products(model_id, 32)
    assert 2 * counts.macs == flops
    assert counts.elementwise_multiplies == products
    assert (products == 0) == (row.family in ("mobilenetv2", "resnet"))
    assert counts.params == row.params
    assert counts.missing == ()
    activations = [apart for apart in counts.apart if apart.kind == "activation"]
    assert sum(apart.nodes for apart in activations) in SWISHES[row.family]  # apart


def test_other_sizes_of_a_zoo_network_are_counted() -> None:
    counted = count_zoo("mobilenetv3-small", num_classes=7, image_size=64)
    assert counted.input_shapes == {"image": (1, 3, 64, 64)}
    flops, products = _products("mobilenetv3-small", 64, 7)
    assert (2 * counted.counts.macs, counted.counts.elementwise_multiplies) == (flops, products)
    row = get_variant("mobilenetv3-small")
    assert counted.counts.layers[-1].output_shape == (1, 7)
    assert counted.counts.params == row.params - (1024 + 1) * (1000 - 7)


# ---- what a count says -----------------------------------------------------------------------


def test_gate_products_are_counted_apart() -> None:
    counts = _counted("gate")
    assert counts.macs == 6 * 6
    assert counts.elementwise_multiplies == 6 * 8 * 8
    assert counts.madds == 36 + 384
    assert counts.flops == 2 * 36 + 384


def test_params_are_those_of_torch() -> None:
    module, _ = NETWORKS["grouped"]
    counts = _counted("grouped")
    assert counts.params == sum(p.numel() for p in module.parameters())
    assert counts.layers[0].params == counts.params
    assert counts.weight_bytes == 4 * counts.params


def test_layers_name_their_place_and_sum_to_the_total() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1))
    counts = _count(module, (1, 3, 4, 4))
    assert [layer.op_type for layer in counts.layers] == ["Conv", "Conv"]
    assert [node.op_type for node in counts.nodes] == ["Conv", "Relu", "Conv"]
    assert [node.scope for node in counts.nodes] == ["0", "1", "2"]
    assert sum(layer.macs for layer in counts.layers) == counts.macs == 16 * (12 + 20)
    assert counts.layers[1].output_shape == (1, 5, 4, 4)


def test_bytes_are_those_of_weights_and_maps() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1))
    counts = _count(module, (1, 3, 4, 4))
    first = counts.nodes[0]
    assert (first.weight_bytes, first.input_bytes, first.output_bytes) == (64, 192, 256)
    assert first.bytes_moved == 512
    assert counts.weight_bytes == 4 * (16 + 25)
    moved = 4 * 16 * (3 + 4 + 4 + 4 + 4 + 5)
    assert counts.activation_bytes == moved
    assert counts.intensity == pytest.approx(counts.flops / (moved + 164))


def test_operator_types_sum_to_the_total() -> None:
    counts = _counted("gate")
    rows = {row.op_type: row for row in counts.by_type}
    assert next(iter(rows)) == "Gemm"
    assert rows["Mul"].elementwise_multiplies == 384
    assert sum(row.macs for row in counts.by_type) == counts.macs
    assert sum(row.nodes for row in counts.by_type) == len(counts.nodes)
    assert sum(row.weight_bytes for row in counts.by_type) == counts.weight_bytes


def test_what_is_not_counted_is_listed() -> None:
    counts = _counted("attention")
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


def test_an_operator_of_a_vendors_own_is_not_taken_for_the_known_one() -> None:
    graph = ir.from_onnx_text(
        """<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]>
        g (float[2,3] x, float[3,4] v) => (float[2,4] y) {
            a = com.microsoft.FusedMatMul(x, v)
            b = com.microsoft.MatMul(x, v)
            y = Add(a, b)
        }"""
    )
    counts = count_graph(graph)
    assert counts.macs == 0
    assert counts.missing == ("com.microsoft.FusedMatMul x1", "com.microsoft.MatMul x1")
    assert "Add x1" in counts.not_counted


@pytest.mark.parametrize(
    ("transposed", "shapes", "macs"),
    [
        ("", ("2,3", "3,4", "2,4"), 24),
        ("transA = 1", ("3,2", "3,4", "2,4"), 24),
        ("transB = 1", ("2,3", "4,3", "2,4"), 24),
        ("transA = 1, transB = 1", ("3,5", "7,3", "5,7"), 105),
    ],
)
def test_gemm_in_every_orientation(transposed: str, shapes: tuple[str, ...], macs: int) -> None:
    a, b, y = shapes
    attributes = f"<{transposed}>" if transposed else ""
    graph = ir.from_onnx_text(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        g (float[{a}] a, float[{b}] b) => (float[{y}] y) {{ y = Gemm{attributes}(a, b) }}"""
    )
    assert count_graph(graph).macs == macs


@pytest.mark.parametrize(
    ("shapes", "macs"),
    [
        (("2,1,3,4", "5,4,6", "2,5,3,6"), 2 * 5 * 3 * 6 * 4),  # both are broadcast
        (("4", "4,6", "6"), 24),
        (("3,4", "4", "3"), 12),
        (("4", "4", ""), 4),
    ],
)
def test_matmul_broadcasts_as_numpy_does(shapes: tuple[str, ...], macs: int) -> None:
    a, b, y = (f"float[{shape}]" if shape else "float[]" for shape in shapes)
    graph = ir.from_onnx_text(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        g ({a} a, {b} b) => ({y} y) {{ y = MatMul(a, b) }}"""
    )
    graph.graph.outputs[0].shape = ir.Shape([int(n) for n in shapes[2].split(",") if n])
    assert count_graph(graph).macs == macs


def test_an_unknown_shape_is_an_error_that_names_the_node() -> None:
    graph = _pointwise()
    node = graph.graph[0]
    node.name = "the_conv"
    node.outputs[0].shape = ir.Shape([1, "channels", 4, 4])
    with pytest.raises(GraphError, match=r"'the_conv'.*'y' is not known"):
        count_graph(graph)


def test_an_unknown_size_beside_the_layers_leaves_the_memory_unknown() -> None:
    graph = _pointwise()
    relu = ir.Node("", "NonZero", [graph.graph[0].outputs[0]], name="where")
    graph.graph.append(relu)
    counts = count_graph(graph)
    assert counts.macs == 16 * 12
    assert counts.peak_activation_bytes is counts.activation_bytes is counts.intensity is None


def test_a_name_that_would_rewrite_the_screen_does_not() -> None:
    graph = _pointwise()
    graph.graph[0].name = "conv\x1b[2J" + 1000 * "x"
    (node,) = count_graph(graph).nodes
    assert node.name.startswith("conv\\x1b[2J")
    assert len(node.name) < 500
    assert node.name.isprintable()


@pytest.mark.parametrize("scopes", ["[", "(" * 5000, "{1: 2}", "['']", "[1, 2", "print()"])
def test_foreign_scopes_are_no_scope(scopes: str) -> None:
    graph = _pointwise()
    graph.graph[0].metadata_props["pkg.torch.onnx.name_scopes"] = scopes
    assert count_graph(graph).nodes[0].scope == ""


def test_a_shared_weight_is_the_first_readers() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.relu(self.fc(x)))

    counts = _count(Twice(), (2, 4))
    assert counts.macs == 2 * 2 * 16
    assert [layer.params for layer in counts.layers] == [16, 0]
    assert counts.params == 16
    assert counts.weight_bytes == 64


def test_intensity_is_of_the_bytes_that_are_named() -> None:
    counts = _count(nn.Linear(8, 16), (1, 8))
    moved = 4 * (8 * 16 + 16 + 8 + 16)
    assert counts.intensity is not None
    assert math.isclose(counts.intensity, 2 * 128 / moved)
