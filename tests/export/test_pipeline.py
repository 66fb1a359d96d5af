"""The main path over the registry: every variant, every target, every promise of a bundle."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

import edgekit
from edgekit.bundle import PARITY_TOLERANCE, Artifact, open_bundle
from edgekit.errors import (
    GraphError,
    OutputExistsError,
    ParityError,
    UnknownNameError,
    UnsupportedOperatorError,
    UsageError,
)
from edgekit.export import pipeline
from edgekit.export.lowerings import LOWERINGS, Lowering
from edgekit.export.passes import CANONICAL, GraphPass, run_passes
from edgekit.export.pipeline import export_model, export_onnx, export_zoo
from edgekit.export.sources import ImageFacts, zoo_source
from edgekit.models.zoo import VARIANTS
from edgekit.profiling.counts import Counts
from edgekit.targets import TARGETS
from tests.variants import SAMPLED, every_variant, image_size

SERVED = [name for name, row in TARGETS.items() if not row.refused]
RELEASED = ["micronet-m0", "micronet-m1", "micronet-m2", "micronet-m3"]


def _contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


class Small(nn.Module):
    """Two convolutions and a head: quick to export."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))).mean((2, 3)))


EXAMPLE = torch.zeros(1, 3, 16, 16)

IN_A_CHILD = (
    "import sys; from pathlib import Path; from tests.export.test_pipeline import _export_small;"
)


def _export_small(out: Path, target: str = "x86", **options: Any) -> pipeline.ExportResult:
    return export_model(Small(), EXAMPLE, target=target, out=out, **options)


def test_the_registry_is_whole() -> None:
    assert set(RELEASED) <= set(VARIANTS)
    assert len(SERVED) == 7
    assert set(LOWERINGS) == {name for row in TARGETS.values() for name in row.runtimes}


def test_the_sample_has_one_or_two_of_each_family() -> None:
    counts = Counter(VARIANTS[model_id].family for model_id in SAMPLED)
    assert set(counts) == {row.family for row in VARIANTS.values()}
    assert max(counts.values()) <= 2
    assert len(every_variant()) == len(VARIANTS) == 45


@pytest.mark.parametrize("model_id", every_variant())
def test_every_variant_is_proven_in_every_runtime(
    model_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    monkeypatch.setattr(pipeline, "run_passes", _canonical_once())
    row, size = VARIANTS[model_id], image_size(model_id)
    source = zoo_source(model_id, weights="random", image_size=size)
    assert source.facts.params == row.params
    if size == row.image_size:
        assert (source.facts.macs, source.facts.madds) == (row.macs, row.madds)
    for target in ("arm", "x86", "jetson"):
        order = pipeline.make_order(
            model_id, target, tmp_path / target, (), False, "fp32", lambda _: None
        )
        result = pipeline.export_source(source, order)
        assert tuple(a.runtime for a in result.manifest.artifacts) == TARGETS[target].runtimes
        for artifact in result.manifest.artifacts:
            _check_artifact(result.path, artifact)
            figures = artifact.parity or artifact.checks
            record_property(f"{target}-{artifact.runtime}", str(figures))


def _canonical_once() -> Callable[..., Any]:
    """``run_passes`` that shapes a source once for all its targets: a third of the time."""
    canonical = functools.cache(lambda model: run_passes(model, CANONICAL))

    def run(model: ir.Model, passes: Sequence[GraphPass]) -> Any:
        return canonical(model) if passes is CANONICAL else run_passes(model, passes)

    return run


def _check_artifact(path: Path, artifact: Artifact) -> None:
    """Proven where this machine can run it, and what it says it is when it is opened."""
    if artifact.runtime == "tensorrt":
        assert artifact.parity is None
        assert "parsed" in artifact.checks["parser"]
        assert "built" in artifact.checks["builder"]
        return
    assert artifact.parity is not None
    assert artifact.parity.inputs >= 5
    assert artifact.parity.tolerance == PARITY_TOLERANCE["fp32"] == 1e-4
    ((output, error),) = artifact.parity.max_relative_error.items()
    assert 0 <= error <= 1e-4
    with open_bundle(path) as bundle:
        golden = bundle.golden()
    with edgekit.load(path, runtime=artifact.runtime) as model:
        got = model.run(golden.inputs)[output]
    wanted = golden.outputs[output]
    assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("target", SERVED)
def test_every_target_gets_its_artifacts(target: str, tmp_path: Path) -> None:
    result = _export_small(tmp_path / "b", target)
    manifest = result.manifest
    assert tuple(a.runtime for a in manifest.artifacts) == TARGETS[target].runtimes
    assert manifest.target == target
    assert manifest.opset == 18
    for artifact in manifest.artifacts:
        assert set(artifact.files) <= set(manifest.files)
        assert artifact.parity is not None or artifact.checks


@pytest.mark.parametrize("target", ["x86", "arm", "jetson"])
def test_a_repeated_export_is_byte_identical(target: str, tmp_path: Path) -> None:
    first = _contents(_export_small(tmp_path / "a", target).path)
    # Another process has other counters, hashes and addresses.
    script = f"{IN_A_CHILD} _export_small(Path(sys.argv[1]), sys.argv[2])"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "b"), target], check=True)
    assert _contents(tmp_path / "b") == first


