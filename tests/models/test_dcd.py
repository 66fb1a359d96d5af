"""DCD against the released code's key lists, counts and outputs, and once more from its formula."""

from __future__ import annotations

import hashlib
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from edgekit.errors import UnknownNameError, UsageError
from edgekit.models.dcd import (
    IN_RESNET,
    NETWORKS,
    DynamicConv,
    DynamicLinear,
    Size,
    _Dynamic,
    build_dcd,
    double_hard_sigmoid,
    pointwise_size,
)
from tests.models import fill_rule

DATA = Path(__file__).parents[1] / "data" / "dcd"
KNOWN: dict[str, Any] = json.loads((DATA / "networks.json").read_text())
WITH_OUTPUTS = ("resnet18", "mobilenetv2-x0.5")
GAINS = {"conv": 0.59, "dyn": 0.7, "linear": 1.0, "bias": 0.3, "dyn_bias": 0.0}

RESHAPING = ("permute", "transpose", "index.Tensor")  # what would move a feature map in memory


def filled(config: str, **sizes: Any) -> nn.Module:
    """The network with a checkpoint in the released format, every value by rule, in double."""
    network = build_dcd(config, **sizes)
    gains = KNOWN.get(config, {}).get("gains") or GAINS
    state = {
        key: torch.from_numpy(fill_rule.fill(key, list(value.shape), gains))
        for key, value in network.state_dict().items()
    }
    network.load_state_dict(state, strict=True)
    return network.double().eval()


@cache
def oracle(config: str) -> dict[str, np.ndarray]:
    return dict(np.load(DATA / f"{config}.npz"))


def dynamic_layers(network: nn.Module) -> dict[str, _Dynamic]:
    modules = network.named_modules()
    return {name: module for name, module in modules if isinstance(module, _Dynamic)}


def test_all_networks_are_known_but_one() -> None:
    assert len(NETWORKS) == 13
    assert set(NETWORKS) - set(KNOWN) == {"mobilenetv2-x0.75-fs8"}
    assert len(KNOWN) == 12


@pytest.mark.parametrize("config", KNOWN)
def test_keys_shapes_and_counts_are_the_released_codes(config: str) -> None:
    known = KNOWN[config]
    with torch.device("meta"):
        network = build_dcd(config).eval()
        state = {key: list(value.shape) for key, value in network.state_dict().items()}
        text = "\n".join(f"{key} {state[key]}" for key in sorted(state))
        assert len(state) == known["entries"]
        assert hashlib.sha256(text.encode()).hexdigest() == known["keys_sha256"]
        assert sum(p.numel() for p in network.parameters()) == known["params"]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, 3, 224, 224))
    assert counter.get_total_flops() == 2 * known["macs"]


@pytest.mark.parametrize("config", ["resnet18", "resnet50", "mobilenetv2-x0.5"])
def test_every_key_is_there(config: str) -> None:
    released = json.loads((DATA / f"{config}.json").read_text())
    with torch.device("meta"):
        own = {k: list(v.shape) for k, v in build_dcd(config).state_dict().items()}
    assert own == released


@pytest.mark.parametrize("config", KNOWN)
def test_every_dynamic_layer_has_the_released_sizes(config: str) -> None:
    with torch.device("meta"):
        network = build_dcd(config).eval()
        found: dict[str, int] = {}
        for name, layer in dynamic_layers(network).items():
            layer.register_forward_hook(
                lambda _, x, y, name=name: found.__setitem__(name, y.shape[2] if y.ndim > 2 else 0)
            )
        network(torch.zeros(1, 3, 224, 224))
    own = [
        [name, layer.size.latent, layer.size.squeeze, layer.fc[0].in_features, found[name]]
        for name, layer in dynamic_layers(network).items()
    ]
    assert sorted(own) == sorted(KNOWN[config]["layers"])


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("config", WITH_OUTPUTS)
def test_logits_equal_the_released_codes_in_double(config: str, batch: int) -> None:
    with torch.no_grad():
        logits = filled(config)(fill_rule.images(batch).double()).numpy()
    assert np.abs(logits - oracle(config)[f"logits_{batch}_f64"]).max() <= 1e-9


