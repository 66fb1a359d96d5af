"""The window of a convolution or pool, and how its padding is said in TFLite.

ONNX gives pads; TFLite knows only VALID (none) and SAME (so many that the output has
``ceil(input / stride)`` elements, the odd one behind). Where the pads are neither, the input
is padded by an operator of its own, which XNNPACK folds into the convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.export.tflite.reader import Op

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Kernel, stride, dilation and (before, after) pads, each for height and width."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    pads: tuple[Pair, Pair]
    ceil_mode: bool = False

    @property
    def extent(self) -> Pair:
        """Input elements from the first to the last tap."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return (kh - 1) * dh + 1, (kw - 1) * dw + 1

    def output(self, size: Pair) -> Pair:
        """Output size for an input of ``size``."""
        return self._steps(size, 0), self._steps(size, 1)

    def _steps(self, size: Pair, axis: int) -> int:
        (before, after), stride = self.pads[axis], self.stride[axis]
        room = size[axis] + before + after - self.extent[axis]
        if not self.ceil_mode:
            return room // stride + 1
        steps = -(-room // stride) + 1
        # A window that would start in the padding behind the input does not count.
        return steps - ((steps - 1) * stride >= size[axis] + before)

    def reach(self, size: Pair) -> tuple[Pair, Pair]:
        """Pads such that the last window ends where the input ends: ceil_mode adds behind."""
        out = self.output(size)
        last = [(o - 1) * s + x for o, s, x in zip(out, self.stride, self.extent, strict=True)]
        (top, bottom), (left, right) = self.pads
        down, across = last[0] - size[0] - top, last[1] - size[1] - left
        return (top, max(bottom, down)), (left, max(right, across))

    def padding(self, size: Pair) -> str | None:
        """``"VALID"`` or ``"SAME"`` where that is what the pads amount to, else None."""
        pads = self.reach(size)
        if pads == ((0, 0), (0, 0)):
            return "VALID"
        return "SAME" if pads == (self._same(size, 0), self._same(size, 1)) else None

    def _same(self, size: Pair, axis: int) -> Pair:
        """The pads that TFLite computes for SAME."""
        steps = -(-size[axis] // self.stride[axis])
        total = max((steps - 1) * self.stride[axis] + self.extent[axis] - size[axis], 0)
        return total // 2, total - total // 2


def window_of(op: Op, kernel: tuple[int, ...], size: Pair) -> Window:
    """The window of ``op`` with ``kernel`` on an input of ``size`` (height, width).

    One spatial axis is taken as a row: height 1.
    """
    axes = len(kernel)
    pads = tuple(op.attributes.get("pads", (0,) * 2 * axes))
    window = Window(
        kernel=_pair(kernel, 1),
        stride=_pair(op.attributes.get("strides", (1,) * axes), 1),
        dilation=_pair(op.attributes.get("dilations", (1,) * axes), 1),
        pads=(_pair(pads[0::axes], 0), _pair(pads[1::axes], 0)) if axes == 2 else ((0, 0), pads),
        ceil_mode=bool(op.attributes.get("ceil_mode", 0)),
    )
    auto = op.attributes.get("auto_pad", "NOTSET")
    return window if auto in ("NOTSET", "VALID") else _auto_padded(window, auto, size)


def _auto_padded(window: Window, auto: str, size: Pair) -> Window:
    pads = [window._same(size, axis) for axis in (0, 1)]
    if auto == "SAME_LOWER":  # the odd one in front
        pads = [(after, before) for before, after in pads]
    return Window(window.kernel, window.stride, window.dilation, (pads[0], pads[1]))


def _pair(values: tuple[int, ...], filler: int) -> Pair:
    padded = (filler,) * (2 - len(values)) + tuple(int(value) for value in values)
    return padded[0], padded[1]
