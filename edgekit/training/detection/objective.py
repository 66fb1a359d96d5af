"""(images, what is in them) -> loss: both stages of the detector at once.

The first stage's boxes become regions without a gradient, as in Faster R-CNN's approximate joint
training. The true boxes are among the regions, or an untrained first stage would leave the second
nothing to learn from.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from edgekit.models.minivlm.roi import roi_align
from edgekit.models.minivlm.tee import Tee
from edgekit.runtimes.vision_language.regions import BOX_WEIGHTS, anchor_boxes, propose
from edgekit.training.detection.losses import anchor_losses, attribute_loss, region_losses
from edgekit.training.detection.matching import (
    ANCHORS,
    REGIONS,
    Sampling,
    encode,
    match,
    sample,
)

_ANCHOR_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


class Detect(nn.Module):
    """The loss of a detector.

    Args:
        tee: the network.
        canvas: height and width of the images.
        sampling: what a step learns from.
        attribute_weight: of the loss of attributes, beside those of weight 1.
    """

    def __init__(
        self, tee: Tee, canvas: tuple[int, int], sampling: Sampling, attribute_weight: float
    ) -> None:
        super().__init__()
        self.tee, self.canvas, self.sampling = tee, canvas, sampling
        self.attribute_weight = attribute_weight
        self.all_anchors = anchor_boxes(*canvas, tee.spec.anchors)
        self.geometry = replace(
            tee.spec, candidates=sampling.candidates, proposals=sampling.proposals
        )
        self.register_buffer("anchors", torch.from_numpy(self.all_anchors), persistent=False)

    anchors: Tensor

    def forward(
        self, images: Tensor, sizes: Tensor, boxes: Tensor, classes: Tensor, attributes: Tensor
    ) -> Tensor:
        """``images`` (B, 3, H, W) normalised; the others as `Targets` has them."""
        cells, logits, deltas = self.tee(images)
        logits, deltas = logits.float(), deltas.float()
        present = classes > 0
        truth = [boxes[row][present[row]] for row in range(len(images))]
        loss = self._anchors(logits, deltas, truth)
        regions, image, number = self._regions(logits, deltas, sizes, truth)
        return loss + self._second(cells, regions, image, number, truth, classes, attributes)

    # -- first stage ---------------------------------------------------------

    def _anchors(self, logits: Tensor, deltas: Tensor, truth: list[Tensor]) -> Tensor:
        positives, negatives, wanted = [], [], []
        for row, boxes in enumerate(truth):
            matched = match(self.anchors, boxes, ANCHORS)
            positive, negative = sample(matched, self.sampling.anchors, self.sampling.anchor_share)
            wanted.append(encode(boxes[matched[positive]], self.anchors[positive], _ANCHOR_WEIGHTS))
            positives.append(positive + row * len(self.anchors))
            negatives.append(negative + row * len(self.anchors))
        objectness, box = anchor_losses(
            logits.flatten(), deltas.flatten(0, 1), torch.cat(positives), torch.cat(negatives),
            torch.cat(wanted),
        )  # fmt: skip
        return objectness + box

    @torch.no_grad()
    def _regions(
        self, logits: Tensor, deltas: Tensor, sizes: Tensor, truth: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Regions (R, 4), the image of each (R,) and the number of its box there, -1 for none."""
        scores, moves, shapes = (each.cpu().numpy() for each in (logits, deltas, sizes))
        regions, image, number = [], [], []
        for row, boxes in enumerate(truth):
            size = float(shapes[row, 0]), float(shapes[row, 1])
            found = propose(
                scores[row], moves[row], self.all_anchors, size, self.geometry, self.canvas
            )
            candidates = torch.cat([boxes, torch.from_numpy(found).to(boxes)])
            matched = match(candidates, boxes, REGIONS)
            chosen = torch.cat(sample(matched, self.sampling.regions, self.sampling.region_share))
            regions.append(candidates[chosen])
            number.append(matched[chosen])
            image.append(torch.full_like(chosen, row))
        return torch.cat(regions), torch.cat(image), torch.cat(number)

    # -- second stage --------------------------------------------------------

    def _second(
        self,
        cells: Tensor,
        regions: Tensor,
        image: Tensor,
        number: Tensor,
        truth: list[Tensor],
        classes: Tensor,
        attributes: Tensor,
    ) -> Tensor:
        features, scores, deltas = second_stage(self.tee, cells, self.canvas, regions, image)
        positive = number >= 0
        # Boxes of an image stand before its padding, so a number is the same in both.
        of_image = image[positive], number[positive]
        wanted_class = torch.zeros_like(number)
        wanted_class[positive] = classes[of_image]
        boxes = regions.clone()
        boxes[positive] = torch.cat(truth)[self._flat(truth, *of_image)]
        wanted = encode(boxes, regions, BOX_WEIGHTS)
        first, second = region_losses(scores.float(), deltas.float(), wanted_class, wanted)
        loss = first + second
        if self.tee.spec.attributes:
            found = self.tee.attributes(features[positive], wanted_class[positive])
            named = attribute_loss(found.float(), attributes[of_image])
            loss = loss + self.attribute_weight * named
        return loss

    @staticmethod
    def _flat(truth: list[Tensor], image: Tensor, number: Tensor) -> Tensor:
        """Numbers among the boxes of all images."""
        counts = torch.tensor([len(boxes) for boxes in truth], device=image.device)
        return (counts.cumsum(0) - counts)[image] + number


def second_stage(
    tee: Tee, cells: Tensor, canvas: tuple[int, int], regions: Tensor, image: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Feature (R, feature), class logits (R, classes) and deltas (R, 4) of regions.

    Args:
        tee: the network.
        cells: of its first stage (B, N, C).
        canvas: height and width of the images.
        regions: (R, 4).
        image: of which image each is (R,).
    """
    side = tee.spec.pooled
    pooled = roi_align(cells, canvas, regions, image, side, tee.spec.samples)
    maps = pooled.transpose(1, 2).reshape(len(regions), tee.spec.width, side, side)
    found: tuple[Tensor, Tensor, Tensor] = tee.box_head(maps)
    return found
