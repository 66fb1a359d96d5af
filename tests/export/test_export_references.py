"""Reference networks: built once, verified before each use, safe with two processes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import edgekit
from edgekit import optional
from edgekit.bundle import open_bundle
from edgekit.errors import BundleError, MissingDependencyError, UnknownNameError
from edgekit.export import references
from edgekit.export.references import build_references
from edgekit.profiling import references as timing
from edgekit.profiling.clock import SystemClock
from edgekit.profiling.job import Job
from tests.bundle import sample_bundle

Built = list[dict[str, Any]]
RUNTIMES = ["openvino", "onnxruntime"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def quick_export(log: Built, seconds: float = 0.0) -> ModuleType:
    """Stands for ``edgekit.export.pipeline``: writes a small bundle and remembers the order."""
    pipeline = ModuleType("edgekit.export.pipeline")

    def export_zoo(model_id: str, target: str, *, out: Path, **options: Any) -> None:
        log.append({"model_id": model_id, "target": target, **options})
        time.sleep(seconds)
        sample_bundle.write(out)

    vars(pipeline)["export_zoo"] = export_zoo
    return pipeline


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Built:
    """What was exported, by the stand-in."""
    log: Built = []
    monkeypatch.setitem(sys.modules, "edgekit.export.pipeline", quick_export(log))
    return log


def test_both_are_built_once_with_random_weights_at_their_size(built: Built, cache: Path) -> None:
    lines: list[str] = []
    paths = build_references("x86", RUNTIMES, progress=lines.append)
    assert [path.name.rsplit("-", 1)[0] for path in paths] == [
        "mobilenetv2-x0.5-96-x86",
        "mobilenetv3-small-224-x86",
    ]
    assert all(path.parent == cache / "references" for path in paths)
    assert [(each["model_id"], each["image_size"]) for each in built] == [
        ("mobilenetv2-x0.5", 96),
        ("mobilenetv3-small", 224),
    ]
    assert all((each["weights"], each["skip"]) == ("random", []) for each in built)
    assert "build MobileNetV3-small for x86, once" in lines
    assert build_references("x86", RUNTIMES[::-1], progress=lines.append) == paths
    assert len(built) == 2


def test_the_key_has_all_that_decides_the_bytes(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {build_references("x86", RUNTIMES)[0]}
    found.add(build_references("x86", ["openvino"])[0])
    found.add(build_references("arm", ["onnxruntime"])[0])
    with monkeypatch.context() as patch:
        patch.setattr(references, "tool_versions", lambda _: {"torch": "99"})
        found.add(build_references("x86", RUNTIMES)[0])
    with monkeypatch.context() as patch:
        patch.setattr(references, "_source_digest", lambda: "another edgekit")
        found.add(build_references("x86", RUNTIMES)[0])
    assert len(found) == 5
    assert build_references("x86", RUNTIMES)[0] in found
    assert built[2]["skip"] == ["onnxruntime"]


def test_the_source_is_edgekits_own_and_what_measures_is_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = references._source_digest()
    package = tmp_path / "edgekit"
    for name in ("__init__.py", "targets.py", "models/zoo.py", "cli/profile.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("a = 1\n")
    monkeypatch.setattr(edgekit, "__file__", str(package / "__init__.py"))
    copy = references._source_digest()
    (package / "cli/profile.py").write_text("a = 2\n")
    assert references._source_digest() == copy != before
    (package / "models/zoo.py").write_text("a = 2\n")
    assert references._source_digest() != copy


def test_runtimes_that_the_target_does_not_have_are_left_out(built: Built) -> None:
    both = build_references("x86", ["null"])
    assert len(both) == 2
    assert built[0]["skip"] == ["onnxruntime"]  # one artifact is enough for null to stand in for
    assert build_references("x86", ["openvino", "litert"]) == both
    with pytest.raises(UnknownNameError, match="unknown target 'x68'"):
        build_references("x68", RUNTIMES)


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "manifest", "file", "empty"])
def test_a_damaged_one_is_built_again(built: Built, damage: str) -> None:
    path, other = build_references("x86", RUNTIMES)
    (sample_path, manifest) = (path / "model.dat", path / "manifest.json")
    data = sample_path.read_bytes()
    if damage == "flip":
        sample_path.write_bytes(data[:-1] + b"X")
    elif damage == "cut":
        sample_path.write_bytes(data[:-1])
    elif damage == "missing":
        sample_path.unlink()
    elif damage == "manifest":
        manifest.write_bytes(manifest.read_bytes()[:100])
    else:
        for file in path.iterdir():
            file.unlink()
        if damage == "file":
            path.rmdir()
            path.write_text("no bundle")
    lines: list[str] = []
    assert build_references("x86", RUNTIMES, progress=lines.append) == (path, other)
    assert [each["model_id"] for each in built[2:]] == ["mobilenetv2-x0.5"]
    assert any("is built again: " in line for line in lines)
    open_bundle(path).close()


def test_a_build_that_fails_leaves_nothing_and_the_next_one_works(
    built: Built, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise BundleError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["edgekit.export.pipeline"], "export_zoo", fails)
        with pytest.raises(BundleError, match="no space"):
            build_references("x86", RUNTIMES)
    assert [path.suffix for path in (cache / "references").iterdir()] == [".lock"]
    assert len(build_references("x86", RUNTIMES)) == 2


IN_A_CHILD = """
import sys
from edgekit.export import references
from tests.export.test_export_references import quick_export