def test_nothing_of_this_machine_is_in_a_bundle(tmp_path: Path) -> None:
    for target in ("x86", "arm"):
        content = b"".join(_contents(_export_small(tmp_path / target, target).path).values())
        for trace in (str(Path.cwd()), str(Path(sys.prefix)), str(Path.home()), str(tmp_path)):
            assert trace == "/" or trace.encode() not in content


def _off_by_a_percent(files: dict[str, bytes]) -> dict[str, bytes]:
    model = onnx.load_model_from_string(files["model.onnx"])
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = np.frombuffer(weight.raw_data, np.float32) * np.float32(1.01)
    weight.raw_data = values.tobytes()
    return {**files, "model.onnx": model.SerializeToString()}


def test_a_wrong_lowering_is_exit_3_and_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = LOWERINGS["onnxruntime"]
    broken = replace(honest, lower=lambda graph: _off_by_a_percent(honest.lower(graph)))
    monkeypatch.setitem(LOWERINGS, "onnxruntime", broken)
    with pytest.raises(ParityError, match="onnxruntime is not the same function") as caught:
        _export_small(tmp_path / "b")
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def _lstm(folder: Path) -> Path:
    """A graph that onnxruntime and OpenVINO take and the TFLite lowering does not."""
    rng = np.random.default_rng(0)
    constants = [
        helper.make_tensor("w", TensorProto.FLOAT, [1, 16, 5], rng.normal(size=80)),
        helper.make_tensor("r", TensorProto.FLOAT, [1, 16, 4], rng.normal(size=64)),
    ]
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["x", "w", "r"], ["y"], "the_lstm", hidden_size=4)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [6, 1, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [6, 1, 1, 4])],
        constants,
    )
    path = folder / "lstm.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path
    )
    return path


def test_a_missing_operator_names_its_node_and_the_way_out(tmp_path: Path) -> None:
    path = _lstm(tmp_path)
    with pytest.raises(UnsupportedOperatorError, match=r"LSTM at node 'the_lstm'.*--skip litert"):
        export_onnx(path, "arm", out=tmp_path / "b")
    assert not (tmp_path / "b").exists()
    result = export_onnx(path, "arm", out=tmp_path / "b", skip=["litert"])
    assert [a.runtime for a in result.manifest.artifacts] == ["onnxruntime"]
    assert [(s.runtime, s.reason) for s in result.manifest.skipped] == [
        ("litert", "left out by --skip")
    ]
    export_onnx(path, "x86", out=tmp_path / "x86")


def test_unknown_and_refused_names(tmp_path: Path) -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown model 'micronet-m9': did you mean .*micronet-m1"
    ):
        export_zoo("micronet-m9", "x86", out=tmp_path / "b")
    with pytest.raises(UnknownNameError, match="did you mean jetson"):
        export_zoo("micronet-m1", "jetsn", out=tmp_path / "b")
    with pytest.raises(UsageError, match=r"TensorRT 8\.2"):
        export_zoo("micronet-m1", "jetson-nano", out=tmp_path / "b")
    with pytest.raises(UnknownNameError, match="unknown runtime of target x86 'litert'"):
        _export_small(tmp_path / "b", skip=["litert"])
    with pytest.raises(UsageError, match="leaves nothing of target x86"):
        _export_small(tmp_path / "b", skip=["openvino", "onnxruntime"])
    with pytest.raises(UnknownNameError, match="unknown precision 'int4'"):
        _export_small(tmp_path / "b", precision="int4")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_kept_unless_forced(tmp_path: Path) -> None:
    out = _export_small(tmp_path / "b").path
    before = _contents(out)
    with pytest.raises(OutputExistsError, match="--force"):
        _export_small(out)
    assert _contents(out) == before
    _export_small(out, "arm", force=True)
    assert "model.tflite" in _contents(out)
    assert [file.name for file in tmp_path.iterdir()] == ["b"]


def test_a_failed_forced_export_keeps_the_old_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = _export_small(tmp_path / "b").path
    before = _contents(out)

    def refuse(graph: object) -> dict[str, bytes]:
        raise GraphError("no")

    monkeypatch.setitem(LOWERINGS, "openvino", Lowering(refuse))
    with pytest.raises(
        GraphError,
        match=r"no \(--skip openvino or .* others: onnxruntime\)",
    ):
        _export_small(out, force=True)
    assert _contents(out) == before


