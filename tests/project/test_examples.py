"""The examples run as written."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.profiling.budget import read_budget
from edgekit.profiling.result import VERDICTS
from edgekit.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]


def python(*arguments, cwd):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle") / "m0-x86"
    line = ["export", "micronet-m0", "--target", "x86", "--weights", "random", "--skip", "openvino"]
    python("-m", "edgekit", *line, "-o", out, cwd=ROOT)
    return out


def test_embed(bundle):
    photo = ROOT / "examples" / "photo.jpg"
    lines = python(ROOT / "examples" / "embed.py", bundle, photo, cwd=ROOT).splitlines()
    assert len(lines) == 5
    scores = [float(line.split()[0]) for line in lines]
    assert scores == sorted(scores, reverse=True)


def test_measure(bundle):
    lines = python(ROOT / "examples" / "measure.py", bundle, "onnxruntime", cwd=ROOT).splitlines()
    assert lines[0].startswith("onnxruntime: p50 ")
    assert any(verdict in lines[0] for verdict in VERDICTS)


@pytest.mark.parametrize("target", [name for name, row in TARGETS.items() if not row.refused])
def test_the_budget_is_one_for_every_target(target):
    budget = read_budget(ROOT / "examples" / "budget.toml", target)
    keys = set(budget.limits)
    assert {"max_mmadds", "max_params", "max_size_kb", "max_relative_error"} <= keys
    assert ("p90_ms" in keys) == (target == "x86")


def test_own_model(tmp_path):
    shown = python(ROOT / "examples" / "own_model.py", tmp_path / "own", cwd=ROOT)
    assert shown.startswith("litert {'logits': ")
    assert "onnxruntime" in shown
    assert (tmp_path / "own" / "model.tflite").is_file()


def test_extract_regions(tmp_path):
    """Images of two folders; then a score that no region has, and weights without a detector."""
    from PIL import Image

    from edgekit.models.minivlm.network import VlmFacts, fitted, fresh_vlm, save_vlm
    from edgekit.models.minivlm.specs import get_vlm
    from edgekit.training.vision_language.tsv import TsvImages

    script, row = ROOT / "examples" / "extract_regions.py", get_vlm("minivlm-tiny")
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    (tmp_path / "photos" / "a.txt").write_text("no image")
    Image.open(ROOT / "examples" / "photo.jpg").save(tmp_path / "photos" / "deep" / "cat.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "photos" / "b.png")
    for name, objects in (("blind", ()), ("sees", ("cat", "dog"))):
        facts = VlmFacts(row.id, ("detect",) if objects else ("caption",), (), objects)
        module = fresh_vlm(fitted(row, facts), facts, 0)
        save_vlm(module, facts, tmp_path / f"{name}.safetensors")
    out = tmp_path / "data"
    line = [script, tmp_path / "sees.safetensors", tmp_path / "photos", out]
    assert python(*line, cwd=ROOT).startswith("2 images, regions of ")
    assert [path.name for path in out.iterdir()] == ["features.tsv"]
    images = TsvImages(out / "features.tsv", row.tee.visual)
    assert images.names == ("b.png", "deep/cat.png")
    assert 0 < len(images.regions(1)) <= row.tee.regions
    assert {*images.tags(1)} <= {"cat", "dog"}
    python(*line, "--min-score", "1", cwd=ROOT)
    assert len(TsvImages(out / "features.tsv", row.tee.visual).regions(1)) == 0
    line[1] = tmp_path / "blind.safetensors"
    done = subprocess.run([sys.executable, *map(str, line)], capture_output=True, text=True)
    assert done.returncode == 2 and "its detector was never trained" in done.stderr


def test_the_demo_types_commands_that_parse():
    from edgekit.cli import _parser
    from edgekit.models.zoo import VARIANTS
    from examples import demo

    assert demo.MODEL in VARIANTS
    assert set(demo.TARGETS) <= set(TARGETS)
    lines = [demo.train(), demo.profile(), ("report", "a.json", "-o", "r.html", "--force")]
    for target in demo.TARGETS:
        lines += [demo.export(target), demo.evaluate(target)]
        assert _parser("export").parse_args(demo.export(target)).target == target
    for verb, *rest in lines:
        _parser(verb).parse_args([verb, *rest])
