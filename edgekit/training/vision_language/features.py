"""Regions of drawn scenes, found once by a detector that is not trained any more.

As the paper does it: the transformer is trained on what the detector saw, not through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from edgekit.models.minivlm.specs import MiniVlmSpec
from edgekit.models.minivlm.tee import Tee
from edgekit.runtimes.vision_language import regions
from edgekit.training.data.scenes import SIDE, Scene, draw_scene
from edgekit.training.vision_language.drawn import Look, Seen
from edgekit.training.vision_language.source import Floats

TAG_SCORE = 0.2  # from which a region's class is a tag: the toolbox's for captions
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
_AT_ONCE = 32  # images


def detector(
    tee: Tee, spec: MiniVlmSpec, objects: Sequence[str], progress: Callable[[str], None]
) -> Look:
    """A way to look at scenes.

    Args:
        tee: a trained detector; put into eval mode.
        spec: its row.
        objects: names of its classes, without the background.
        progress: told that it takes a while.
    """
    tee.eval()

    def look(scenes: Sequence[Scene]) -> list[Seen]:
        progress(f"looking at {len(scenes)} scenes")
        found: list[Seen] = []
        for first in range(0, len(scenes), _AT_ONCE):
            images = np.stack([_canvas(one, spec) for one in scenes[first : first + _AT_ONCE]])
            found += see(tee, images, [(SIDE, SIDE)] * len(images), objects)
        return found

    return look


def _canvas(what: Scene, spec: MiniVlmSpec) -> Floats:
    """(3, H, W): the scene at the top left of the canvas, normalised, and zeros."""
    pixels = np.asarray(draw_scene(what), np.float32) / 255
    normal = (pixels - np.array(_MEAN, np.float32)) / np.array(_STD, np.float32)
    canvas = np.zeros((3, spec.lengths.height, spec.lengths.width), np.float32)
    canvas[:, :SIDE, :SIDE] = normal.transpose(2, 0, 1)
    return canvas


@torch.no_grad()
def see(
    tee: Tee, images: Floats, sizes: Sequence[tuple[int, int]], objects: Sequence[str]
) -> list[Seen]:
    """What a detector sees.

    Args:
        tee: in eval mode.
        images: (B, 3, H, W), normalised.
        sizes: height and width of each image within its canvas.
        objects: names of the classes.
    """
    canvas = (images.shape[2], images.shape[3])
    anchors = regions.anchor_boxes(*canvas, tee.spec.anchors)
    device = next(tee.parameters()).device
    first = [part.cpu().numpy() for part in tee(torch.from_numpy(images).to(device))]
    return [
        _see(tee, (cells, logits, deltas), anchors, canvas, size, objects)
        for cells, logits, deltas, size in zip(*first, sizes, strict=True)
    ]


def _see(
    tee: Tee,
    first: tuple[Floats, Floats, Floats],
    anchors: Floats,
    canvas: tuple[int, int],
    size: tuple[int, int],
    objects: Sequence[str],
) -> Seen:
    """One image, from what the first stage gives of it."""
    spec, (cells, logits, deltas) = tee.spec, first
    boxes = regions.propose(logits, deltas, anchors, size, spec, canvas)
    read = regions.roi_align(cells, canvas, boxes, spec.pooled, spec.samples)  # (P, cells, C)
    shaped = read.transpose(0, 2, 1).reshape(len(boxes), -1, spec.pooled, spec.pooled)
    inputs = torch.from_numpy(np.ascontiguousarray(shaped)).to(next(tee.parameters()).device)
    features, scores, moves = tee.box_head(inputs)
    kept = regions.select(boxes, scores.softmax(1).cpu().numpy(), moves.cpu().numpy(), size, spec)
    chosen = features.cpu().numpy()[kept.index]
    rows = np.concatenate([chosen, regions.box_numbers(kept.boxes, size)], 1).astype(np.float32)
    sure = kept.classes[kept.scores >= TAG_SCORE]
    return Seen(rows, tuple(dict.fromkeys(objects[number] for number in sure)))
