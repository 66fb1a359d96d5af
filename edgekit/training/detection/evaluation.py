"""How good a detector is: mAP50, and how often the attribute that it is surest of is right.

mAP50 is the area under the precision-recall curve of each class, with precision made to fall as
PASCAL VOC does since 2010, averaged over the classes that held-out images have. A region is right
if it overlaps a box of its class, which no better region has, by half or more (intersection over
union); of several such boxes it takes the one that it overlaps most.

Attributes are judged where a region finds a box whatever class it says, so that they are not
judged better where classes are worse.

Everingham et al., The PASCAL Visual Object Classes Challenge: A Retrospective, IJCV 2015.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekit.models.minivlm.tee import Tee
from edgekit.runtimes.vision_language.regions import (
    Regions,
    anchor_boxes,
    overlaps,
    propose,
    select,
)
from edgekit.training.detection.loading import DetectionBatch, Normalise
from edgekit.training.detection.objective import second_stage
from edgekit.training.detection.source import Objects

_IOU = 0.5

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Detected:
    """What was found in one image, the best first.

    Attributes:
        boxes: (R, 4) in pixels of the canvas.
        scores: (R,).
        classes: (R,) from 1.
        attributes: logits (R, attributes); no columns without such a head.
    """

    boxes: Floats
    scores: Floats
    classes: NDArray[np.int64]
    attributes: Floats


@torch.no_grad()
def detect(tee: Tee, images: Tensor, sizes: Tensor) -> list[Detected]:
    """What a network in eval mode finds.

    Args:
        tee: the network.
        images: (B, 3, H, W), normalised.
        sizes: (B, 2), height and width of each within its canvas.
    """
    canvas = (images.shape[2], images.shape[3])
    anchors = anchor_boxes(*canvas, tee.spec.anchors)
    cells, logits, deltas = tee(images)
    scores, moves = logits.float().cpu().numpy(), deltas.float().cpu().numpy()
    found = []
    for row, shape in enumerate(sizes.tolist()):
        size = shape[0], shape[1]
        boxes = propose(scores[row], moves[row], anchors, size, tee.spec, canvas)
        found.append(_second(tee, cells[row : row + 1], canvas, boxes, size))
    return found


def _second(
    tee: Tee, cells: Tensor, canvas: tuple[int, int], boxes: Floats, size: tuple[float, float]
) -> Detected:
    regions = torch.from_numpy(boxes).to(cells.device)
    image = torch.zeros(len(boxes), dtype=torch.int64, device=cells.device)
    features, logits, deltas = second_stage(tee, cells, canvas, regions, image)
    shares = logits.float().softmax(1).cpu().numpy()
    kept = select(boxes, shares, deltas.float().cpu().numpy(), size, tee.spec)
    return Detected(kept.boxes, kept.scores, kept.classes + 1, _attributes(tee, features, kept))


def _attributes(tee: Tee, features: Tensor, kept: Regions) -> Floats:
    if not tee.spec.attributes:
        return np.zeros((len(kept.index), 0), np.float32)
    index, classes = (torch.from_numpy(each) for each in (kept.index, kept.classes + 1))
    chosen = features[index.to(features.device)]
    logits: Floats = tee.attributes(chosen, classes.to(features.device)).float().cpu().numpy()
    return logits


# ---- figures ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """A network on held-out images.

    Attributes:
        found: in each image.
        truth: what was to be found there.
        unreadable: images that could not be read.
    """

    found: Sequence[Detected]
    truth: Sequence[Objects]
    unreadable: int = 0


def judge(tee: Tee, batches: Iterable[DetectionBatch | tuple[str, ...]]) -> Judged:
    """Run a network over batches; it is left in the mode that it was in."""
    training, device = tee.training, next(tee.parameters()).device
    normalise = Normalise().to(device)
    found: list[Detected] = []
    truth: list[Objects] = []
    unreadable = 0
    tee.eval()
    try:
        for batch in batches:
            if not isinstance(batch, DetectionBatch):
                unreadable += len(batch)
                continue
            unreadable += len(batch.corrupt)
            images, sizes, *_ = batch.inputs([normalise], device)
            found += detect(tee, images, sizes)
            truth += _truth(batch)
    finally:
        tee.train(training)
    return Judged(found, truth, unreadable)


def _truth(batch: DetectionBatch) -> Iterator[Objects]:
    _, boxes, classes, attributes = (each.numpy() for each in batch.targets)
    for row in range(batch.size):
        present = classes[row] > 0
        yield Objects(boxes[row][present], classes[row][present], attributes[row][present])


def figures(judged: Judged) -> Mapping[str, float]:
    """``mAP50``, and ``attributes`` if a box has any: shares, from 0 to 1."""
    found = {"mAP50": mean_average_precision(judged.found, judged.truth)}
    right = attribute_accuracy(judged.found, judged.truth)
    return found if right is None else {**found, "attributes": right}


def mean_average_precision(found: Sequence[Detected], truth: Sequence[Objects]) -> float:
    """mAP50, see the module; 0 if there is nothing to find."""
    classes = sorted({int(one) for each in truth for one in each.classes})
    if not classes:
        return 0.0
    return float(np.mean([_average_precision(found, truth, number) for number in classes]))


def _average_precision(found: Sequence[Detected], truth: Sequence[Objects], number: int) -> float:
    scores, right = [], []
    total = 0
    for one, wanted in zip(found, truth, strict=True):
        ours, theirs = one.classes == number, wanted.classes == number
        total += int(theirs.sum())
        matched = assign(one.boxes[ours], one.scores[ours], wanted.boxes[theirs])
        scores.append(one.scores[ours])
        right.append(matched >= 0)
    return area(np.concatenate(scores), np.concatenate(right), total)


def assign(boxes: Floats, scores: Floats, truth: Floats, iou: float = _IOU) -> NDArray[np.int64]:
    """Which true box each of ``boxes`` found, the best first; -1 for none, or for one too many."""
    matched = np.full(len(boxes), -1, np.int64)
    if not len(truth):
        return matched
    shared = overlaps(boxes, truth)
    for row in np.argsort(-scores, kind="stable"):
        best = int(shared[row].argmax())
        if shared[row, best] >= iou:
            matched[row] = best
            shared[:, best] = -1
    return matched


def area(scores: Floats, right: NDArray[np.bool_], total: int) -> float:
    """Under the precision-recall curve of one class, which has ``total`` boxes."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    recall = hits / max(1, total)
    precision = hits / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(recall, prepend=0.0)
    return float((steps * falling).sum())


def attribute_accuracy(found: Sequence[Detected], truth: Sequence[Objects]) -> float | None:
    """Share of found boxes whose first attribute they have; None where no box that has any is."""
    right = []
    for one, wanted in zip(found, truth, strict=True):
        if not one.attributes.shape[1]:
            return None
        matched = assign(one.boxes, one.scores, wanted.boxes)
        for row in np.flatnonzero(matched >= 0):
            has = wanted.attributes[matched[row]]
            if (has >= 0).any():
                right.append(int(one.attributes[row].argmax()) in has)
    return float(np.mean(right)) if right else None
