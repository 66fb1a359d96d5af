"""The three scopes: each is one inference, and what cannot be timed says why."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.bundle import TensorSpec
from edgekit.errors import InputError
from edgekit.profiling.job import Job
from edgekit.profiling.opening import golden_inputs, open_model
from edgekit.profiling.result import SCOPES
from edgekit.profiling.scopes import DRAWN_SIZE, Scopes, draw_image, read_image
from tests.bundle import sample_bundle


@pytest.fixture
def bundle(tmp_path):
    return sample_bundle.write(tmp_path / "tiny")


@pytest.fixture
def model(bundle):
    with open_model(Job("latency", str(bundle), "null", options={"output": "echo"})) as opened:
        yield opened


def test_every_scope_is_one_inference(model, monkeypatch):
    runs = []
    original = model.session._run

    def counted(arrays):
        runs.append(len(arrays))
        return original(arrays)

    monkeypatch.setattr(model.session, "_run", counted)
    scopes = Scopes(model)
    for scope in SCOPES:
        call = scopes.call(scope)
        assert call is not None
        runs.clear()
        call()
        call()
        assert runs == [1, 1]
    assert scopes.problems == {}
    assert scopes.image.startswith("drawn JPEG, 640 x 480, ")


def test_the_engine_and_the_copies_run_on_the_golden_input(model):
    golden = golden_inputs(model)
    outputs: Any = Scopes(model).require("copies")()
    assert outputs["logits"].sum() == pytest.approx(3 * golden["image"].sum())


def test_the_pipeline_ends_in_classes(model, tmp_path):
    photo = tmp_path / "grey.png"
    Image.new("RGB", (20, 10), (128, 128, 128)).save(photo)
    scopes = Scopes(model, str(photo))
    classes: Any = scopes.require("pipeline")()
    assert {name for name, _ in classes} == {"cat", "dog", "bird"}
    assert scopes.image == f"grey.png, 20 x 10, {photo.stat().st_size} bytes"


def test_what_is_no_classifier_ends_in_arrays(tmp_path):
    path = sample_bundle.write(
        tmp_path / "two",
        outputs=(*sample_bundle.OUTPUTS, TensorSpec("more", "float32", (1, 3), "NC")),
        files={"golden.npz": _golden(("logits", "more"))},
    )
    with open_model(Job("latency", str(path), "null")) as opened:
        outputs: Any = Scopes(opened).require("pipeline")()
        assert set(outputs) == {"logits", "more"}


def _golden(outputs):
    from edgekit.bundle import golden_bytes

    return golden_bytes(
        {"image": np.zeros((1, 3, 4, 4), np.float32)},
        {name: np.zeros((1, 3), np.float32) for name in outputs},
    )


def test_a_bundle_without_preprocessing_has_no_pipeline(tmp_path):
    path = sample_bundle.write(tmp_path / "bare", preprocessing=None)
    with open_model(Job("latency", str(path), "null")) as opened:
        scopes = Scopes(opened)
        assert scopes.call("pipeline") is None
        assert "does not say how an image becomes its input" in scopes.problems["pipeline"]
        assert scopes.call("engine") is not None


def test_without_pillow_there_is_no_pipeline(model, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    scopes = Scopes(model)
    assert scopes.call("pipeline") is None
    assert "pip install pillow" in scopes.problems["pipeline"]


def test_the_drawn_image_is_always_the_same_and_no_plain_area():
    data, words = draw_image()
    assert data == draw_image()[0]
    assert words == f"drawn JPEG, 640 x 480, {len(data)} bytes"
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.size) == ("JPEG", DRAWN_SIZE)
    assert 50_000 < len(data) < 200_000  # a photograph of this size: 60 to 150 kB


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "cannot read image .*: No such file"), (b"not an image", "x.jpg' is not an image")],
)
def test_a_bad_image_is_said(tmp_path, content, problem):
    path = tmp_path / "x.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=problem):
        read_image(str(path))


def test_an_image_that_is_a_folder_or_huge_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="Is a directory"):
        read_image(str(tmp_path))
    monkeypatch.setattr("edgekit.profiling.scopes.MAX_IMAGE_BYTES", 3)
    (tmp_path / "big.jpg").write_bytes(b"12345")
    with pytest.raises(InputError, match="larger than"):
        read_image(str(tmp_path / "big.jpg"))


def test_a_model_whose_output_is_broken_keeps_the_other_scopes(model, monkeypatch):
    broken = {"logits": np.full((1, 3), np.nan, np.float32)}
    monkeypatch.setattr(model.session, "_run", lambda arrays: broken)
    scopes = Scopes(model)
    assert scopes.call("pipeline") is None
    assert "NaN or Inf" in scopes.problems["pipeline"]
    assert scopes.call("engine") is not None
