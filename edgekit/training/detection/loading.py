"""From a source to batches on canvases: whole images or parts, scaled, mirrored, with their boxes.

    image (h, w)  -> scaled by s: 1 is what fits the canvas -> cut where it is larger
                  -> mirrored or not -> at the top left of a canvas (H, W)

What is drawn is drawn by the seed and the place in the run, as in ``edgekit/training/data``. What
is left of the canvas is zero after normalisation, as on a board.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from edgekit.errors import InputError
from edgekit.models.variant import IMAGENET_MEAN, IMAGENET_STD
from edgekit.optional import require
from edgekit.training.data.loading import Plan, planned
from edgekit.training.detection.source import MOST_ATTRIBUTES, DetectionSource, Objects
from edgekit.training.seeding import IMAGE, generator

if TYPE_CHECKING:
    from PIL import Image


MOST_BOXES = 100  # of one image, while training
_LEFT = 0.3  # share of a box that must be inside a part of its image, or it is not to be found


@dataclass(frozen=True)
class Views:
    """Which parts of images are trained on.

    Attributes:
        canvas: height and width, in pixels.
        scales: smallest and largest, of what makes an image fit the canvas.
        flip: probability of a mirrored one.
    """

    canvas: tuple[int, int]
    scales: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.5


class Targets(NamedTuple):
    """What is to be found in B images, in pixels of the canvas, padded to the most of them.

    Attributes:
        sizes: (B, 2) float32, height and width of what of the canvas is image.
        boxes: (B, M, 4) float32.
        classes: (B, M) int64 from 1; 0 where there is no box.
        attributes: (B, M, `MOST_ATTRIBUTES`) int64, -1 for none.
    """

    sizes: Tensor
    boxes: Tensor
    classes: Tensor
    attributes: Tensor


class DetectionBatch(NamedTuple):
    """Images with their boxes.

    Attributes:
        images: (B, 3, H, W) uint8.
        targets: see there.
        corrupt: name and reason of what could not be read; while training another image of the
            batch stands in its place, while evaluating nothing does.
    """

    images: Tensor
    targets: Targets
    corrupt: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many images it has."""
        return len(self.images)

    def first(self, count: int) -> DetectionBatch:
        """The first ``count`` of its images."""
        targets = Targets(*(each[:count] for each in self.targets))
        return DetectionBatch(self.images[:count], targets, ())

    def inputs(
        self, on_batch: Sequence[Callable[[Tensor, Tensor], Tensor]], device: torch.device
    ) -> tuple[Tensor, ...]:
        """Normalised images and the targets."""
        moved = [each.to(device) for each in self.targets]
        return (on_batch[0](self.images.to(device), moved[0]), *moved)


class Normalise(nn.Module):
    """uint8 (B, 3, H, W) and sizes (B, 2) -> float32, zero outside of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    mean: Tensor
    std: Tensor

    @torch.no_grad()
    def forward(self, images: Tensor, sizes: Tensor) -> Tensor:
        """As the network is fed."""
        rows = torch.arange(images.shape[2], device=images.device) < sizes[:, :1]
        columns = torch.arange(images.shape[3], device=images.device) < sizes[:, 1:]
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        normal: Tensor = (images.float() / 255 - self.mean) / self.std
        return normal * inside


# ---- one image -------------------------------------------------------------------------------


def fit(size: tuple[int, int], canvas: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
    """Height and width of an image of ``size`` (h, w) that fits the canvas, times ``scale``."""
    share = scale * min(canvas[0] / size[0], canvas[1] / size[1])
    height, width = (max(1, round(side * share)) for side in size)
    return height, width


def placed(
    image: Image.Image, found: Objects, views: Views, draw: np.random.Generator | None
) -> tuple[NDArray[np.uint8], tuple[int, int], Objects]:
    """An image on its canvas.

    Args:
        image: RGB.
        found: in it.
        views: what is drawn.
        draw: None for the whole image, not mirrored.

    Returns:
        (H, W, 3) uint8; height and width of the image on it; and what is to be found there.
    """
    scale = 1.0 if draw is None else float(draw.uniform(*views.scales))
    height, width = fit((image.height, image.width), views.canvas, scale)
    shares = np.array([width / image.width, height / image.height] * 2, np.float32)
    bilinear = require("PIL.Image", "training").Resampling.BILINEAR
    # Only what is seen is made: a long image that is enlarged may be too much of it.
    seen = min(height, views.canvas[0]), min(width, views.canvas[1])
    top, left = (0, 0) if draw is None else _corner((height, width), seen, draw)
    part = np.array([left, top, left + seen[1], top + seen[0]], np.float32)
    pixels = np.asarray(
        image.resize((seen[1], seen[0]), bilinear, box=_inside(part / shares, image.size))
    )
    objects = _cut(found, found.boxes * shares - part[[0, 1, 0, 1]], seen)
    if draw is not None and draw.random() < views.flip:
        pixels, objects = pixels[:, ::-1], _mirrored(objects, seen[1])
    canvas = np.zeros((*views.canvas, 3), np.uint8)
    canvas[: seen[0], : seen[1]] = pixels
    return canvas, seen, objects


def _inside(part: NDArray[np.float32], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Of rounding, Pillow refuses a box that is larger than the image."""
    left, top, right, bottom = map(float, part)
    return max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])


