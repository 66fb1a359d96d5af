"""``edgekit run``: images and tensors in, classes and figures out."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.cli import main

PHOTO = Path(__file__).resolve().parents[2] / "examples" / "photo.jpg"


@pytest.fixture
def tensor(tmp_path):
    path = tmp_path / "input.npy"
    np.save(path, np.random.default_rng(1).normal(size=(1, 3, 32, 32)).astype(np.float32))
    return path


def shown(capsys, *arguments):
    assert main(["run", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def failure(capsys, *arguments, code=1):
    assert main(["run", *map(str, arguments)]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


def test_a_photograph_has_classes(bundle, capsys):
    lines = shown(capsys, bundle, PHOTO, "--top", "3").splitlines()
    assert lines[0].split() == ["score", "class"]
    assert [line.split()[1] in ("cat", "dog", "neither", "both") for line in lines[1:4]] == [
        True
    ] * 3
    assert lines[4] == ""
    assert lines[5].startswith("runtime openvino, threads 1")
    assert (
        lines[-1] == f'next: in Python: import edgekit; edgekit.load("{bundle}").predict("{PHOTO}")'
    )


def test_every_runtime_says_the_same(bundle, capsys):
    documents = [
        json.loads(shown(capsys, bundle, PHOTO, "--runtime", runtime, "--json"))
        for runtime in ("openvino", "onnxruntime")
    ]
    labels = [[row["label"] for row in document["classes"]] for document in documents]
    assert labels[0] == labels[1]
    assert [document["engine"]["runtime"] for document in documents] == ["openvino", "onnxruntime"]
    assert sum(row["score"] for row in documents[0]["classes"]) == pytest.approx(1)


def test_tensors_are_fed_as_they_are(bundle, tensor, tmp_path, capsys):
    out = tmp_path / "outputs.npz"
    document = json.loads(shown(capsys, bundle, tensor, "--save", out, "--json"))
    with np.load(out) as saved:
        logits = saved["logits"]
    summary = document["outputs"]["logits"]
    assert summary["shape"] == [1, 4]
    assert summary["min"] == pytest.approx(logits.min())
    assert summary["mean"] == pytest.approx(logits.mean())
    assert summary["not_finite"] == 0
    assert document["saved"] == str(out)
    umask = os.umask(0o022)
    os.umask(umask)
    assert out.stat().st_mode & 0o777 == 0o666 & ~umask


def test_the_archive_that_was_saved_goes_in_again_by_name(bundle, tensor, tmp_path, capsys):
    archive = tmp_path / "in.npz"
    np.savez(archive, image=np.load(tensor))
    first = json.loads(shown(capsys, bundle, tensor, "--json"))["outputs"]
    assert json.loads(shown(capsys, bundle, archive, "--json"))["outputs"] == first


def test_a_summary_for_people(bundle, tensor, capsys):
    lines = shown(capsys, bundle, tensor).splitlines()
    (row,) = [line for line in lines if line.startswith("logits")]
    assert row.split()[1:5] == ["float32", "1", "x", "4"]
    assert lines[-1].endswith(f'edgekit.load("{bundle}").run({{"image": array}})')


def test_nothing_is_overwritten_without_force(bundle, tensor, tmp_path, capsys):
    out = tmp_path / "outputs.npz"
    out.write_bytes(b"mine")
    assert "--force" in failure(capsys, bundle, tensor, "--save", out)
    assert out.read_bytes() == b"mine"
    shown(capsys, bundle, tensor, "--save", out, "--force")
    assert np.load(out)["logits"].shape == (1, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["input.npy", "outputs.npz"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.npy", None, "No such file"),
        ("none.jpg", None, "no image at"),
        ("text.jpg", b"not an image", "is not an image"),
        ("text.npy", b"not an array", "is no .npy or .npz of plain arrays"),
        ("text.npz", b"PK\x03\x04 not an archive", "is no .npy or .npz of plain arrays"),
        ("empty.npy", b"", "is no .npy or .npz of plain arrays"),
    ],
)
def test_inputs_that_are_none(name, content, says, bundle, tmp_path, capsys):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert says in failure(capsys, bundle, path)


def test_arrays_with_code_in_them_are_refused(bundle, tmp_path, capsys):
    path = tmp_path / "objects.npy"
    np.save(path, np.array([print], dtype=object), allow_pickle=True)
    assert "allow_pickle=False" in failure(capsys, bundle, path)


def test_a_header_that_lies_about_the_size(bundle, tmp_path, capsys):
    path = tmp_path / "vast.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (1, 3, 1 << 40)}
        np.lib.format.write_array_header_1_0(file, header)
    assert "is no .npy or .npz of plain arrays" in failure(capsys, bundle, path)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((3, 32, 32), np.float32), "add the batch axis with [None]"),
        (np.zeros((1, 3, 32, 32)), 'convert it with .astype("float32")'),
        (np.full((1, 3, 32, 32), np.nan, np.float32), "3072 NaN or Inf"),
    ],
)
def test_tensors_that_do_not_fit(array, says, bundle, tmp_path, capsys):
    path = tmp_path / "input.npy"
    np.save(path, array)
    assert says in failure(capsys, bundle, path)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--runtime", "litert"], 2, "it has: openvino, onnxruntime"),
        (["--runtime", "onnxrt"], 2, "did you mean onnxruntime?"),
        (["--save", "outputs.txt"], 2, "tensors are saved as .npz"),
    ],
)
def test_lines_that_are_wrong(arguments, code, says, bundle, capsys):
    assert says in failure(capsys, bundle, PHOTO, *arguments, code=code)


@pytest.mark.parametrize("option", ["--top", "--threads"])
def test_numbers_that_are_none(option, bundle, capsys):
    assert "'0' is not a positive" in failure(capsys, bundle, PHOTO, option, "0", code=2)


def test_a_bundle_that_is_none(tmp_path, capsys):
    assert "nothing-here" in failure(capsys, tmp_path / "nothing-here", PHOTO)


def test_a_changed_byte_is_found_before_a_runtime_sees_it(bundle, tmp_path, capsys):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    weights = copy / "model.bin"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert "model.bin" in failure(capsys, copy, PHOTO)


def test_a_bare_model_file_runs_too(onnx_file, tensor, bundle, capsys):
    bare = json.loads(shown(capsys, onnx_file, tensor, "--json"))
    ours = json.loads(shown(capsys, bundle, tensor, "--json", "--runtime", "onnxruntime"))
    assert bare["outputs"]["logits"]["max"] == pytest.approx(
        ours["outputs"]["logits"]["max"], rel=1e-5
    )
    assert bare["classes"] == []


def test_an_image_for_a_model_that_takes_none(onnx_file, capsys):
    assert "does not say how an image becomes its input" in failure(
        capsys, onnx_file, PHOTO, code=2
    )


def test_transparent_and_palette_images_are_images(bundle, tmp_path, capsys):
    path = tmp_path / "clear.png"
    Image.new("RGBA", (40, 50), (255, 0, 0, 0)).save(path)
    assert "class" in shown(capsys, bundle, path)
