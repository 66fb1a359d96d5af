"""TensorFlow's "same" padding, which may be uneven.

The output has ceil(n / stride) pixels a side. What must be added for that depends on the size n
that enters, and where it is odd, the pixel more comes after the image:

    3x3, stride 2    n even: 0 before, 1 after     n odd: 1 and 1
    5x5, stride 2    n even: 1 before, 2 after     n odd: 2 and 2
    stride 1         k // 2 before and after: as everywhere else
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


def same_size(size: int, stride: int) -> int:
    """Pixels a side behind a convolution with "same" padding."""
    return -(-size // stride)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels to add before and after ``size`` of them."""
    total = max((same_size(size, stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """Convolution with "same" padding and without bias, a square kernel and one stride.

    In an exported graph of static shape the padding is a constant: the convolution's own where it
    is even, otherwise that of one Pad before it, which can be taken into the convolution.

    Args:
        width_in: channels that enter.
        width_out: channels that leave.
        kernel: pixels a side.
        stride: both ways.
        groups: as in ``nn.Conv2d``.
        size: pixels a side that the padding is computed for, whatever arrives; None: what arrives.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        kernel: int,
        stride: int,
        *,
        groups: int = 1,
        size: int | None = None,
    ) -> None:
        super().__init__(width_in, width_out, kernel, stride, groups=groups, bias=False)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride)) if made for H and W."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (self.size, self.size) if self.size else x.shape[2:]
        vertical = same_padding(height, kernel, stride)
        horizontal = same_padding(width, kernel, stride)
        even = (vertical[0], horizontal[0])
        if (vertical[1], horizontal[1]) != even:
            x, even = functional.pad(x, (*horizontal, *vertical)), (0, 0)
        return functional.conv2d(x, self.weight, None, self.stride, even, groups=self.groups)
