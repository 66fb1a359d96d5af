"""Seeded random weights under which every layer stays alive.

An untrained network of this size answers values around 1e-20, and on those any tolerance
passes. Here parameters are drawn from the seed, and then every BatchNorm is given the mean and
variance of what really arrives, for a batch of smooth and noisy images: each layer's output
has unit variance again, logits differ from image to image, and parity of two runtimes means
something. The weights are fit for latency work and numeric checks, and for no prediction.

The same seed gives the same bits on every machine: parameters come from integers of a
Mersenne Twister, statistics are computed in double and rounded to 12 bits, far coarser than
what the order of a sum can change.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

_STATISTIC_BITS = 12
# A channel that is nearly constant on the calibration batch must not be blown up on others.
_LOWEST_VARIANCE = 0.01
_BIAS = 0.5  # of linear layers: enough that the few ReLUs of a coefficient branch are not dead
_NORM_WEIGHT, _NORM_BIAS = 0.25, 0.25  # BatchNorm's weight is 1 +- this, its bias 0 +- this
_CONVOLUTION_GAIN = math.sqrt(2.0)  # Kaiming's rule for ReLU
# Of a coefficient branch, mostly. At 1 and above gates open on outliers, the outliers grow with
# every layer, and statistics taken over them flatten everything else; at 0.25 gates hardly move.
_LINEAR_GAIN = 0.5
_CALIBRATION_MACS = 64 * 10**9  # in double on one core: some 7 s on a desktop
_LEAST_IMAGES = 4  # fewer are no statistics for layers behind the pooling
_LEAST_SPREAD = 2.0**-8  # of the logits between images, that is brought to 1


def randomise(module: nn.Module, images: Tensor, seed: int, only: str = "") -> None:
    """Give ``module`` random parameters and calibrated statistics, in place, in eval mode.

    Args:
        module: a network of float32 parameters that takes ``images``.
        images: (N, C, H, W), the calibration batch; see `calibration_images`.
        seed: same seed, same module and same images give the same bits. A parameter depends on
            the seed, its name and its shape, and not on the rest of the network.
        only: name of the submodule that is drawn, its last; the rest is left as it is.
    """
    module.eval()
    draw_parameters(module, seed, only)
    calibrate(module, images, only)


def calibrate(module: nn.Module, images: Tensor, only: str = "") -> None:
    """Give each BatchNorm of ``module`` the statistics of what arrives; see `randomise`."""
    module.double()
    part = module.get_submodule(only)
    with torch.no_grad(), _single_threaded(), _calibrating(part), _linear_outputs(part) as seen:
        _spread(module(images.double()), seen)
    module.float()


def draw_parameters(module: nn.Module, seed: int, only: str = "") -> None:
    """Kaiming's rule with a uniform distribution; BatchNorm near 1 and 0.

    A BatchNorm with an attribute ``random_gain`` is drawn that much smaller: behind a product of
    two things that are computed from the image, where errors add up, it keeps the network tame.
    """
    norms = {name: child for name, child in module.named_modules() if isinstance(child, _BatchNorm)}
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            if only and not key.startswith(f"{only}."):
                continue
            owner, _, leaf = key.rpartition(".")
            unit = _unit(f"{seed}/{key}", parameter.shape)
            # In place: a large network has hundreds of megabytes of these.
            if owner in norms:
                unit.mul_(_NORM_WEIGHT if leaf == "weight" else _NORM_BIAS)
                unit.add_(1 if leaf == "weight" else 0)
                unit.mul_(getattr(norms[owner], "random_gain", 1.0))
            elif parameter.ndim < 2:
                unit.mul_(_BIAS)
            else:
                fan_in = math.prod(parameter.shape[1:])
                gain = _CONVOLUTION_GAIN if parameter.ndim > 2 else _LINEAR_GAIN
                unit.mul_(gain * math.sqrt(3.0 / fan_in))
            parameter.copy_(unit)


def calibration_images(count: int, size: int, channels: int = 3) -> Tensor:
    """(count, channels, size, size) float32, about as wide as normalised photographs.

    Each image is a colour and a sum of noise at four scales, from blobs to pixels, with weights
    of its own: some are smooth, some are nearly pure noise. Contrast grows with the number of
    the image, and the first one is the colour alone.
    """
    total = _unit("images/colour", (count, channels, 1, 1)).repeat(1, 1, size, size)
    contrast = torch.linspace(0, 1.5, count, dtype=torch.float64).view(-1, 1, 1, 1)
    for scale in (2, 7, 28, size):
        noise = _unit(f"images/{scale}", (count, channels, scale, scale))
        weight = contrast * (1 + _unit(f"images/{scale}/weight", (count, 1, 1, 1)))
        total += weight * functional.interpolate(noise, (size, size), mode="bilinear")
    return _rounded(total, _STATISTIC_BITS).float()


def calibration_count(size: int, macs: int) -> int:
    """Images in a calibration batch: enough for statistics, and seconds of work.

    Args:
        size: height and width of an image in pixels.
        macs: of the network for one image of that size.
    """
    wanted = 32 if size <= 128 else 16 if size <= 320 else 8
    return max(_LEAST_IMAGES, min(wanted, _CALIBRATION_MACS // max(1, macs)))


def state_sha256(module: nn.Module) -> str:
    """Hash of every key, shape and value of the state dict."""
    digest = hashlib.sha256()
    for key, tensor in module.state_dict().items():
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _unit(name: str, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """Uniform in [-1, 1), float64, from ``name`` alone: multiples of 2**-23, exact anywhere."""
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big"))
    whole = torch.randint(-(1 << 23), 1 << 23, tuple(shape), generator=generator)
    return whole.double().div_(1 << 23)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Another order of summation is one thing less that could change the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _calibrating(module: nn.Module) -> Iterator[None]:
    """While open, each BatchNorm takes its statistics from what arrives, then uses them."""
    norms = [child for child in module.modules() if isinstance(child, _BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    hooks = [norm.register_forward_pre_hook(_take_statistics) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _take_statistics(norm: nn.Module, arrived: tuple[Tensor, ...]) -> None:
    """Forward pre-hook of a BatchNorm: (N, C, ...) -> its running mean and variance."""
    x = arrived[0]
    dims = [dim for dim in range(x.ndim) if dim != 1]
    variance, mean = torch.var_mean(x, dims, correction=0)
    norm.get_buffer("running_mean").copy_(_rounded(mean, _STATISTIC_BITS))
    floored = variance.clamp(min=_LOWEST_VARIANCE)
    norm.get_buffer("running_var").copy_(_rounded(floored, _STATISTIC_BITS))


@contextmanager
def _linear_outputs(module: nn.Module) -> Iterator[dict[nn.Linear, Tensor]]:
    """While open, what each linear layer last gave."""
    seen: dict[nn.Linear, Tensor] = {}
    hooks = [
        child.register_forward_hook(lambda linear, _, output: seen.__setitem__(linear, output))
        for child in module.modules()
        if isinstance(child, nn.Linear)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _spread(logits: object, linear_outputs: Mapping[nn.Linear, Tensor]) -> None:
    """Scale an output layer that no BatchNorm follows by a power of two, which is exact.

    Behind the pooling images differ little. Logits would be the layer's biases, and in them an
    error of any layer before would hardly show.
    """
    for linear, output in linear_outputs.items():
        if output is logits:
            spread = float(output.std(0).mean())
            if math.isfinite(spread):  # the body of a checkpoint may overflow
                doublings = round(-math.log2(max(spread, _LEAST_SPREAD)))
                linear.weight.mul_(2.0 ** max(0, doublings))


def _rounded(x: Tensor, bits: int) -> Tensor:
    """``x`` to ``bits`` significant bits."""
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp((mantissa * (1 << bits)).round() / (1 << bits), exponent)
