"""What an app calls, over stages that are a few lines of numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.errors import InputError, UsageError
from edgekit.runtimes.vision_language.model import Names, Tables, VisionLanguage
from edgekit.runtimes.vision_language.regions import anchor_boxes, map_sizes
from edgekit.runtimes.vision_language.text import SPECIAL, Vocabulary
from tests.bundle.sample_assembly import SETTINGS

pytest.importorskip("tokenizers")

Arrays = Mapping[str, NDArray[Any]]
WORDS = (*SPECIAL, "what", "is", "this", "a", "cat", "dog")
WIDTH, CHANNELS, FEATURE, CLASSES = 6, 5, 7, 3
ANCHORS = len(anchor_boxes(64, 64, SETTINGS.anchors))
CELLS = sum(h * w for h, w in map_sizes(64, 64)[:4])


class Stages:
    """Seeded noise in the shapes of the graphs; remembers what it was given."""

    def __init__(self, caption: tuple[int, ...] = (8, 9, 3), shift: float = 0.0) -> None:
        rng = np.random.default_rng(0)
        self.given: dict[str, list[dict[str, NDArray[Any]]]] = {}
        self.shift, self.caption = shift, list(caption)
        self.cells = rng.normal(size=(1, CELLS, CHANNELS)).astype(np.float32)
        self.logits = rng.normal(size=(1, ANCHORS)).astype(np.float32)

    def table(self) -> dict[str, Callable[[Arrays], Arrays]]:
        names = ("detector", "box-head", "fusion-8", "fusion-16", "judge", "context", "step")
        return {name: self._stage(name) for name in names}

    def _stage(self, name: str) -> Callable[[Arrays], Arrays]:
        def run(inputs: Arrays) -> Arrays:
            kept = {key: value.copy() for key, value in inputs.items()}
            self.given.setdefault(name, []).append(kept)
            method = name.partition("-")[0]
            result: Arrays = getattr(self, f"_{method}")(inputs)
            return result

        return run

    def _detector(self, inputs: Arrays) -> Arrays:
        deltas = np.full((1, ANCHORS, 4), self.shift, np.float32)
        return {"cells": self.cells, "logits": self.logits, "deltas": deltas}

    def _box(self, inputs: Arrays) -> Arrays:
        count = len(inputs["pooled"])
        scores = np.tile(np.array([0.2, 0.7, 0.1], np.float32), (count, 1))
        features = np.ones((count, FEATURE), np.float32)
        return {"features": features, "scores": scores, "deltas": np.zeros((count, 4), np.float32)}

    def _fusion(self, inputs: Arrays) -> Arrays:
        pooled = np.full((1, WIDTH), len(self.given["fusion-8"]), np.float32)
        answers = np.array([[-1.0, 2.0, 0.5]])
        return {"match": np.array([[0.0, 1.0]]), "answers": answers, "pooled": pooled}

    def _judge(self, inputs: Arrays) -> Arrays:
        return {"judged": np.array([[0.0, 3.0]])}

    def _context(self, inputs: Arrays) -> Arrays:
        count = inputs["seen"].shape[1]
        return {key: np.ones((2, count, 3), np.float32) for key in ("keys", "values")}

    def _step(self, inputs: Arrays) -> Arrays:
        words = np.zeros((1, len(WORDS)))
        words[0, self.caption[len(self.given["step"]) - 1]] = 1
        new = np.full((2, 1, 3), len(self.given["step"]), np.float32)
        return {"words": words, "keys": new, "values": -new}


def model(
    stages: Stages, objects: tuple[str, ...] = ("cat", "dog"), **changes: Any
) -> VisionLanguage:
    rng = np.random.default_rng(1)
    tables = Tables(*(rng.normal(size=(n, WIDTH)).astype(np.float32) for n in (len(WORDS), 20, 2)))
    names = Names(("no", "yes"), objects)
    settings = replace(SETTINGS, **changes)
    return VisionLanguage(stages.table(), settings, Vocabulary(WORDS), tables, names)


def image(height: int = 48, width: int = 80) -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_regions_are_in_pixels_of_the_image() -> None:
    stages = Stages()
    seen = model(stages).look(image(100, 200))
    assert 0 < seen.count <= 3 and seen.objects == ("cat",) * seen.count
    assert seen.boxes.min() >= 0 and (seen.boxes <= (200, 100, 200, 100)).all()
    assert seen.visual.shape == (3, FEATURE + 6)
    assert np.allclose(
        seen.visual[: seen.count, FEATURE:][:, :4] * (200, 100, 200, 100), seen.boxes
    )
    assert not seen.visual[seen.count :].any()
    pixels = stages.given["detector"][0]["image"]
    assert pixels.shape == (1, 3, 64, 64) and not pixels[:, :, 32:].any(), "below is nothing"
    assert len(stages.given["box-head"][0]["pooled"]) == SETTINGS.proposals


def test_an_answer() -> None:
    stages = Stages()
    vlm = model(stages)
    assert vlm.ask(image(), "what is this") == "yes"
    answers = vlm.answers(image(), "what is this")
    assert [text for text, _ in answers] == ["yes", "answer 2", "no"]
    assert answers[0][1] == pytest.approx(1 / (1 + np.exp(-2)))
    given = stages.given["fusion-8"][0]
    assert given["text"].shape == (1, 8, WIDTH) and given["visual"].shape == (1, 3, FEATURE + 6)
    assert given["seen"][0, :8].tolist() == [1] * 5 + [0] * 3, "[CLS] three words [SEP]"
    assert {"detector", "fusion-8"} <= {*vlm.times}


def test_a_statement_on_two_images() -> None:
    stages = Stages()
    vlm = model(stages, tasks=("nlvr2",))
    first, second = vlm.look(image()), vlm.look(image(20, 20))
    assert vlm.judge(first, second, "a cat") == pytest.approx(1 / (1 + np.exp(-3)))
    seen = [given["visual"][0] for given in stages.given["fusion-8"]]
    assert np.array_equal(seen[0], first.visual) and np.array_equal(seen[1], second.visual)
    (given,) = stages.given["judge"]
    assert given["pooled"].tolist() == [[1] * WIDTH + [2] * WIDTH], "the first image's first"
    with pytest.raises(UsageError, match="no graphs for nlvr2"):
        model(Stages()).judge(first, second, "a cat")
    with pytest.raises(InputError, match="the statement is empty"):
        vlm.judge(first, second, " ")


def test_a_longer_text_takes_the_longer_graph() -> None:
    stages = Stages()
    vlm = model(stages)
    seen = vlm.look(image())
    vlm.ask(seen, "what is this cat dog a")
    assert "fusion-16" not in stages.given
    vlm.ask(seen, "what is this cat dog a a")
    assert len(stages.given["fusion-16"]) == 1 and len(stages.given["detector"]) == 1
    with pytest.raises(InputError, match="has 15 tokens, and 14 fit"):
        vlm.ask(seen, "cat " * 15)


def test_a_match_has_the_tags_behind_it() -> None:
    stages = Stages()
    vlm = model(stages)
    assert vlm.match(image(), "a dog") == [pytest.approx(1 / (1 + np.exp(-1)))]
    assert len(vlm.match(image(), ["a cat", "a dog"])) == 2
    text = vlm._tables.embed(vlm.vocabulary.pair([8, 10], [9]), 8)
    assert np.array_equal(stages.given["fusion-8"][0]["text"], text)
    with pytest.raises(UsageError, match="at least one text"):
        vlm.match(image(), [])


def test_a_caption_is_written_token_by_token() -> None:
    stages = Stages(caption=(8, 9, 3))
    vlm = model(stages)
    assert vlm.caption(image()) == "a cat"
    steps = stages.given["step"]
    assert len(steps) == 3 and len(stages.given["context"]) == 1
    slots = SETTINGS.caption
    for place, step in enumerate(steps):
        known, mask = step["seen"]
        assert known[:slots].tolist() == [1] * place + [0] * (slots - place)
        assert known[-2:].tolist() == [1, 0] and mask[-2:].tolist() == [1, 1]
        filled = [n + 1 if n < place else 0 for n in range(slots)]
        assert step["cached_keys"][0, :slots, 0].tolist() == filled
        assert (step["cached_values"][:, slots:] == 1).all(), "tags and regions"
    tags = stages.given["context"][0]["seen"][0, : SETTINGS.tags].tolist()
    assert tags == [1, 1, 0, 0], "a tag and [SEP]"
    pair = steps[1]["pair"]
    words, places = vlm._tables.words, vlm._tables.positions
    assert np.allclose(pair[0, 0], words[8] + places[1] + vlm._tables.types[0])
    assert np.allclose(pair[0, 1], words[4] + places[2] + vlm._tables.types[0])


def test_a_caption_ends_where_no_more_fits() -> None:
    vlm = model(Stages(caption=(8,) * 20))
    assert vlm.caption_tokens(image()) == [8] * (SETTINGS.caption - 1)


def test_without_regions_it_speaks_from_the_text_alone() -> None:
    """All boxes are moved out of the image."""
    stages = Stages(shift=1e3)
    vlm = model(stages)
    seen = vlm.look(image())
    assert seen.count == 0 and seen.tags == () and not seen.visual.any()
    assert vlm.ask(seen, "what is this") == "yes"
    assert vlm.caption(seen) == "a cat"
    assert not stages.given["fusion-8"][0]["seen"][0, 8:].any()
    strict = model(Stages(), min_score=0.9)
    assert strict.look(image()).count == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (6000, 8000)])
def test_images_of_any_size(size: tuple[int, int]) -> None:
    vlm = model(Stages())
    seen = vlm.look(image(*size))
    assert (seen.boxes[:, 2:] <= (size[1], size[0])).all()
    assert vlm.ask(seen, "what is this") == "yes"


def test_classes_without_names() -> None:
    seen = model(Stages(), objects=()).look(image())
    assert seen.objects[0] == "object 0" and seen.tags == ()


def test_what_the_weights_were_not_trained_for() -> None:
    vlm = model(Stages(), tasks=("caption",))
    for call in (lambda: vlm.ask(image(), "what"), lambda: vlm.match(image(), "a cat")):
        with pytest.raises(UsageError, match="no graphs for .*: it is for caption"):
            call()
    with pytest.raises(UsageError, match="for nothing"):
        model(Stages(), tasks=()).caption(image())


def test_broken_weights_are_said() -> None:
    stages = Stages()
    stages._fusion = lambda inputs: {"match": np.array([[np.nan, 0.0]])}  # type: ignore[method-assign]
    with pytest.raises(InputError, match="fusion-8 has NaN or Inf"):
        model(stages).match(image(), "a cat")
    stages = Stages()
    stages.logits[0, 3] = np.nan
    with pytest.raises(InputError, match="detector has NaN or Inf"):
        model(stages).look(image())


def test_words_that_nobody_says_are_not_said() -> None:
    """[UNK] may be the likeliest; the next in line is taken, as the training's evaluation does."""
    stages = Stages()

    def step(inputs: Arrays) -> Arrays:
        words = np.array([[9.0, 9, 9, 1, 9, 0, 0, 0, 0, 5 if inputs["seen"][0, 0] == 0 else 0, 0]])
        new = np.zeros((2, 1, 3), np.float32)
        return {"words": words, "keys": new, "values": new}

    stages._step = step  # type: ignore[method-assign]
    assert model(stages).caption_tokens(image()) == [9]


def test_scores_far_from_zero() -> None:
    stages = Stages()
    stages._fusion = lambda inputs: {  # type: ignore[method-assign]
        "match": np.array([[900.0, -900.0]]), "answers": np.array([[-900.0, 900.0, 0.0]])
    }  # fmt: skip
    with np.errstate(all="raise"):
        assert model(stages).match(image(), "a cat") == [0.0]
        assert [score for _, score in model(stages).answers(image(), "what")] == [1.0, 0.5, 0.0]


def test_no_image(tmp_path: Any) -> None:
    with pytest.raises(InputError, match="no image at"):
        model(Stages()).look(tmp_path / "none.jpg")
