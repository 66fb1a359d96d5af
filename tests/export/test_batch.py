"""N images at once, and any number of them: what is exported, refused and proven."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray

import edgekit
from edgekit.bundle import TensorSpec, open_bundle
from edgekit.errors import GraphError, ParityError, UsageError
from edgekit.export import pipeline
from edgekit.export.batch import Batch, check_batch, of_one_image, with_dynamic_batch
from edgekit.export.lowerings import LOWERINGS
from edgekit.export.parity import SAMPLES, make_reference, sample_inputs
from edgekit.export.passes import CANONICAL, choice_passes, run_passes
from edgekit.export.passes.notation import parse
from edgekit.export.pipeline import ExportResult, export_zoo
from edgekit.export.sources import Source, zoo_source
from edgekit.profiling.counts import count_graph
from edgekit.profiling.counts_file import read_counts
from edgekit.targets import TARGETS, GraphChoices, get_target
from tests.export import batch_nets
from tests.export.passes.graph_numerics import run, to_double

Array = NDArray[Any]

# Each is of one image, and stays right when there are more.
FREED = {
    "a chain of layers": """
        x: float[1, 4, 6, 6]
        a = Conv(x, w[6, 4, 3, 3], b[6], strides=[2, 2])
        c = Clip(a, 0.0, 6.0)
        p = GlobalAveragePool(c)
        r = Reshape(p, [1, 6])
        y = Gemm(r, v[5, 6], d[5], transB=1)
        return y""",
    "a gate": """
        x: float[1, 4, 5, 5]
        p = GlobalAveragePool(x)
        a = Conv(p, w[4, 4, 1, 1], b[4])
        g = HardSigmoid(a)
        y = Mul(x, g)
        return y""",
    "a shuffle, a split and a join": """
        x: float[1, 6, 4, 4]
        a = Reshape(x, [1, 2, 3, 4, 4])
        b = Transpose(a, perm=[0, 2, 1, 3, 4])
        c = Reshape(b, [1, 6, 4, 4])
        d, e = Split(c, [2, 4], axis=1)
        f = Gather(e, [3, 0, 1, 2], axis=1)
        y = Concat(f, d, axis=1)
        return y""",
    "a product of the image's own matrices": """
        x: float[1, 4, 5, 5]
        m: float[1, 4]
        r = Reshape(x, [1, 4, 25])
        q = Reshape(m, [1, 2, 2])
        a = MatMul(w[1, 2, 4], r)
        b = MatMul(q, a)
        y = Reshape(b, [1, 2, 5, 5])
        return y""",
    "views that say -1, one that says it elsewhere": """
        x: float[1, 4, 5, 5]
        a = Reshape(x, [-1, 4, 25])
        b = Reshape(a, [1, -1, 5])
        y = Reshape(b, [-1, 100])
        return y""",
    "a constant that is made larger": """
        x: float[1, 4, 5, 5]
        g: float[1, 4, 1, 1]
        e = Expand(g, [1, 4, 5, 5])
        y = Add(x, e)
        return y""",
    "pads, pools and a mean": """
        x: float[1, 4, 7, 7]
        a = Pad(x, [0, 0, 0, 0, 0, 0, 1, 1], 0.0)
        b = MaxPool(a, kernel_shape=[2, 2], strides=[2, 2])
        y = ReduceMean(b, [2, 3], keepdims=0)
        return y""",
}  # fmt: skip

# Each has the one image in it for good.
KEPT = {
    "a mean over the images": """
        x: float[1, 4]
        y = ReduceMean(x, [0], keepdims=1)
        return y""",
    "an image becomes a batch": """
        x: float[1, 8]
        y = Reshape(x, [2, 4])
        return y""",
    "the axis is dropped": """
        x: float[1, 4, 3]
        y = Squeeze(x, [0])
        return y""",
    "the axis moves": """
        x: float[1, 4, 3]
        y = Transpose(x, perm=[1, 0, 2])
        return y""",
    "a constant of one image is joined": """
        x: float[1, 4]
        y = Concat(x, w[1, 3], axis=1)
        return y""",
    "sizes with one image": """
        x: float[1, 4, 3, 3]
        y = Resize(x, None, None, [1, 4, 6, 6])
        return y""",
    "one image is chosen": """
        x: float[1, 4]
        y = Gather(x, [0], axis=0)
        return y""",
    "everything is one row": """
        x: float[1, 4, 3]
        y = Flatten(x, axis=0)
        return y""",
}


def _images(model: ir.Model, count: int) -> dict[str, Array]:
    rng = np.random.default_rng(7)
    return {
        str(value.name): rng.normal(0.5, 2.0, (count, *value.shape.numpy()[1:]))
        for value in model.graph.inputs
        if value.shape is not None
    }


def _rows(inputs: Mapping[str, Array], index: int) -> dict[str, Array]:
    return {name: array[index : index + 1] for name, array in inputs.items()}


@pytest.mark.parametrize("what", FREED)
def test_a_free_batch_computes_each_image_as_if_alone(what: str) -> None:
    one = to_double(parse(FREED[what]))
    free, inputs = with_dynamic_batch(one), _images(one, 5)
    alone = [run(one, _rows(inputs, index)) for index in range(5)]
    for count in (1, 2, 5):
        batch = run(free, {name: array[:count] for name, array in inputs.items()})
        for position, got in enumerate(batch):
            wanted = np.concatenate([outputs[position] for outputs in alone[:count]])
            assert got.shape == wanted.shape
            assert np.abs(got - wanted).max() <= 1e-12 * np.abs(wanted).max()


@pytest.mark.parametrize("what", FREED)
def test_only_axis_0_is_free_and_the_graph_of_one_image_is_left_alone(what: str) -> None:
    one = parse(FREED[what])
    before = str(ir.to_proto(one))
    free = with_dynamic_batch(one)
    assert str(ir.to_proto(one)) == before
    values = [*free.graph.inputs, *(value for node in free.graph for value in node.outputs)]
    for value in values:
        assert value.shape is not None
        assert value.shape[0] == "batch"
        assert all(isinstance(size, int) for size in value.shape[1:])
    assert all(value.uses() for value in free.graph.initializers.values())


@pytest.mark.parametrize("what", KEPT)
def test_what_keeps_the_one_image_is_refused_by_name(what: str) -> None:
    model = parse(KEPT[what])
    node = model.graph.outputs[0].producer()
    assert node is not None
    says = rf"node '{node.name}' \({node.op_type}\) keeps the batch of 1: .*--batch 4"
    with pytest.raises(GraphError, match=says):
        with_dynamic_batch(model)


def test_an_input_of_more_than_one_image_has_no_axis_to_free() -> None:
    model = parse("x: float[2, 4]\ny = Relu(x)\nreturn y")
    with pytest.raises(GraphError, match=r"input 'x' is \[2, 4\]: a free batch is axis 0"):
        with_dynamic_batch(model)


@pytest.mark.parametrize("batch", [0, -1, 129, 2.0, True, "3", "dynamical", None])
def test_a_batch_that_is_none_is_refused(batch: Any) -> None:
    with pytest.raises(UsageError, match=r"batch is .*; 1 to 128 images, or 'dynamic'"):
        check_batch(batch, get_target("x86"), ())


@pytest.mark.parametrize(
    ("target", "skip", "fixed"),
    [("arm", (), "litert"), ("rpi4", ("onnxruntime",), "litert"), ("jetson", (), "tensorrt")],
)
def test_a_runtime_of_one_batch_is_refused_with_the_way_out(
    target: str, skip: tuple[str, ...], fixed: str
) -> None:
    with pytest.raises(UsageError, match=rf"not possible for {fixed}, .*--batch 4") as caught:
        check_batch("dynamic", get_target(target), skip)
    assert (f"--skip {fixed}" in str(caught.value)) == (not skip)


def test_every_runtime_says_whether_it_takes_any_batch() -> None:
    able = {name for name, row in LOWERINGS.items() if row.dynamic_batch}
    assert able == {"onnxruntime", "openvino"}


def test_a_refusal_comes_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "zoo_source", None)
    for batch, target in ((0, "x86"), ("dynamic", "arm")):
        with pytest.raises(UsageError, match="batch"):
            export_zoo("micronet-m1", target, batch=batch, out=tmp_path / "b")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


# ---- proof -------------------------------------------------------------------------------------


def test_images_of_a_batch_are_those_of_one_and_all_different() -> None:
    spec = TensorSpec("x", "float32", (1, 4), "NC")
    double = lambda inputs: {"y": inputs["x"] * 2}  # noqa: E731
    one = make_reference("numpy", double, [spec])
    assert [x["x"].shape for x in one.inputs] == [(1, 4)] * SAMPLES
    for batch in (3, 8):
        many = make_reference("numpy", double, [spec], [batch] * SAMPLES)
        for position, inputs in enumerate(many.inputs):
            assert inputs["x"].shape == (batch, 4)
            assert len(np.unique(inputs["x"], axis=0)) == batch
            assert (inputs["x"][:1] == sample_inputs([spec], position)["x"]).all()


def test_a_batch_that_mixes_its_images_is_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_nets.install(monkeypatch, batch_nets.FirstOnly())
    with pytest.raises(ParityError, match="openvino is not the same function"):
        export_zoo(batch_nets.MODEL, "x86", out=tmp_path / "any", batch="dynamic")
    assert list(tmp_path.iterdir()) == []


# ---- a small network in the zoo's place --------------------------------------------------------


@cache
def _source(batch: Batch) -> Source:
    with pytest.MonkeyPatch.context() as patch:
        batch_nets.install_gated(patch)
        return zoo_source(batch_nets.MODEL, batch=batch)


def _export(out: Path, target: str, batch: Batch, skip: Collection[str] = ()) -> ExportResult:
    order = pipeline.make_order(batch_nets.MODEL, target, out, skip, False, "fp32", lambda _: None)
    return pipeline.export_source(_source(batch), order)


# ---- counts ------------------------------------------------------------------------------------


def test_counts_of_a_batch_are_so_many_times_those_of_one_image() -> None:
    one, three = count_graph(batch_nets.traced(1)), count_graph(batch_nets.traced(3))
    assert three.macs == 3 * one.macs > 0
    assert three.elementwise_multiplies == 3 * one.elementwise_multiplies > 0
    assert of_one_image(three, 3) == one
    assert of_one_image(one, 1) == one
    with pytest.raises(GraphError, match=r"of node '.+' is no multiple of the batch 7"):
        of_one_image(three, 7)


@pytest.mark.parametrize("synthesise_above", [0.0, 0.1])
def test_passes_find_in_a_batch_what_they_find_in_one_image(synthesise_above: float) -> None:
    passes = (*CANONICAL, *choice_passes(GraphChoices(synthesise_above=synthesise_above)))
    found = [run_passes(batch_nets.traced(count), passes)[1] for count in (1, 3)]
    one, three = ({record.name: record.modified for record in each} for each in found)
    assert one == three
    assert one["lift-gates"] == one["residual-into-product"] == 1
    assert one.get("synthesise-kernels", 0) == (synthesise_above > 0)


# ---- bundles -----------------------------------------------------------------------------------


def _photos(count: int, size: int = batch_nets.SIZE) -> Array:
    return np.random.default_rng(5).normal(size=(count, 3, size, size)).astype(np.float32)


def _of_torch(images: Array) -> Array:
    with torch.no_grad():
        return np.asarray(batch_nets.Gated().eval()(torch.from_numpy(images)))


@pytest.mark.parametrize("target", ["x86", "arm", "jetson"])
def test_a_bundle_of_three(target: str, tmp_path: Path) -> None:
    manifest = _export(tmp_path / "b", target, 3).manifest
    size = batch_nets.SIZE
    assert [spec.shape for spec in manifest.inputs] == [(3, 3, size, size)]
    assert [spec.shape for spec in manifest.outputs] == [(3, batch_nets.CLASSES)]
    assert manifest.batch == 3
    assert tuple(a.runtime for a in manifest.artifacts) == TARGETS[target].runtimes
    one = _export(tmp_path / "one", target, 1).manifest
    assert [a.macs for a in manifest.artifacts] == [3 * a.macs for a in one.artifacts]
    images = _photos(3)
    wanted = _of_torch(images)
    for artifact in manifest.artifacts:
        if artifact.runtime != "tensorrt":
            assert artifact.parity is not None
            assert artifact.parity.inputs == SAMPLES
            with edgekit.load(tmp_path / "b", runtime=artifact.runtime) as model:
                got = model.run({"image": images})["logits"]
            assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()
    with open_bundle(tmp_path / "b") as bundle:
        assert bundle.golden().inputs["image"].shape == (3, 3, size, size)
        counts = read_counts(bundle)
    assert counts is not None
    assert counts.model.macs == manifest.model.macs
    assert all(counts.artifacts[a.runtime].macs == a.macs for a in manifest.artifacts)


def test_counts_in_the_manifest_are_of_one_image_whatever_the_batch(tmp_path: Path) -> None:
    batches: tuple[Batch, ...] = (1, 3, "dynamic")
    facts = {
        _export(tmp_path / str(batch), "x86", batch, skip=["openvino"]).manifest.model
        for batch in batches
    }
    assert len(facts) == 1
    (one,) = facts
    assert one.macs == count_graph(batch_nets.traced(1)).macs


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_bundle_of_any_batch_runs_them_all_in_one_session(runtime: str, tmp_path: Path) -> None:
    manifest = _export(tmp_path / "b", "x86", "dynamic").manifest
    size = batch_nets.SIZE
    assert [spec.shape for spec in manifest.inputs] == [(-1, 3, size, size)]
    assert [spec.shape for spec in manifest.outputs] == [(-1, batch_nets.CLASSES)]
    assert manifest.batch == 1
    for artifact in manifest.artifacts:
        assert artifact.parity is not None
        assert artifact.parity.inputs == SAMPLES + 2
    images = _photos(5)
    wanted = _of_torch(images)
    with edgekit.load(tmp_path / "b", runtime=runtime) as model, model.session.clone() as twin:
        kept = {n: model.run({"image": images[:n]})["logits"] for n in (1, 2, 5, 1, 3)}
        for session in (model.session, twin):
            for n in (5, 2):
                call = session.engine_call({"image": images[:n]})
                call()
                kept[10 + n] = call.results()["logits"]
        assert len(model.session.layer_times({"image": images[:2]}, 2)) > 1
    for n, got in kept.items():  # after the other runs: outputs are copies
        assert got.shape == (n % 10, batch_nets.CLASSES)
        assert np.abs(got - wanted[: n % 10]).max() <= 1e-5 * np.abs(wanted).max()


def test_the_golden_data_of_any_batch_are_of_one_image(tmp_path: Path) -> None:
    one = _export(tmp_path / "one", "x86", 1, skip=["openvino"])
    free = _export(tmp_path / "any", "x86", "dynamic", skip=["openvino"])
    assert one.manifest.files["golden.npz"] == free.manifest.files["golden.npz"]


@pytest.mark.parametrize("target", ["arm", "jetson"])
def test_any_batch_is_had_without_the_runtime_that_lacks_it(target: str, tmp_path: Path) -> None:
    fixed = TARGETS[target].runtimes[0]
    manifest = _export(tmp_path / "b", target, "dynamic", skip=[fixed]).manifest
    assert [artifact.runtime for artifact in manifest.artifacts] == ["onnxruntime"]
    assert [skipped.runtime for skipped in manifest.skipped] == [fixed]


def _contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_a_repeated_export_is_byte_identical(tmp_path: Path) -> None:
    first = _contents(_export(tmp_path / "a", "x86", "dynamic").path)
    _export(tmp_path / "other", "x86", 3)
    assert _contents(_export(tmp_path / "b", "x86", "dynamic").path) == first


def test_the_model_card(tmp_path: Path) -> None:
    batches: tuple[Batch, ...] = (1, 3, "dynamic")
    cards, macs = {}, set()
    for batch in batches:
        result = _export(tmp_path / str(batch), "x86", batch, skip=["openvino"])
        cards[batch] = (result.path / "README.md").read_text()
        assert "## Counts, batch 1, of the model as defined" in cards[batch]
        assert ("model.predict" in cards[batch]) == (batch != 3)
        rows = re.findall(r"The graph in \S+ does (\S+) MACs( an image)?\.", cards[batch])
        macs |= {row[0] for row in rows}
        assert {bool(row[1]) for row in rows} <= {batch == 3}
    assert len(macs) <= 1  # of one image in each, where they are not those of the model
    assert "| 3 x 3 x 16 x 16 |" in cards[3]
    assert "| any x 3 x 16 x 16 |" in cards["dynamic"]
    assert "7 inputs" in cards["dynamic"]


# ---- networks of the zoo -----------------------------------------------------------------------


ON_ALL = ("x86", "arm")
NETWORKS = [
    pytest.param("dcd-mobilenetv2-x0.35", "dynamic", ("x86",)),
    pytest.param("micronet-m1", 3, ON_ALL, marks=pytest.mark.zoo),
    pytest.param("micronet-m1", "dynamic", ("x86",), marks=pytest.mark.zoo),
    pytest.param("dcd-mobilenetv2-x0.35", 3, ON_ALL, marks=pytest.mark.zoo),
    *(
        pytest.param(model_id, batch, targets, marks=pytest.mark.zoo)
        for model_id in ("efficientnet-b0-tf", "mobilenetv3-large-seed", "resnet18")
        for batch, targets in ((3, ON_ALL), ("dynamic", ("x86",)))
    ),
]  # what is of the zoo run is traced elsewhere, too, and tracing takes ten seconds and more


@pytest.mark.parametrize(("model_id", "batch", "targets"), NETWORKS)
def test_networks_of_the_zoo(
    model_id: str, batch: Batch, targets: tuple[str, ...], tmp_path: Path
) -> None:
    source = zoo_source(model_id, weights="random", image_size=64, batch=batch)
    for target in targets:
        order = pipeline.make_order(model_id, target, tmp_path / target, (), False, "fp32", print)
        manifest = pipeline.export_source(source, order).manifest
        assert manifest.inputs[0].shape[0] == (-1 if batch == "dynamic" else 3)
        for artifact in manifest.artifacts:
            assert artifact.parity is not None
            (error,) = artifact.parity.max_relative_error.values()
            assert 0 < error <= 1e-4
