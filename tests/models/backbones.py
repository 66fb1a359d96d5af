"""What the tests of the backbones share: others' facts, weights by rule, counts, primitives.

``tests/data/backbones/NAME.json`` has the keys and shapes of torchvision's network, its counts,
its layers, and the counts of SEED's student of that name; ``NAME.npz`` has logits that the
official code computed on weights and images by rule, see `fill_rule`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from tests.models import fill_rule

DATA = Path(__file__).parents[1] / "data" / "backbones"
GAINS = {"conv": 1.3, "dyn": 1.0, "linear": 2.0, "bias": 0.3, "dyn_bias": 0.5}
State = dict[str, Tensor]


def facts(name: str) -> dict[str, Any]:
    return dict(json.loads((DATA / f"{name}.json").read_text()))


# ---------------------------------------------------------------------------
# Keys and counts
# ---------------------------------------------------------------------------


def unfilled(build: Callable[..., nn.Module], config: str, **sizes: Any) -> nn.Module:
    """The network without memory for its weights: enough for shapes and counts."""
    with torch.device("meta"):
        return build(config, **sizes).eval()


def entries(network: nn.Module) -> list[tuple[str, list[int], torch.dtype]]:
    return [(key, list(t.shape), t.dtype) for key, t in network.state_dict().items()]


def official_entries(name: str) -> list[tuple[str, list[int], torch.dtype]]:
    return [
        (key, shape, torch.int64 if key.endswith("num_batches_tracked") else torch.float32)
        for key, shape in facts(name)["keys"].items()
    ]


def params(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def macs(network: nn.Module, size: int) -> int:
    """Of one image, by PyTorch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, size, size, device=next(network.parameters()).device))
    return counter.get_total_flops() // 2


def layers(network: nn.Module, size: int) -> list[dict[str, Any]]:
    """Convolutions and linear layers in the order they run, as the lists of facts have them."""
    rows: list[dict[str, Any]] = []

    def note(name: str, layer: Any, output: Tensor) -> None:
        row = {"name": name, "bias": layer.bias is not None, "params": params(layer)}
        if isinstance(layer, nn.Linear):
            row |= {"op": "linear", "cin": layer.in_features, "cout": layer.out_features}
            row |= dict.fromkeys(("k", "s", "groups", "pad", "out_hw"))
        else:
            row |= {"op": "conv", "cin": layer.in_channels, "cout": layer.out_channels}
            row |= {"k": layer.kernel_size[0], "s": layer.stride[0], "groups": layer.groups}
            row |= {"pad": layer.padding[0], "out_hw": list(output.shape[2:])}
        rows.append(row)

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda m, _, out, name=name: note(name, m, out))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, size, size, device="meta"))
    for row in rows:
        flops = counter.get_flop_counts()[f"{type(network).__name__}.{row['name']}"]
        row["macs"] = sum(flops.values()) // 2
    return rows


def official_layers(name: str) -> list[dict[str, Any]]:
    known = facts(name)
    return [dict(zip(known["layer_columns"], row, strict=True)) for row in known["layers"]]


# ---------------------------------------------------------------------------
# Outputs
# ---------------------------------------------------------------------------


def fill(network: nn.Module, gains: dict[str, float] = GAINS) -> nn.Module:
    """``network`` with every value by rule, in double, in eval mode."""
    return load(network, lambda key: key, gains)


def load(network: nn.Module, official: Callable[[str], str], gains: dict[str, float]) -> nn.Module:
    """As `fill`, with values by the rule for the official name of each key."""
    state = {
        key: torch.from_numpy(fill_rule.fill(official(key), list(t.shape), gains))
        for key, t in network.state_dict().items()
    }
    network.load_state_dict(state, strict=True)
    return network.double().eval()


def error_against_official(network: nn.Module, oracle: str) -> float:
    """Largest difference of any logit of two images of 224 pixels."""
    known = np.load(DATA / f"{oracle}.npz")
    with torch.no_grad():
        logits = network(fill_rule.images(2).double()).numpy()
    wanted = known["logits_2_f64"]
    assert wanted.std() > 0.5
    assert np.abs(wanted[:1] - known["logits_1_f64"]).max() <= 1e-9
    return float(np.abs(logits - wanted).max())


def error_against_plain(
    network: nn.Module, plain: Callable[[Tensor, State], Tensor], size: int
) -> float:
    """Largest difference of any logit of two images, as a part of the spread of the logits."""
    x = fill_rule.images(2, size).double()
    with torch.no_grad():
        logits, wanted = network(x), plain(x, dict(network.state_dict()))
    assert float(wanted.std()) > 0.1
    return float((logits - wanted).abs().max() / wanted.std())


# ---------------------------------------------------------------------------
# Primitives, on a state dict
# ---------------------------------------------------------------------------


def norm(x: Tensor, state: State, key: str, eps: float) -> Tensor:
    mean, variance = state[f"{key}.running_mean"], state[f"{key}.running_var"]
    weight, bias = state[f"{key}.weight"], state[f"{key}.bias"]
    return functional.batch_norm(x, mean, variance, weight, bias, eps=eps)


def convolve(
    x: Tensor, weight: Tensor, stride: int = 1, pads: tuple[int, int] | None = None
) -> Tensor:
    """Depthwise where the weight has one input channel; pads are before and after, or k // 2."""
    groups = x.shape[1] if weight.shape[1] == 1 and x.shape[1] > 1 else 1
    before, after = pads or (weight.shape[-1] // 2,) * 2
    padded = functional.pad(x, (before, after, before, after))
    return functional.conv2d(padded, weight, None, stride, 0, 1, groups)


def tensorflow_pads(x: Tensor, kernel: int, stride: int) -> tuple[int, int]:
    """For a square image, by the case distinction in TensorFlow's documentation."""
    size = x.shape[-1]
    total = max(kernel - stride if size % stride == 0 else kernel - size % stride, 0)
    return total // 2, total - total // 2


def gate_of(
    x: Tensor,
    state: State,
    key: str,
    act: Callable[[Tensor], Tensor],
    sigmoid: Callable[[Tensor], Tensor],
) -> Tensor:
    """Squeeze and excite."""
    fc1, fc2 = f"{key}.fc1", f"{key}.fc2"
    pooled = functional.adaptive_avg_pool2d(x, 1)
    hidden = act(functional.conv2d(pooled, state[f"{fc1}.weight"], state[f"{fc1}.bias"]))
    return x * sigmoid(functional.conv2d(hidden, state[f"{fc2}.weight"], state[f"{fc2}.bias"]))


def linear(x: Tensor, state: State, key: str) -> Tensor:
    return functional.linear(x, state[f"{key}.weight"], state[f"{key}.bias"])


def pool(x: Tensor) -> Tensor:
    return functional.adaptive_avg_pool2d(x, 1).flatten(1)


# ---------------------------------------------------------------------------
# Graphs
# ---------------------------------------------------------------------------

# Operators that would move a feature map in memory, gather, or compute with shapes.
MOVING = ("view", "reshape", "permute", "transpose", "flatten", "squeeze", "index", "sym_size")


def operators(network: nn.Module, size: int) -> list[str]:
    """Names of the operators of the exported program for one image."""
    program = torch.export.export(network.eval(), (torch.zeros(1, 3, size, size),))
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


def moving(names: list[str]) -> list[str]:
    return [name for name in names if any(word in name for word in MOVING)]
