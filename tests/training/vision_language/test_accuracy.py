"""Figures of what is said, and `edgekit evaluate` of weights; of bundles: tests/export."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli import main
from edgekit.errors import UsageError
from edgekit.models.minivlm.network import VlmFacts, fitted, fresh_vlm, save_vlm
from edgekit.training.data import scenes
from edgekit.training.data.scenes import COLOURS, SHAPES
from edgekit.training.vision_language import talk
from edgekit.training.vision_language.accuracy import Wanted, _open, evaluate_vlm, is_vlm
from edgekit.training.vision_language.figures import of_answers, of_captions, of_matches
from edgekit.training.vision_language.recipe import VlmRecipe
from edgekit.training.vision_language.runs import train_vlm
from edgekit.training.vision_language.source import Asked, Captioned, Told
from edgekit.training.vision_language.start import begin, find
from tests.training.vision_language.oracle import SPEC, folder, splits

# ---- figures -----------------------------------------------------------------------------------


def asked(question: str, **answers: float) -> Asked:
    return Asked(0, question, answers)


def test_answers_have_the_score_that_people_gave_them() -> None:
    known = [asked("what?", cat=1.0), asked("what?", cat=1.0, dog=0.3), asked("is it?", yes=1.0)]
    before = Told(splits(2, 2).train.images, asked=tuple(known))
    new = asked("why?", because=1.0, cat=0.6)
    found = of_answers(["cat", "dog", "", "because"], [*known, new], before)
    assert found["vqa"] == pytest.approx((1 + 0.3 + 0 + 1) / 4)
    assert found["vqa_chance"] == pytest.approx((1 + 1 + 0 + 0.6) / 4)
    assert found["vqa_new"] == 1.0
    assert "vqa_new" not in of_answers(["cat"], known[:1], before)
    unasked = replace(before, asked=())
    assert of_answers(["because"], [new], unasked) == {"vqa": 1.0}


def test_captions_are_compared_word_for_word() -> None:
    references = [[("a", "cat")], [("a", "dog"), ("one", "dog")], [("no", "thing")]]
    right = of_captions([("a", "cat"), ("one", "dog"), ("no", "thing")], references)
    wrong = of_captions([("a", "dog"), ("a", "cat"), ("a", "cat")], references)
    assert right["caption_exact"] == 1.0 and wrong["caption_exact"] == 0.0
    assert right["caption_cider"] > wrong["caption_cider"]


def test_an_equal_caption_of_another_image_is_right() -> None:
    items = [Captioned(n, (text,)) for n, text in enumerate(("a", "b", "a"))]
    scores = np.array([[0.1, 0.2, 0.9], [0.9, 0.5, 0.1], [0.8, 0.1, 0.7]])
    assert of_matches(scores, items) == {
        "image_to_text": pytest.approx(2 / 3),  # a by the third, b wrongly, a by the first
        "text_to_image": pytest.approx(2 / 3),  # the first wrongly, the third by the other a
    }


def test_captions_are_searched_by_rows_and_images_by_columns() -> None:
    items = [Captioned(n, (text,)) for n, text in enumerate("abc")]
    scores = np.array([[5.0, 0.0, 0.0], [3.0, 2.0, 0.0], [3.0, 0.0, 2.0]])
    found = of_matches(scores, items)
    assert found == {"image_to_text": pytest.approx(1 / 3), "text_to_image": 1.0}


# ---- weights -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return folder(tmp_path_factory.mktemp("scenes"), 16, 6)


@pytest.fixture(scope="module")
def run(data: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    recipe = VlmRecipe(
        "minivlm-tiny", data[0], vocab=data[1], stage="vqa+caption+retrieval+nlvr2", epochs=2,
        batch_size=16, evaluated=30, candidates=5,
    )  # fmt: skip
    train_vlm(recipe, out)
    return out


def test_weights_have_the_figures_of_their_training(run: Path, data: tuple[str, str]) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max((line for line in lines if "score" in line), key=lambda line: line["score"])
    (found,) = evaluate_vlm(run, Wanted(data[0], evaluated=30, candidates=5))
    assert found.items == {"questions": 30, "captions": 6, "candidates": 5, "statements": 6}
    assert len(found.figures) == 8
    for name, figure in found.figures.items():
        assert figure == pytest.approx(best[name]), name


def test_what_other_training_scenes_ask_is_not_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many scenes are named: a question is new if it is kept for those held out."""
    monkeypatch.setattr(scenes, "HELD_OUT", 20)
    splits = _open(Wanted("scenes:2"), lambda scenes: [], 7)
    known = {item.question for item in splits.train.asked}
    new = [item.question for item in splits.held_out.asked if item.question not in known]
    assert 0.05 < len(new) / len(splits.held_out.asked) < 0.25


