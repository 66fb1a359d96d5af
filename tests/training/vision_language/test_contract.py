"""What is trained is what a board runs: the same answers, captions, matches and regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.export.vision_language import settings_of
from edgekit.export.vision_language.whole import Whole
from edgekit.models.minivlm.network import (
    VlmFacts,
    canvas_of,
    create_vlm,
    fitted,
    fresh_vlm,
    save_vlm,
)
from edgekit.runtimes.vision_language.model import Seen, VisionLanguage
from edgekit.runtimes.vision_language.text import Vocabulary
from edgekit.training.data.scenes import SHAPES, draw_scene, scene
from edgekit.training.vision_language.features import detector
from edgekit.training.vision_language.objective import VlmObjective
from edgekit.training.vision_language.recipe import VlmRecipe
from edgekit.training.vision_language.runs import train_vlm
from edgekit.training.vision_language.source import Told
from edgekit.training.vision_language.tasks import TASKS, Captions, Given, Matches, Rewarded
from edgekit.training.vision_language.texts import Texts
from edgekit.training.vision_language.writing import Special, likeliest, words, write
from tests.training.vision_language.oracle import SPEC, folder, splits

Board = tuple[VisionLanguage, VlmObjective, Given]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """A network that was trained a little, as a board has it and as the training has it."""
    path = tmp_path_factory.mktemp("run")
    data, vocab = folder(path / "data", 60, 8)
    recipe = VlmRecipe(
        "minivlm-tiny", data, stage="vqa+caption+retrieval", vocab=vocab, epochs=1,
        evaluated=8, candidates=4,
    ).settled()  # fmt: skip
    train_vlm(recipe, path / "run")
    created = create_vlm("minivlm-tiny", str(path / "run" / "best.safetensors"))
    vocabulary = Vocabulary.read(path / "run" / "vocab.txt")
    model = Whole(created, vocabulary, settings_of(created), 1e-4).model
    fusion = created.module.fusion
    special = Special.of(vocabulary, SPEC.lengths.caption)
    objective = VlmObjective(fusion, recipe.tasks, special, recipe)
    texts = Texts(vocabulary, SPEC.lengths)
    told = splits(2, 8).held_out
    given = Given(told, texts, created.facts.answers, SPEC.tee.regions, recipe)
    return model, objective.eval(), given


def seen(told: Told, image: int) -> Seen:
    """What a board knows of an image, from its regions."""
    regions = told.images.regions(image)
    visual = np.zeros((SPEC.tee.regions, SPEC.tee.visual), np.float32)
    visual[: len(regions)] = regions
    none = np.zeros((len(regions), 4), np.float32)
    return Seen(none, none[:, 0], (), visual, told.images.tags(image))


def test_answers(board: Board) -> None:
    model, objective, given = board
    items = given.told.asked[:20]
    with torch.no_grad():
        logits = objective.answer(TASKS["vqa"](given).part([(n, 0) for n in range(20)]))
    for item, row in zip(items, logits, strict=True):
        (answer, score), *_ = model.answers(seen(given.told, item.image), item.question)
        assert answer == given.answers[int(row.argmax())]
        assert score == pytest.approx(float(torch.sigmoid(row.max())), rel=1e-4)


def test_captions(board: Board) -> None:
    model, objective, given = board
    part = Rewarded(given).part([(n, 0) for n in range(8)])
    end = objective.special.sep
    for image, row in enumerate(
        words(write(objective.fusion, part, objective.special, likeliest), objective.special)
    ):
        line = row[:-1] if row[-1] == end else row
        assert model.caption_tokens(seen(given.told, image)) == line
    assert len(Captions(given).items) == 8


def test_matches(board: Board) -> None:
    model, objective, given = board
    item = given.told.captioned[3]
    texts = [other.captions[0] for other in given.told.captioned]
    with torch.no_grad():
        logits = objective.matches(Matches(given).of([(item, text) for text in texts]))
    found = model.match(seen(given.told, item.image), texts)
    assert found == pytest.approx(logits.softmax(1)[:, 1].tolist(), rel=1e-4)


def test_regions(tmp_path: Path) -> None:
    facts = VlmFacts("minivlm-tiny", ("vqa",), ("yes", "no"), SHAPES)
    module = fresh_vlm(fitted(SPEC, facts), facts, 0)
    save_vlm(module, facts, tmp_path / "tee.safetensors")
    created = create_vlm("minivlm-tiny", str(tmp_path / "tee.safetensors"))
    letters = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(59)))
    model = Whole(created, Vocabulary(letters), settings_of(created), 1e-4).model
    look = detector(created.module.tee, canvas_of(created.spec, facts), SHAPES, 0.0, lambda _: None)
    for number, mine in enumerate(look([scene(n) for n in range(3)])):
        theirs = model.look(draw_scene(scene(number)))
        assert theirs.count == len(mine.regions) and theirs.tags == mine.tags
        visual = theirs.visual[: theirs.count]
        np.testing.assert_allclose(visual, mine.regions, rtol=1e-3, atol=1e-5)
