"""Runs: what they leave, what they begin with, and that a resumed one is the same."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgekit.cli import main
from edgekit.errors import CheckpointError, EdgekitError, UsageError
from edgekit.models.minivlm.network import (
    VlmFacts,
    create_vlm,
    fitted,
    fresh_vlm,
    read_facts,
    save_vlm,
)
from edgekit.runtimes.vision_language.text import Vocabulary
from edgekit.training.data.scenes import COLOURS, HELD_OUT, HELD_OUT_FROM, SHAPES, scene
from edgekit.training.engine import Outcome
from edgekit.training.recipe import Recipe
from edgekit.training.vision_language import batches, runs, talk
from edgekit.training.vision_language.drawn import open_scenes
from edgekit.training.vision_language.features import detector
from edgekit.training.vision_language.recipe import DEFAULTS, STAGES, VlmRecipe
from edgekit.training.vision_language.runs import train_vlm
from edgekit.training.vision_language.start import begin, find
from tests.training.vision_language.oracle import SPEC, folder, look

Data = tuple[str, str]
SCENES = 16
CANVAS = (SPEC.lengths.height, SPEC.lengths.width)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return folder(tmp_path_factory.mktemp("scenes"), SCENES, 6)


def recipe(data: Data, **said: Any) -> VlmRecipe:
    given: dict[str, Any] = {"epochs": 1, "batch_size": 16, "evaluated": 40, "candidates": 6}
    return VlmRecipe("minivlm-tiny", data[0], vocab=data[1], **{**given, **said})


def kept(out: Path) -> dict[str, bytes]:
    return {
        f"{name} {key}": value.numpy().tobytes()
        for name in ("best", "last")
        for key, value in load_file(out / f"{name}.safetensors").items()
    }


# ---- what a run leaves -------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [*STAGES, "vqa+caption+retrieval+nlvr2"])
def test_each_stage_leaves_a_network_that_can_be_loaded(
    stage: str, data: Data, tmp_path: Path
) -> None:
    said: list[str] = []
    outcome = train_vlm(recipe(data, stage=stage, ema=0.5), tmp_path, progress=said.append)
    facts = read_facts(tmp_path / "best.safetensors")
    assert facts.tasks == recipe(data, stage=stage).trained_for
    assert bool(facts.answers) == ("vqa" in stage)
    created = create_vlm("minivlm-tiny", str(tmp_path / "best.safetensors"))
    words = Vocabulary.read(tmp_path / "vocab.txt")
    assert words.tokens == talk.vocabulary()
    assert created.spec.fusion.vocabulary == words.size
    assert outcome.steps > 0 and outcome.figures and "epoch 1 of 1" in said[-1]
    assert (outcome.best is None) == (stage == "pretrain")


def test_what_a_recipe_leaves_open_is_the_stages() -> None:
    settled = VlmRecipe("minivlm", "tsv:x", stage="caption").settled()
    assert (settled.epochs, settled.batch_size, settled.lr) == (20, 512, 1e-5)
    assert (settled.captions, settled.label_smoothing, settled.dropout) == ("masked", 0.1, 0.1)
    settled = VlmRecipe("minivlm", "tsv:x", stage="vqa").settled()
    assert (settled.epochs, settled.batch_size, settled.lr) == (40, 128, 5e-5)
    assert (settled.head_dropout, settled.dropout, settled.warmup_epochs) == (0.3, 0.1, 0.0)
    said = VlmRecipe("minivlm", "tsv:x", stage="vqa", lr=1e-4, head_dropout=0.0).settled()
    assert (said.lr, said.head_dropout, said.weight_decay) == (1e-4, 0.0, 0.05)
    assert VlmRecipe("minivlm", "tsv:x").settled().head_dropout == 0.3
    assert VlmRecipe("minivlm-tiny", "tsv:x").settled().captions == "all"
    assert set(DEFAULTS) == set(STAGES)


# ---- the same bits -----------------------------------------------------------------------------


class Killed(BaseException):
    """In the place of a SIGKILL, which no code sees."""


def killed_at(step: int) -> Callable[..., Iterator[batches.VlmBatch]]:
    def until(*args: Any, first: int, last: int) -> Iterator[batches.VlmBatch]:
        for number, batch in enumerate(
            batches.training_batches(*args, first=first, last=last), first
        ):
            if number == step:
                raise Killed
            yield batch

    return until


@pytest.mark.parametrize("stage", ["pretrain", "vqa+caption+retrieval", "caption-cider"])
def test_a_run_that_is_killed_and_resumed_gives_the_same_bits(
    stage: str, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = {"dropout": 0.1, "save_minutes": 0.0, "captions": "masked", "samples": 2}
    size = 4 if stage == "caption-cider" else 16
    chosen = recipe(data, stage=stage, **mixed, epochs=2, batch_size=size)
    steps = train_vlm(chosen, tmp_path / "whole").steps
    assert steps >= 8
    for step in (1, steps // 2 + 1):
        out = tmp_path / str(step)
        with monkeypatch.context() as patch:
            patch.setattr(runs, "training_batches", killed_at(step))
            with pytest.raises(Killed):
                train_vlm(chosen, out)
        train_vlm(chosen, out, resume=True)
        assert kept(out) == kept(tmp_path / "whole")


@pytest.mark.parametrize("other", ["regions", "texts"])
def test_a_run_is_not_resumed_with_other_data(other: str, tmp_path: Path) -> None:
    place = tmp_path / "data"
    data = folder(place, SCENES, 6)
    train_vlm(recipe(data), tmp_path / "run")
    if other == "regions":
        lines = (place / "features.tsv").read_text().splitlines(keepends=True)
        columns = [line.split("\t") for line in lines]
        bare = next(row for row in columns if row[1] == columns[0][1] and row[2] != columns[0][2])
        lines[0] = "\t".join([*columns[0][:2], bare[2], *columns[0][3:]])
        (place / "features.tsv").write_text("".join(lines))
    else:
        texts = (place / "train.jsonl").read_text()
        (place / "train.jsonl").write_text(texts.replace("circle", "square"))
    with pytest.raises(UsageError, match="was trained on other images, told "):
        train_vlm(recipe(data), tmp_path / "run", resume=True)


# ---- what it begins with -----------------------------------------------------------------------


def test_a_stage_begins_with_the_weights_of_the_one_before(data: Data, tmp_path: Path) -> None:
    train_vlm(recipe(data, stage="vqa"), tmp_path / "a")
    before = create_vlm("minivlm-tiny", str(tmp_path / "a" / "best.safetensors")).module
    found = find("minivlm-tiny", str(tmp_path / "a"))
    again = begin(found, found.facts, len(talk.vocabulary()), 5)
    assert not again.notes
    for key, value in again.module.state_dict().items():
        assert torch.equal(value, before.state_dict()[key]), key
    said: list[str] = []
    without = replace(recipe(data, stage="vqa+caption"), vocab="", weights=str(tmp_path / "a"))
    train_vlm(without, tmp_path / "b", progress=said.append)
    assert read_facts(tmp_path / "b" / "best.safetensors").tasks == ("vqa", "caption")
    tees = [
        {k: v for k, v in load_file(tmp_path / run / "best.safetensors").items() if "tee." in k}
        for run in "ab"
    ]
    assert all(torch.equal(tees[0][key], tees[1][key]) for key in tees[0])


def test_answers_begin_as_unlikely_as_each_of_many_is() -> None:
    facts = VlmFacts("minivlm-tiny", ("vqa", "nlvr2"), ("yes", "no", "red"))
    heads = begin(find("minivlm-tiny", "random"), facts, 64, 0).module.fusion.heads
    before = fresh_vlm(fitted(SPEC, facts, 64), facts, 0).fusion.heads
    assert torch.sigmoid(heads["vqa"].bias).tolist() == pytest.approx([0.01] * 3)  # type: ignore[arg-type]
    assert torch.equal(heads["vqa"].weight, before["vqa"].weight)  # type: ignore[arg-type]
    for key, value in heads["nlvr2"].state_dict().items():
        assert torch.equal(value, before["nlvr2"].state_dict()[key]), key


def test_a_transformer_of_other_words_is_not_taken(data: Data, tmp_path: Path) -> None:
    facts = VlmFacts("minivlm-tiny", (), (), SHAPES, tuple(COLOURS))
    module = fresh_vlm(fitted(SPEC, facts), facts, 3)
    save_vlm(module, facts, tmp_path / "detector.safetensors")
    said: list[str] = []
    weights = str(tmp_path / "detector.safetensors")
    train_vlm(recipe(data, weights=weights), tmp_path / "run", progress=said.append)
    assert any("64 tokens" in line and "begins as drawn" in line for line in said)
    facts = read_facts(tmp_path / "run" / "best.safetensors")
    assert facts.objects == SHAPES and facts.attributes == tuple(COLOURS)


def detector_file(path: Path, facts: VlmFacts | None = None) -> str:
    facts = facts or VlmFacts("minivlm-tiny", ("detect",), (), SHAPES, tuple(COLOURS))
    save_vlm(fresh_vlm(fitted(SPEC, facts), facts, 3), facts, path)
    return str(path)


@pytest.mark.parametrize("weights", ["random", "speaks", "bert"])
def test_a_detector_of_another_file(weights: str, data: Data, tmp_path: Path) -> None:
    """Beside a transformer of edgekit's, of others, or of nobody's."""
    before = fresh_vlm(fitted(SPEC, VlmFacts(), len(talk.vocabulary())), VlmFacts(), 9).fusion
    if weights == "speaks":
        train_vlm(recipe(data), tmp_path / "speaks")
        before = create_vlm("minivlm-tiny", str(tmp_path / "speaks/best.safetensors")).module.fusion
    if weights == "bert":
        state = {key: each.clone() for key, each in before.state_dict().items()}
        save_file(state, tmp_path / "bert")
    given = weights if weights == "random" else str(tmp_path / weights)
    look_with = detector_file(tmp_path / "detector.safetensors")
    chosen = recipe(data, weights=given, detector=look_with)
    start = begin(
        find(chosen.model, given, look_with),
        VlmFacts("minivlm-tiny", ("detect",), (), SHAPES, tuple(COLOURS)),
        len(talk.vocabulary()),
        0,
    )
    taken = start.module.fusion.state_dict()["bert.encoder.layer.3.output.dense.weight"]
    theirs = before.state_dict()["bert.encoder.layer.3.output.dense.weight"]
    assert torch.equal(taken, theirs) == (weights != "random")
    train_vlm(chosen, tmp_path / "run")
    created = create_vlm("minivlm-tiny", str(tmp_path / "run/best.safetensors"))
    assert created.facts.tasks == ("detect", "vqa") and created.weights.note == ""
    assert (created.facts.objects, created.facts.attributes) == (SHAPES, tuple(COLOURS))
    file = load_file(look_with)
    for key, value in created.module.tee.state_dict().items():
        assert torch.equal(value, file[f"tee.{key}"]), key


def test_a_detector_that_nobody_trained_is_said_or_refused(data: Data, tmp_path: Path) -> None:
    train_vlm(recipe(data), tmp_path / "run")
    created = create_vlm("minivlm-tiny", str(tmp_path / "run/best.safetensors"))
    assert "its detector was never trained" in created.weights.note
    with pytest.raises(UsageError, match="--detector .* its detector was never trained"):
        train_vlm(recipe(data, detector=str(tmp_path / "run")), tmp_path / "other")


@pytest.mark.parametrize(
    ("of_file", "tasks", "said", "kept"),
    [
        (0.0, ("detect",), -1.0, 0.2),  # the stage's, of a row that is scaled down
        (0.4, ("detect", "vqa"), -1.0, 0.4),
        (0.0, ("detect", "vqa"), -1.0, 0.0),  # all regions were seen
        (0.4, ("detect", "vqa"), 0.1, 0.1),
    ],
)
def test_scenes_regions_are_chosen_as_before(
    of_file: float, tasks: tuple[str, ...], said: float, kept: float, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    answers = ("yes",) if "vqa" in tasks else ()
    facts = VlmFacts("minivlm-tiny", tasks, answers, SHAPES, (), of_file)
    weights = detector_file(tmp_path / "d.safetensors", facts)
    asked: list[float] = []

    def looks(_tee: object, _spec: object, _names: object, least: float, _say: object) -> object:
        asked.append(least)
        return look

    monkeypatch.setattr(runs, "detector", looks)
    chosen = VlmRecipe(
        "minivlm-tiny", "scenes:16", stage="vqa", epochs=1, batch_size=16, evaluated=10,
        weights=weights, min_score=said,
    )  # fmt: skip
    train_vlm(chosen, tmp_path / "run")
    assert asked == [kept]
    assert read_facts(tmp_path / "run/best.safetensors").min_score == kept
    assert f"min_score = {kept}" in (tmp_path / "run/recipe.toml").read_text()
    train_vlm(chosen, tmp_path / "run", resume=True)


def test_regions_of_files_are_as_somebody_says(data: Data, tmp_path: Path) -> None:
    train_vlm(recipe(data, min_score=0.3), tmp_path / "a")
    assert read_facts(tmp_path / "a/best.safetensors").min_score == 0.3


def test_a_warm_up_is_in_proportion() -> None:
    assert VlmRecipe("minivlm", "tsv:x", stage="pretrain").settled().warmup_epochs == 5.0
    short = VlmRecipe("minivlm", "tsv:x", stage="pretrain", epochs=20).settled()
    assert short.warmup_epochs == pytest.approx(1.0)
    said = VlmRecipe("minivlm", "tsv:x", stage="pretrain", epochs=20, warmup_epochs=5.0).settled()
    assert said.warmup_epochs == 5.0


def test_what_a_stage_forgets_is_said(data: Data, tmp_path: Path) -> None:
    train_vlm(recipe(data, stage="vqa"), tmp_path / "a")
    said: list[str] = []
    forgets = recipe(data, stage="caption", weights=str(tmp_path / "a"))
    train_vlm(forgets, tmp_path / "b", progress=said.append)
    assert any("trained for vqa" in line and "--stage vqa+caption" in line for line in said)
    said.clear()
    keeps = recipe(data, stage="vqa+caption", weights=str(tmp_path / "a"))
    train_vlm(keeps, tmp_path / "c", progress=said.append)
    assert not any("--stage vqa+caption" in line for line in said)


def test_a_transformer_of_other_words_of_the_same_number_is_not_taken(
    data: Data, tmp_path: Path
) -> None:
    train_vlm(recipe(data), tmp_path / "a")
    turned = Path(data[1]).read_text().splitlines()
    turned[-1], turned[-2] = turned[-2], turned[-1]
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in turned))
    said: list[str] = []
    other = (data[0], str(tmp_path / "vocab.txt"))
    train_vlm(recipe(other, weights=str(tmp_path / "a")), tmp_path / "b", progress=said.append)
    assert any("with other tokens: it begins as drawn" in line for line in said)


def test_a_canvas_goes_with_its_detector(data: Data, tmp_path: Path) -> None:
    facts = VlmFacts("minivlm-tiny", ("detect",), (), SHAPES, tuple(COLOURS), canvas=(192, 256))
    train_vlm(recipe(data, weights=detector_file(tmp_path / "d", facts)), tmp_path / "a")
    created = create_vlm("minivlm-tiny", str(tmp_path / "a/best.safetensors"))
    assert (created.spec.lengths.height, created.spec.lengths.width) == (192, 256)


def test_regions_of_files_are_as_the_weights_say(data: Data, tmp_path: Path) -> None:
    train_vlm(recipe(data), tmp_path / "a")
    assert read_facts(tmp_path / "a/best.safetensors").min_score == 0.0
    facts = VlmFacts("minivlm-tiny", ("detect", "vqa"), ("yes",), SHAPES, (), 0.4)
    weights = detector_file(tmp_path / "d.safetensors", facts)
    train_vlm(recipe(data, weights=weights), tmp_path / "b")
    assert read_facts(tmp_path / "b/best.safetensors").min_score == pytest.approx(0.4)


def test_a_text_bert_is_a_start(tmp_path: Path) -> None:
    words = len(talk.vocabulary())
    fusion = fresh_vlm(fitted(SPEC, VlmFacts(), words), VlmFacts(), 9).fusion
    bert = {
        key.removeprefix("bert."): value.contiguous()
        for key, value in fusion.state_dict().items()
        if key.startswith(("bert.embeddings.", "bert.encoder.", "bert.pooler."))
    }
    save_file(bert, tmp_path / "minilm.safetensors")
    found = find("minivlm-tiny", str(tmp_path / "minilm.safetensors"))
    start = begin(found, VlmFacts("minivlm-tiny"), words, 0)
    assert torch.equal(
        start.module.fusion.state_dict()["bert.encoder.layer.3.output.dense.weight"],
        bert["encoder.layer.3.output.dense.weight"],
    )
    assert any("img_embedding" in note for note in start.notes)
    other = find("minivlm", str(tmp_path / "minilm.safetensors"))
    with pytest.raises(CheckpointError, match="minilm.safetensors"):
        begin(other, VlmFacts("minivlm"), words, 0)


@pytest.mark.parametrize("normed", [True, False])
def test_regions_are_normalised_where_the_file_does(normed: bool, tmp_path: Path) -> None:
    """OSCAR's are not."""
    words = len(talk.vocabulary())
    facts = VlmFacts("minivlm-tiny", image_norm=normed)
    fusion = fresh_vlm(fitted(SPEC, facts, words), facts, 9).fusion
    state = {key: value.contiguous().clone() for key, value in fusion.state_dict().items()}
    assert ("bert.LayerNorm.weight" in state) == normed
    save_file(state, tmp_path / "oscar.safetensors")
    found = find("minivlm-tiny", str(tmp_path / "oscar.safetensors"))
    assert found.image_norm == normed
    start = begin(found, replace(facts, variant="minivlm-tiny"), words, 0)
    assert ("bert.LayerNorm.weight" in start.module.fusion.state_dict()) == normed
    assert not any("LayerNorm" in note for note in start.notes)
    path = tmp_path / "saved.safetensors"
    save_vlm(start.module, replace(facts, variant="minivlm-tiny", answers=()), path)
    assert create_vlm("minivlm-tiny", str(path)).spec.fusion.image_norm == normed