def test_what_was_trained_on_is_another_split(run: Path, data: tuple[str, str]) -> None:
    (found,) = evaluate_vlm(run, Wanted(data[0], trained_on=True))
    assert found.items == {
        "questions": 16 * 8, "captions": 16, "candidates": 16, "statements": 16,
    }  # fmt: skip
    assert "vqa_new" not in found.figures


def test_a_detector_is_evaluated_with_its_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scenes, "HELD_OUT", 4)
    facts = VlmFacts("minivlm-tiny", ("detect",), (), SHAPES, tuple(COLOURS))
    path = tmp_path / "d.safetensors"
    save_vlm(fresh_vlm(fitted(SPEC, facts), facts, 3), facts, path)
    assert is_vlm(path)
    assert main(["evaluate", str(path), "--data", "scenes:2"]) == 0
    shown = capsys.readouterr().out
    assert "regions, mAP50" in shown and "--stage vqa+caption+retrieval" in shown
    other = VlmFacts("minivlm-tiny", ("detect",), (), ("cat", "dog"), ())
    save_vlm(fresh_vlm(fitted(SPEC, other), other, 3), other, path)
    with pytest.raises(UsageError, match="other classes or attributes"):
        evaluate_vlm(path, Wanted("scenes:2"))


def test_other_tokens_are_not_read(run: Path, data: tuple[str, str], tmp_path: Path) -> None:
    """As many, in another order: all words would be others."""
    (tmp_path / "best.safetensors").write_bytes((run / "best.safetensors").read_bytes())
    words = (run / "vocab.txt").read_text().splitlines()
    (tmp_path / "vocab.txt").write_text("".join(f"{w}\n" for w in [*words[:5], *words[:4:-1]]))
    with pytest.raises(UsageError, match="trained with other tokens"):
        evaluate_vlm(tmp_path, Wanted(data[0]))


def test_what_cannot_be_evaluated(
    run: Path, data: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(data[0].partition(":")[2])
    for name in ("features.tsv", "train.jsonl"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    texts = (source / "val.jsonl").read_text().splitlines(keepends=True)
    pairs_only = [line for line in texts if '"images"' in line]
    (tmp_path / "val.jsonl").write_text("".join(pairs_only))
    vqa = tmp_path / "vqa.safetensors"
    found = find("minivlm-tiny", str(run))
    facts = replace(found.facts, tasks=("vqa",))
    save_vlm(begin(found, facts, len(talk.vocabulary()), 0).module, facts, vqa)
    for line, says in (
        (["--data", "digits"], "unknown kind of vision-language data 'digits'"),
        (["--data", "scenes:2"], "looked at by a detector, and that of these weights"),
        (["--data", data[0], "--runtime", "litert"], "are for a bundle"),
        (["--data", data[0], "--knn"], "--knn is for classifiers"),
    ):
        assert main(["evaluate", str(run), *line]) == 2, line
        assert says in capsys.readouterr().err
    assert main(["evaluate", str(vqa), "--data", f"tsv:{tmp_path}"]) == 2
    assert "trained for vqa; data" in capsys.readouterr().err
