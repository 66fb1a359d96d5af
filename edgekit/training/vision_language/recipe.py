"""A recipe of a transformer over text and regions, and what each stage of it begins with.

The rows of `DEFAULTS` are those of the first author's toolbox, as far as they were found, and of
OSCAR's where they were not (``nlvr2``, ``caption-cider``, of which the epochs are our own guess).
They are for weights that were pre-trained; `SCALED_DOWN` has what lets a small network learn from
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgekit.errors import UnknownNameError, UsageError
from edgekit.models.minivlm.specs import get_vlm
from edgekit.training.recipe import Recipe, check_ranges, in_proportion

# Stage -> task of `tasks.py`, and what the weights are then said to be trained for.
STAGES: Mapping[str, tuple[str, str]] = {
    "pretrain": ("pretrain", ""),
    "vqa": ("vqa", "vqa"),
    "caption": ("caption", "caption"),
    "caption-cider": ("cider", "caption"),
    "retrieval": ("match", "match"),
    "nlvr2": ("nlvr2", "nlvr2"),
}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "pretrain": {"epochs": 100, "batch_size": 2048, "lr": 4e-4, "warmup_epochs": 5.0},
    "vqa": {"epochs": 40, "batch_size": 128, "lr": 5e-5, "head_dropout": 0.3},
    "caption": {"epochs": 20, "batch_size": 512, "lr": 1e-5, "label_smoothing": 0.1},
    "caption-cider": {"epochs": 5, "batch_size": 14, "lr": 3e-6},
    "retrieval": {"epochs": 30, "batch_size": 128, "lr": 2e-5},
    # 10,000 steps of warm-up are 8.3 of NLVR2's epochs.
    "nlvr2": {"epochs": 20, "batch_size": 72, "lr": 3e-5, "warmup_epochs": 8.3,
              "head_dropout": 0.3},
}  # fmt: skip
SCALED_DOWN: Mapping[str, Mapping[str, Any]] = {
    "minivlm-tiny": {
        "epochs": 10, "batch_size": 32, "lr": 1e-3, "warmup_epochs": 0.5, "dropout": 0.0,
        "head_dropout": 0.0, "label_smoothing": 0.0, "captions": "all", "min_score": 0.2,
    },
}  # fmt: skip
# Of these a stage of a scaled-down network is not as the others.
_SCALED_DOWN_STAGES: Mapping[str, Mapping[str, Any]] = {
    "caption-cider": {"epochs": 2, "lr": 1e-4, "warmup_epochs": 0.0},
}
_REST: Mapping[str, Any] = {
    "warmup_epochs": 0.0, "label_smoothing": 0.0, "dropout": 0.1, "head_dropout": 0.0,
    "captions": "masked", "min_score": 0.0,
}  # fmt: skip
_OPEN: Mapping[str, Any] = {
    "epochs": 0, "batch_size": 0, "lr": 0.0, "warmup_epochs": -1.0, "label_smoothing": -1.0,
    "dropout": -1.0, "head_dropout": -1.0, "captions": "", "min_score": -1.0,
}  # fmt: skip

ATTENTIONS = ("seq2seq", "bidirectional")
CAPTIONS = ("masked", "all")
BASELINES = ("greedy", "mean")
_CHOICES = {"attention": ATTENTIONS, "captions": CAPTIONS, "baseline": BASELINES}
_RANGES = {
    "dropout": (0.0, 0.99), "head_dropout": (0.0, 0.99), "samples": (2, 64),
    "answers": (2, 65_536), "evaluated": (1, 1 << 24),
    "candidates": (2, 100_000),
}  # fmt: skip
_OF_CLASSIFIERS = ("drop_head", "momentum", "mixup", "cutmix", "augment")


@dataclass(frozen=True)
class VlmRecipe(Recipe):
    """Of a transformer over text and regions.

    Attributes:
        image_size: of the row of the model; nothing else can be.
        epochs: 0 for the stage's, see `DEFAULTS`; passes over the task with the most items,
        batch_size: likewise; items of that task, and of others in proportion, see ``batches.py``,
        lr: likewise,
        warmup_epochs: likewise, for -1,
        label_smoothing: likewise, of the words of captions.
        workers: regions are read by the process that trains, whatever this says,
        on_corrupt: and those that cannot be read end the run, with the line of the file.
        stage: one of `STAGES`, or several with ``+`` between them: one network for all of them,
            whose losses are summed. What the first leaves open holds for all.
        vocab: a ``vocab.txt``; "" for the data's own, or the one beside ``weights``.
        dropout: in the encoder, -1 for the stage's,
        head_dropout: on the pooled vector before the answers; likewise.
        attention: of pre-training, one of `ATTENTIONS`: whether a caption sees all of itself.
        captions: one of `CAPTIONS`, "" for the stage's: whether a step predicts 15 % of a caption's
            words, as in the toolbox, or all of them.
        samples: captions of each image, in stage ``caption-cider``,
        baseline: which of `BASELINES` they are measured by.
        answers: most that the head of questions has: the most frequent ones.
        hide_regions: train without seeing: what can be known from the words alone.
        detector: a MiniVLM's file or run, whose detector looks at the images and stands in the
            weights; "" for that of ``weights``.
        min_score: of a region's best class, for it to be kept: how drawn scenes are looked at, and
            how the regions of ``tsv:`` were chosen; -1 for that of the weights, or else the
            stage's. The weights tell an export.
        evaluated: most held-out items of a task that are looked at after an epoch,
        candidates: likewise of images that are searched, with each of as many captions.
    """

    image_size: int = 0
    epochs: int = 0
    batch_size: int = 0
    optimizer: str = "adamw"
    lr: float = 0.0
    weight_decay: float = 0.05
    schedule: str = "linear"
    warmup_epochs: float = -1.0
    label_smoothing: float = -1.0
    stage: str = "vqa"
    vocab: str = ""
    dropout: float = -1.0
    head_dropout: float = -1.0
    attention: str = "seq2seq"
    captions: str = ""
    samples: int = 5
    baseline: str = "greedy"
    answers: int = 3129
    hide_regions: bool = False
    detector: str = ""
    min_score: float = -1.0
    evaluated: int = 2000
    candidates: int = 50

    @property
    def stages(self) -> tuple[str, ...]:
        """Each of them."""
        return tuple(self.stage.split("+"))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Of `edgekit.training.vision_language.tasks`."""
        return tuple(STAGES[stage][0] for stage in self.stages)

    @property
    def trained_for(self) -> tuple[str, ...]:
        """What `edgekit.models.minivlm.network.VlmFacts` says of the weights."""
        return tuple(dict.fromkeys(STAGES[one][1] for one in self.stages if STAGES[one][1]))

    @property
    def usual_min_score(self) -> float:
        """Of the stage, where neither the recipe nor the weights say one."""
        return float(self._defaults()["min_score"])

    def settled(self) -> VlmRecipe:
        """As `Recipe.settled`: what is open becomes the first stage's.

        But for ``min_score``, which depends on the weights.
        """
        self._check_stages()
        lengths = get_vlm(self.model).lengths
        open_ = {name: value for name, value in self._defaults().items() if self._is_open(name)}
        open_.pop("min_score", None)
        if "warmup_epochs" in open_:
            open_["warmup_epochs"] = in_proportion(
                open_["warmup_epochs"], self.epochs, self._defaults()["epochs"]
            )
        recipe = replace(self, **open_, image_size=self.image_size or lengths.width)
        recipe.check()
        return recipe

    def _defaults(self) -> dict[str, Any]:
        stage, small = self.stages[0], SCALED_DOWN.get(self.model)
        if small is None:
            return {**_REST, **DEFAULTS[stage]}
        return {**_REST, **DEFAULTS[stage], **small, **_SCALED_DOWN_STAGES.get(stage, {})}

    def _is_open(self, name: str) -> bool:
        return bool(getattr(self, name) == _OPEN[name])

    def _check_stages(self) -> None:
        for stage in self.stages:
            if stage not in STAGES:
                hint = "detect trains the detector, and alone."
                raise UnknownNameError("stage", stage, STAGES, hint)
        if len(set(self.tasks)) < len(self.tasks):
            raise UsageError(f"--stage {self.stage} has a stage twice")
        if len(self.stages) > 1 and "pretrain" in self.stages:
            raise UsageError(f"--stage {self.stage}: pretrain comes first, and alone")

    def check(self) -> None:
        """As `Recipe.check`."""
        super().check()
        self.refuse(_OF_CLASSIFIERS)
        check_ranges(self, _RANGES)
        self._check_min_score()
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UnknownNameError(name, getattr(self, name), known)
        width = get_vlm(self.model).lengths.width
        if self.image_size != width:
            raise UsageError(f"image_size is {self.image_size}, and {self.model} sees {width}")

    def _check_min_score(self) -> None:
        if not self._is_open("min_score"):
            check_ranges(self, {"min_score": (0.0, 1.0)})