def test_drawn_scenes_to_train_on_and_others_that_are_held_out() -> None:
    found = open_scenes("7", look)
    assert (len(found.train.images), len(found.held_out.images)) == (7, HELD_OUT)
    assert found.train.images.name(6) == "scene 6"
    assert found.held_out.images.name(0) == f"scene {HELD_OUT_FROM}"
    assert {item.image for item in found.train.asked} == set(range(7))
    assert found.words == talk.vocabulary()
    for place in ("1", "many", "-3", "9999999", "12345678"):
        with pytest.raises(UsageError, match="write scenes:COUNT, with 2 to 1,000,000 scenes"):
            open_scenes(place, look)


def test_scenes_are_looked_at_by_a_detector() -> None:
    facts = VlmFacts("minivlm-tiny", (), (), SHAPES)
    module = fresh_vlm(fitted(SPEC, facts), facts, 0)
    see = detector(module.tee, CANVAS, SHAPES, 0.0, lambda _: None)
    scenes = [scene(number) for number in range(3)]
    first, again = see(scenes), see(scenes[:1])
    assert all(one.regions.shape[1] == SPEC.tee.visual for one in first)
    assert all(len(one.regions) <= SPEC.tee.regions and {*one.tags} <= {*SHAPES} for one in first)
    np.testing.assert_allclose(first[0].regions, again[0].regions, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("least", "kept"), [(0.0, True), (0.49, True), (0.51, False)])
