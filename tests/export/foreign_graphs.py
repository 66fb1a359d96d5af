"""Networks that share no code with the zoo: what a stranger would bring.

Two ways in, as with real users: modules traced by the current exporter, and ONNX written node by
node in the dialects of older ones (other opsets, Gemm and Reshape chains, attributes as inputs).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own convention
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn


def _cbr(inp: int, out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(inp, out, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


class SqueezeExcite(nn.Module):
    """A residual block with squeeze and excitation, true sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = _cbr(3, 16, stride=2), _cbr(16, 16)
        self.down, self.up = nn.Linear(16, 4), nn.Linear(4, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.body(x)
        gate = torch.sigmoid(self.up(F.relu(self.down(y.mean((2, 3))))))
        return x + y * gate.view(1, -1, 1, 1)


class DenseBlock(nn.Module):
    """Every layer sees all earlier ones by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_cbr(6 + 4 * i, 4) for i in range(4))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)


class ShuffleUnit(nn.Module):
    """Halves, a grouped branch, and a channel shuffle written with views."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(_cbr(8, 8, 1), _cbr(8, 8, 3, groups=8), _cbr(8, 8, 1, groups=2))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        x = torch.cat([a, self.branch(b)], 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Pooling(nn.Module):
    """Max, average and global pooling in parallel, then softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = _cbr(3, 8, 5, 2)
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        a = F.max_pool2d(x, 3, 2, 1)
        b = F.avg_pool2d(x, 3, 2, 1)
        c = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        x = torch.cat([a.amax((2, 3)), b.mean((2, 3)), F.adaptive_avg_pool2d(c, 1).flatten(1)], 1)
        return F.softmax(self.head(x), 1)


class TinyUNet(nn.Module):
    """Down, up by nearest and by bilinear, skip connection: two outputs of other sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = _cbr(3, 8), _cbr(8, 16, stride=2), _cbr(24, 8)
        self.mask = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.a(x)
        b = self.b(a)
        up = F.interpolate(b, scale_factor=2, mode="nearest")
        fine = self.mask(self.c(torch.cat([a, up], 1)))
        return fine, F.interpolate(fine, scale_factor=2, mode="bilinear", align_corners=False)


class TemporalConv(nn.Module):
    """One-dimensional, dilated, with a residual: keyword spotting."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(13, 16, 3, padding=1)
        self.second = nn.Conv1d(16, 16, 3, padding=4, dilation=4, groups=16)
        self.third = nn.Conv1d(16, 16, 1)
        self.head = nn.Linear(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        x = x + F.relu(self.third(self.second(x)))
        return self.head(F.max_pool1d(x, 2).mean(2))


class Perceptron(nn.Module):
    """No convolution at all: tanh, elu, layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(20, 32), nn.Linear(32, 6), nn.LayerNorm(32)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.elu(self.norm(torch.tanh(self.a(x)))))


class Encoder(nn.Module):
    """One head of self-attention over image patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 24, 8, 8)
        self.norm, self.qkv, self.out = nn.LayerNorm(24), nn.Linear(24, 72), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.out(torch.softmax(q @ k.transpose(1, 2) / 24**0.5, -1) @ v)
        return x.mean(1)


class SuperResolution(nn.Module):
    """Pixel shuffle, leaky rectifier, reflection padding."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.a(F.pad(x, (1, 1, 1, 1), mode="reflect")), 0.1)
        return F.pixel_shuffle(self.b(x), 2)


class Mobile(nn.Module):
    """Inverted residual with hard-swish, asymmetric padding and a depth multiplier of three."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2)
        self.wide = nn.Conv2d(4, 12, 3, padding=1, groups=4)
        self.narrow = nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.stem(F.pad(x, (0, 1, 0, 1))))
        return x + self.narrow(F.relu6(self.wide(x)))


class TwoInputs(nn.Module):
    """An image and a vector that scales its channels: two inputs of other ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(5, 6)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.conv(x) * F.hardsigmoid(self.fc(condition))[:, :, None, None]