@pytest.mark.parametrize("config", WITH_OUTPUTS)
def test_every_stage_equals_the_released_codes(config: str) -> None:
    network, known = filled(config), oracle(config)
    if config.startswith("resnet"):
        stages = [b for i in range(1, 5) for b in network.get_submodule(f"layer{i}").children()]
    else:
        stages = list(network.get_submodule("features").children())
    outputs: list[Tensor] = []
    for stage in stages:
        stage.register_forward_hook(lambda _, x, y: outputs.append(y))
    with torch.no_grad():
        network(fill_rule.images(1).double())
    for i, output in enumerate(outputs):
        scale = float(output.abs().max())
        means = known[f"stage{i}_mean_per_channel"]  # computed in float32
        assert np.abs(output.mean((0, 2, 3)).numpy() - means).max() <= 1e-5 * scale, i
        first = known[f"stage{i}_first64"]
        assert np.abs(output.flatten()[:64].numpy() - first).max() <= 1e-5 * scale, i
    assert f"stage{len(outputs)}_shape" not in known


# The formula once more, from the state dict alone: W(x) is synthesised for each image and the
# convolution run with it. In eval mode with D and t of a BatchNorm, D z + t:
#   W(x) = lambda W0 + P (D2 Phi + I) D1 Q at the centre of the kernel,
#   bias(x) = P ((D2 Phi + I) t1 + t2)


def affine(state: dict[str, Tensor], key: str) -> tuple[Tensor, Tensor]:
    scale = state[f"{key}.weight"] / (state[f"{key}.running_var"] + 1e-5).sqrt()
    return scale, state[f"{key}.bias"] - state[f"{key}.running_mean"] * scale


def synthesised(x: Tensor, state: dict[str, Tensor], key: str, stride: int) -> Tensor:
    """A dynamic layer of one image (1, in, H, W)."""
    w0 = state[f"{key}.conv.weight"]
    q_key, p_key = ("conv_q", "conv_p") if f"{key}.conv_q.weight" in state else ("q", "p")
    q, p = state[f"{key}.{q_key}.weight"][..., 0, 0], state[f"{key}.{p_key}.weight"][..., 0, 0]
    f = state[f"{key}.fc.0.weight"]
    grid = math.isqrt(f.shape[1] // x.shape[1])
    z = f @ functional.adaptive_avg_pool2d(x, grid).flatten()
    gate = state[f"{key}.fc.1.fc.0.weight"] @ z
    y = z * ((gate + 3).clamp(0, 6) / 3)
    latent = q.shape[0]
    phi = (state[f"{key}.fc_phi.weight"] @ y).view(latent, latent)
    scale = (state[f"{key}.fc_scale.weight"] @ y + 3).clamp(0, 6) / 3
    (d1, t1), (d2, t2) = affine(state, f"{key}.bn1"), affine(state, f"{key}.bn2")
    mix = d2[:, None] * phi + torch.eye(latent, dtype=x.dtype)
    kernel = scale[:, None, None, None] * w0
    centre = w0.shape[-1] // 2
    kernel[:, :, centre, centre] += p @ mix @ (d1[:, None] * q)
    return functional.conv2d(x, kernel, p @ (mix @ t1 + t2), stride, centre)


def plain_norm(x: Tensor, state: dict[str, Tensor], key: str) -> Tensor:
    scale, offset = affine(state, key)
    return x * scale[:, None, None] + offset[:, None, None]


def plain_classifier(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    """(in,) -> (classes,)."""
    key = "classifier.1"
    z = state[f"{key}.fc.0.weight"] @ x
    y = z * ((state[f"{key}.fc.1.fc.0.weight"] @ z + 3).clamp(0, 6) / 3)
    phi = (state[f"{key}.fc_phi.weight"] @ y).view(32, 32)
    scale = (state[f"{key}.fc_scale.weight"] @ y + 3).clamp(0, 6) / 3
    (d1, t1), (d2, t2) = affine(state, f"{key}.bn1"), affine(state, f"{key}.bn2")
    q = d1 * (state[f"{key}.cls_q.weight"] @ x) + t1
    d = d2 * (phi @ q) + t2 + q
    static = state[f"{key}.cls.weight"] @ x + state[f"{key}.cls.bias"]
    return state[f"{key}.cls_p.weight"] @ d + scale * static


def plain_resnet(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    x = functional.conv2d(x, state["conv1.weight"], None, 2, 3)
    x = functional.max_pool2d(plain_norm(x, state, "bn1").relu(), 3, 2, 1)
    for layer in range(1, 5):
        block = 0
        while f"layer{layer}.{block}.bn1.weight" in state:
            key = f"layer{layer}.{block}"
            stride = 2 if layer > 1 and block == 0 else 1
            convs = 3 if f"{key}.conv3.conv.weight" in state else 2
            y = x
            for i in range(1, convs + 1):
                strided = i == (2 if convs == 3 else 1)
                y = synthesised(y, state, f"{key}.conv{i}", stride if strided else 1)
                y = plain_norm(y, state, f"{key}.bn{i}")
                y = y.relu() if i < convs else y
            if f"{key}.downsample.0.weight" in state:
                x = functional.conv2d(x, state[f"{key}.downsample.0.weight"], None, stride)
                x = plain_norm(x, state, f"{key}.downsample.1")
            x, block = (x + y).relu(), block + 1
    return plain_classifier(x.mean((0, 2, 3)), state)


def plain_mobilenet(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    def static(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        weight = state[f"{conv}.weight"]
        groups = x.shape[1] if weight.shape[1] == 1 else 1
        y = functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups)
        return plain_norm(y, state, norm)

    strides = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    x = static(x, "features.0.0", "features.0.1", 2).clamp(0, 6)
    x = static(x, "features.1.conv.0", "features.1.conv.1").clamp(0, 6)
    x = static(x, "features.1.conv.3", "features.1.conv.4")
    for number, stride in enumerate(strides[1:], start=2):
        key = f"features.{number}.conv"
        y = plain_norm(synthesised(x, state, f"{key}.0", 1), state, f"{key}.1").clamp(0, 6)
        y = static(y, f"{key}.3", f"{key}.4", stride).clamp(0, 6)
        y = plain_norm(synthesised(y, state, f"{key}.6", 1), state, f"{key}.7")
        x = x + y if x.shape == y.shape else y
    x = static(x, "conv.0", "conv.1").clamp(0, 6)
    return plain_classifier(x.mean((0, 2, 3)), state)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ("resnet18", 97),
        ("resnet50", 64),
        ("mobilenetv2-x0.35", 97),
        ("mobilenetv2-x0.75-fs8", 64),
        ("mobilenetv2-x1.0", 64),
    ],
)
def test_it_computes_what_the_synthesised_kernels_do(config: str, size: int) -> None:
    network, x = filled(config), fill_rule.images(2, size).double()
    plain = plain_resnet if config.startswith("resnet") else plain_mobilenet
    with torch.no_grad():
        logits, state = network(x), dict(network.state_dict())
        wanted = torch.stack([plain(image[None], state) for image in x])
    assert float(wanted.std()) > 0.05
    assert float((logits - wanted).abs().max()) <= 1e-9


@pytest.mark.parametrize("config", ["resnet18", "mobilenetv2-x0.5"])
@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.bn2.weight.mul_(1.01),
        lambda layer: layer.fc_phi.weight.copy_(_transposed(layer)),
        lambda layer: layer.fc_scale.weight.mul_(0.99),
    ],
)
def test_the_comparison_sees_a_slip(config: str, change: Any) -> None:
    network, x = filled(config), fill_rule.images(1).double()
    with torch.no_grad():
        change(next(iter(dynamic_layers(network).values())))
        logits = network(x).numpy()
    assert np.abs(logits - oracle(config)["logits_1_f64"]).max() > 1e-6