def test_regions_below_the_least_score_are_not_seen(least: float, kept: bool) -> None:
    facts = VlmFacts("minivlm-tiny", (), (), SHAPES)
    module = fresh_vlm(fitted(SPEC, facts), facts, 0)
    with torch.no_grad():  # of every region 0.5 a circle, and an eighth each of all others
        score = module.tee.box_head.score
        score.weight.zero_()
        score.bias.copy_(torch.tensor([0.0, math.log(4), 0.0, 0.0, 0.0]))
    (seen,) = detector(module.tee, CANVAS, SHAPES, least, lambda _: None)([scene(0)])
    assert (len(seen.regions) > 0) == kept
    assert seen.tags == (("circle",) if kept else ())


# ---- errors, and the command line --------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"stage": "vqu"}, "unknown stage 'vqu': did you mean vqa"),
        ({"stage": "vqa+vqa"}, "a stage twice"),
        ({"stage": "caption+caption-cider+caption"}, "a stage twice"),
        ({"stage": "pretrain+vqa"}, "comes first, and alone"),
        ({"data": "digits"}, "unknown kind of data 'digits'"),
        ({"data": "tsv"}, "needs its folder"),
        ({"data": "scenes"}, "the weights have none that is trained"),
        ({"data": "scenes:1"}, "the weights have none that is trained"),
        ({"vocab": "none.txt"}, "vocabulary 'none.txt'"),
        ({"vocab": ""}, "bring no vocabulary: name one with --vocab"),
        ({"dropout": 2.0}, "dropout is 2.0"),
        ({"attention": "both"}, "unknown attention"),
        ({"warmup_epochs": 3.0}, "warmup_epochs is 3 and epochs 1: the rate would never be"),
        ({"data": "scenes", "min_score": 2.0}, "min_score is 2.0"),
        ({"detector": "none.safetensors"}, "--detector none.safetensors: no such file or run"),
        ({"mixup": 0.3}, "mixup is of edgekit train"),
        ({"image_size": 64}, "image_size is 64, and minivlm-tiny sees 128"),
        ({"batch_size": 5000}, "a batch of 5000"),
    ],
)
def test_what_cannot_be_trained(
    changed: dict[str, Any], says: str, data: Data, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=says):
        train_vlm(replace(recipe(data), **changed), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_without_what_a_stage_needs(data: Data, tmp_path: Path) -> None:
    source = Path(data[0].partition(":")[2])
    for name in ("features.tsv", "val.jsonl"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    lines = (source / "train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(x for x in lines if '"question"' not in x))
    with pytest.raises(UsageError, match="has no questions to train on: --stage vqa needs them"):
        train_vlm(replace(recipe(data), data=f"tsv:{tmp_path}"), tmp_path / "run")


def test_regions_that_are_no_numbers_stop_the_run_with_one_line(data: Data, tmp_path: Path) -> None:
    source = Path(data[0].partition(":")[2])
    for name in ("train.jsonl", "val.jsonl"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    lines = (source / "features.tsv").read_text().splitlines()
    name, count, encoded, tags = lines[2].split("\t")
    lines[2] = "\t".join([name, count, "!" * len(encoded), tags])
    (tmp_path / "features.tsv").write_text("\n".join(lines) + "\n")
    with pytest.raises(EdgekitError, match="features.tsv:3 is no base64"):
        train_vlm(replace(recipe(data), data=f"tsv:{tmp_path}"), tmp_path / "run")


def test_the_command_line(data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    line = [
        "train", "minivlm-tiny", "--stage", "vqa+caption", "--data", data[0], "--vocab", data[1],
        "--epochs", "1", "--batch-size", "16", "--evaluated", "20", "-o", out,
    ]  # fmt: skip
    assert main([*line, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["recipe"]["stage"] == "vqa+caption"
    assert {"score", "vqa", "caption_cider"} <= {*document["figures"]}
    assert main(["train", "--resume", "-o", out]) == 0
    assert "edgekit export minivlm-tiny --weights" in capsys.readouterr().out


def test_the_detector_is_a_stage_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its recipe and its runs are those of `edgekit.training.detection`."""
    called: list[Any] = []

    @dataclass(frozen=True)
    class Fake(Recipe):
        image_size: int = 64

    def train(recipe: Fake, out: Path, **said: Any) -> Outcome:
        called.append((recipe, out, said["resume"]))
        return Outcome(1, 0.5, {"mAP50": 0.5})

    parts: dict[str, dict[str, Any]] = {
        "recipe": {"DetectRecipe": Fake},
        "runs": {"train_detector": train},
    }
    for name, held in parts.items():
        module = ModuleType(name)
        for key, value in held.items():
            setattr(module, key, value)
        monkeypatch.setitem(sys.modules, f"edgekit.training.detection.{name}", module)
    monkeypatch.setitem(sys.modules, "edgekit.training.detection", ModuleType("detection"))
    line = ["train", "minivlm-tiny", "--stage", "detect", "--data", "scenes", "--lr", "0.5"]
    assert main([*line, "-o", str(tmp_path)]) == 0
    ((recipe, out, resume),) = called
    assert (recipe.model, recipe.lr, out, resume) == ("minivlm-tiny", 0.5, tmp_path, False)
    shown = capsys.readouterr().out
    assert "--stage vqa+caption+retrieval --weights" in shown and "--data scenes" in shown


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["micronet-m0", "--data", "digits", "--stage", "vqa"], "--stage is of vision-language"),
        (["micronet-m0", "--data", "digits", "--samples", "3"], "--samples means nothing to"),
        (
            ["minivlm-tiny", "--data", "scenes", "--stage", "detect", "--detector", "a"],
            "--detector means nothing to",
        ),
        (["minivlm-tiny", "--data", "scenes"], "is trained in stages: --stage detect"),
        (["minivlm-tiny", "--stage", "vqa"], "a run needs --data"),
        (["minivlm-tiny", "--stage", "vqe", "--data", "scenes"], "unknown stage 'vqe'"),
        (["minivlm-tiny", "--stage", "vqa", "--data", "scenes", "--mixup", "1"], "mixup is of"),
        (["minivlm-tony", "--stage", "vqa", "--data", "scenes"], "of vision-language models"),
    ],
)
def test_what_the_command_line_refuses(
    line: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *line]) == 2
    captured = capsys.readouterr()
    assert says in captured.err and captured.err.count("\n") <= 2
