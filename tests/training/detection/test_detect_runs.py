"""`train_detector`: what a run leaves, what it begins with, and that nothing is lost of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from edgekit.errors import CheckpointError, UsageError
from edgekit.models.minivlm.network import (
    MiniVlm,
    VlmFacts,
    create_vlm,
    fitted,
    fresh_vlm,
    read_facts,
    save_vlm,
)
from edgekit.models.minivlm.specs import get_vlm
from edgekit.training.data import scenes
from edgekit.training.data.scenes import COLOURS, SHAPES
from edgekit.training.detection import runs
from edgekit.training.detection.loading import DetectionBatch, training_batches
from edgekit.training.detection.recipe import DetectRecipe
from edgekit.training.detection.runs import train_detector
from edgekit.training.detection.start import begin

STEPS = 6
RECIPE = DetectRecipe(
    "minivlm-tiny", "scenes:12", image_size=64, epochs=2, batch_size=4, ema=0.9,
    smallest=0.7, largest=1.3, clip_norm=5.0, save_minutes=0.0,
)  # fmt: skip
FACTS = VlmFacts("minivlm-tiny", (), (), SHAPES, tuple(COLOURS))


@pytest.fixture(autouse=True)
def few_to_evaluate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "HELD_OUT", 4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scenes, "HELD_OUT", 4)
        outcome = train_detector(RECIPE, out)
    assert (outcome.steps, outcome.interrupted) == (STEPS, False)
    return out


def kept(out: Path) -> dict[str, bytes]:
    return {name: (out / f"{name}.safetensors").read_bytes() for name in ("best", "last", "state")}


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_run_is_a_folder_with_all_of_it(whole: Path) -> None:
    assert set(os.listdir(whole)) == {
        "recipe.toml", "best.safetensors", "last.safetensors", "state.safetensors",
        "metrics.jsonl", "events",
    }  # fmt: skip
    facts = read_facts(whole / "best.safetensors")
    assert (
        facts == replace(FACTS, tasks=("detect",), canvas=(64, 64))
        and facts.detects
        and not facts.speaks
    )
    created = create_vlm("minivlm-tiny", str(whole / "best.safetensors"))
    assert created.weights.note == ""
    assert (created.spec.tee.classes, created.spec.tee.attributes) == (5, 6)
    found = lines(whole)
    assert [line["epoch"] for line in found] == [1, 2]
    assert all(0 <= line["mAP50"] <= 1 and line["loss"] > 0 for line in found)


class Killed(BaseException):
    """In the place of a SIGKILL, which no code sees."""


@pytest.mark.parametrize("step", [1, 3, 5])
def test_stopped_and_resumed_gives_the_same_bits(
    whole: Path, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def until(*args: Any, first: int, **facts: Any) -> Iterator[DetectionBatch]:
        for done, batch in enumerate(training_batches(*args, first=first, **facts), first):
            if done == step:
                raise Killed
            yield batch

    monkeypatch.setattr(runs, "training_batches", until)
    with pytest.raises(Killed):
        train_detector(RECIPE, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(scenes, "HELD_OUT", 4)
    torch.manual_seed(step)
    assert train_detector(RECIPE, tmp_path, resume=True).steps == STEPS
    assert kept(tmp_path) == kept(whole)
    assert [line["loss"] for line in lines(tmp_path)] == [line["loss"] for line in lines(whole)]


def test_another_seed_gives_others(whole: Path, tmp_path: Path) -> None:
    train_detector(replace(RECIPE, seed=1), tmp_path)
    assert kept(tmp_path)["last"] != kept(whole)["last"]


def test_a_run_is_neither_overwritten_nor_resumed_with_other_data(whole: Path) -> None:
    with pytest.raises(UsageError, match="--resume goes on with it, --force starts anew"):
        train_detector(RECIPE, whole)
    before = kept(whole)
    with pytest.raises(UsageError, match="data"):
        train_detector(replace(RECIPE, data="scenes:13"), whole, resume=True)
    assert kept(whole) == before


def boxes_in_files(root: Path, image: tuple[int, int] = (64, 48)) -> Path:
    """Two classes and no attributes, one image without boxes, and one that is no image."""
    (root / "images").mkdir(parents=True)
    rows: dict[str, list[Any]] = {"images": [], "annotations": []}
    for number in range(6):
        Image.new("RGB", image, (40 * number, 80, 90)).save(root / f"images/{number}.png")
        rows["images"].append({"id": number, "file_name": f"{number}.png"})
        if number:
            rows["annotations"].append(
                {"image_id": number, "category_id": number % 2, "bbox": [number, 4, 20, 30]}
            )
    (root / "images/5.png").write_bytes(b"no image")
    rows["categories"] = [{"id": 0, "name": "odd"}, {"id": 1, "name": "even"}]
    for name in ("train", "val"):
        (root / f"{name}.json").write_text(json.dumps(rows))
    return root


def test_files_without_attributes_train_too(tmp_path: Path) -> None:
    data = f"coco:{boxes_in_files(tmp_path / 'data')}"
    recipe = replace(RECIPE, data=data, epochs=1, batch_size=3, workers=0)
    said: list[str] = []
    outcome = train_detector(recipe, tmp_path / "run", progress=said.append)
    assert list(outcome.figures) == ["mAP50"]
    assert [name.partition(":")[0] for name in outcome.corrupt] == ["5.png"]
    assert "1 of the images to evaluate with cannot be read" in said
    facts = read_facts(tmp_path / "run/best.safetensors")
    assert (facts.objects, facts.attributes) == (("odd", "even"), ())


# ---- weights to begin with -------------------------------------------------------------------


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def test_a_run_begins_with_the_weights_of_another(whole: Path) -> None:
    start = begin(get_vlm("minivlm-tiny"), FACTS, str(whole), 3)
    theirs = tensors(whole / "best.safetensors")
    for key, value in start.module.tee.state_dict().items():
        assert torch.equal(value, theirs[f"tee.{key}"]), key
    assert start.notes == () and len(start.sha256) == 64


def speaking(folder: Path, objects: tuple[str, ...] = ()) -> tuple[Path, MiniVlm]:
    """A run of the transformer: 7 words, two answers, pairs of images."""
    facts = VlmFacts("minivlm-tiny", ("vqa", "nlvr2"), ("yes", "no"), objects, min_score=0.3)
    folder.mkdir()
    module = fresh_vlm(fitted(get_vlm("minivlm-tiny"), facts, 7), facts, 5)
    save_vlm(module, facts, folder / "best.safetensors")
    (folder / "vocab.txt").write_text("\n".join("abcdefg"))
    return folder, module


def test_a_transformer_that_does_not_normalise_regions_is_kept(tmp_path: Path) -> None:
    facts = VlmFacts("minivlm-tiny", ("match",), image_norm=False)
    module = fresh_vlm(fitted(get_vlm("minivlm-tiny"), facts, 7), facts, 5)
    save_vlm(module, facts, tmp_path / "before.safetensors")
    weights = str(tmp_path / "before.safetensors")
    train_detector(replace(RECIPE, weights=weights, epochs=1), tmp_path / "run")
    created = create_vlm("minivlm-tiny", str(tmp_path / "run/best.safetensors"))
    assert not created.spec.fusion.image_norm


@pytest.mark.parametrize("objects", [(), SHAPES])
def test_a_transformer_is_kept_with_all_that_it_says(
    tmp_path: Path, objects: tuple[str, ...]
) -> None:
    weights, before = speaking(tmp_path / "speaks", objects)
    said: list[str] = []
    recipe = replace(RECIPE, weights=str(weights), epochs=1)
    train_detector(recipe, tmp_path / "run", progress=said.append)
    created = create_vlm("minivlm-tiny", str(tmp_path / "run/best.safetensors"))
    assert created.facts == VlmFacts(
        "minivlm-tiny",
        ("detect", "vqa", "nlvr2"),
        ("yes", "no"),
        SHAPES,
        tuple(COLOURS),
        0.3,
        canvas=(64, 64),
    )
    after = created.module.fusion.state_dict()
    for key, value in before.fusion.state_dict().items():
        assert torch.equal(value, after[key]), key
    trained, before_ = created.module.tee.trunk.state_dict(), before.tee.trunk.state_dict()
    assert not all(torch.equal(trained[key], before_[key]) for key in before_)
    assert (tmp_path / "run/vocab.txt").read_bytes() == (weights / "vocab.txt").read_bytes()
    assert any("its transformer is kept" in line for line in said)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runs, "training_batches", lambda *_, **__: iter(()))
        assert train_detector(recipe, tmp_path / "run", resume=True).steps == 3


def test_other_names_need_other_layers(whole: Path) -> None:
    facts = replace(FACTS, objects=("a", "b"))
    start = begin(get_vlm("minivlm-tiny"), facts, str(whole / "best.safetensors"), 3)
    own, theirs = start.module.tee.state_dict(), tensors(whole / "best.safetensors")
    assert own["box_head.score.weight"].shape == (3, 128)
    assert torch.equal(own["box_head.fc7.weight"], theirs["tee.box_head.fc7.weight"])
    assert torch.equal(own["attributes.out.weight"], theirs["tee.attributes.out.weight"])
    assert "box_head.score.weight" in start.notes[0] and "as drawn" in start.notes[0]
    without = begin(get_vlm("minivlm-tiny"), replace(facts, attributes=()), str(whole), 3)
    assert not hasattr(without.module.tee, "attributes")


def test_a_detector_without_attributes_gets_them(tmp_path: Path) -> None:
    facts = replace(FACTS, attributes=())
    module = begin(get_vlm("minivlm-tiny"), facts, "random", 0).module
    save_vlm(module, facts, tmp_path / "plain.safetensors")
    start = begin(get_vlm("minivlm-tiny"), FACTS, str(tmp_path / "plain.safetensors"), 3)
    assert "attributes.out.weight" in start.module.tee.state_dict()
    assert torch.equal(start.module.tee.box_head.score.weight, module.tee.box_head.score.weight)


@pytest.mark.parametrize(("model", "trunk"), [("minivlm", "b0"), ("minivlm-tee1", "b1")])
def test_a_classifier_gives_its_trunk(tmp_path: Path, model: str, trunk: str) -> None:
    from edgekit.models.checkpoint import build_network
    from edgekit.models.zoo import get_variant

    network = build_network(get_variant(f"efficientnet-{trunk}"), 10, 64, None)
    path = tmp_path / "classifier.pth"
    torch.save(network.state_dict(), path)
    start = begin(get_vlm(model), replace(FACTS, variant=model), str(path), 0)
    for key, value in start.module.tee.trunk.state_dict().items():
        assert torch.equal(value, network.state_dict()[key]), key
    assert "are as drawn" in start.notes[0]


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"fc.weight": (3,)}, "holds no detector .* and no trunk"),
        ({"features.0.0.weight": (3,)}, "does not fit this network"),
        ({"tee.trunk.features.0.0.weight": (16, 3, 3, 3)}, "does not fit"),
    ],
)
def test_weights_that_do_not_fit(
    tmp_path: Path, keys: dict[str, tuple[int, ...]], match: str
) -> None:
    save_file({key: torch.zeros(shape) for key, shape in keys.items()}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=match):
        begin(get_vlm("minivlm-tiny"), FACTS, str(tmp_path / "w.safetensors"), 0)


def test_weights_of_another_row(tmp_path: Path) -> None:
    facts = VlmFacts("minivlm", (), (), SHAPES)
    save_vlm(fresh_vlm(get_vlm("minivlm"), VlmFacts(), 0), facts, tmp_path / "big.safetensors")
    with pytest.raises(
        CheckpointError, match=r"big.safetensors is of minivlm, not of minivlm-tiny"
    ):
        begin(get_vlm("minivlm-tiny"), FACTS, str(tmp_path / "big.safetensors"), 0)


def test_random_weights_are_those_of_the_seed() -> None:
    first, again, other = (
        begin(get_vlm("minivlm-tiny"), FACTS, "random", seed).module.tee.state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["box_head.fc6.weight"], other["box_head.fc6.weight"])