def test_killed_at_any_time_leaves_no_half_bundle(tmp_path: Path) -> None:
    script = (
        f"{IN_A_CHILD} print('go', flush=True);"
        "[_export_small(Path(sys.argv[1]), force=True) for _ in range(100)]"
    )
    for delay in (0.4, 0.9, 1.7):
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "b")],
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        if (tmp_path / "b").exists():
            with open_bundle(tmp_path / "b") as bundle:
                assert bundle.manifest.files
    _export_small(tmp_path / "b", force=True)
    assert [file.name for file in tmp_path.iterdir()] == ["b"], "leftovers of the killed runs"


def test_a_zip_holds_the_same_bundle(tmp_path: Path) -> None:
    folder = _export_small(tmp_path / "b").path
    archive = _export_small(tmp_path / "b.edgekit").path
    with open_bundle(folder) as a, open_bundle(archive) as b:
        assert a.manifest == b.manifest
    with edgekit.load(archive) as model:
        assert model.run({"input": np.ones((1, 3, 16, 16), np.float32)})["output"].shape == (1, 5)


def test_own_model_with_images_and_labels(tmp_path: Path) -> None:
    image = ImageFacts(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), labels=("a", "b", "c", "d", "e"))
    out = _export_small(tmp_path / "b", image=image).path
    photo = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    with edgekit.load(out) as model:
        found = model.predict(photo, top=2)
    assert len(found) == 2
    assert {label for label, _ in found} <= set("abcde")


