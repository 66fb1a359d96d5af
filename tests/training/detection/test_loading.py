"""Images on canvases: their boxes go where they go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from edgekit.errors import InputError
from edgekit.models.variant import IMAGENET_MEAN, IMAGENET_STD
from edgekit.runtimes.preprocess import fit_into
from edgekit.training.data.loading import Plan
from edgekit.training.detection.drawn import Drawn
from edgekit.training.detection.loading import (
    DetectionBatch,
    Normalise,
    Views,
    evaluation_batches,
    fit,
    placed,
    training_batches,
)
from edgekit.training.detection.source import Objects, packed

CANVAS = (64, 128)


def bright(size: tuple[int, int], box: tuple[int, int, int, int]) -> tuple[Image.Image, Objects]:
    """Black, with a white box that is what is to be found."""
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), box)
    return image, packed([box], [1], [(0,)])


def seen(pixels: np.ndarray) -> list[int]:
    """Where the white part of a canvas is."""
    rows, columns = np.nonzero(pixels[:, :, 0] > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((64, 128), (64, 128)), ((128, 128), (64, 64)), ((32, 128), (32, 128)), ((3000, 1), (64, 1)),
     ((1, 9999), (1, 128)), ((480, 640), (64, 85))],
)  # fmt: skip
def test_an_image_fits_the_canvas_in_its_form(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fit(size, CANVAS) == expected


def test_a_whole_image_is_at_the_top_left_with_its_box() -> None:
    image, found = bright((100, 100), (20, 40, 60, 90))
    pixels, size, objects = placed(image, found, Views(CANVAS), None)
    assert pixels.shape == (64, 128, 3) and size == (64, 64)
    assert not pixels[:, 64:].any()
    assert np.abs(np.array(seen(pixels)) - objects.boxes[0]).max() <= 1
    assert objects.boxes[0].tolist() == pytest.approx([12.8, 25.6, 38.4, 57.6])


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_boxes_follow_scale_cut_and_mirror(flip: float) -> None:
    image, found = bright((300, 200), (120, 60, 200, 150))
    for seed in range(40):
        draw = np.random.default_rng(seed)
        views = Views(CANVAS, (0.5, 2.5), flip)
        pixels, size, objects = placed(image, found, views, draw)
        assert size[0] <= 64 and size[1] <= 128 and not pixels[:, size[1] :].any()
        if len(objects):
            assert np.abs(np.array(seen(pixels)) - objects.boxes[0]).max() <= 1.5
            assert (objects.boxes >= 0).all()
            assert (objects.boxes[0, 2:] <= [size[1], size[0]]).all()


def test_mirrored_is_the_mirror_of_what_is_not() -> None:
    image, found = bright((100, 50), (10, 10, 30, 20))
    plain, _, one = placed(image, found, Views(CANVAS, flip=0.0), np.random.default_rng(0))
    mirrored, size, two = placed(image, found, Views(CANVAS, flip=1.0), np.random.default_rng(0))
    assert np.array_equal(mirrored[:, : size[1]], plain[:, : size[1]][:, ::-1])
    assert two.boxes[0].tolist() == pytest.approx(
        [size[1] - one.boxes[0, 2], one.boxes[0, 1], size[1] - one.boxes[0, 0], one.boxes[0, 3]]
    )


def test_a_box_of_which_too_little_is_left_is_not_to_be_found() -> None:
    image, found = bright((256, 128), (0, 0, 40, 40))
    counts = [
        len(placed(image, found, Views(CANVAS, (1.5, 1.5)), np.random.default_rng(seed))[2])
        for seed in range(30)
    ]
    assert set(counts) == {0, 1}


def test_outside_of_the_image_is_zero_after_normalisation() -> None:
    images = torch.full((1, 3, 64, 128), 255, dtype=torch.uint8)
    normal = Normalise()(images, torch.tensor([[32.0, 100.0]]))
    assert not bool(normal[:, :, 32:].any()) and not bool(normal[:, :, :, 100:].any())
    for channel in range(3):
        expected = (1 - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
        assert float(normal[0, channel, 31, 99]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [(128, 128), (100, 37), (31, 200), (640, 480)])
def test_a_whole_image_is_what_a_board_sees(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image, found = Image.fromarray(noise), packed([], [], [])
    pixels, shape, _ = placed(image, found, Views(CANVAS), None)
    images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    ours = Normalise()(images, torch.tensor([shape])).numpy()
    theirs, its_shape = fit_into(image, CANVAS, IMAGENET_MEAN, IMAGENET_STD)
    assert shape == its_shape and np.abs(ours - theirs).max() < 1e-6


class Torn(Drawn):
    """Of which every third scene cannot be read."""

    def read(self, index: int) -> tuple[Image.Image, Objects]:
        if index % 3 == 0:
            raise InputError("it is torn")
        return super().read(index)


def batches(source: Drawn, first: int = 0, last: int = 6, workers: int = 0) -> list[DetectionBatch]:
    plan = Plan(len(source), 4, 5)
    views = Views((128, 128), (0.5, 1.5))
    return list(training_batches(source, plan, views, first=first, last=last, workers=workers))


def same(one: DetectionBatch, two: DetectionBatch) -> bool:
    pairs = zip((one.images, *one.targets), (two.images, *two.targets), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_depends_on_nothing_but_its_step(workers: int) -> None:
    whole = batches(Drawn(0, 12))
    torch.manual_seed(7)
    later = batches(Drawn(0, 12), first=4, workers=workers)
    assert all(same(a, b) for a, b in zip(whole[4:], later, strict=True))
    assert not same(whole[0], whole[3]), "the next epoch sees other parts"


def test_what_cannot_be_read_is_named_and_replaced() -> None:
    found = batches(Torn(0, 12), last=3)
    assert sorted(why for batch in found for why in batch.corrupt) == [
        f"scene {n}: it is torn" for n in (0, 3, 6, 9)
    ]
    assert {batch.size for batch in found} == {4}
    for workers in (0, 1):
        with pytest.raises(InputError, match="no image of a whole batch can be read") as caught:
            batches(AllTorn(0, 12), last=1, workers=workers)
        assert len(str(caught.value)) < 120


class AllTorn(Drawn):
    def read(self, index: int) -> tuple[Image.Image, Objects]:
        raise InputError("it is torn")


def test_evaluating_leaves_out_what_cannot_be_read() -> None:
    found = list(evaluation_batches(Torn(0, 7), (128, 128), batch_size=2, workers=0))
    sizes = [each.size if isinstance(each, DetectionBatch) else each for each in found]
    assert sizes == [1, 1, 2, ("scene 6: it is torn",)]


def test_fewer_images_of_a_batch_have_their_own_boxes() -> None:
    batch = batches(Drawn(0, 12), last=1)[0]
    part = batch.first(2)
    assert part.size == 2 and all(len(each) == 2 for each in part.targets)
    assert torch.equal(part.targets.boxes, batch.targets.boxes[:2])
