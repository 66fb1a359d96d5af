"""Whole networks as the tracer gives them: MicroNet, and one of each other kind.

Weights are random, but such that activations stay alive: the figures below are relative.
"""

from __future__ import annotations

import functools
import time

import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import nn

from edgekit.export.passes import CANONICAL, run_passes
from edgekit.export.tflite import lower_tflite
from edgekit.export.trace import trace
from edgekit.models.building import create
from tests.export.tflite.comparing import check, noise
from tests.variants import marked

TOLERANCE = 1e-5


class Residual(nn.Module):
    """Padded max pool, skip, head: ResNet."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 7, 2, 3)
        self.one, self.two = nn.Conv2d(16, 16, 3, 1, 1), nn.Conv2d(16, 16, 3, 1, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, 1)
        x = F.relu(x + self.two(F.relu(self.one(x))))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Shuffle(nn.Module):
    """Channel shuffle as view, transpose, view: ShuffleNet."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.wide, self.deep = nn.Conv2d(16, 24, 1, groups=4), nn.Conv2d(24, 24, 3, 1, 1, groups=24)
        self.narrow = nn.Conv2d(24, 16, 1, groups=4)

    def forward(self, x):
        x = F.relu(self.stem(x))
        y = F.relu6(self.wide(x))
        n, c, h, w = y.shape
        y = y.view(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)
        first, second = (x + self.narrow(self.deep(y))).chunk(2, 1)
        return torch.cat([second, first], 1)


class Gated(nn.Module):
    """Squeeze and excitation with linear layers: EfficientNet, MobileNetV3."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.squeeze, self.excite = nn.Linear(16, 4), nn.Linear(4, 16)
        self.slope = nn.PReLU(16)

    def forward(self, x):
        x = F.silu(self.norm(self.stem(x)))
        gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(x.mean([2, 3])))))
        return F.hardswish(self.slope(x * gate.view(*gate.shape, 1, 1)))


class Patches(nn.Module):
    """Attention on patches: ViT."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 32))
        self.position = nn.Parameter(torch.randn(1, 17, 32))
        self.norm, self.qkv, self.out = nn.LayerNorm(32), nn.Linear(32, 96), nn.Linear(32, 32)
        self.up, self.down, self.head = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        x = x + self.out(mixed)
        return self.head((x + self.down(F.gelu(self.up(x))))[:, 0])


class Segmenter(nn.Module):
    """Down and up again, three outputs: UNet."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, 1, 1), nn.GroupNorm(2, 8)
        self.second, self.instance = nn.Conv2d(8, 16, 3, 2, 1), nn.InstanceNorm2d(16, affine=True)
        self.up, self.last = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 4, 3, 1, 1)

    def forward(self, x):
        fine = F.leaky_relu(self.norm(self.first(x)))
        coarse = F.elu(self.instance(self.second(fine)))
        smooth = F.interpolate(coarse, scale_factor=2, mode="bilinear")[:, :8]
        blocky = F.interpolate(coarse, scale_factor=2, mode="nearest")[:, 8:]
        up = self.up(coarse)
        mask = torch.sigmoid(self.last(torch.cat([up + smooth, fine * blocky], 1)))
        classes = F.softmax(self.last(torch.cat([up, fine], 1)), 1)
        return mask, F.pixel_shuffle(coarse, 2), classes


class Signal(nn.Module):
    """One-dimensional: key word spotting."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv1d(2, 8, 5, 2, 2), nn.Conv1d(8, 16, 3, padding=1, groups=4)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = F.max_pool1d(F.relu(self.one(x)), 2)
        x = F.avg_pool1d(F.gelu(self.two(x)), 2)
        return self.head(x.mean(-1))


class Words(nn.Module):
    """Token ids and a mask: BERT."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
        self.layer, self.head = layer, nn.Linear(16, 50)

    def forward(self, ids, mask):
        return self.head(self.layer(self.embed(ids), src_key_padding_mask=mask))


class Indexed(nn.Module):
    """Advanced indexing, roll and flip."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1)
        self.order = torch.randperm(16)

    def forward(self, x):
        x = self.conv(x)
        return x[:, self.order].amax(1, keepdim=True), torch.roll(x, 3, 1), x.flip(3)


def image(n: int, size: int) -> tuple[torch.Tensor, ...]:
    return (torch.from_numpy(noise(n, 3, size, size)),)


WORDS = (torch.arange(7)[None], torch.tensor([[False] * 5 + [True] * 2]))

# network, example inputs, outputs, transpositions in the file
NETWORKS = {
    "residual": (Residual, image(1, 32), 1, 0),
    "residual-odd-batch": (Residual, image(2, 33), 1, 0),
    "shuffle": (Shuffle, image(1, 32), 1, 1),
    "shuffle-batch": (Shuffle, image(2, 32), 1, 1),
    "gated": (Gated, image(2, 32), 1, 0),
    "patches": (Patches, image(1, 32), 1, 5),
    "patches-batch": (Patches, image(2, 32), 1, 5),
    "segmenter": (Segmenter, image(1, 16), 3, 4),
    "signal": (Signal, (torch.from_numpy(noise(1, 2, 32)),), 1, 1),
    "words": (Words, WORDS, 1, 5),
    "indexed": (Indexed, image(1, 8), 3, 2),
}


def traced(module: nn.Module, inputs, outputs: int) -> ir.Model:
    names = [f"in{i}" for i in range(len(inputs))]
    return trace(module.eval(), inputs, names, [f"out{i}" for i in range(outputs)], opset=18)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_each_kind(name):
    network, inputs, outputs, transposes = NETWORKS[name]
    torch.manual_seed(0)
    model = traced(network(), inputs, outputs)
    feeds = {f"in{i}": tensor.numpy() for i, tensor in enumerate(inputs)}
    assert check(model, feeds, tolerance=TOLERANCE).count("TRANSPOSE") == transposes


@functools.cache
def micronet(variant: str) -> ir.Model:
    module = create(f"micronet-{variant}", weights="random").module
    return traced(module, [torch.zeros(1, 3, 224, 224)], 1)


@pytest.mark.parametrize("variant", marked(["m0", "m1", "m2", "m3"], ["m1", "m3"]))
def test_micronet_as_traced(variant):
    feeds = {"in0": noise(1, 3, 224, 224)}
    operators = check(micronet(variant), feeds, tolerance=1e-4)
    # Transpositions come in pairs around a permutation of channels, and from nothing else.
    assert operators.count("TRANSPOSE") <= 2 * operators.count("GATHER")


@pytest.mark.parametrize("variant", marked(["m0", "m1", "m2", "m3"], ["m1", "m3"]))
def test_micronet_as_the_canonical_graph(variant):
    canonical, _ = run_passes(micronet(variant), CANONICAL)
    operators = check(canonical, {"in0": noise(1, 3, 224, 224)}, tolerance=1e-4)
    # The gates are convolutions on the pooled map: one reshape is left, before the classifier.
    assert operators.count("RESHAPE") == 1
    assert operators.count("TRANSPOSE") <= 2 * operators.count("GATHER")


def test_micronet_m1_is_lowered_in_under_two_seconds_and_always_to_the_same_bytes():
    model = micronet("m1")
    start = time.perf_counter()
    file = lower_tflite(model)
    assert time.perf_counter() - start < 2.0
    assert lower_tflite(model) == file
