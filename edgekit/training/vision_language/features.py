"""Regions of drawn scenes, found once by a detector that is not trained any more.

As the paper does it: the transformer is trained on what the detector saw, not through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from edgekit.models.minivlm.tee import Tee
from edgekit.models.variant import IMAGENET_MEAN, IMAGENET_STD
from edgekit.runtimes.preprocess import fit_into
from edgekit.runtimes.vision_language import regions
from edgekit.training.data.scenes import Scene, draw_scene
from edgekit.training.vision_language.drawn import Look, Seen
from edgekit.training.vision_language.source import Floats

_AT_ONCE = 32  # images


def detector(
    tee: Tee,
    canvas: tuple[int, int],
    objects: Sequence[str],
    min_score: float,
    progress: Callable[[str], None],
) -> Look:
    """A way to look at scenes.

    Args:
        tee: a trained detector; put into eval mode.
        canvas: height and width that images are fitted into.
        objects: names of its classes, without the background.
        min_score: of the best class, for a region to be kept.
        progress: told that it takes a while.
    """
    tee.eval()

    def look(scenes: Sequence[Scene]) -> list[Seen]:
        progress(f"looking at {len(scenes)} scenes")
        found: list[Seen] = []
        for first in range(0, len(scenes), _AT_ONCE):
            pictures = [draw_scene(one) for one in scenes[first : first + _AT_ONCE]]
            images, sizes = zip(
                *(fit_into(p, canvas, IMAGENET_MEAN, IMAGENET_STD) for p in pictures), strict=True
            )
            found += see(tee, np.concatenate(images), sizes, objects, min_score)
        return found

    return look


@torch.no_grad()
def see(
    tee: Tee,
    images: Floats,
    sizes: Sequence[tuple[int, int]],
    objects: Sequence[str],
    min_score: float,
) -> list[Seen]:
    """What a detector sees.

    Args:
        tee: in eval mode.
        images: (B, 3, H, W), normalised.
        sizes: height and width of each image within its canvas.
        objects: names of the classes.
        min_score: of the best class, for a region to be kept.
    """
    canvas = (images.shape[2], images.shape[3])
    anchors = regions.anchor_boxes(*canvas, tee.spec.anchors)
    device = next(tee.parameters()).device
    first = [part.cpu().numpy() for part in tee(torch.from_numpy(images).to(device))]
    found = []
    for cells, logits, deltas, size in zip(*first, sizes, strict=True):
        boxes = regions.propose(logits, deltas, anchors, size, tee.spec, canvas)
        features, scores, moves = _second(tee, cells, canvas, boxes)
        kept = regions.select(boxes, scores, moves, size, tee.spec, min_score)
        numbers = regions.box_numbers(kept.boxes, size)
        rows = np.concatenate([features[kept.index], numbers], 1).astype(np.float32)
        found.append(Seen(rows, tuple(dict.fromkeys(objects[n] for n in kept.classes))))
    return found


def _second(
    tee: Tee, cells: Floats, canvas: tuple[int, int], boxes: Floats
) -> tuple[Floats, Floats, Floats]:
    """Features, class scores and deltas of proposals, of one image."""
    spec = tee.spec
    read = regions.roi_align(cells, canvas, boxes, spec.pooled, spec.samples)  # (P, cells, C)
    shape = len(boxes), cells.shape[1], spec.pooled, spec.pooled
    shaped = read.transpose(0, 2, 1).reshape(shape)
    inputs = torch.from_numpy(np.ascontiguousarray(shaped)).to(next(tee.parameters()).device)
    features, logits, deltas = tee.box_head(inputs)
    scores = logits.softmax(1)
    return features.cpu().numpy(), scores.cpu().numpy(), deltas.cpu().numpy()
