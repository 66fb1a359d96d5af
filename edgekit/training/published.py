"""How the authors of a network trained it on ImageNet, as far as it was found: `--published`.

MicroNet's are of the scripts in its repository, DCD's of its README and main.py. Both crop and flip
as the row ``photos`` of `edgekit.training.augment`, which is that of photographs here. Where they
differ from what is here:

    DCD         mixup's alpha rises from 0 over the first 100 epochs; here it is the same throughout
    DCD         MobileNetV2's dropout is 0.2; here it is the released code's default, 0.1
    DCD         label smoothing spreads over the wrong classes only, which for K classes is a
                smoothing of K / (K - 1) times as much here
    MicroNet    a user says that its rate is ten times the paper's; its author did not answer
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit.errors import UnknownNameError

_MICRONET: Mapping[str, Any] = {
    "epochs": 600, "batch_size": 512, "lr": 0.2, "momentum": 0.9, "weight_decay": 3e-5,
    "schedule": "cosine",
}  # fmt: skip
_DCD_MOBILENET: Mapping[str, Any] = {
    "epochs": 300, "batch_size": 512, "lr": 0.1, "momentum": 0.9, "weight_decay": 2e-5,
    "schedule": "cosine", "label_smoothing": 0.1, "mixup": 0.2,
}  # fmt: skip
_DCD_RESNET: Mapping[str, Any] = {
    "epochs": 120, "batch_size": 256, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4,
    "schedule": "steps-by-quarter", "label_smoothing": 0.1, "mixup": 0.2,
}  # fmt: skip

RECIPES: dict[str, Mapping[str, Any]] = {
    "micronet-m0": _MICRONET,
    "micronet-m1": _MICRONET,
    "micronet-m2": _MICRONET,
    "micronet-m3": {**_MICRONET, "weight_decay": 4e-5, "warmup_epochs": 5.0},
    "dcd-mobilenetv2-x1.0": _DCD_MOBILENET,
    "dcd-resnet50": _DCD_RESNET,
}


def published_recipe(model_id: str) -> dict[str, Any]:
    """Values of a `Recipe`.

    Raises:
        UnknownNameError: none was found for this network.
    """
    if model_id not in RECIPES:
        raise UnknownNameError("published recipe, of", model_id, RECIPES)
    return dict(RECIPES[model_id])
