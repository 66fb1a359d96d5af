"""What a small network learns of drawn scenes in a minute, beside what the words alone tell."""

from __future__ import annotations

from pathlib import Path

from edgekit.training.vision_language.recipe import VlmRecipe
from edgekit.training.vision_language.runs import train_vlm
from tests.training.vision_language.oracle import folder

SCENES, HELD_OUT = 1000, 100


def test_questions_about_scenes_that_it_never_saw(tmp_path: Path) -> None:
    data, words = folder(tmp_path / "data", SCENES, HELD_OUT)

    def trained(name: str, *, epochs: int, hide_regions: bool = False) -> dict[str, float]:
        recipe = VlmRecipe(
            "minivlm-tiny", data, vocab=words, epochs=epochs, lr=1.5e-3, hide_regions=hide_regions
        )
        return dict(train_vlm(recipe, tmp_path / name).figures)

    words_alone = trained("words", epochs=1, hide_regions=True)
    seen = trained("seen", epochs=2)
    assert seen["vqa_chance"] < 0.15
    assert words_alone["vqa"] < 0.45
    assert seen["vqa"] > 0.65
    assert seen["vqa_new"] > words_alone["vqa_new"] + 0.1