def _transposed(layer: _Dynamic) -> Tensor:
    side = layer.size.latent
    rows = layer.fc_phi.weight.detach().clone().view(side, side, -1)
    return rows.transpose(0, 1).reshape(side * side, -1)


def test_the_gate_is_one_at_zero_and_two_at_most() -> None:
    t = torch.tensor([-9.0, -3.0, 0.0, 3.0, 9.0])
    assert double_hard_sigmoid(t).tolist() == [0.0, 0.0, 1.0, 2.0, 2.0]


def test_sizes_of_a_pointwise_layer() -> None:
    assert pointwise_size(16, 96, 16) == Size(latent=8, squeeze=4, grid=2)
    assert pointwise_size(96, 24, 8) == Size(latent=12, squeeze=18, grid=1)


# The paper's sparse residual, which no released network has.


@pytest.mark.parametrize("blocks", [2, 4])
def test_blocks_make_the_residual_block_diagonal(blocks: int) -> None:
    torch.manual_seed(0)
    size = Size(latent=8, squeeze=6, grid=2)
    sparse = DynamicConv(nn.Conv2d(8, 16, 1, bias=False), size, IN_RESNET, blocks).double().eval()
    dense = DynamicConv(nn.Conv2d(8, 16, 1, bias=False), size, IN_RESNET).double().eval()
    state = {k: v.clone() for k, v in sparse.state_dict().items()}
    latent = torch.arange(8) * blocks // 8  # the block of each latent channel
    same = latent[:, None] == latent[None, :]
    phi = torch.zeros(8, 8, 6, dtype=torch.double)
    phi[same] = state["fc_phi.weight"]
    state["fc_phi.weight"] = phi.view(64, 6)
    for key, rows, columns in (("q", 8, 8), ("p", 16, 8)):
        full = torch.zeros(rows, columns, 1, 1, dtype=torch.double)
        of = (torch.arange(rows) * blocks // rows)[:, None] == latent[None, :]
        full[of] = state[f"{key}.weight"].reshape(-1, 1, 1)
        state[f"{key}.weight"] = full
    dense.load_state_dict(state)
    x = torch.randn(2, 8, 5, 5, dtype=torch.double)
    with torch.no_grad():
        assert float((sparse(x) - dense(x)).abs().max()) <= 1e-12
    assert sum(p.numel() for p in sparse.parameters()) < sum(p.numel() for p in dense.parameters())


def test_blocks_must_divide_the_widths() -> None:
    size = Size(latent=8, squeeze=6, grid=1)
    with pytest.raises(UsageError, match="blocks is 3; it must divide the widths 8 and 16"):
        DynamicConv(nn.Conv2d(8, 16, 1), size, IN_RESNET, blocks=3)


def test_released_networks_have_no_blocks() -> None:
    with torch.device("meta"):
        layers = dynamic_layers(build_dcd("mobilenetv2-x1.0")).values()
    assert {layer.blocks for layer in layers} == {1}


@pytest.mark.parametrize("size", [32, 33, 97])
@pytest.mark.parametrize("config", ["resnet18", "resnet50", "mobilenetv2-x0.35"])
def test_any_image_of_at_least_32_pixels_fits(config: str, size: int) -> None:
    network = build_dcd(config, num_classes=7, image_size=size).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, size, size)).shape == (2, 7)


