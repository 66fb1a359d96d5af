"""The small network that lies in examples/, from its weights to answers about scenes it never saw.

It was trained for it (docs/vision-language.md), so that whatever goes wrong between the detector's
weights and the bundle's answer costs it answers.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edgekit
from edgekit.cli import main
from edgekit.export.vision_language import VlmExport, export_vlm
from edgekit.training.data import scenes
from edgekit.training.data.scenes import HELD_OUT_FROM, draw_scene, scene
from edgekit.training.vision_language.accuracy import Wanted, evaluate_vlm
from tests.training.vision_language.oracle import folder

pytest.importorskip("tokenizers")
WEIGHTS = Path(__file__).parents[2] / "examples" / "scenes-vlm"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> VlmExport:
    out = tmp_path_factory.mktemp("scenes") / "bundle"
    return export_vlm("minivlm-tiny", "x86", weights=str(WEIGHTS), skip=["openvino"], out=out)


def test_its_regions_are_steady_and_the_same(exported: VlmExport) -> None:
    (found,) = exported.assembly.agreement.values()
    assert found.count == 5 * 10 and found.regions == 1.0 and found.steady > 0.5
    assert found.captions == found.answers == 5


def test_it_answers_about_scenes_that_it_never_saw(
    exported: VlmExport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scenes, "HELD_OUT", 40)
    line = ["evaluate", str(exported.path), "--weights", str(WEIGHTS), "--data", "scenes:200"]
    assert main([*line, "--candidates", "10", "--json"]) == 0
    torch, runtime = json.loads(capsys.readouterr().out)["accuracy"]
    assert torch["figures"]["mAP50"] > 0.8 and runtime["runtime"] == "onnxruntime"
    assert runtime["items"] == {"questions": 320, "captions": 40, "candidates": 10}
    assert runtime["agreement"] == {"answers": 1.0, "captions": 1.0}
    said = runtime["figures"]
    assert said["vqa"] > 0.7 > 0.2 > said["vqa_chance"]
    assert said["caption_cider"] > 6 and said["image_to_text"] >= 0.8
    for name, figure in said.items():
        assert figure == pytest.approx(torch["figures"][name]), name


def test_regions_of_files_are_read_alike(exported: VlmExport, tmp_path: Path) -> None:
    """Whoever found them, and whatever they are."""
    data, _ = folder(tmp_path, 4, 6)
    wanted = Wanted(data, candidates=4)
    torch, runtime = evaluate_vlm(exported.path, wanted, weights=WEIGHTS)
    assert runtime.agreement == {"answers": 1.0, "captions": 1.0}
    assert runtime.items == {"questions": 48, "captions": 6, "candidates": 4}
    assert runtime.figures == pytest.approx({key: torch.figures[key] for key in runtime.figures})


def test_a_caption_says_what_is_there(exported: VlmExport) -> None:
    number = next(n for n in range(HELD_OUT_FROM, HELD_OUT_FROM + 50) if len(scene(n).things) == 1)
    (thing,) = scene(number).things
    with edgekit.load(exported.path) as vlm:
        seen = vlm.look(draw_scene(scene(number)))
        assert thing.shape in seen.tags
        assert thing.colour in vlm.caption(seen) and thing.shape in vlm.caption(seen)
        right, wrong = vlm.match(seen, [vlm.caption(seen), "a small black cross"])
        assert right > 0.5 > wrong
        assert vlm.warnings == ()
