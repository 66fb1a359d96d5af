"""What the losses are of: the network that a board runs."""

from __future__ import annotations

from collections.abc import Sequence
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
from edgekit.training.vision_language.masking import IGNORED
from edgekit.training.vision_language.objective import VlmObjective
from edgekit.training.vision_language.recipe import ATTENTIONS, BASELINES, STAGES, VlmRecipe
from edgekit.training.vision_language.source import Asked, Paired
from edgekit.training.vision_language.tasks import TASKS, Given, Pretraining, Rewarded
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


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Captions as they are written: words and end, and [PAD] behind it."""
    return torch.tensor(
        [[*row, *[SPECIAL.pad] * (SPEC.lengths.caption - 1 - len(row))] for row in rows]
    )


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


def test_dropout_is_the_recipes_and_only_while_training() -> None:
    objective, part = part_of("vqa", dropout=0.37)
    drops = [each.p for each in objective.fusion.modules() if isinstance(each, nn.Dropout)]
    assert len(drops) == 2 + 3 * SPEC.fusion.layers and set(drops) == {0.37}
    for of_encoder, of_head in ((0.37, 0.0), (0.0, 0.5), (0.0, 0.0)):
        objective, part = part_of("vqa", dropout=of_encoder, head_dropout=of_head)
        with torch.no_grad():
            train = [objective.train().answer(part) for _ in range(2)]
            quiet = [objective.eval().answer(part) for _ in range(2)]
        assert torch.equal(*train) == (of_encoder == of_head == 0.0)
        assert torch.equal(*quiet)


def test_pretraining_is_words_and_matching_one_to_one() -> None:
    objective, part = part_of("pretrain")
    objective.eval()
    with torch.no_grad():
        found = float(objective({"pretrain": part}))
        hidden = objective.encode(part)
        says = objective.fusion.words(hidden).log_softmax(2)
        fits = objective.fusion.match(objective.fusion.bert.pool(hidden)).log_softmax(1)
    words = [
        -float(says[row, place, part["targets"][row, place]])
        for row, place in torch.nonzero(part["targets"] != IGNORED).tolist()
    ]
    match = [-float(row[label]) for row, label in zip(fits, part["labels"], strict=True)]
    assert min(np.mean(words), np.mean(match)) > 0.1
    assert found == pytest.approx(np.mean(words) + np.mean(match), rel=1e-5)


@pytest.mark.parametrize("baseline", BASELINES)
def test_samples_are_measured_by_what_is_expected_of_their_own_image(
    baseline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, given = made("caption-cider", samples=3, baseline=baseline)
    task = Rewarded(given)
    (one,), (two,) = (task.references(task.items[number]) for number in (0, 1))
    samples = [one, one[:4], two, two[:4], two[:2], two[:3]]
    greedy = [one[:5], two[:6]]
    measured: list[list[float]] = []

    def says(_net: object, _part: object, _special: object, choose: object) -> Tensor:
        return padded(samples if choose is sampled else greedy)

    def loss(likely: Tensor, said: Tensor, rewards: Tensor, expected: Tensor) -> Tensor:
        assert said.sum(1).tolist() == [len(line) for line in samples]
        measured.extend([rewards.tolist(), expected.tolist()])
        return likely.sum()

    monkeypatch.setattr("edgekit.training.vision_language.objective.write", says)
    monkeypatch.setattr("edgekit.training.vision_language.losses.self_critical", loss)
    objective({"cider": task.part([(0, 0), (1, 0)])})
    cider = cast(Cider, objective.cider)
    rewards = [cider.score(line, [one if n < 3 else two]) for n, line in enumerate(samples)]
    expected = [cider.score(greedy[n // 3], [(one, two)[n // 3]]) for n in range(6)]
    if baseline == "mean":
        sums = [sum(rewards[:3])] * 3 + [sum(rewards[3:])] * 3
        expected = [(whole - own) / 2 for whole, own in zip(sums, rewards, strict=True)]
    assert min(rewards[0], rewards[1], rewards[3]) > 0.5 and min(expected) > 0.1
    assert measured == [pytest.approx(rewards, rel=1e-5), pytest.approx(expected, rel=1e-5)]


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


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_all_words_and_tags_are_hidden_and_no_special_token(attention: str) -> None:
    """In turn; of two captions of unlike lengths, and of a question with its answer."""
    _, given = made("pretrain", attention=attention)
    task = Pretraining(given)
    numbers = [0, 3, task.kinds[0]]
    part = task.part([(number, place) for place in range(120) for number in numbers])
    hidden, places = part["targets"] != IGNORED, int(part["places"])
    whole = torch.where(hidden, part["targets"], part["tokens"])
    for start, number in enumerate(numbers):
        item = task.items[number]
        words, tags = [*TEXTS.encode(item.first)], [*TEXTS.tags(item.second)]
        behind = places or len(words) + 2
        of_words = [*range(1, len(words) + 1)]
        of_tags = [*range(behind, behind + len(tags))]
        rows, labels = slice(start, None, len(numbers)), part["labels"][start :: len(numbers)]
        for label, wanted in ((1, [*of_words, *of_tags]), (0, of_words)):
            ever = hidden[rows][labels == label].any(0)
            assert torch.nonzero(ever)[:, 0].tolist() == wanted, (number, label)
        assert (whole[rows][:, of_words] == torch.tensor(words)).all()
        assert (whole[rows][labels == 1][:, of_tags] == torch.tensor(tags)).all()


def test_wrong_pairs_are_half_other_captions_and_half_other_images() -> None:
    _, given = made("retrieval")
    part = TASKS["match"](given).part([(index % 24, index) for index in range(400)])
    assert part["labels"].tolist() == [1] * 400 + [0] * 400
    same_image = (part["visual"][:400] == part["visual"][400:]).flatten(1).all(1)
    width = part["tokens"].shape[1]
    same_text = (part["tokens"][:400, :width] == part["tokens"][400:, :width]).all(1)
    assert 0.4 < float(same_image.float().mean()) < 0.6
    assert not bool((same_image & same_text).any())


def test_an_answer_is_as_right_as_people_say() -> None:
    _, given = made("vqa")
    asked = (
        Asked(0, "what color is the circle ?", {"red": 1.0, "blue": 0.3, "mauve": 0.6}),
        Asked(1, "is there a circle ?", {"no": 0.9}),
    )
    given = replace(given, told=replace(DATA.train, asked=asked))
    scores = TASKS["vqa"](given).part([(1, 0), (0, 0)])["scores"]
    wanted = torch.zeros(2, len(ANSWERS))
    wanted[0, ANSWERS.index("no")] = 0.9
    wanted[1, ANSWERS.index("red")] = 1.0
    wanted[1, ANSWERS.index("blue")] = 0.3
    assert torch.equal(scores, wanted)


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


def said_by_people(given: Given) -> Tensor:
    task = Rewarded(given)
    return padded([task.references(item)[0] for item in task.items])


class Fond(Knowing):
    """Of the first caption: beside every image it fits best, but there best beside its own."""

    def matches(self, part: Part) -> Tensor:
        """As `VlmObjective.matches`."""
        held = DATA.held_out
        images = {float(held.images.regions(n)[0, 0]): n for n in range(len(held.images))}
        texts = {TEXTS.encode(item.captions[0]): item.image for item in held.captioned}
        scores = torch.zeros(len(part["tokens"]), 2)
        for score, tokens, visual in zip(scores, part["tokens"], part["visual"], strict=True):
            words = tokens.tolist()[1:]
            said_of = texts[tuple(words[: words.index(SPECIAL.sep)])]
            score[1] = 3 * (said_of == 0) + 2 * (said_of == images[float(visual[0, 0])])
        return scores


def test_texts_are_found_for_images_and_images_for_texts() -> None:
    objective, given = made("retrieval")
    held, items = replace(given, told=DATA.held_out), DATA.held_out.captioned
    first = [items[0].captions[0] in item.captions for item in items]
    fond = cast(VlmObjective, Fond(objective))
    found = evaluate(fond, held, objective.recipe.tasks, DATA.train)
    assert found["image_to_text"] == pytest.approx(np.mean(first)) and np.mean(first) < 0.2
    assert found["text_to_image"] == 1.0


def test_the_mean_of_several_figures_takes_cider_as_a_part_of_its_highest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective, given = made("caption+retrieval")
    held = replace(given, told=DATA.held_out)
    said = said_by_people(held)
    monkeypatch.setattr("edgekit.training.vision_language.evaluation.write", lambda *_: said)
    knowing = cast(VlmObjective, Knowing(objective))
    found = evaluate(knowing, held, objective.recipe.tasks, DATA.train)
    assert found["caption_cider"] > 5 and found["image_to_text"] == 1.0
    assert found["score"] == pytest.approx((found["caption_cider"] / 10 + 1.0) / 2)


def test_an_exact_caption_has_the_highest_figure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    objective, given = made("caption")
    said = said_by_people(given)
    monkeypatch.setattr("edgekit.training.vision_language.evaluation.write", lambda *_: said)
    found = evaluate(objective, given, objective.recipe.tasks, DATA.train)
    assert found["caption_exact"] == 1 and found["caption_cider"] > 5