built = []
sys.modules["edgekit.export.pipeline"] = quick_export(built, seconds=0.5)
references.optional.require = lambda *_: None
print("ready", flush=True)
sys.stdin.readline()
paths = references.build_references("x86", ["openvino"], progress=print)
print("built", *[each["model_id"] for each in built])
print("paths", *paths)
"""


def test_two_processes_build_each_once() -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", IN_A_CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    outputs = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        outputs.append(child.communicate(timeout=60)[0].splitlines())
        assert child.returncode == 0
    words = [line.split() for lines in outputs for line in lines]
    assert sorted(name for line in words if line[0] == "built" for name in line[1:]) == [
        "mobilenetv2-x0.5",
        "mobilenetv3-small",
    ]
    assert len({tuple(line) for line in words if line[0] == "paths"}) == 1


def test_without_torch_it_is_exit_7_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(optional, "is_installed", lambda name: name != "torch")
    with pytest.raises(MissingDependencyError) as caught:
        build_references("x86", RUNTIMES)
    assert caught.value.exit_code == 7
    assert 'pip install "torch==2.13.0" "edgekit[export]"' in str(caught.value)
    assert "building the reference network MobileNetV2-0.5 @ 96 needs torch" in str(caught.value)


def test_a_cache_that_cannot_be_written_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(BundleError, match="cannot be kept in .*set EDGEKIT_CACHE to a folder"):
        build_references("x86", RUNTIMES)


def test_a_real_one_is_timed_in_turns_with_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(references, "REFERENCES", timing.REFERENCES[:1])
    (path,) = build_references("x86", ["onnxruntime"])
    with open_bundle(path) as bundle:
        facts = bundle.manifest
    assert facts.weights.random
    assert facts.model.macs == 18_885_440
    assert [artifact.runtime for artifact in facts.artifacts] == ["onnxruntime"]
    job = Job(
        *("turns", str(path), "onnxruntime"),
        seconds=0.01,
        most_seconds=0.1,
        warm_seconds=0.01,
        most_warm_seconds=0.1,
        others=(str(path),),
    )
    document = timing.work(job, SystemClock())
    (row,) = timing.reference_rows(document)
    assert (row.name, row.accuracy, row.macs) == ("MobileNetV2-0.5 @ 96", "51.2 %", 18_885_440)
    assert row.turns == len(document["turns_ns"]) >= 1
    assert 0.2 < row.ratio < 5  # the same file twice
