"""MiniVLM's main path: one export, and everything that is promised of its bundle."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import edgekit
from edgekit.bundle import PARITY_TOLERANCE, open_bundle
from edgekit.bundle.assembly import open_assembly
from edgekit.cli import main
from edgekit.errors import (
    BundleError,
    CheckpointError,
    ParityError,
    UnknownNameError,
    UsageError,
)
from edgekit.export.vision_language import VlmExport, export_vlm, settings_of
from edgekit.export.vision_language.agreement import compare, drawn_images, tell_all
from edgekit.export.vision_language.graphs import graphs_of
from edgekit.export.vision_language.vocabulary import placeholder_vocabulary
from edgekit.export.vision_language.whole import Whole
from edgekit.models.minivlm.network import (
    VlmFacts,
    create_vlm,
    fitted,
    fresh_vlm,
    random_vlm,
    save_vlm,
)
from edgekit.models.minivlm.specs import get_vlm
from edgekit.profiling.stages_file import read_stages
from edgekit.runtimes.vision_language.loaded import LoadedVlm, load_vlm
from edgekit.runtimes.vision_language.model import Seen
from edgekit.runtimes.vision_language.text import Vocabulary
from edgekit.training.vision_language import talk
from edgekit.training.vision_language.accuracy import Wanted, evaluate_vlm
from tests.training.vision_language.oracle import folder

pytest.importorskip("tokenizers")
MODEL = "minivlm-tiny"
TOLERANCE = PARITY_TOLERANCE["fp32"]
GRAPHS = {"detector", "box-head", "fusion-16", "fusion-32", "context", "step"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> VlmExport:
    """LiteRT's and ONNX Runtime's files; OpenVINO's in a test of the zoo."""
    return export_vlm(MODEL, "arm", out=tmp_path_factory.mktemp("vlm") / "tiny")


@pytest.fixture(scope="module")
def whole() -> Whole:
    """The same network in torch."""
    created = random_vlm(get_vlm(MODEL), 0)
    words = placeholder_vocabulary(created.spec.fusion.vocabulary)
    return Whole(created, words, settings_of(created), TOLERANCE)


@pytest.fixture
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)


def test_the_whole_is_torchs(exported: VlmExport) -> None:
    assert set(exported.assembly.agreement) == {"litert", "onnxruntime"}
    for found in exported.assembly.agreement.values():
        assert found.regions == 1 and found.steady > 0.9 and found.features < 2e-4
        assert found.captions == found.answers == found.images == 5
    assert any("RANDOM" in warning for warning in exported.warnings)


def test_each_graph_is_a_bundle(exported: VlmExport) -> None:
    with open_assembly(exported.path) as bundle:
        assert set(bundle.parts) == GRAPHS
        for part in bundle.parts.values():
            for artifact in part.manifest.artifacts:
                assert artifact.parity is not None and artifact.parity.inputs == 5
        macs = {name: part.manifest.model.macs for name, part in bundle.parts.items()}
        row = get_vlm(MODEL)
        assert macs["detector"] + macs["box-head"] == row.counts.tee_macs
    with open_bundle(exported.path / "step") as step:
        assert step.manifest.batch == 1


def test_greedy_captions_are_torchs_in_every_runtime(exported: VlmExport, whole: Whole) -> None:
    """From the image to the last token, with regions of its own each."""
    wanted = [whole.model.caption_tokens(each) for each in drawn_images()]
    assert any(wanted)
    for runtime in ("litert", "onnxruntime"):
        with load_vlm(exported.path, runtime) as model:
            assert [model.caption_tokens(each) for each in drawn_images()] == wanted, runtime


def test_the_interface_of_an_app(exported: VlmExport, image: NDArray[np.uint8]) -> None:
    with edgekit.load(exported.path) as model:
        assert isinstance(model, LoadedVlm) and model.runtime == "litert"
        assert "random weights" in model.warnings[0]
        seen = model.look(image)
        assert seen.count > 0
        assert model.ask(seen, "what is this").startswith("answer ")
        assert model.ask(image, "what is this") == model.ask(seen, "what is this")
        assert isinstance(model.caption(seen), str)
        assert len(model.match(seen, ["a", "b"])) == 2


