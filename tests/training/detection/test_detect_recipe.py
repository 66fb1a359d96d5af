"""What is left open is the row's; what cannot be is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import UnknownNameError, UsageError
from edgekit.models.minivlm.specs import VLMS, get_vlm
from edgekit.training.detection.recipe import USUAL, DetectRecipe, canvas
from edgekit.training.recipe import read_recipe, write_recipe

TINY = DetectRecipe("minivlm-tiny", "scenes")


def test_every_row_has_a_usual_recipe_that_is_possible() -> None:
    assert set(USUAL) == set(VLMS)
    for model in VLMS:
        recipe = DetectRecipe(model, "scenes").settled()
        assert recipe.settled() == recipe
        assert recipe.lr == USUAL[model].lr and recipe.epochs == USUAL[model].epochs


def test_the_published_recipe() -> None:
    recipe = DetectRecipe("minivlm", "coco:x").settled()
    assert (recipe.optimizer, recipe.batch_size, recipe.lr) == ("sgd", 256, 0.1)
    assert (recipe.weight_decay, recipe.warmup_epochs, recipe.epochs) == (1e-5, 5.0, 200)
    assert recipe.image_size == 512 and (recipe.smallest, recipe.largest) == (0.5, 1.5)


def test_the_rate_is_in_proportion_to_the_batch_and_one_that_is_given_stays() -> None:
    half = DetectRecipe("minivlm", "coco:x", batch_size=128)
    assert half.settled().lr == 0.05
    assert replace(half, lr=0.3, warmup_epochs=0.0).settled().lr == 0.3
    assert replace(half, warmup_epochs=0.0).settled().warmup_epochs == 0.0


@pytest.mark.parametrize(
    ("model", "longer", "sides"),
    [("minivlm", 512, (384, 512)), ("minivlm", 1024, (768, 1024)), ("minivlm", 500, (384, 512)),
     ("minivlm", 64, (64, 64)), ("minivlm-tiny", 128, (128, 128)),
     ("minivlm-tiny", 200, (256, 256))],
)  # fmt: skip
def test_a_canvas_has_the_form_of_the_row_and_whole_cells(
    model: str, longer: int, sides: tuple[int, int]
) -> None:
    assert canvas(get_vlm(model), longer) == sides


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"image_size": 63}, "image_size is 63; 64 to 2048 are possible"),
        ({"flip": 1.5}, "flip is 1.5"),
        ({"smallest": 2.0, "largest": 1.0}, "largest is 1.0; 2 to 10 are possible"),
        ({"attribute_weight": float("nan")}, "attribute_weight is nan"),
        ({"mixup": 0.2}, "mixup is of edgekit train, and means nothing here"),
        ({"drop_head": True}, "drop_head is of edgekit train"),
        ({"augment": "photos"}, "augment is of edgekit train"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"epochs": -3}, "epochs is -3"),
        ({"optimizer": "adam"}, "unknown optimizer 'adam': did you mean adamw"),
    ],
)
def test_what_cannot_be(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        replace(TINY, **fields).settled()


def test_a_row_that_is_none() -> None:
    with pytest.raises(UnknownNameError, match="did you mean minivlm"):
        DetectRecipe("minivlmm", "scenes").settled()


def test_a_recipe_comes_back_from_its_file(tmp_path: Path) -> None:
    recipe = TINY.settled()
    write_recipe(recipe, tmp_path / "recipe.toml")
    assert DetectRecipe(**read_recipe(tmp_path / "recipe.toml", DetectRecipe)) == recipe