def test_the_graph_moves_no_feature_map() -> None:
    network = build_dcd("mobilenetv2-x0.35").eval()
    program = torch.export.export(network, (torch.zeros(1, 3, 64, 64),))
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    assert [n for n in calls if any(name in str(n.target) for name in RESHAPING)] == []
    layers = [x for x in dynamic_layers(network).values() if isinstance(x, DynamicConv)]
    shapes = [tuple(n.args[0].meta["val"].shape) for n in calls if _views(n)]
    maps = [shape for shape in shapes if len(shape) == 4 and shape[2] * shape[3] > 4]
    assert 0 < len(maps) <= len(layers)  # (L, H, W) -> (L, H * W), but for maps of 2 x 2
    assert max(shape[1] for shape in maps) <= max(layer.size.latent for layer in layers)


def _views(node: torch.fx.Node) -> bool:
    """Whether it is a view of something computed."""
    names = ("view", "reshape", "flatten")
    source = node.args[0] if node.args else None
    return (
        any(name in str(node.target) for name in names)
        and isinstance(source, torch.fx.Node)
        and source.op == "call_function"
    )


@pytest.mark.parametrize("config", ["resnet18", "mobilenetv2-x0.35"])
def test_it_trains(config: str) -> None:
    network = build_dcd(config, num_classes=3).train()
    network(fill_rule.images(2, 64)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_classifier_of_one_class_and_a_vector() -> None:
    layer = DynamicLinear(16, 1).eval()
    with torch.no_grad():
        assert layer(torch.zeros(3, 16)).shape == (3, 1)


def test_impossible_sizes_and_names_are_refused() -> None:
    with pytest.raises(UsageError, match="num_classes is 0"):
        build_dcd("resnet18", num_classes=0)
    with pytest.raises(UsageError, match="image_size is 31 pixels; DCD"):
        build_dcd("resnet18", image_size=31)
    with pytest.raises(UnknownNameError, match="DCD configuration"):
        build_dcd("resnet19")


@pytest.mark.parametrize("config", ["resnet18", "mobilenetv2-x0.35"])
def test_a_projection_takes_the_place_of_the_dynamic_classifier(config: str) -> None:
    plain = build_dcd(config, num_classes=7)
    network = build_dcd(config, num_classes=7, head="projection").eval()
    head = {key for key in network.state_dict() if key.startswith("classifier.")}
    leaves = ("0.weight", "0.bias", "2.weight", "2.bias")
    assert head == {f"classifier.1.{leaf}" for leaf in leaves}
    rest = [key for key in plain.state_dict() if not key.startswith("classifier.")]
    assert [key for key in network.state_dict() if key not in head] == rest
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
