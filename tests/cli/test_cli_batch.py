"""``--batch``: from the typed line to bundles, and what the other commands say of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import open_bundle
from edgekit.cli import main
from tests.export import batch_nets

PHOTO = Path(__file__).resolve().parents[2] / "examples" / "photo.jpg"
SIDE = batch_nets.SIZE


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Bundles of a small network, by what was typed behind ``--batch``."""
    folder = tmp_path_factory.mktemp("batches")
    with pytest.MonkeyPatch.context() as patch:
        batch_nets.install_gated(patch)
        for batch in ("3", "dynamic"):
            line = ["export", batch_nets.MODEL, "--target", "x86", "--skip", "openvino", "-q"]
            assert main([*line, "--batch", batch, "-o", str(folder / batch)]) == 0
    return {batch: folder / batch for batch in ("3", "dynamic")}


@pytest.fixture
def three(tmp_path):
    path = tmp_path / "three.npy"
    np.save(path, np.random.default_rng(0).normal(size=(3, 3, SIDE, SIDE)).astype(np.float32))
    return path


def shown(capsys, *arguments):
    capsys.readouterr()
    assert main([str(word) for word in arguments]) == 0
    return capsys.readouterr().out


def failure(capsys, *arguments, code):
    capsys.readouterr()
    assert main([str(word) for word in arguments]) == code
    errors = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("edgekit: error: ")
    ]
    assert len(errors) == 1
    return errors[0]


@pytest.mark.parametrize(("batch", "size"), [("3", 3), ("dynamic", -1)])
def test_the_manifest_has_the_batch(bundles, batch, size):
    with open_bundle(bundles[batch]) as bundle:
        assert bundle.manifest.inputs[0].shape == (size, 3, SIDE, SIDE)
        assert bundle.manifest.outputs[0].shape == (size, batch_nets.CLASSES)


@pytest.mark.parametrize(("batch", "then"), [("3", "input.npy"), ("dynamic", "photo.jpg")])
def test_what_is_printed(batch, then, tmp_path, capsys, monkeypatch):
    batch_nets.install_gated(monkeypatch)
    line = ["export", batch_nets.MODEL, "--target", "x86", "--skip", "openvino", "--batch", batch]
    printed = shown(capsys, *line, "-o", tmp_path / "made")
    assert printed.splitlines()[-1] == f"next: edgekit run {tmp_path / 'made'} {then}"
    of_one = "its graph does" in printed and "MACs an image" not in printed
    assert not of_one or batch == "dynamic"


@pytest.mark.parametrize("batch", ["3", "dynamic"])
def test_three_images_have_their_classes_each(batch, bundles, three, capsys):
    document = json.loads(shown(capsys, "run", bundles[batch], three, "--top", "2", "--json"))
    assert [row["image"] for row in document["classes"]] == [0, 0, 1, 1, 2, 2]
    assert document["outputs"]["logits"]["shape"] == [3, batch_nets.CLASSES]
    lines = shown(capsys, "run", bundles[batch], three, "--top", "1").splitlines()
    assert lines[0].split() == ["image", "score", "class"]
    assert [line.split()[0] for line in lines[1:4]] == ["0", "1", "2"]


def test_images_of_a_batch_have_the_classes_that_they_have_alone(bundles, three, tmp_path, capsys):
    images = np.load(three)
    together = json.loads(shown(capsys, "run", bundles["dynamic"], three, "--json"))["classes"]
    for number in range(3):
        np.save(tmp_path / "one.npy", images[number : number + 1])
        alone = shown(capsys, "run", bundles["dynamic"], tmp_path / "one.npy", "--json")
        of_it = [row for row in together if row.pop("image", number) == number][:5]
        for row, wanted in zip(of_it, json.loads(alone)["classes"], strict=True):
            assert row["label"] == wanted["label"]
            assert row["score"] == pytest.approx(wanted["score"], rel=1e-5)
        together = together[5:]


def test_a_photograph_is_a_batch_of_one(bundles, capsys):
    lines = shown(capsys, "run", bundles["dynamic"], PHOTO).splitlines()
    assert lines[0].split() == ["score", "class"]
    says = failure(capsys, "run", bundles["3"], PHOTO, code=1)
    assert "give 3 at once; another number is another edgekit export --batch" in says


def test_counts_say_what_they_are_of(bundles, capsys):
    printed = shown(capsys, "count", bundles["3"])
    assert f"image 3 x 3 x {SIDE} x {SIDE}" in printed
    assert "as defined is one image, and the artifacts' graphs are of 3 at once" in printed
    printed = shown(capsys, "count", bundles["dynamic"])
    assert f"image any x 3 x {SIDE} x {SIDE}" in printed
    assert "the batch is free, and one image is counted" in printed
    documents = [
        json.loads(shown(capsys, "count", bundles[batch], "--json")) for batch in ("3", "dynamic")
    ]
    assert documents[0]["macs"] == documents[1]["macs"]
    three, one = (document["artifacts"]["onnxruntime"]["macs"] for document in documents)
    assert three == 3 * one


@pytest.mark.parametrize(
    ("typed", "code", "says"),
    [
        ("micronet-m1 --target x86 --batch 0", 2, "'0' is no batch: give a positive whole number"),
        ("micronet-m1 --target x86 --batch all", 2, "'all' is no batch"),
        ("micronet-m1 --target x86 --batch 999", 2, "batch is 999; 1 to 128 images"),
        ("micronet-m1 --target arm --batch dynamic", 2, "--batch 4 (batch=4), or --skip litert"),
        ("micronet-m1 --target jetson --batch dynamic", 2, "which leaves onnxruntime"),
        ("missing.onnx --target x86 --batch 2", 2, "--batch is for a network of the zoo"),
        ("missing.onnx --target x86 --batch dynamic", 2, "--batch is for a network of the zoo"),
    ],
)
def test_lines_that_are_wrong(typed, code, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in failure(capsys, "export", *typed.split(), code=code)
    assert list(tmp_path.iterdir()) == []
