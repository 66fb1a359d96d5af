"""Where the axes of an ONNX value lie in memory.

ONNX counts axes as N, C, H, W; TFLite wants feature maps as N, H, W, C. Every value is
therefore held together with its *order*: ``order[i]`` is the ONNX axis that is stored at axis
``i`` of the tensor. Operators say which order they need, most of them take any:

    value              ONNX shape      order         tensor shape
    a feature map      (1, 8, 56, 56)  (0, 2, 3, 1)  (1, 56, 56, 8)
    ONNX Transpose     any             relabelled    untouched: no data moves
    ONNX Reshape       (1, 8, 3136)    (0, 2, 1)     (1, 3136, 8): no data moves either
    what MatMul reads  (1, 3136, 8)    (0, 1, 2)     as in ONNX

Data moves only where an operator needs another order than the one at hand, which inside a
convolutional net never happens. Axes of size 1 have no place in memory: moving them is free.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.export.tflite.schema import Shape, Tensor

Order = tuple[int, ...]
Block = tuple[list[int], list[int]]  # old axes, new axes


@dataclass(frozen=True)
class Held:
    """An ONNX value as the file holds it."""

    tensor: Tensor
    order: Order

    @property
    def shape(self) -> Shape:
        """The shape as ONNX counts the axes."""
        shape = [0] * len(self.order)
        for stored, axis in enumerate(self.order):
            shape[axis] = self.tensor.shape[stored]
        return tuple(shape)

    def stored(self, axis: int) -> int:
        """Axis of the tensor at which ONNX axis ``axis`` lies."""
        return self.order.index(axis)

    def permuted(self, permutation: tuple[int, ...]) -> Held:
        """ONNX ``Transpose``: the axes get new numbers, the tensor stays."""
        return Held(self.tensor, tuple(permutation.index(axis) for axis in self.order))


def plain(rank: int) -> Order:
    """The order of ONNX itself."""
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """N, spatial axes, C."""
    return plain(rank) if rank < 3 else (0, *range(2, rank), 1)


def stored_shape(shape: Shape, order: Order) -> Shape:
    """Shape of a tensor that holds an ONNX ``shape`` in ``order``."""
    return tuple(shape[axis] for axis in order)


def without_axes(order: Order, dropped: set[int]) -> Order:
    """``order`` after ONNX axes ``dropped`` are gone and the others renumbered."""
    kept = sorted(set(order) - dropped)
    return tuple(kept.index(axis) for axis in order if axis not in dropped)


def moves_data(shape: Shape, permutation: tuple[int, ...]) -> bool:
    """Whether transposing a tensor of ``shape`` changes the sequence of its elements."""
    moved = [axis for axis in permutation if shape[axis] != 1]
    return moved != sorted(moved)


def reshape_blocks(old: Shape, new: Shape) -> list[Block]:
    """The smallest runs of axes, sizes of 1 left out, between which a reshape is confined.

    >>> reshape_blocks((1, 8, 5, 5), (1, 2, 4, 25))
    [([1], [1, 2]), ([2, 3], [3])]
    """
    olds = [axis for axis, size in enumerate(old) if size != 1]
    news = [axis for axis, size in enumerate(new) if size != 1]
    blocks: list[Block] = []
    while olds:
        block: Block = ([olds.pop(0)], [news.pop(0)])
        before, after = old[block[0][0]], new[block[1][0]]
        while before != after:
            if before < after:
                block[0].append(olds.pop(0))
                before *= old[block[0][-1]]
            else:
                block[1].append(news.pop(0))
                after *= new[block[1][-1]]
        blocks.append(block)
    return blocks


def reshaped_order(order: Order, old: Shape, new: Shape) -> tuple[Order, Order]:
    """Orders before and after a reshape such that it moves no data.

    The order before is ``order`` itself wherever the axes that are merged lie side by side.
    """
    blocks = reshape_blocks(old, new)
    place = {axis: stored for stored, axis in enumerate(order)}
    blocks.sort(key=lambda block: min(place[axis] for axis in block[0]))
    before = [axis for block in blocks for axis in block[0]]
    after = [axis for block in blocks for axis in block[1]]
    if before == [axis for axis in order if old[axis] != 1]:
        return order, _with_ones(after, new)
    return _with_ones(before, old), _with_ones(after, new)


def _with_ones(order: list[int], shape: Shape) -> Order:
    """``order`` with the axes of size 1 put in, each behind its ONNX neighbour."""
    complete = list(order)
    for axis, size in enumerate(shape):
        if size == 1:
            complete.insert(complete.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(complete)
