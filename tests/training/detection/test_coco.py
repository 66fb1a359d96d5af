"""Files in COCO's format, good ones and hostile ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.errors import InputError, UnknownNameError, UsageError
from edgekit.training.detection.runs import open_boxes

Content = dict[str, Any]


def content() -> Content:
    return {
        "images": [
            {"id": 7, "file_name": "b.png", "width": 40, "height": 30},
            {"id": 3, "file_name": "deep/a.png"},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "cat"}],
        "attributes": [{"id": 5, "name": "brown"}, {"id": 1, "name": "small"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 2.5, 10, 20],
             "attributes": [5, "small"]},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [30, 20, 15, 15]},
            {"id": 3, "image_id": 7, "category_id": 2, "bbox": [0, 0, 9, 9], "iscrowd": 1},
            {"id": 4, "image_id": 7, "category_id": 2, "bbox": [5, 5, 0, 3]},
        ],
    }  # fmt: skip


def write(root: Path, train: Any = None, val: Any = None) -> Path:
    (root / "images/deep").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), "red").save(root / "images/b.png")
    Image.new("RGB", (16, 16), "blue").save(root / "images/deep/a.png")
    for name, what in (("train", train), ("val", val)):
        text = what if isinstance(what, str) else json.dumps(what or content())
        (root / f"{name}.json").write_text(text)
    return root


def test_boxes_classes_and_attributes(tmp_path: Path) -> None:
    splits = open_boxes(f"coco:{write(tmp_path)}")
    source = splits.train
    assert source.objects == ("cat", "dog") and source.attributes == ("small", "brown")
    assert [source.name(n) for n in range(len(source))] == ["deep/a.png", "b.png"]
    image, found = source.read(1)
    assert image.size == (40, 30)
    assert found.boxes.tolist() == [[1, 2.5, 11, 22.5], [30, 20, 40, 30]], "cut at the edge"
    assert found.classes.tolist() == [2, 1]
    assert [set(row) - {-1} for row in found.attributes.tolist()] == [{0, 1}, set()]
    assert splits.notes[0] == "train.json: 1 of 4 boxes have no area and are left out"


def test_an_image_without_boxes_is_kept(tmp_path: Path) -> None:
    source = open_boxes(f"coco:{write(tmp_path)}").train
    image, found = source.read(0)
    assert image.size == (16, 16) and len(found) == 0
    assert (found.boxes.shape, found.attributes.shape) == ((0, 4), (0, 16))


def test_without_a_table_attributes_are_the_names_of_the_training_split(tmp_path: Path) -> None:
    train, val = content(), content()
    del train["attributes"], val["attributes"]
    train["annotations"][0]["attributes"] = ["red", "big"]
    val["annotations"][0]["attributes"] = ["red"]
    splits = open_boxes(f"coco:{write(tmp_path, train, val)}")
    assert splits.train.attributes == splits.held_out.attributes == ("big", "red")
    assert splits.held_out.read(1)[1].attributes[0, 0] == 1


def test_ids_of_attributes_are_those_of_the_files_own_table(tmp_path: Path) -> None:
    val = content()
    val["attributes"] = [{"id": 5, "name": "small"}, {"id": 9, "name": "brown"}]
    val["annotations"][0]["attributes"] = [5]
    val["annotations"][1]["attributes"] = [9]
    splits = open_boxes(f"coco:{write(tmp_path, val=val)}")
    assert splits.held_out.attributes == splits.train.attributes == ("small", "brown")
    assert splits.held_out.read(1)[1].attributes[:, 0].tolist() == [0, 1]
    val["annotations"][0]["attributes"] = [1]  # of the other file
    with pytest.raises(UsageError, match="val.json: annotation 1 has the attribute 1, which is"):
        open_boxes(f"coco:{write(tmp_path, val=val)}")
    del val["attributes"]
    splits = open_boxes(f"coco:{write(tmp_path, content(), {**val, 'annotations': []})}")
    assert splits.held_out.attributes == ("small", "brown")


def test_without_a_table_there_are_no_ids(tmp_path: Path) -> None:
    train = content()
    del train["attributes"]
    train["annotations"][0]["attributes"] = ["red", 0]
    with pytest.raises(UsageError, match="has the attribute 0, which is not in the file"):
        open_boxes(f"coco:{write(tmp_path, train)}")


def test_data_without_attributes_have_none(tmp_path: Path) -> None:
    train = content()
    del train["attributes"], train["annotations"][0]["attributes"]
    assert open_boxes(f"coco:{write(tmp_path, train, train)}").train.attributes == ()


def test_what_is_said_of_an_image_is_part_of_the_run(tmp_path: Path) -> None:
    first = open_boxes(f"coco:{write(tmp_path)}").train.annotated(1)
    other = content()
    other["annotations"][0]["bbox"] = [1, 2, 10, 20]
    assert open_boxes(f"coco:{write(tmp_path, other, other)}").train.annotated(1) != first


def test_an_image_of_another_size_than_was_annotated(tmp_path: Path) -> None:
    source = open_boxes(f"coco:{write(tmp_path)}").train
    Image.new("RGB", (30, 40)).save(tmp_path / "images/b.png")
    with pytest.raises(InputError, match="has 30 x 40 pixels, its annotation says 40 x 30"):
        source.read(1)


def test_boxes_of_an_image_whose_size_nobody_said_end_where_it_does(tmp_path: Path) -> None:
    train = content()
    train["annotations"][0]["image_id"] = 3
    train["annotations"][1] |= {"image_id": 3, "bbox": [20, 0, 5, 5]}
    _, found = open_boxes(f"coco:{write(tmp_path, train)}").train.read(0)
    assert found.boxes.tolist() == [[1, 2.5, 11, 16]], "the other is outside"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no train.json there; a data set has"):
        open_boxes(f"coco:{tmp_path}")
    write(tmp_path)
    (tmp_path / "images/b.png").unlink()
    with pytest.raises(InputError, match="no image at"):
        open_boxes(f"coco:{tmp_path}").train.read(1)
    with pytest.raises(UsageError, match="needs its folder: coco:FOLDER"):
        open_boxes("coco")
    with pytest.raises(UnknownNameError, match="A folder is coco:FOLDER"):
        open_boxes("somewhere/else")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is not JSON"),
        ("\0\0", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "an object is needed, not a list"),
        ("{}", "'annotations' must be a list of objects"),
        ('{"annotations": [1]}', "'annotations' must be a list of objects"),
        ('{"annotations": [], "images": []}', "no images"),
        ('{"annotations": [], "images": [{"id": 1, "file_name": "a"}], "categories": []}',
         "no categories"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_annotation(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        open_boxes(f"coco:{write(tmp_path, text)}")
    assert "train.json" in str(caught.value) and len(str(caught.value)) < 500


def box(value: Any) -> Callable[[Content], Any]:
    return lambda all_: all_["annotations"][0].update(bbox=value)


def image(**facts: Any) -> Callable[[Content], Any]:
    return lambda all_: all_["images"][0].update(facts)


def annotation(**facts: Any) -> Callable[[Content], Any]:
    return lambda all_: all_["annotations"][0].update(facts)


BROKEN: list[tuple[Callable[[Content], Any], str]] = [
    (box([1, 2, float("nan"), 3]), "annotation 1 has the bbox .*, which is not four numbers"),
    (box([1, 2, float("inf"), 3]), "which is not four numbers"),
    (box([1, 2, 3]), "which is not four numbers"),
    (box("1234"), "which is not four numbers"),
    (box([1, 2, "3", 4]), "which is not four numbers"),
    (box([True, 2, 3, 4]), "which is not four numbers"),
    (box([1, 2, 10**400, 4]), "which is not four numbers"),
    (box(None), "has the bbox None, which is not four numbers"),
    (box([1, 2, -3, 4]), "with a side below zero"),
    (box([40, 2, 3, 4]), "which is outside its image of 40 x 30 pixels"),
    (box([-9, 2, 3, 4]), "which is outside its image"),
    (image(file_name="."), "has the file_name '.', which is a folder"),
    (image(file_name="deep/"), "which is a folder"),
    (annotation(category_id=99), "annotation 1 is of category 99, which is not in the file"),
    (annotation(category_id=None), "is of category None"),
    (annotation(category_id=[]), "is of category"),
    (annotation(image_id=99), "is of image 99, which is not in the file"),
    (annotation(attributes=[99]), "has the attribute 99, which is not in the file"),
    (annotation(attributes=["red"]), "has the attribute 'red', which is not in the file"),
    (annotation(attributes=[[]]), "neither id nor name"),
    (annotation(attributes="small"), "attributes that are no list"),
    (annotation(attributes=3), "attributes that are no list"),
    (image(file_name="../a.png"), "image 1 of the list is '../a.png', which leaves the folder"),
    (image(file_name="/etc/passwd"), "which leaves the folder images"),
    (image(file_name="deep/../../a.png"), "which leaves the folder images"),
    (image(file_name="..\\a.png"), "which leaves the folder images"),
    (image(file_name="C:\\a.png"), "which leaves the folder images"),
    (image(file_name=""), "which is none"),
    (image(file_name="a\0.png"), "which is none"),
    (image(file_name="a\x1b[2J.png"), "which is none"),
    (image(file_name="a\nb.png"), "which is none"),
    (image(file_name=3), "which is none"),
    (image(width=10**9), r"1000000000 x 30 pixels; 1 to 65,535 a side"),
    (image(width=0), "0 x 30 pixels"),
    (image(width=None), "None x 30 pixels"),
    (image(width="40"), "'40' x 30 pixels"),
    (image(id=3), "has the id 3, and so has another one"),
    (image(id="x"), "has the id 'x', which is no integer"),
    (lambda all_: all_["categories"][0].update(name="cat"), "two of categories have the same name"),
    (lambda all_: all_["categories"][0].update(name="a\x1b[2J"), "which is none"),
    (lambda all_: all_["categories"][0].update(name="a" * 9999), "a name of 9,999 characters"),
    (lambda all_: all_.update(attributes={"a": 1}), "'attributes' must be a list of objects"),
]


@pytest.mark.parametrize(("broken", "match"), BROKEN)
def test_what_cannot_be_is_named(
    tmp_path: Path, broken: Callable[[Content], Any], match: str
) -> None:
    wrong = content()
    broken(wrong)
    with pytest.raises(UsageError, match=match) as caught:
        open_boxes(f"coco:{write(tmp_path, wrong)}")
    assert len(str(caught.value).removeprefix(f"coco:{tmp_path}")) < 200


def test_splits_must_have_the_same_names(tmp_path: Path) -> None:
    other = content()
    other["categories"][0]["name"] = "wolf"
    with pytest.raises(UsageError, match="val.json: its categories are not those of train.json"):
        open_boxes(f"coco:{write(tmp_path, val=other)}")
    other = content()
    other["attributes"][0]["name"] = "blue"
    with pytest.raises(UsageError, match="the attribute 'blue' is not in train.json"):
        open_boxes(f"coco:{write(tmp_path, val=other)}")


@pytest.mark.parametrize("place", ["0", "1", "x", "-5", "1e3", "99999999999", "²"])
def test_a_count_of_scenes_that_is_none(place: str) -> None:
    with pytest.raises(UsageError, match="write scenes:COUNT, with 2 to 1,000,000 scenes"):
        open_boxes(f"scenes:{place}")


def test_scenes_that_are_held_out_are_not_trained_on() -> None:
    splits = open_boxes("scenes:50")
    assert (len(splits.train), len(splits.held_out)) == (50, 200)
    assert len(open_boxes("scenes").train) == 2000
    assert splits.train.objects == ("circle", "square", "triangle", "cross")
    image, found = splits.held_out.read(0)
    assert image.size == (128, 128) and len(found) >= 1
    assert not np.array_equal(found.boxes, splits.train.read(0)[1].boxes)
    assert splits.held_out.name(0) == "scene 1000000"
