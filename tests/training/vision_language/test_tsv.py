"""Folders of features and texts: read back as written, and every broken line is named."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import InputError, UsageError
from edgekit.training.vision_language.source import Floats, Told
from edgekit.training.vision_language.texts import stack_regions
from edgekit.training.vision_language.tsv import TsvImages, open_tsv, write_tsv
from tests.training.vision_language.oracle import SPEC, splits

VISUAL = 7
ROWS = np.arange(3 * VISUAL, dtype="<f4").reshape(3, VISUAL)
GOOD = f"one\t3\t{base64.b64encode(ROWS.tobytes()).decode()}\tcat; dog"


def folder(path: Path, features: str = GOOD, line: str = "", val: str = "") -> Path:
    path.mkdir(exist_ok=True)
    (path / "features.tsv").write_bytes((features + "\n").encode("utf-8", "surrogateescape"))
    usual = json.dumps({"image": "one", "captions": ["a cat"]})
    (path / "train.jsonl").write_text((line or usual) + "\n")
    (path / "val.jsonl").write_text((val or usual) + "\n")
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = splits(6, 3)
    write_tsv(tmp_path, written.train, written.held_out)
    read = open_tsv(tmp_path, SPEC.tee.visual)
    for mine, theirs in ((written.train, read.train), (written.held_out, read.held_out)):
        assert [q.question for q in mine.asked] == [q.question for q in theirs.asked]
        assert [dict(q.answers) for q in mine.asked] == [dict(q.answers) for q in theirs.asked]
        assert [c.captions for c in mine.captioned] == [c.captions for c in theirs.captioned]
        assert [(p.caption, p.label) for p in mine.paired] == [
            (p.caption, p.label) for p in theirs.paired
        ]
        for own, other in zip(mine.captioned, theirs.captioned, strict=True):
            assert mine.images.name(own.image) == theirs.images.name(other.image)
            assert mine.tags(own) == theirs.tags(other)
            expected, found = (
                told.images.regions(item.image) for told, item in ((mine, own), (theirs, other))
            )
            assert np.array_equal(expected, found)


def test_captions_of_an_image_may_stand_in_several_lines(tmp_path: Path) -> None:
    rows = [
        {"image": "one", "captions": ["a cat"]},
        {"image": "one", "captions": ["a dog"], "tags": ["dog"]},
        {"image": "one", "captions": ["the cat", "a cat"]},
    ]
    path = folder(tmp_path, line="\n".join(map(json.dumps, rows)))
    assert [item.captions for item in open_tsv(path, VISUAL).train.captioned] == [
        ("a cat", "the cat"), ("a dog",),
    ]  # fmt: skip


def test_regions_and_tags_of_a_line(tmp_path: Path) -> None:
    images = open_tsv(folder(tmp_path), VISUAL).train.images
    assert images.tags(0) == ("cat", "dog")
    assert np.array_equal(images.regions(0), ROWS)


def test_regions_are_read_where_they_lie(tmp_path: Path) -> None:
    many = "\n".join(GOOD.replace("one", f"{n}") for n in range(50)) + "\n" + GOOD
    images = open_tsv(folder(tmp_path, many), VISUAL).train.images
    assert len(images) == 51 and np.array_equal(images.regions(37), ROWS)


@dataclass(frozen=True)
class Bare:
    """Images of which nothing is said: as many as there are regions of."""

    found: tuple[Floats, ...]

    def __len__(self) -> int:
        return len(self.found)

    def name(self, index: int) -> str:
        return f"{index}.png"

    def regions(self, index: int) -> Floats:
        return self.found[index]

    def tags(self, index: int) -> tuple[str, ...]:
        return ("a;b", "c")[: len(self.found[index])]

    def fingerprint(self) -> str:
        return ""


def test_an_image_without_regions_is_written_read_and_masked_out(tmp_path: Path) -> None:
    write_tsv(tmp_path, Told(Bare((ROWS, ROWS[:0]))))
    assert [path.name for path in tmp_path.iterdir()] == ["features.tsv"]
    images = TsvImages(tmp_path / "features.tsv", VISUAL)
    assert images.regions(1).shape == (0, VISUAL)
    assert (images.tags(0), images.tags(1)) == (("a,b", "c"), ())
    for which, seen in (((0, 1), [[1.0] * 3, [0.0] * 3]), ((1,), [[0.0]])):
        part = stack_regions(images, which, 50, hidden=False)
        assert part["regions"].tolist() == seen and not part["visual"][-1].any()


def test_other_regions_have_another_fingerprint(tmp_path: Path) -> None:
    def fingerprint(rows: Floats) -> str:
        write_tsv(tmp_path, Told(Bare((ROWS, rows))))
        return TsvImages(tmp_path / "features.tsv", VISUAL).fingerprint()

    first = fingerprint(ROWS)
    assert first == fingerprint(ROWS) != fingerprint(ROWS + 1) != fingerprint(ROWS[:2])


NAN = base64.b64encode(np.full(VISUAL, np.nan, "<f4").tobytes()).decode()


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ("one\t3", "features.tsv:1 has 2 columns"),
        ("one\tthree\tAAAA", "'three' regions; 0 to 1000"),
        ("one\t0\tAAAA", "0 regions of 7 numbers are 0 characters of base64, not 4"),
        ("one\t1001\tAAAA", "'1001' regions"),
        ("one\t99999999999999\tAAAA", "regions; 0 to 1000"),
        ("one\t-1\tAAAA", "'-1' regions"),
        ("one\t1\tAAAA", "1 regions of 7 numbers are 40 characters of base64, not 4"),
        (f"{GOOD}\n{GOOD}", "features.tsv:2: image 'one' is there twice"),
        ("a\x1bb\t1\tAAAA", "not printable"),
        ("\udcff\t1\tAAAA", "not printable"),
    ],
)
def test_broken_features_are_found_at_once(tmp_path: Path, features: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        open_tsv(folder(tmp_path, features), VISUAL)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("encoded", "says"),
    [("!" * 40, "features.tsv:1 is no base64"), (NAN, "no numbers"), ("=" * 40, "features.tsv:1")],
)
def test_broken_regions_are_found_when_they_are_read(
    tmp_path: Path, encoded: str, says: str
) -> None:
    images = open_tsv(folder(tmp_path, f"one\t1\t{encoded}"), VISUAL).train.images
    with pytest.raises(InputError, match=says):
        images.regions(0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "train.jsonl:1: "),
        ("[]", "no object"),
        ("{}", "has none"),
        ('{"captions": ["a"], "question": "b"}', "one of"),
        ('{"image": "two", "captions": ["a"]}', "image 'two' is not in features.tsv"),
        ('{"captions": ["a"]}', "image is None"),
        ('{"image": true, "captions": ["a"]}', "image is True"),
        ('{"image": "one", "captions": []}', "no captions"),
        ('{"image": "one", "captions": "a cat"}', "captions are a list"),
        ('{"image": "one", "captions": [3]}', "captions is 3, not a text"),
        ('{"image": "one", "captions": ["  "]}', "not a text"),
        ('{"image": "one", "captions": ["a\\u001b[2J"]}', "not printable"),
        ('{"image": "one", "captions": ["a"], "tags": {}}', "tags are a list"),
        ('{"image": "one", "question": "a", "answers": {}}', "answers are an object"),
        ('{"image": "one", "question": "a", "answers": {"b": 0}}', "score of answer 'b' is 0"),
        ('{"image": "one", "question": "a", "answers": {"b": NaN}}', "is nan, not above 0"),
        ('{"image": "one", "question": "a", "answers": {"b": true}}', "is True"),
        (
            '{"image": "one", "question": "a", "answers": {"b": 1' + "0" * 400 + "}}",
            "train.jsonl:1: ",
        ),
        ('{"images": ["one"], "caption": "a", "label": true}', "images are two"),
        ('{"images": ["one", "one"], "caption": "a", "label": 1}', "label is 1, not true"),
        ('{"images": ["one", "one"], "label": true}', "caption is None"),
        ("[" * 100_000, "train.jsonl:1"),
        ('"' + "x" * 2_000_000, "longer than"),
        ("\n\n{", "train.jsonl:3"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("[", r"\[")) as caught:
        open_tsv(folder(tmp_path, line=line), VISUAL)
    assert len(str(caught.value)) < 500


def test_a_line_without_an_end_is_not_read_whole(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="features.tsv:1 is longer than"):
        open_tsv(folder(tmp_path, "x" * 1_000_000), VISUAL)


def test_a_missing_or_empty_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="features.tsv: No such file"):
        open_tsv(tmp_path / "none", VISUAL)
    path = folder(tmp_path / "some")
    (path / "val.jsonl").write_text("")
    with pytest.raises(UsageError, match="val.jsonl is empty"):
        open_tsv(path, VISUAL)