class PreActivation(nn.Module):
    """Batch norm before the convolution, where it cannot be folded backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv, self.slope = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3), nn.PReLU(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.slope(self.conv(self.norm(x)))


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "squeeze_excite": (SqueezeExcite, ((1, 3, 32, 32),)),
    "dense_block": (DenseBlock, ((1, 6, 12, 12),)),
    "shuffle_unit": (ShuffleUnit, ((1, 16, 10, 14),)),
    "pooling": (Pooling, ((1, 3, 31, 29),)),
    "unet": (TinyUNet, ((1, 3, 16, 16),)),
    "temporal": (TemporalConv, ((1, 13, 50),)),
    "perceptron": (Perceptron, ((1, 20),)),
    "encoder": (Encoder, ((1, 3, 32, 32),)),
    "super_resolution": (SuperResolution, ((1, 1, 12, 12),)),
    "mobile": (Mobile, ((1, 3, 24, 24),)),
    "two_inputs": (TwoInputs, ((1, 3, 9, 9), (1, 5))),
    "pre_activation": (PreActivation, ((1, 6, 8, 8),)),
}


def _randomise(module: nn.Module) -> nn.Module:
    """Batch norms get statistics as training would leave them: fresh ones are the identity."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            assert layer.running_var is not None
            nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.3, 0.3)
    return module.eval()


def write_module(name: str, path: Path) -> None:
    """Trace ``MODULES[name]`` to ``path`` with torch's exporter and none of edgekit."""
    build, shapes = MODULES[name]
    torch.manual_seed(7)
    module = _randomise(build())
    example = tuple(torch.randn(shape) for shape in shapes)
    torch.onnx.export(
        module, example, path, dynamo=True, opset_version=18, external_data=False, verbose=False
    )


def _weight(name: str, *shape: int, seed: int = 0) -> TensorProto:
    values = np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def _ints(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def _model(
    nodes: list[onnx.NodeProto],
    constants: list[TensorProto],
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
    opset: int,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _opset11_classifier() -> onnx.ModelProto:
    """Clip with inputs, GlobalAveragePool, Flatten, Gemm with transB: a 2020 export."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Clip", ["c", "low", "high"], ["r"], "relu6"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten", axis=1),
        helper.make_node("Gemm", ["f", "k", "b"], ["y"], "fc", transB=1, alpha=0.5),
    ]
    constants = [
        _weight("w", 8, 3, 3, 3),
        _weight("k", 5, 8, seed=1),
        _weight("b", 5, seed=2),
        numpy_helper.from_array(np.array(0, np.float32), "low"),
        numpy_helper.from_array(np.array(6, np.float32), "high"),
    ]
    return _model(nodes, constants, {"x": [1, 3, 16, 16]}, {"y": [1, 5]}, 11)


def _opset13_branches() -> onnx.ModelProto:
    """Split with sizes, Squeeze and Unsqueeze by input, ReduceSum, a value used three times."""
    nodes = [
        helper.make_node("Split", ["x", "sizes"], ["a", "b"], "split", axis=1),
        helper.make_node("Mul", ["a", "a"], ["aa"], "square"),
        helper.make_node("Sub", ["aa", "a"], ["d"], "sub"),
        helper.make_node("Sqrt", ["aa"], ["s"], "sqrt"),
        helper.make_node("Concat", ["d", "s", "b"], ["k"], "concat", axis=1),
        helper.make_node("ReduceSum", ["k", "axes"], ["r"], "sum", keepdims=0),
        helper.make_node("Unsqueeze", ["r", "last"], ["y"], "unsqueeze"),
    ]
    constants = [_ints("sizes", 2, 4), _ints("axes", 2, 3), _ints("last", 2)]
    return _model(nodes, constants, {"x": [1, 6, 5, 7]}, {"y": [1, 8, 1]}, 13)


def _dynamic_batch() -> onnx.ModelProto:
    """A symbolic batch, and a Reshape that computes its shape from it."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Shape", ["r"], ["s"], "shape"),
        helper.make_node("Gather", ["s", "zero"], ["n"], "batch"),
        helper.make_node("Concat", ["n", "rest"], ["t"], "target", axis=0),
        helper.make_node("Reshape", ["r", "t"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "k"], ["y"], "fc"),
    ]
    constants = [
        _weight("w", 4, 3, 3, 3),
        _weight("k", 4 * 36, 7, seed=1),
        _ints("zero", 0),
        _ints("rest", -1),
    ]
    return _model(nodes, constants, {"x": ["batch", 3, 8, 8]}, {"y": ["batch", 7]}, 14)


HAND_MADE: dict[str, Callable[[], onnx.ModelProto]] = {
    "opset11_classifier": _opset11_classifier,
    "opset13_branches": _opset13_branches,
    "dynamic_batch": _dynamic_batch,
}

INPUT_SHAPES: dict[str, dict[str, tuple[int, ...]]] = {"dynamic_batch": {"": (1, 3, 8, 8)}}

NAMES = (*MODULES, *HAND_MADE)


def write_foreign(name: str, folder: Path) -> Path:
    """Write graph ``name`` of ``NAMES`` into ``folder`` and return its path."""
    path = folder / f"{name}.onnx"
    if name in MODULES:
        write_module(name, path)
    else:
        onnx.save(HAND_MADE[name](), path)
    return path