def _corner(
    size: tuple[int, int], seen: tuple[int, int], draw: np.random.Generator
) -> tuple[int, int]:
    top, left = (
        int(draw.integers(0, whole - part + 1)) for whole, part in zip(size, seen, strict=True)
    )
    return top, left


def _cut(found: Objects, boxes: NDArray[np.float32], seen: tuple[int, int]) -> Objects:
    """``boxes`` within what is seen, without those of which too little is."""
    if not len(found):
        return found
    inside = np.clip(boxes, 0, np.array([seen[1], seen[0]] * 2, np.float32))
    kept = _areas(inside) > _LEFT * _areas(boxes)
    return Objects(inside.astype(np.float32), found.classes, found.attributes).some(kept)


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    areas: NDArray[np.float32] = sides[:, 0] * sides[:, 1]
    return areas


def _mirrored(found: Objects, width: int) -> Objects:
    boxes = found.boxes.copy()
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    return Objects(boxes, found.classes, found.attributes)


# ---- batches ---------------------------------------------------------------------------------


class _Item(NamedTuple):
    pixels: NDArray[np.uint8] | None  # None for what cannot be read
    size: tuple[int, int]
    found: Objects | None
    why: str = ""


class _Placed(Dataset[_Item]):
    """Items by (image, place), or by image alone where nothing is drawn."""

    def __init__(self, source: DetectionSource, views: Views, seed: int | None) -> None:
        self.source, self.views, self.seed = source, views, seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int] | int) -> _Item:
        index, place = key if isinstance(key, tuple) else (key, 0)
        draw = None if self.seed is None else generator(self.seed, IMAGE, place)
        try:
            image, found = self.source.read(index)
        except InputError as error:
            return _Item(None, (0, 0), None, f"{self.source.name(index)}: {error}")
        pixels, size, found = placed(image, found, self.views, draw)
        return _Item(pixels, size, found if draw is None else found.some(slice(MOST_BOXES)))


def stacked(items: Sequence[tuple[NDArray[np.uint8], tuple[int, int], Objects]]) -> DetectionBatch:
    """A batch of canvases, the sizes of their images, and what is on them."""
    most = max((len(found) for _, _, found in items), default=0)
    boxes = np.zeros((len(items), most, 4), np.float32)
    classes = np.zeros((len(items), most), np.int64)
    attributes = np.full((len(items), most, MOST_ATTRIBUTES), -1, np.int64)
    for row, (_, _, found) in enumerate(items):
        boxes[row, : len(found)] = found.boxes
        classes[row, : len(found)] = found.classes
        attributes[row, : len(found)] = found.attributes
    images = torch.from_numpy(np.stack([pixels for pixels, _, _ in items])).permute(0, 3, 1, 2)
    sizes = torch.tensor([size for _, size, _ in items], dtype=torch.float32)
    targets = Targets(sizes, *map(torch.from_numpy, (boxes, classes, attributes)))
    return DetectionBatch(images.contiguous(), targets, ())


def _good(items: Sequence[_Item]) -> list[tuple[NDArray[np.uint8], tuple[int, int], Objects]]:
    return [
        (item.pixels, item.size, item.found)
        for item in items
        if item.pixels is not None and item.found is not None
    ]


def _filled(items: Sequence[_Item]) -> DetectionBatch | tuple[str, ...]:
    """Good images in the place of bad ones: the size of a batch is part of the recipe.

    Only the reasons where there are none: a worker's exception would bring its traceback along.
    """
    good, corrupt = _good(items), tuple(item.why for item in items if item.why)
    if not good:
        return corrupt
    rows = (good * len(items))[: len(items)]
    return stacked(rows)._replace(corrupt=corrupt)


def _rest(items: Sequence[_Item]) -> DetectionBatch | tuple[str, ...]:
    """A batch of those that can be read, or the reasons where none can."""
    good, corrupt = _good(items), tuple(item.why for item in items if item.why)
    return stacked(good)._replace(corrupt=corrupt) if good else corrupt


def training_batches(
    source: DetectionSource, plan: Plan, views: Views, *, first: int, last: int, workers: int
) -> Iterator[DetectionBatch]:
    """Batches of this process for the steps ``first`` to ``last``, which is not among them."""
    dataset = _Placed(source, views, plan.seed)
    for batch in planned(dataset, plan, _filled, first=first, last=last, workers=workers):
        if not isinstance(batch, DetectionBatch):
            raise InputError(f"no image of a whole batch can be read, e.g. {batch[0]}")
        yield batch


def evaluation_batches(
    source: DetectionSource, canvas: tuple[int, int], *, batch_size: int, workers: int
) -> Iterator[DetectionBatch | tuple[str, ...]]:
    """All images, whole and in their order; only reasons where none of a batch can be read."""
    loader = DataLoader(
        _Placed(source, Views(canvas), None),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_rest,
        generator=torch.Generator(),
    )
    return iter(loader)
