"""Training on real data: recipes, an engine that resumes to the bit, evaluation.

    from edgekit.training import DistillRecipe, Recipe, distill, evaluate, train

    train(Recipe("micronet-m1", "digits", image_size=64, epochs=30), "runs/m1-digits")
    evaluate("runs/m1-digits/best.safetensors", "digits")    # or a bundle, in each runtime

recipe.py      what a run depends on
data/          where images come from, and in which order
augment.py     how they are varied
supervised.py  what is learnt from classes; self_supervised.py without them
engine.py      the loop; state.py what it needs to go on
runs.py        from a recipe to all of that
evaluation.py  accuracy, of a network and of a bundle in each runtime
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.training.evaluation import evaluate
    from edgekit.training.recipe import DistillRecipe, Recipe
    from edgekit.training.runs import distill, train

# Imported when first used, as in ``edgekit/__init__.py``: most of it wants torch.
_HOMES = {
    "Recipe": "edgekit.training.recipe",
    "DistillRecipe": "edgekit.training.recipe",
    "train": "edgekit.training.runs",
    "distill": "edgekit.training.runs",
    "evaluate": "edgekit.training.evaluation",
}

__all__ = ["DistillRecipe", "Recipe", "distill", "evaluate", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgekit.training' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
