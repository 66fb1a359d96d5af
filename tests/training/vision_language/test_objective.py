"""What the losses are of: the network that a board runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.models.minivlm.fusion import Fusion
from edgekit.models.minivlm.network import VlmFacts, fitted
from edgekit.runtimes.vision_language.text import Vocabulary
from edgekit.training.vision_language import talk
from edgekit.training.vision_language.cider import Cider
from edgekit.training.vision_language.evaluation import evaluate
from edgekit.training.vision_language.figures import usual_answers
from edgekit.training.vision_language.objective import VlmObjective
from edgekit.training.vision_language.recipe import STAGES, VlmRecipe
from edgekit.training.vision_language.source import Paired
from edgekit.training.vision_language.tasks import TASKS, Given, Rewarded
from edgekit.training.vision_language.texts import Part, Texts
from edgekit.training.vision_language.writing import Special, likeliest, sampled, words, write
from tests.training.vision_language.oracle import SPEC, splits

DATA = splits(24, 12)
VOCABULARY = Vocabulary(talk.vocabulary())
SPECIAL = Special.of(VOCABULARY, SPEC.lengths.caption)
TEXTS = Texts(VOCABULARY, SPEC.lengths)
ANSWERS = usual_answers(DATA.train, 100)
DRAWN = [(index, index) for index in range(8)]


def recipe(stage: str, **said: object) -> VlmRecipe:
    return replace(VlmRecipe("minivlm-tiny", "tsv:none", stage=stage), **said).settled()  # type: ignore[arg-type]


def made(stage: str, **said: object) -> tuple[VlmObjective, Given]:
    chosen = recipe(stage, **said)
    given = Given(DATA.train, TEXTS, ANSWERS, SPEC.tee.regions, chosen)
    torch.manual_seed(0)
    heads = {"vqa": len(ANSWERS), "nlvr2": 2}
    fusion = Fusion(fitted(SPEC, VlmFacts(), VOCABULARY.size).fusion, heads)
    task = Rewarded(given)
    cider = Cider([task.references(item) for item in task.items])
    return VlmObjective(fusion, chosen.tasks, SPECIAL, chosen, cider), given


def part_of(stage: str, **said: object) -> tuple[VlmObjective, Part]:
    objective, given = made(stage, **said)
    return objective, TASKS[objective.recipe.tasks[0]](given).part(DRAWN)


def test_every_word_at_once_is_what_is_written_step_by_step() -> None:
    objective, given = made("caption", captions="all")
    objective.eval()
    written = write(objective.fusion, Rewarded(given).part(DRAWN), SPECIAL, likeliest)
    part = TASKS["caption"](given).part(DRAWN)
    lines = words(written, SPECIAL)
    captions = [(VOCABULARY.cls, *line) for line in lines]
    tags = [TEXTS.tags(given.told.tags(given.told.captioned[index])) for index, _ in DRAWN]
    again, places = TEXTS.stack_captions(captions, tags)
    whole = {**again, "visual": part["visual"], "regions": part["regions"]}
    with torch.no_grad():
        logits = objective.every_word({**whole, "places": torch.tensor(places)})
    best = SPECIAL.say_no(logits).argmax(2)
    for row, line in zip(best.tolist(), lines, strict=True):
        assert row[: len(line)] == line


def test_samples_end_and_hold_no_special_token() -> None:
    objective, given = made("caption-cider")
    torch.manual_seed(1)
    tokens = write(objective.fusion.eval(), Rewarded(given).part(DRAWN), SPECIAL, sampled)
    assert tokens.shape == (8, SPEC.lengths.caption - 1)
    for row in words(tokens, SPECIAL):
        assert not {VOCABULARY.cls, VOCABULARY.mask, VOCABULARY.unk, VOCABULARY.pad} & {*row}
        assert VOCABULARY.sep not in row[:-1]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("hide", [False, True])
def test_steps_on_one_batch_lower_the_loss(stage: str, hide: bool) -> None:
    torch.manual_seed(0)
    objective, part = part_of(stage, hide_regions=hide)
    task = objective.recipe.tasks[0]
    trained = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-3)
    values = []
    for step in range(6):
        torch.manual_seed(step)
        loss = objective({task: part})
        values.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        unused = [p for p in trained if p.grad is None]
        assert not unused, "several processes would wait for these"
        optimizer.step()
    if task != "cider":  # there it is not a loss that falls, but a reward that rises
        assert values[-1] < values[0]


def test_rewarded_captions_become_better() -> None:
    objective, given = made("caption-cider", samples=8, baseline="mean")
    part = Rewarded(given).part(DRAWN)
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], 1e-3)

    def reward() -> float:
        torch.manual_seed(5)
        many = objective._many(part)
        return float(objective._rewards(objective._write(many, sampled), many["said"]).mean())

    before = reward()
    for step in range(12):
        torch.manual_seed(step)
        loss = objective({"cider": part})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert reward() > before


def test_the_losses_of_tasks_are_summed() -> None:
    objective, given = made("vqa+caption+retrieval")
    parts = {name: TASKS[name](given).part(DRAWN) for name in objective.recipe.tasks}
    objective.eval()
    with torch.no_grad():
        alone = [float(objective({name: part})) for name, part in parts.items()]
        assert float(objective(parts)) == pytest.approx(sum(alone), rel=1e-6)


def test_statements_on_two_images_are_learnt_by_heart() -> None:
    """True or false as who beats whom in a circle: from one of the two it cannot be told."""
    scenes = 5
    pairs = [(a, b) for a in range(scenes) for b in range(scenes) if a != b]
    items = [Paired((a, b), "the left image has more", (b - a) % scenes < 3) for a, b in pairs]
    assert sum(item.label for item in items) == len(items) / 2
    objective, given = made("nlvr2")
    given = replace(given, told=replace(DATA.train, paired=tuple(items)))
    task, draw = TASKS["nlvr2"](given), np.random.default_rng(0)
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], 3e-4)
    for _ in range(60):
        loss = objective({"nlvr2": task.part([(n, 0) for n in draw.permutation(len(items))])})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert evaluate(objective, given, objective.recipe.tasks, DATA.train)["nlvr2"] > 0.9


def test_without_regions_the_image_changes_nothing() -> None:
    objective, part = part_of("vqa", hide_regions=True)
    objective.eval()
    other = {**part, "visual": torch.randn_like(part["visual"])}
    with torch.no_grad():
        assert torch.equal(objective.answer(part), objective.answer(other))
        seen = {**part, "regions": torch.ones_like(part["regions"])}
        assert not torch.equal(objective.answer(seen), objective.answer(part))


# ---- what tasks draw ---------------------------------------------------------------------------


def test_half_of_the_second_texts_are_replaced_and_not_predicted() -> None:
    _, given = made("pretrain")
    task = TASKS["pretrain"](given)
    drawn = [(index % len(task.items), index) for index in range(600)]
    part = task.part(drawn)
    labels, places = part["labels"], int(part["places"])
    assert 0.4 < float(labels.float().mean()) < 0.75  # images of the same tags cannot be told
    behind = part["targets"][:, places:] >= 0
    assert not bool(behind[labels == 0].any()) and bool(behind[labels == 1].any())
    assert int((part["targets"] >= 0).sum(1).max()) <= 5


def test_wrong_pairs_are_half_other_captions_and_half_other_images() -> None:
    _, given = made("retrieval")
    part = TASKS["match"](given).part([(index % 24, index) for index in range(400)])
    assert part["labels"].tolist() == [1] * 400 + [0] * 400
    same_image = (part["visual"][:400] == part["visual"][400:]).flatten(1).all(1)
    width = part["tokens"].shape[1]
    same_text = (part["tokens"][:400, :width] == part["tokens"][400:, :width]).all(1)
    assert 0.4 < float(same_image.float().mean()) < 0.6
    assert not bool((same_image & same_text).any())


def test_a_statement_stands_beside_its_first_image_and_then_beside_its_second() -> None:
    _, given = made("nlvr2")
    numbers = [3, 0, 17, 8, 5]
    items = [DATA.train.paired[number] for number in numbers]
    assert {item.label for item in items} == {True, False}
    part = TASKS["nlvr2"](given).part([(number, 0) for number in numbers])
    assert part["labels"].tolist() == [item.label for item in items]
    assert len(part["tokens"]) == len(part["visual"]) == 2 * len(items)
    for row, item in enumerate(items):
        for side, image in enumerate(item.images):
            at, known = row + side * len(items), DATA.train.images
            regions = torch.from_numpy(known.regions(image))
            assert torch.equal(part["visual"][at, : len(regions)], regions)
            assert int(part["regions"][at].sum()) == len(regions)
            wanted = TEXTS.pair(item.caption, known.tags(image)).tokens
            assert part["tokens"][at, : len(wanted)].tolist() == [*wanted]
            assert int(part["present"][at].sum()) == len(wanted)


@pytest.mark.parametrize("attention", ["seq2seq", "bidirectional"])
def test_the_first_token_sees_the_caption_only_where_all_see_all(attention: str) -> None:
    objective, part = part_of("pretrain", attention=attention)
    objective.eval()
    other = part["tokens"].clone()
    other[:, 1] = 20
    with torch.no_grad():
        same = torch.equal(
            objective.encode(part)[:, 0], objective.encode({**part, "tokens": other})[:, 0]
        )
    assert same == (attention == "seq2seq")


def test_what_is_drawn_depends_on_the_place_alone() -> None:
    _, given = made("caption", captions="masked")
    task = TASKS["caption"](given)
    whole, alone = task.part([(3, 7), (5, 8)]), task.part([(5, 8)])
    size = alone["targets"].shape[1]

    def masked(targets: Tensor) -> list[int]:
        return [value for value in targets.tolist() if value >= 0]

    assert masked(whole["targets"][1]) == masked(alone["targets"][0]) and size


# ---- figures -----------------------------------------------------------------------------------


class Knowing(nn.Module):
    """Says what it is told to."""

    def __init__(self, objective: VlmObjective) -> None:
        super().__init__()
        self.recipe, self.special, self.fusion = objective.recipe, SPECIAL, objective.fusion

    def answer(self, part: Part) -> Tensor:
        """The right one for all but the first, which is none."""
        wrong = 1 - part["scores"]
        return torch.cat([wrong[:1], part["scores"][1:]])

    def matches(self, part: Part) -> Tensor:
        count = int(len(part["tokens"]) ** 0.5)
        return torch.stack([torch.zeros(count, count), torch.eye(count)], -1).view(-1, 2)

    def judge(self, part: Part) -> Tensor:
        return nn.functional.one_hot(1 - part["labels"], 2).float()


def figures(stage: str) -> dict[str, float]:
    objective, given = made(stage)
    held = replace(given, told=DATA.held_out)
    knowing = cast(VlmObjective, Knowing(objective))
    return evaluate(knowing, held, objective.recipe.tasks, DATA.train)


def test_figures_of_a_network_that_knows() -> None:
    vqa = figures("vqa")
    count = len(DATA.held_out.asked)
    known = sum(bool({*item.answers} & {*ANSWERS}) for item in DATA.held_out.asked)
    assert vqa["vqa"] == pytest.approx((known - 1) / count)
    assert vqa["vqa_chance"] < 0.3
    assert figures("retrieval") == {"image_to_text": 1.0, "text_to_image": 1.0}
    assert figures("nlvr2") == {"nlvr2": 0.0}


def test_figures_of_several_tasks_begin_with_their_mean() -> None:
    found = figures("retrieval+nlvr2")
    assert next(iter(found)) == "score" and found["score"] == 0.5


@pytest.mark.parametrize("stage", ["pretrain", "caption"])
def test_figures_of_an_untrained_network(stage: str) -> None:
    objective, given = made(stage)
    found = evaluate(objective, given, objective.recipe.tasks, DATA.train)
    assert all(0 <= value <= 10 for value in found.values()) and len(found) == 2
    assert objective.training, "as it was before"


def test_an_exact_caption_has_the_highest_figure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    objective, given = made("caption")
    rows = [Rewarded(given).references(item)[0] for item in given.told.captioned]
    longest = max(map(len, rows))
    said = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    monkeypatch.setattr("edgekit.training.vision_language.evaluation.write", lambda *_: said)
    found = evaluate(objective, given, objective.recipe.tasks, DATA.train)
    assert found["caption_exact"] == 1 and found["caption_cider"] > 5
