"""Texts to tokens, and what a user can write that is no text."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import InputError, UsageError
from edgekit.runtimes.vision_language.text import SPECIAL, Vocabulary

pytest.importorskip("tokenizers")

WORDS = (*SPECIAL, "what", "colour", "is", "the", "bus", "##es", "?", "red", "cafe", ",")
CLS, SEP, UNK = 2, 3, 1


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(WORDS)


def test_pieces_are_berts(vocabulary: Vocabulary) -> None:
    """Lower case, no accents, split at punctuation, the longest pieces."""
    assert vocabulary.encode("What COLOUR is the Buses?") == [5, 6, 7, 8, 9, 10, 11]
    assert vocabulary.encode("Café,red") == [13, 14, 12]
    assert vocabulary.encode("a  \t\n") == [UNK]
    assert vocabulary.decode([2, 5, 9, 10, 3]) == "what buses"


def test_special_tokens_cannot_be_written(vocabulary: Vocabulary) -> None:
    assert not {0, CLS, SEP, 4} & {*vocabulary.encode("[MASK] [SEP] [CLS] red [PAD]")}


def test_sequences(vocabulary: Vocabulary) -> None:
    question = vocabulary.question([5, 7])
    assert question.tokens == (CLS, 5, 7, SEP) and question.types == (0,) * 4
    pair = vocabulary.pair([12], [9, 10])
    assert pair.tokens == (CLS, 12, SEP, 9, 10, SEP) and pair.types == (0, 0, 0, 1, 1, 1)
    assert pair.positions == tuple(range(6))
    assert vocabulary.pair([12], []).tokens == (CLS, 12, SEP)
    tags = vocabulary.tags([9], 20)
    assert tags.tokens == (9, SEP) and tags.positions == (20, 21) and tags.types == (1, 1)
    assert vocabulary.tags([], 20).tokens == ()


def test_tags_that_fit(vocabulary: Vocabulary) -> None:
    assert vocabulary.fitting(["bus", "buses", "bus", "red"], 3) == [9, 9, 10]
    assert vocabulary.fitting(["buses"], 1) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("你好", "another language"),
        ("你好?", "another language"),
        ("...?", "another language"),
        ("Здравствуй мир", "another language"),
        ("red " * 9, "has 9 tokens, and 8 fit"),
        ("r" * 10_001, "10,001 characters"),
        ("what \ud800", "no text in Unicode"),
        (None, "no text in Unicode: None"),
    ],
)
def test_bad_texts(vocabulary: Vocabulary, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        vocabulary.words(text, "question", 8)


def test_a_text_may_have_unknown_words(vocabulary: Vocabulary) -> None:
    assert vocabulary.words("what zebra", "question", 8) == [5, UNK]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"the\nbus\n", r"no \[PAD\]"),
        ("\n".join((*WORDS, "bus")).encode(), "twice"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", r"no \[PAD\]"),
        ("\n".join((*WORDS, "\x1b[31mred")).encode(), "control character"),
    ],
)
def test_bad_vocabularies(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        Vocabulary.read(path)
    with pytest.raises(UsageError, match="No such file"):
        Vocabulary.read(tmp_path / "none.txt")


def test_a_vocabulary_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes("\r\n".join(WORDS).encode() + b"\r\n")
    assert Vocabulary.read(path).tokens == WORDS
