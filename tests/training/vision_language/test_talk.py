"""What is said of scenes is true, and can be said in the words that there are."""

from __future__ import annotations

from collections import Counter

from edgekit.models.minivlm.specs import get_vlm
from edgekit.runtimes.vision_language.text import Vocabulary
from edgekit.training.data.scenes import Scene, Thing, scene
from edgekit.training.vision_language import talk

RED = Thing("circle", "red", "large", (10, 10, 50, 50))
BLUE = Thing("square", "blue", "small", (80, 60, 104, 84))
TWO = Scene(0, 100, (BLUE, RED))


def asked(what: Scene) -> dict[str, str]:
    return {q.text: q.answer for q in talk.questions(what, 1000, held_out=True)}


def test_a_scene_in_words() -> None:
    assert talk.caption(TWO) == "a large red circle and a small blue square"
    assert talk.tags(TWO) == ("circle", "square")
    found = asked(TWO)
    assert found["what color is the circle ?"] == "red"
    assert found["what size is the square ?"] == "small"
    assert found["what shape is the blue thing ?"] == "square"
    assert found["how many things are there ?"] == "2"
    assert found["how many crosses are there ?"] == "0"
    assert found["is there a red circle ?"] == "yes"
    assert found["what shape is left of the blue square ?"] == "circle"
    assert found["what shape is below the red circle ?"] == "square"
    assert "what shape is right of the blue square ?" not in found


def test_nothing_ambiguous_is_asked() -> None:
    twin = Thing("circle", "red", "small", (10, 80, 30, 100))
    found = asked(Scene(0, 100, (RED, BLUE, twin)))
    assert "what color is the circle ?" not in found
    assert found["what color is the large circle ?"] == "red"
    assert not any("the red circle ?" in text for text in found)
    near = Thing("cross", "white", "small", (81, 100, 101, 120))  # 1.5 pixels beside the square
    beside = asked(Scene(0, 100, (BLUE, near)))
    assert "what shape is left of the white cross ?" not in beside
    assert beside["what shape is above the white cross ?"] == "square"


def test_yes_is_as_frequent_as_no_and_no_answer_is_most() -> None:
    answers = Counter[str]()
    for number in range(300):
        for question in talk.questions(scene(number), 1000, held_out=True):
            answers[question.answer] += 1
            assert question.answer in talk.ANSWERS
    assert answers["yes"] == answers["no"]


def test_questions_that_are_held_out_are_not_asked_in_training() -> None:
    kept = [q for n in range(200) for q in talk.questions(scene(n), 8, held_out=False)]
    every = [q for n in range(200) for q in talk.questions(scene(n), 8, held_out=True)]
    assert not any(q.is_held_out for q in kept)
    share = sum(q.is_held_out for q in every) / len(every)
    assert 0.08 < share < 0.25
    assert {q.kind for q in every} == set(talk.KINDS)


def test_statements_are_as_often_true_and_need_both_images() -> None:
    pairs = [talk.statement(scene(n), scene(n + 1)) for n in range(400)]
    assert 0.4 < sum(truth for _, truth in pairs) / len(pairs) < 0.6


def test_every_word_is_in_the_vocabulary_and_every_text_fits() -> None:
    vocabulary, lengths = Vocabulary(talk.vocabulary()), get_vlm("minivlm-tiny").lengths
    for number in range(300):
        what = scene(number)
        texts = [talk.caption(what), talk.statement(what, scene(number + 1))[0], *asked(what)]
        tokens = [vocabulary.encode(text) for text in (*texts, *talk.tags(what))]
        assert not any(vocabulary.unk in each for each in tokens)
        assert len(tokens[0]) + 2 <= lengths.caption
        assert max(map(len, tokens[1:])) + 2 <= lengths.short