def all_of(seen: list[Seen]) -> list[NDArray[np.bool_]]:
    return [np.ones(each.count, bool) for each in seen]


def test_another_network_is_not_the_same(exported: VlmExport) -> None:
    """The comparison can fail: of regions, and of words."""
    images = drawn_images()
    with load_vlm(exported.path, "onnxruntime") as model:
        wanted = [model.look(each) for each in images]
        told = tell_all(model, wanted)
        good = compare("x", model, images, wanted, all_of(wanted), told, tolerance=1e-9)
        assert good.regions == 1 and good.features == 0 and good.captions == 5
        moved = [replace(seen, boxes=seen.boxes + 20) for seen in wanted]
        with pytest.raises(ParityError, match="regions that no rounding moves are the same"):
            compare("x", model, images, moved, all_of(moved), told, tolerance=1.0)
        other = [replace(each, caption=(*each.caption, 7)) for each in told]
        with pytest.raises(ParityError, match="caption differ"):
            compare("x", model, images, wanted, all_of(wanted), other, tolerance=1.0)
        masked = model._stages["fusion-16"]
        stages = dict(model._stages)
        stages["fusion-16"] = lambda given: masked({**given, "seen": np.ones_like(given["seen"])})
        model._stages = stages
        with pytest.raises(ParityError, match="match differs"):
            compare("x", model, images, wanted, all_of(wanted), told, tolerance=1e-3)
        stages["fusion-16"] = masked
        louder = [replace(seen, visual=seen.visual * 1.01) for seen in wanted]
        with pytest.raises(ParityError, match="features of a region differ"):
            compare("x", model, images, louder, all_of(louder), told, tolerance=1e-3)


def test_what_graphs_are_proven_on_is_masked(whole: Whole) -> None:
    """Of every graph with a mask some samples hide something, and some hide nothing."""
    for name in GRAPHS - {"detector", "box-head"}:
        samples = whole.samples[name]
        hidden = [float((each["seen"] == 0).mean()) for each in samples]
        assert len(samples) == 5 and len({*hidden}) >= 3, name
    lengths = {int(each["seen"][0, :16].sum()) for each in whole.samples["fusion-16"]}
    assert len(lengths) >= 3
    places = {int(each["seen"][0, :22].sum()) for each in whole.samples["step"]}
    assert len(places) >= 3
    assert any(each["seen"][0, : whole.settings.tags].any() for each in whole.samples["context"])


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[VlmExport, Path]:
    """Of a network as it begins, for matching and for statements on two images."""
    folder = tmp_path_factory.mktemp("untrained")
    words = Vocabulary(talk.vocabulary())
    facts = VlmFacts(MODEL, ("match", "nlvr2"), vocabulary=words.fingerprint)
    module = fresh_vlm(fitted(get_vlm(MODEL), facts, words.size), facts, 1)
    save_vlm(module, facts, folder / "w.safetensors")
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in words.tokens))
    weights = folder / "w.safetensors"
    out = folder / "bundle"
    return export_vlm(MODEL, "x86", weights=str(weights), skip=["openvino"], out=out), weights


def test_an_untrained_detector_is_exported(untrained: tuple[VlmExport, Path]) -> None:
    """Its scores are so close that rounding moves its regions: which, is recorded."""
    found, _ = untrained
    agreement = found.assembly.agreement["onnxruntime"]
    assert agreement.steady < 0.5 and agreement.features < 1e-4
    assert any("its detector was never trained" in warning for warning in found.warnings)
    assert {*found.assembly.parts} == {"detector", "box-head", "fusion-16", "fusion-32", "judge"}


def test_statements_on_two_images_are_judged_as_torch_does(
    untrained: tuple[VlmExport, Path], tmp_path: Path
) -> None:
    found, weights = untrained
    data, _ = folder(tmp_path, 4, 8)
    torchs, runtime = evaluate_vlm(found.path, Wanted(data, candidates=4), weights=weights)
    assert runtime.items["statements"] == 8
    assert runtime.agreement == {"judgements": 1.0}
    assert runtime.figures == pytest.approx(torchs.figures)


