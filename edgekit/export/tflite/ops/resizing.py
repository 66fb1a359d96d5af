"""Resize: TFLite has three coordinate modes; which one a node means is decided by its samples.

The input positions that ONNX defines are computed, and those TFLite's kernels compute, and a
mode is taken only when both agree. What none expresses: nearest becomes a GATHER along each
axis, which is exact; linear is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.export.tflite.emission import Emission, Emitter
from edgekit.export.tflite.layout import Held
from edgekit.export.tflite.reader import Op
from edgekit.export.tflite.schema import Array, Tensor

_HALF = np.float32(0.5)

# (output elements, input size, ONNX scale) -> input position of each. In float32, as ONNX
# Runtime computes it: where two elements are equally near, rounding decides.
_POSITIONS: dict[str, Callable[[Array, int, np.float32], Array]] = {
    "half_pixel": lambda out, size, scale: (out + _HALF) / scale - _HALF,
    "pytorch_half_pixel": lambda out, size, scale: (
        (out + _HALF) / scale - _HALF if out.size > 1 else np.zeros(1)
    ),
    "asymmetric": lambda out, size, scale: out / scale,
    "align_corners": lambda out, size, scale: (
        out * np.float32(size - 1) / np.float32(out.size - 1) if out.size > 1 else np.zeros(1)
    ),
}

# How ONNX rounds a position to an element.
_ROUNDING: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@dataclass(frozen=True)
class _Mode:
    """A coordinate mode of TFLite's resizing operators."""

    align_corners: bool
    half_pixel: bool

    def positions(self, out: int, size: int) -> Array:
        """Input position of each output element along an axis."""
        if self.align_corners and out > 1:
            return np.arange(out) * ((size - 1) / (out - 1))
        offset = 0.5 if self.half_pixel else 0.0
        return (np.arange(out) + offset) * size / out - offset

    def nearest(self, out: int, size: int) -> Array:
        """Input element of each output element."""
        aligned = self.align_corners and out > 1
        scale = np.float32(size - 1 if aligned else size) / np.float32(out - 1 if aligned else out)
        offset = _HALF if self.half_pixel else np.float32(0)
        positions = (np.arange(out, dtype=np.float32) + offset) * scale
        rounded: Array = np.floor(positions + _HALF if self.align_corners else positions)
        return np.minimum(rounded, size - 1)


_MODES = (_Mode(False, True), _Mode(False, False), _Mode(True, False))


def _resize(e: Emission, op: Op) -> Held:
    x = e.feature_map(op, op.value(0))
    out = op.output().shape
    if out[:2] != op.value(0).shape[:2]:
        raise op.refusal("it resizes the batch or the channels", "resize only height and width")
    if op.attributes.get("antialias", 0):
        raise op.refusal("it is antialiased", "resize without antialiasing")
    size = (x.shape[1], x.shape[2])
    target = (1, *out[2:]) if len(out) == 3 else out[2:]
    mode = op.attributes.get("mode", "nearest")
    if mode == "nearest":
        tensor = _nearest(e, op, x, size, target)
    elif mode == "linear":
        tensor = _linear(e, op, x, size, target)
    else:
        raise op.refusal(f"its mode is {mode!r}", "use nearest or linear")
    return e.from_feature_map(tensor, len(out))


def _nearest(e: Emission, op: Op, x: Tensor, size: tuple[int, ...], out: tuple[int, ...]) -> Tensor:
    rounding = _ROUNDING[op.attributes.get("nearest_mode", "round_prefer_floor")]
    wanted = [
        np.clip(rounding(positions), 0, n - 1)
        for positions, n in zip(_positions(op, size, out), size, strict=True)
    ]
    for mode in _MODES:
        found = [mode.nearest(o, n) for o, n in zip(out, size, strict=True)]
        if all(np.array_equal(a, b) for a, b in zip(wanted, found, strict=True)):
            return _operator(e, "RESIZE_NEAREST_NEIGHBOR", x, out, mode)
    for axis, indices in enumerate(wanted):
        x = e.take(x, axis + 1, indices.astype(int).tolist())
    return x


def _linear(e: Emission, op: Op, x: Tensor, size: tuple[int, ...], out: tuple[int, ...]) -> Tensor:
    wanted = _positions(op, size, out)
    for mode in _MODES:
        found = [mode.positions(o, n) for o, n in zip(out, size, strict=True)]
        if all(_agree(a, b, n) for a, b, n in zip(wanted, found, size, strict=True)):
            return _operator(e, "RESIZE_BILINEAR", x, out, mode)
    name = op.attributes.get("coordinate_transformation_mode", "half_pixel")
    raise op.refusal(
        f"TFLite cannot interpolate from {size} to {out} in coordinate mode {name!r}",
        "use half_pixel, align_corners or asymmetric with scales that give whole sizes",
    )


def _positions(op: Op, size: tuple[int, ...], out: tuple[int, ...]) -> list[Array]:
    name = op.attributes.get("coordinate_transformation_mode", "half_pixel")
    if name not in _POSITIONS:
        raise op.refusal(f"its coordinate mode is {name!r}", f"use one of {', '.join(_POSITIONS)}")
    scales = _scales(op, size, out)
    sizes = zip(out, size, scales, strict=True)
    return [_POSITIONS[name](np.arange(o, dtype=np.float32), n, s) for o, n, s in sizes]


def _scales(op: Op, size: tuple[int, ...], out: tuple[int, ...]) -> list[np.float32]:
    """The scales as given: with them ONNX's positions differ from those of out / in."""
    if op.has(2) and op.value(2).shape != (0,):
        given = list(op.constant(2, "scales"))
        if len(given) == len(op.value(0).shape):
            return [*([np.float32(1)] * (len(size) - len(given) + 2)), *given[2:]]
    return [np.float32(o) / np.float32(n) for o, n in zip(out, size, strict=True)]


def _agree(a: Array, b: Array, size: int) -> bool:
    """Whether interpolation at ``a`` and ``b`` is the same, edges repeated beyond the edges."""
    return np.allclose(np.clip(a, 0, size - 1), np.clip(b, 0, size - 1), rtol=0, atol=1e-6 * size)


def _operator(e: Emission, code: str, x: Tensor, out: tuple[int, ...], mode: _Mode) -> Tensor:
    shape = (x.shape[0], *out, x.shape[3])
    options: dict[str, Any] = {
        "alignCorners": mode.align_corners,
        "halfPixelCenters": mode.half_pixel,
    }
    return e.op(code, [x, e.indices(out)], shape, version=3 if mode.half_pixel else 1, **options)


EMITTERS: dict[str, Emitter] = {"Resize": _resize}