ZEROS, ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (ImageFacts(labels=("a", "b")), "2 labels for output 'output' of 5 classes"),
        (ImageFacts(mean=ZEROS, std=(0.0, 1.0, 1.0)), "std must be positive"),
        (ImageFacts(mean=ZEROS, std=(1.0, float("nan"), 1.0)), "std 1,nan,1 is not on 0..1"),
        (ImageFacts(mean=(1.0, float("inf"), 1.0), std=ONES), "mean 1,inf,1 is not on 0..1"),
        (ImageFacts(mean=(123, 116, 103), std=ONES), "mean 123,116,103 is not on .* by 255"),
        (ImageFacts(mean=ZEROS, std=(58, 57, 57)), "std 58,57,57 is not on 0..1"),
        (ImageFacts(mean=ZEROS), "mean is given without std"),
        (ImageFacts(std=ONES), "std is given without mean"),
        (ImageFacts(labels=("a\tb", "b", "c", "d", "e")), "line 1 has a control character"),
        (ImageFacts(labels=("a\nb", "c", "d", "e", "f")), "line break"),
    ],
)
def test_facts_that_do_not_fit_are_refused(tmp_path: Path, image: ImageFacts, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _export_small(tmp_path / "b", image=image)


def test_mean_for_a_model_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one image input"):
        export_model(
            nn.Linear(4, 4),
            torch.zeros(1, 4),
            target="x86",
            out=tmp_path / "b",
            image=ImageFacts(mean=ZEROS, std=ONES),
        )


def test_the_module_is_given_back_as_it_was(tmp_path: Path) -> None:
    module = Small().train()
    module.b.eval()  # as when a part is frozen
    export_model(module, EXAMPLE, target="arm", out=tmp_path / "b")
    assert (module.training, module.a.training, module.b.training) == (True, True, False)


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (torch.relu, {}, "a torch.nn.Module is exported, got builtin_function_or_method"),
        (Small().to("meta"), {}, "are on meta: export from the CPU"),
        (Small(), {"input_names": ["a", "b"]}, r"2 input names \(a, b\) for 1 inputs"),
        (Small(), {"output_names": ["a", "b"]}, r"2 output names \(a, b\) for 1 outputs"),
    ],
)
def test_modules_and_names_that_do_not_fit(
    tmp_path: Path, module: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        export_model(module, EXAMPLE, target="x86", out=tmp_path / "b", **options)


def test_paths_and_a_runtime_to_skip_may_be_text(tmp_path: Path) -> None:
    out = str(tmp_path / "b")
    result = export_onnx(str(_lstm(tmp_path)), "arm", out=out, skip="litert")
    assert result.path == Path(out)
    assert [a.runtime for a in result.manifest.artifacts] == ["onnxruntime"]


@pytest.mark.parametrize("target", ["x86", "arm"])
def test_tensors_without_axes(tmp_path: Path, target: str) -> None:
    class Scale(nn.Module):
        def forward(self, x: torch.Tensor, gain: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return x * gain, gain + gain

    examples = [torch.ones(2, 3), torch.tensor(3.0)]
    result = export_model(Scale(), examples, target=target, out=tmp_path / "b")
    for runtime in TARGETS[target].runtimes:
        with edgekit.load(result.path, runtime=runtime) as model:
            got = model.run(
                {"input_0": np.ones((2, 3), np.float32), "input_1": np.array(5, np.float32)}
            )
        assert got["output_0"].tolist() == [[5.0] * 3] * 2
        assert isinstance(got["output_1"], np.ndarray)
        assert (got["output_1"].shape, float(got["output_1"])) == ((), 10.0)


def test_a_type_that_no_bundle_has_is_named(tmp_path: Path) -> None:
    half = nn.Flatten()
    with pytest.raises(UsageError, match=r"'input' is bfloat16, and a bundle takes float32"):
        export_model(half, torch.ones(1, 4).bfloat16(), target="x86", out=tmp_path / "b")


def test_counts_that_lack_something_say_so(tmp_path: Path) -> None:
    result = export_onnx(_lstm(tmp_path), "arm", out=tmp_path / "b", skip=["litert"])
    note = "The MACs are a lower bound: without those of LSTM x1."
    assert result.manifest.model.notes == result.warnings == (note,)
    assert note in (result.path / "README.md").read_text()


def test_a_failed_check_offers_the_others_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(files: Mapping[str, bytes]) -> Mapping[str, str]:
        raise GraphError("no")

    monkeypatch.setitem(LOWERINGS, "openvino", replace(LOWERINGS["openvino"], check=refuse))
    with pytest.raises(GraphError, match=r"skip=\['openvino'\] writes the others") as caught:
        _export_small(tmp_path / "b")
    assert caught.value.__cause__ is None
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_cannot_be_traced_says_why(tmp_path: Path) -> None:
    class Data(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(GraphError, match="cannot be traced to ONNX"):
        export_model(Data(), torch.ones(2, 2), target="x86", out=tmp_path / "b")


def test_a_model_with_nan_is_refused(tmp_path: Path) -> None:
    broken = Small()
    with torch.no_grad():
        broken.c.weight[0, 0] = float("nan")
    with pytest.raises(GraphError, match="NaN"):
        export_model(broken, EXAMPLE, target="x86", out=tmp_path / "b")


def test_the_model_card_tells_what_matters(tmp_path: Path) -> None:
    result = export_zoo("micronet-m0", "x86", weights="random", image_size=64, out=tmp_path / "b")
    card = (result.path / "README.md").read_text()
    assert "Random. Fit for latency work, not for predictions." in card
    assert "46.6 %" in card
    assert "| openvino |" in card
    manifest: Mapping[str, Any] = json.loads((result.path / "manifest.json").read_text())
    assert manifest["weights"]["random"] is True
    assert manifest["tools"]["torch"]


def test_rows_of_two_runtimes_share_a_file_only_when_it_is_the_same() -> None:
    def built(runtime: str, data: bytes) -> pipeline.Built:
        artifact = edgekit_artifact(runtime)
        return pipeline.Built(artifact, {"model.onnx": data}, Counts(0, ()))

    same = pipeline._with_distinct_names([built("tensorrt", b"1"), built("onnxruntime", b"1")])
    assert [item.artifact.files for item in same] == [("model.onnx",), ("model.onnx",)]
    other = pipeline._with_distinct_names([built("tensorrt", b"1"), built("onnxruntime", b"2")])
    assert [item.artifact.files for item in other] == [
        ("model.onnx",),
        ("model-onnxruntime.onnx",),
    ]


def edgekit_artifact(runtime: str) -> Any:
    from edgekit.bundle import Artifact

    return Artifact(runtime, ("model.onnx",), (), None, 0, {})


def test_outputs_keep_their_order_and_names(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"double": x * 2, "sum": x.sum(1)}

    result = export_model(
        Two(), torch.ones(1, 4), target="arm", out=tmp_path / "b", output_names=["double", "sum"]
    )
    sample: dict[str, NDArray[Any]] = {"input": np.arange(4, dtype=np.float32)[None]}
    for runtime in ("litert", "onnxruntime"):
        with edgekit.load(result.path, runtime=runtime) as model:
            got = model.run(sample)
        assert list(got) == ["double", "sum"]
        assert got["sum"].tolist() == [6.0]


def test_scalars_go_everywhere(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
            return x.mean() * (gain * 2)

    for target in ("arm", "x86"):
        example = (torch.zeros(1, 3, 4, 4), torch.tensor(1.0))
        result = export_model(Scaled(), example, target=target, out=tmp_path / target)
        assert result.manifest.outputs[0].shape == ()


def test_a_failed_trace_prints_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    class Data(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(GraphError):
        export_model(Data(), torch.ones(2, 2), target="x86", out=tmp_path / "b")
    assert capfd.readouterr() == ("", "")