def test_run_judges(
    untrained: tuple[VlmExport, Path],
    image: NDArray[np.uint8],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo = str(_photo(tmp_path / "photo.png", image))
    line = ["run", str(untrained[0].path), photo, "--judge", "there is a red circle"]
    assert main([*line, "--second", photo, "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)["judge"]
    assert 0 < said["score"] < 1
    assert main(line) == 2
    assert "--judge STATEMENT and --second IMAGE go together" in capsys.readouterr().err
    assert main([*line, "--second", str(tmp_path / "none.png")]) == 1
    assert main(["run", str(untrained[0].path), photo, "--ask", "what is this?"]) == 2
    assert "no graphs for vqa: it is for match, nlvr2" in capsys.readouterr().err


def test_graphs_of_some_tasks_alone(untrained: tuple[VlmExport, Path], tmp_path: Path) -> None:
    weights = str(untrained[1])
    with pytest.raises(UsageError, match="were not trained for caption: for match, nlvr2"):
        export_vlm(MODEL, "x86", weights=weights, tasks=["caption"], out=tmp_path / "b")
    with pytest.raises(UnknownNameError, match="unknown task 'mach': did you mean match"):
        export_vlm(MODEL, "x86", weights=weights, tasks=["mach"], out=tmp_path / "b")
    created = create_vlm(MODEL, weights)
    settings = settings_of(created, tasks=["match"])
    assert settings.tasks == ("match",)
    assert {*graphs_of(created.module, settings)[0]} == {
        "detector", "box-head", "fusion-16", "fusion-32",
    }  # fmt: skip


# ---- weights and vocabularies ------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    created = random_vlm(get_vlm(MODEL), 3)
    save_vlm(created.module, created.facts, path)
    return path


def _export(weights: Path, out: Path, **options: object) -> VlmExport:
    return export_vlm(MODEL, "x86", weights=str(weights), out=out, **options)  # type: ignore[arg-type]


def test_weights_need_their_vocabulary(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give its vocab.txt"):
        _export(weights, tmp_path / "out")
    other = tmp_path / "vocab.txt"
    other.write_text("".join(f"{t}\n" for t in placeholder_vocabulary(63).tokens))
    with pytest.raises(UsageError, match="has 63 tokens and the network 64"):
        _export(weights, tmp_path / "out", vocabulary=other)
    assert list(tmp_path.iterdir()) == [other]
    tokens = placeholder_vocabulary(64).tokens
    created = random_vlm(get_vlm(MODEL), 3)
    known = replace(created.facts, vocabulary=placeholder_vocabulary(64).fingerprint)
    save_vlm(created.module, known, tmp_path / "known.safetensors")
    other.write_text("".join(f"{t}\n" for t in reversed(tokens)))
    with pytest.raises(UsageError, match="in another order"):
        _export(tmp_path / "known.safetensors", tmp_path / "out", vocabulary=other)


def test_weights_of_another_network(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is of minivlm-tiny, not minivlm:"):
        export_vlm("minivlm", "x86", weights=str(weights), out=tmp_path / "out")
    plain = tmp_path / "plain.pth"
    torch.save({"a": torch.zeros(2)}, plain)
    with pytest.raises(CheckpointError, match="is of no such network: edgekit train"):
        _export(plain, tmp_path / "out")
    with pytest.raises(CheckpointError, match="no weights of minivlm-tiny were released"):
        export_vlm(MODEL, "x86", weights="official", out=tmp_path / "out")


@pytest.mark.parametrize("canvas", [(100, 128), (0, 64), (64, 4096)])
def test_canvases_that_cannot_be(canvas: tuple[int, int], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiples of 64"):
        export_vlm(MODEL, "x86", out=tmp_path / "out", canvas=canvas)


# ---- parts that do not fit each other ----------------------------------------------------------


def _rewrite(path: Path, name: str, data: bytes) -> None:
    """Another shared file, with its checksum."""
    import hashlib

    (path / name).write_bytes(data)
    document = json.loads((path / "assembly.json").read_text())
    document["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (path / "assembly.json").write_text(json.dumps(document))


def _without_part(path: Path) -> None:
    shutil.rmtree(path / "box-head")
    document = json.loads((path / "assembly.json").read_text())
    del document["parts"]["box-head"]
    (path / "assembly.json").write_text(json.dumps(document))


def _without_vocabulary(path: Path) -> None:
    document = json.loads((path / "assembly.json").read_text())
    del document["files"]["vocab.txt"]
    (path / "assembly.json").write_text(json.dumps(document))


def _without_answers(path: Path) -> None:
    """As if the weights of one that matches only were said to answer."""
    part = path / "fusion-16"
    manifest = json.loads((part / "manifest.json").read_text())
    manifest["outputs"] = [each for each in manifest["outputs"] if each["name"] != "answers"]
    data = json.dumps(manifest).encode()
    (part / "manifest.json").write_bytes(data)
    document = json.loads((path / "assembly.json").read_text())
    document["parts"]["fusion-16"] = {
        "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data),
    }  # fmt: skip
    del document["files"]["answers.txt"]
    (path / "assembly.json").write_text(json.dumps(document))


def _npy(array: NDArray[np.generic], path: Path) -> bytes:
    np.save(path.parent / "table.npy", array)
    return (path.parent / "table.npy").read_bytes()


def _settings(path: Path, **changes: int) -> None:
    document = json.loads((path / "assembly.json").read_text())
    document["settings"].update(changes)
    (path / "assembly.json").write_text(json.dumps(document))


MISFITS: dict[str, tuple[Callable[[Path], None], str]] = {
    "vocabulary": (
        lambda path: _rewrite(
            path, "vocab.txt",
            "".join(f"{t}\n" for t in placeholder_vocabulary(60).tokens).encode(),
        ),
        "60 tokens and word-embeddings.npy 64 rows",
    ),
    "answers": (
        lambda path: _rewrite(path, "answers.txt", b"yes\nno\n"),
        "answers.txt has 2 names, and fusion-16 other outputs",
    ),
    "an archive": (
        lambda path: _rewrite(path, "word-embeddings.npy", b"PK\x05\x06" + bytes(18)),
        "no array of numbers",
    ),
    "regions": (lambda path: _settings(path, regions=9), "its parts are of different models"),
    "canvas": (lambda path: _settings(path, height=192), "detector has image"),
    "caption": (lambda path: _settings(path, caption=9), "step has cached_keys"),
    "heads": (lambda path: _settings(path, layers=8), "context has keys"),
    "tasks": (_without_answers, "fusion-16 has answers not at all"),
    "types": (
        lambda path: _rewrite(
            path, "type-embeddings.npy", _npy(np.zeros((1, 96), np.float32), path)
        ),
        "texts have two types",
    ),
    "no vocabulary": (_without_vocabulary, "lists no vocab.txt"),
    "no part": (_without_part, "lacks its part 'box-head'"),
    "no array": (lambda path: _rewrite(path, "word-embeddings.npy", b"x"), "no array of numbers"),
    "objects": (
        lambda path: _rewrite(
            path, "word-embeddings.npy", _npy(np.array([[{}]], dtype=object), path)
        ),
        "no array of numbers",
    ),
    "doubles": (
        lambda path: _rewrite(path, "word-embeddings.npy", _npy(np.zeros((64, 96)), path)),
        "float64 of 2 axes",
    ),
    "short positions": (
        lambda path: _rewrite(
            path, "position-embeddings.npy", _npy(np.zeros((9, 96), np.float32), path)
        ),
        "has 9 rows",
    ),
    "widths": (
        lambda path: _rewrite(
            path, "type-embeddings.npy", _npy(np.zeros((2, 95), np.float32), path)
        ),
        "different widths",
    ),
}  # fmt: skip


@pytest.mark.parametrize("misfit", MISFITS)
def test_parts_that_do_not_fit(misfit: str, exported: VlmExport, tmp_path: Path) -> None:
    change, says = MISFITS[misfit]
    copy = tmp_path / "copy"
    shutil.copytree(exported.path, copy)
    change(copy)
    with pytest.raises(BundleError, match=says):
        load_vlm(copy)


# ---- the command line --------------------------------------------------------------------------


def _photo(path: Path, image: NDArray[np.uint8]) -> Path:
    from PIL import Image

    Image.fromarray(image).save(path)
    return path


def test_run_answers(
    exported: VlmExport,
    image: NDArray[np.uint8],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo = str(_photo(tmp_path / "photo.png", image))
    line = ["run", str(exported.path), photo, "--ask", "what is this?", "--caption"]
    assert main([*line, "--match", "a b", "--match", "c d", "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert len(out["answers"]) == 5 and len(out["match"]) == 2 and "caption" in out
    assert out["regions"] and {"detector", "step", "fusion-16"} <= out["milliseconds"].keys()
    assert main(["run", str(exported.path), photo]) == 0
    told = capsys.readouterr()
    assert "region" in told.out and "random weights" in told.err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["--ask", ""], "the question is empty"),
        (["--ask", "x" * 31], "has 31 tokens, and 30 fit"),
        (["--ask", "слон"], "another language"),
        (["--match", " "], "the text is empty"),
        (["--save", "x.npz"], "--save is for bundles of one graph"),
        (["--runtime", "openvino"], "has no artifact for runtime 'openvino'"),
    ],
)
def test_run_says_what_is_wrong(
    line: list[str],
    says: str,
    exported: VlmExport,
    image: NDArray[np.uint8],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo = str(_photo(tmp_path / "photo.png", image))
    assert main(["run", str(exported.path), photo, *line]) in (1, 2)
    (told,) = [text for text in capsys.readouterr().err.splitlines() if "error" in text]
    assert says in told


def test_profile_has_every_stage(
    exported: VlmExport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["profile", str(exported.path), "--quick", "--allow-noisy", "--runtime", "litert"]
    assert main([*line, "--json", "--save", str(tmp_path / "saved")]) == 0
    out = json.loads(capsys.readouterr().out)
    stages = {run["stage"] for run in out["runs"]}
    between = {"image", "proposals", "roi-align", "regions", "look", "ask", "caption"}
    assert stages == between | GRAPHS
    rows = {run["stage"]: run for run in out["runs"]}
    parts = ("image", "detector", "proposals", "roi-align", "box-head", "regions")
    assert sum(rows[each]["p10_ms"] for each in parts) < rows["look"]["p90_ms"]
    assert all(run["verdict"] == "stable" or run["reasons"] for run in out["runs"])
    (saved,) = (tmp_path / "saved").iterdir()
    assert json.loads(saved.read_text())["model"] == MODEL
    assert {"edgekit", "numpy"} < set(read_stages(saved).machine.packages)
    page = tmp_path / "report.html"
    assert main(["report", str(saved), "-o", str(page), "--markdown", str(tmp_path / "r.md")]) == 0
    assert all(f">{stage}<" in page.read_text("utf-8") for stage in stages)
    assert main(["profile", str(exported.path), "--scope", "engine"]) == 2


def test_other_verbs_say_what_it_is(
    exported: VlmExport, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["count", str(exported.path)]) == 1
    assert "several graphs" in capsys.readouterr().err


@pytest.mark.zoo
def test_openvino_and_tensorrt(tmp_path: Path) -> None:
    found = export_vlm(MODEL, "x86", out=tmp_path / "x86", skip=["onnxruntime"])
    assert found.assembly.agreement["openvino"].captions == 5
    board = export_vlm(MODEL, "jetson", out=tmp_path / "jetson", skip=["onnxruntime"])
    assert board.needs_finish and not board.assembly.agreement
    with open_assembly(board.path) as bundle:
        for part in bundle.parts.values():
            assert len(part.manifest.artifacts) == 1
            artifact = part.manifest.artifacts[0]
            assert artifact.runtime == "tensorrt" and artifact.checks
