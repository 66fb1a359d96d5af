"""The class names that ship with edgekit: everybody's order of ImageNet-1k."""

from pathlib import Path

import pytest

NAMES = (
    (Path(__file__).resolve().parents[2] / "edgekit" / "models" / "data" / "imagenet-1k.txt")
    .read_text(encoding="ascii")
    .split("\n")
)


def test_a_thousand_names_and_a_last_newline():
    assert len(NAMES) == 1001
    assert NAMES[-1] == ""


def test_no_two_classes_share_a_name():
    assert len(set(NAMES)) == len(NAMES)
    assert all(name == name.strip() for name in NAMES)


@pytest.mark.parametrize(
    ("index", "name"),
    [
        (0, "tench"),
        (1, "goldfish"),
        (134, "crane (bird)"),
        (207, "golden retriever"),
        (281, "tabby"),
        (285, "Egyptian cat"),
        (340, "zebra"),
        (407, "ambulance"),
        (517, "crane (machine)"),
        (637, "mailbox"),
        (805, "soccer ball"),
        (920, "traffic light"),
        (954, "banana"),
        (999, "toilet tissue"),
    ],
)
def test_anchors(index, name):
    assert NAMES[index] == name
