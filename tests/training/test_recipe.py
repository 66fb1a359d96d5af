"""Recipes: saved, read again, and refused."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import UnknownNameError, UsageError
from edgekit.models.zoo import get_variant
from edgekit.training.published import RECIPES, published_recipe
from edgekit.training.recipe import Recipe, read_recipe, write_recipe
from edgekit.training.schedule import rate

RECIPE = Recipe("micronet-m0", "digits", 64)


def test_a_recipe_comes_back_as_it_was(tmp_path: Path) -> None:
    recipe = replace(RECIPE, lr=1e-3, mixup=0.25, deterministic=False, weights='a "b"\\c')
    write_recipe(recipe, tmp_path / "r.toml")
    assert Recipe(**read_recipe(tmp_path / "r.toml")) == recipe


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lr = ", "is not TOML"),
        ("lr = 'fast'", "lr is 'fast', not of type float"),
        ("epochs = 2.5", "epochs is 2.5, not of type int"),
        ("epochs = true", "epochs is True, not of type int"),
        ("deterministic = 1", "deterministic is 1, not of type bool"),
        ("momentun = 0.9", "unknown value of recipe r.toml 'momentun': did you mean momentum"),
        ("[lr]\nx = 1", "not of type float"),
        ("#" * 70_000, "are no recipe"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises((UsageError, UnknownNameError), match=says):
        read_recipe(tmp_path / "r.toml")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--recipe .*none.toml: No such file"):
        read_recipe(tmp_path / "none.toml")


def test_whole_numbers_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("lr = 1")
    assert read_recipe(tmp_path / "r.toml") == {"lr": 1.0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"optimizer": "adam"}, "unknown optimizer 'adam': did you mean adamw"),
        ({"on_corrupt": "ignore"}, "unknown on-corrupt 'ignore'"),
        ({"lr": 0.0}, "lr is 0.0; 1e-12 to 10000 are possible"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"batch_size": 1}, "batch_size is 1; 2 to"),
        ({"ema": 1.0}, "ema is 1.0;"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_values_that_cannot_be_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises((UsageError, UnknownNameError), match=says):
        replace(RECIPE, **change).check()
    RECIPE.check()


def test_every_value_is_in_the_file(tmp_path: Path) -> None:
    write_recipe(RECIPE, tmp_path / "r.toml")
    assert set(read_recipe(tmp_path / "r.toml")) == set(asdict(RECIPE))


def test_the_rate_rises_in_a_line_and_falls_in_one() -> None:
    rates = [rate("linear", step, steps=100, epoch=10, warmup=10) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10:] == pytest.approx([1 - step / 90 for step in range(90)])


def test_the_rate_rises_in_a_line_and_falls_as_a_cosine() -> None:
    rates = [rate("cosine", step, steps=100, epoch=10, warmup=10) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[9] == pytest.approx(10 / 11)
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 0.001
    assert all(rate("constant", step, steps=100, epoch=10) == 1 for step in (0, 50, 99))


def test_dcds_rate_falls_at_each_quarter() -> None:
    rates = [rate("steps-by-quarter", step, steps=120, epoch=1) for step in range(120)]
    assert [rates[step] for step in (0, 29, 30, 59, 60, 89, 90, 119)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    )


@pytest.mark.parametrize("model", RECIPES)
def test_published_recipes_are_possible(model: str) -> None:
    recipe = Recipe(get_variant(model).id, "digits", 224, **published_recipe(model)).settled()
    assert recipe.epochs >= 120


def test_the_recipe_of_micronet_is_its_scripts() -> None:
    found = published_recipe("micronet-m3")
    assert (found["epochs"], found["batch_size"], found["lr"]) == (600, 512, 0.2)
    assert (found["weight_decay"], found["warmup_epochs"]) == (4e-5, 5)
    with pytest.raises(UnknownNameError, match="unknown published recipe, of 'resnet18'"):
        published_recipe("resnet18")


def test_seeds_rate_changes_by_epoch_and_steps_down_behind_the_warm_up() -> None:
    rates = [
        rate("cosine-by-epoch", step, steps=2000, epoch=10, warmup=50, start=0.25)
        for step in range(2000)
    ]
    assert 0.25 < rates[0] < rates[49] < 1
    assert rates[50] == pytest.approx(0.5 * (1 + math.cos(math.pi * 5 / 200)))
    for epoch in (5, 100, 199):
        assert len(set(rates[10 * epoch : 10 * epoch + 10])) == 1
    assert rates[1000] == pytest.approx(0.5)
