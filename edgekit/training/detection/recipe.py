"""What a run of the detector depends on; what is left open is that of the network's row.

The row of the published networks has what was read from names of runs in its authors' toolbox, for
larger networks than those of MiniVLM: SGD, 0.1 for 256 images, 200 epochs, 5 to warm up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgekit.models.minivlm.specs import STRIDES, MiniVlmSpec, get_vlm
from edgekit.training.detection.matching import Sampling
from edgekit.training.recipe import Recipe, check_ranges, in_proportion


@dataclass(frozen=True)
class Usual:
    """How the detector of one row is trained where nothing else is said.

    Attributes:
        lr: for a batch of ``batch_size``, and for others in proportion.
        scales: see `edgekit.training.detection.loading.Views`.
        norm_momentum: share of a batch in BatchNorm's running statistics. That of the networks
            needs hundreds of steps to forget where it began; a short run has not so many.
    """

    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    warmup_epochs: float
    scales: tuple[float, float]
    sampling: Sampling
    norm_momentum: float


_PUBLISHED = Usual(200, 256, "sgd", 0.1, 5.0, (0.5, 1.5), Sampling(), 0.01)
USUAL: Mapping[str, Usual] = {
    "minivlm": _PUBLISHED,
    "minivlm-tee1": _PUBLISHED,
    "minivlm-tiny": Usual(
        6, 8, "adamw", 1.5e-3, 1.0, (1.0, 1.0),
        Sampling(anchors=64, regions=64, candidates=200, proposals=64), 0.1,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class DetectRecipe(Recipe):
    """Of training the detector of a MiniVLM. See `Recipe` for what is not said here.

    Attributes:
        image_size: pixels of the canvas' longer side; 0 for the row's canvas.
        weights: ``random``, a file that `edgekit train` wrote for a MiniVLM, or a classifier's
            of the trunk, EfficientNet-B0 or -B1.
        epochs: 0 for the row's, as all zeros here.
        optimizer: "" for the row's.
        warmup_epochs: -1 for the row's.
        flip: probability of a mirrored image.
        smallest: scale from which an image's is drawn, where 1 makes it fit the canvas,
        largest: up to this one; what is then too large for the canvas is cut.
        attribute_weight: of the loss of attributes.
    """

    image_size: int = 0
    epochs: int = 0
    batch_size: int = 0
    optimizer: str = ""
    lr: float = 0.0
    weight_decay: float = 1e-5
    warmup_epochs: float = -1.0
    flip: float = 0.5
    smallest: float = 0.0
    largest: float = 0.0
    attribute_weight: float = 0.5

    def usual(self) -> Usual:
        """Of its row.

        Raises:
            UnknownNameError: no such row.
        """
        return USUAL[get_vlm(self.model).id]

    def settled(self) -> DetectRecipe:
        """As `Recipe.settled`, with what the row says."""
        usual = self.usual()
        lengths = get_vlm(self.model).lengths
        batch = self.batch_size or usual.batch_size
        recipe = replace(
            self,
            image_size=self.image_size or max(lengths.height, lengths.width),
            epochs=self.epochs or usual.epochs,
            batch_size=batch,
            optimizer=self.optimizer or usual.optimizer,
            lr=self.lr or usual.lr * batch / usual.batch_size,
            warmup_epochs=in_proportion(usual.warmup_epochs, self.epochs, usual.epochs)
            if self.warmup_epochs == -1
            else self.warmup_epochs,
            smallest=self.smallest or usual.scales[0],
            largest=self.largest or usual.scales[1],
        )
        recipe.check()
        return recipe

    def check(self) -> None:
        """As `Recipe.check`."""
        super().check()
        self.refuse(_OF_CLASSIFIERS)
        check_ranges(self, {**_RANGES, "largest": (self.smallest, _RANGES["largest"][1])})


_OF_CLASSIFIERS = ("drop_head", "label_smoothing", "mixup", "cutmix", "augment")
_RANGES = {
    "image_size": (64.0, 2048.0),
    "flip": (0.0, 1.0),
    "smallest": (0.05, 10.0),
    "largest": (0.05, 10.0),
    "attribute_weight": (0.0, 1e3),
}


def canvas(spec: MiniVlmSpec, longer: int) -> tuple[int, int]:
    """Height and width in the row's form, with such a longer side; a map has whole cells.

    Both are rounded up to multiples of the largest stride.
    """
    share = longer / max(spec.lengths.height, spec.lengths.width)
    step = STRIDES[-1]
    height, width = (
        max(step, math.ceil(round(side * share) / step) * step)
        for side in (spec.lengths.height, spec.lengths.width)
    )
    return height, width
