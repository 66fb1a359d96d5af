"""``edgekit count``: what it prints of the zoo, of files and of bundles."""

import functools
import importlib
import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit import optional
from edgekit.bundle import open_bundle, write_bundle
from edgekit.cli import main
from edgekit.export import counting
from edgekit.models.zoo import get_variant

M0 = ("micronet-m0", "--imgsz", "32")


def out(capsys, *arguments):
    assert main(["count", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def failure(capsys, *arguments, code):
    capsys.readouterr()
    assert main(["count", *map(str, arguments)]) == code
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if line.startswith("edgekit: error: ")]
    assert len(errors) == 1
    assert printed.out == ""
    return errors[0]


@pytest.fixture(scope="module")
def count_once():
    """``count_zoo`` that remembers what it counted: a trace takes seconds."""
    return functools.cache(counting.count_zoo)


@pytest.fixture(autouse=True)
def remember(count_once, monkeypatch):
    """What differs only in how it is printed is traced once."""

    def count_zoo(model_id, *, num_classes=None, image_size=None, progress):
        progress("counted, or remembered")
        return count_once(model_id, num_classes=num_classes, image_size=image_size)

    monkeypatch.setattr(counting, "count_zoo", count_zoo)


@pytest.fixture(scope="module")
def old_bundle(bundle, tmp_path_factory):
    """The bundle as an earlier edgekit wrote it."""
    path = tmp_path_factory.mktemp("old") / "colours-x86"
    with open_bundle(bundle) as opened:
        files = {name: opened.file(name).read_bytes() for name in opened.manifest.files}
        del files["counts.json"]
        return write_bundle(path, opened.manifest, files, force=False)


# ---- the zoo ---------------------------------------------------------------------------------


def test_a_network_of_the_zoo(capsys):
    shown = out(capsys, "micronet-m2")
    lines = shown.splitlines()
    cells = {line.split("  ")[0]: line.split()[-1] for line in lines[3:9]}
    row = get_variant("micronet-m2")
    assert lines[0] == "micronet-m2, image 1 x 3 x 224 x 224"
    assert cells["params"] == "2,393,876"
    assert cells["MACs"] == f"{row.macs:,}" == "10,338,128"
    assert cells["element-wise multiplies"] == "2,405,312"
    assert cells["MAdds"] == "12,743,440"
    assert cells["FLOPs"] == f"{2 * row.macs + 2_405_312:,}"
    assert "truncated: 12 M is this figure truncated, not rounded" in shown
    assert "activation, x * gate(x)" in shown
    assert "not counted: Add x" in shown
    assert "top-1" not in shown
    assert lines[-1] == "next: edgekit count micronet-m2 --per-layer"


def test_json_has_what_was_promised_and_sums(capsys):
    document = json.loads(out(capsys, *M0, "--json"))
    assert document["model"] == "micronet-m0"
    assert document["input_shapes"] == {"image": [1, 3, 32, 32]}
    assert document["params"] == get_variant("micronet-m0").params
    assert document["madds"] == document["macs"] + document["elementwise_multiplies"]
    assert document["flops"] == 2 * document["macs"] + document["elementwise_multiplies"]
    layers = document["layers"]
    for key in ("macs", "elementwise_multiplies"):
        assert sum(layer[key] for layer in layers) == document[key] > 0
        assert sum(row[key] for row in document["by_type"]) == document[key]
    assert set(layers[0]) >= {"name", "op_type", "scope", "output_shape", "params", "weight_bytes"}
    assert layers[0]["scope"] == "features.0.stem.0.conv.0"
    assert any(text.startswith("HardSigmoid x") for text in document["not_counted"])
    assert {row["kind"] for row in document["apart"]} == {"activation", "scaling"}
    assert document["missing"] == []
    # of another size than was published
    assert {row["outcome"] for row in document["published"]} == {"agrees", "not compared"}


def test_per_layer_is_one_line_a_layer_with_the_largest_share_visible(capsys):
    document = json.loads(out(capsys, *M0, "--json"))
    shown = out(capsys, *M0, "--per-layer")
    table = shown.partition("\nlayers, as defined\n")[2].partition("\n\n")[0].splitlines()
    assert len(table) == 1 + len(document["layers"])
    largest = max(document["layers"], key=lambda layer: layer["macs"])
    (full,) = [line for line in table if "#" * 20 in line]
    assert full.startswith(largest["scope"])
    assert f"{largest['macs']:,}" in full
    assert shown.splitlines()[-1] == "next: edgekit export micronet-m0 --target x86"


def test_the_next_line_keeps_what_was_asked(capsys):
    last = out(capsys, *M0, "--num-classes", "7").splitlines()[-1]
    assert last == "next: edgekit count micronet-m0 --num-classes 7 --imgsz 32 --per-layer"


def test_a_figure_that_differs_is_a_warning(capsys):
    assert main(["count", "mobilenetv2-x0.5", "--imgsz", "96"]) == 0
    printed = capsys.readouterr()
    assert "differs: off by" in printed.out
    assert "edgekit: warning: params published as 1.95 M" in printed.err
    assert "MACs at 96 pixels" in printed.out


# ---- files -----------------------------------------------------------------------------------


def test_a_file_of_the_users_own(onnx_file, capsys):
    document = json.loads(out(capsys, onnx_file, "--json"))
    assert (document["model"], document["macs"], document["flops"]) == ("colours", 12, 24)
    assert document["params"] == 12
    assert document["published"] == []
    assert out(capsys, onnx_file, "--per-layer").splitlines()[-1].startswith("next: edgekit export")


def test_a_dynamic_file_needs_its_shape(dynamic_onnx_file, capsys):
    assert "--input-shape image:1,3,1,1" in failure(capsys, dynamic_onnx_file, code=1)
    shown = out(capsys, dynamic_onnx_file, "--input-shape", "image:2,3,8,8")
    assert shown.startswith("dynamic, image 2 x 3 x 8 x 8")
    assert "--input-shape image:2,3,8,8 --per-layer" in shown.splitlines()[-1]


def _recurrent(path):
    rng = np.random.default_rng(0)
    weights = {"w": (1, 16, 3), "r": (1, 16, 4)}
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [5, 1, 1, 4])],
        [
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path
    )


def test_macs_that_are_a_lower_bound_say_so(tmp_path, capsys):
    _recurrent(tmp_path / "r.onnx")
    assert main(["count", str(tmp_path / "r.onnx")]) == 0
    assert "a lower bound: without those of LSTM x1" in capsys.readouterr().err


def test_a_broken_file_is_one_line(tmp_path, capsys, onnx_file):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(onnx_file.read_bytes()[:60])
    assert "broken.onnx" in failure(capsys, broken, code=1)
    broken.write_bytes(b"\x00" * 500)
    failure(capsys, broken, code=1)


def test_a_name_that_would_rewrite_the_screen_does_not(tmp_path, capsys):
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x\x1b[2J", "w"], ["y"], name="bad\x1b[2J")],
        "g",
        [helper.make_tensor_value_info("x\x1b[2J", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [weight],
    )
    opset = [helper.make_opsetid("", 18)]
    path = tmp_path / "x\x1b[2J.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    shown, _, last = out(capsys, path, "--per-layer").partition("\nnext: ")
    assert "\x1b" not in shown
    assert "bad\\x1b[2J" in shown
    assert "\n1 other " not in shown
    assert str(path) in last  # as it can be typed


def test_weights_that_an_older_file_lists_as_inputs_are_none(tmp_path, capsys):
    shapes = {"x": [1, 3, 4, 4], "k": [2, 3, 1, 1]}
    listed = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 4, 4])]
    weight = numpy_helper.from_array(np.ones(shapes["k"], np.float32), "k")
    nodes = [helper.make_node("Conv", ["x", "k"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    graph = helper.make_graph(nodes, "g", listed, made, [weight])
    opset = [helper.make_opsetid("", 9)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=3), tmp_path / "old.onnx")
    document = json.loads(out(capsys, tmp_path / "old.onnx", "--json"))
    assert document["input_shapes"] == {"x": [1, 3, 4, 4]}
    assert (document["macs"], document["params"]) == (6 * 16, 6)
    assert "\n1 other " in "\n" + " ".join(out(capsys, tmp_path / "old.onnx").split("\n  "))


# ---- bundles ---------------------------------------------------------------------------------


def test_a_bundle_and_its_artifacts(bundle, capsys):
    document = json.loads(out(capsys, bundle, "--json"))
    assert document["model"] == "colours"
    assert document["macs"] == 12
    assert set(document["artifacts"]) == {"openvino", "onnxruntime"}
    assert document["artifacts"]["openvino"]["flops"] == 24
    assert document["layers"][0]["name"] == "head"
    assert out(capsys, bundle, "--per-layer").splitlines()[-1] == f"next: edgekit profile {bundle}"


def test_a_rewritten_graph_stands_beside_the_model_as_defined(capsys, tmp_path):
    line = ["micronet-m0", "--target", "x86", "--weights", "random", "--imgsz", "32", "-q"]
    assert main(["export", *line, "-o", str(tmp_path / "m0")]) == 0
    capsys.readouterr()
    shown = out(capsys, tmp_path / "m0")
    assert "as defined  in openvino's graph  in onnxruntime's graph" in shown
    document = json.loads(out(capsys, tmp_path / "m0", "--json"))
    rewritten = document["artifacts"]["openvino"]
    assert f"{document['macs']:,}" in shown
    assert f"{rewritten['macs']:,}" in shown
    assert rewritten["macs"] != document["macs"]
    theirs = out(capsys, tmp_path / "m0", "--runtime", "openvino", "--per-layer")
    assert "layers, in openvino's graph" in theirs
    # published for 224 x 224, and that is said
    assert "not compared: for 224 x 224, counted at 32" in shown


def test_a_zipped_bundle(bundle, tmp_path, capsys):
    with open_bundle(bundle) as opened:
        files = {name: opened.file(name).read_bytes() for name in opened.manifest.files}
        write_bundle(tmp_path / "b.edgekit", opened.manifest, files, force=False)
    folder, archive = out(capsys, bundle, "--json"), out(capsys, tmp_path / "b.edgekit", "--json")
    assert folder == archive


def test_an_older_bundle_is_counted_from_its_onnx(old_bundle, capsys):
    document = json.loads(out(capsys, old_bundle, "--json"))
    assert (document["macs"], document["layers"]) == (12, [])
    assert list(document["artifacts"]) == ["onnxruntime"]
    assert document["artifacts"]["onnxruntime"]["layers"][0]["macs"] == 12
    assert "no counts.json" in document["notes"][0]
    assert "layers, in onnxruntime's graph" in out(capsys, old_bundle, "--per-layer")


def test_an_older_bundle_on_a_board_is_its_manifests_totals(old_bundle, capsys, monkeypatch):
    monkeypatch.setattr(optional, "is_installed", lambda name: False)
    shown = out(capsys, old_bundle)
    assert "nothing is known of its layers" in " ".join(shown.split())
    assert "operator" not in shown
    document = json.loads(out(capsys, old_bundle, "--json"))
    assert (document["madds"], document["artifacts"], document["layers"]) == (12, {}, [])


def test_a_bundle_needs_nothing_that_a_board_lacks(bundle, monkeypatch, capsys):
    def refuse(name, feature):
        raise AssertionError(f"{feature} imports {name}")

    monkeypatch.setattr(optional, "require", refuse)
    monkeypatch.setattr(optional, "is_installed", lambda name: False)
    assert "colours" in out(capsys, bundle, "--per-layer")


def test_a_damaged_bundle_is_refused(bundle, tmp_path, capsys):
    shutil.copytree(bundle, tmp_path / "b")
    (tmp_path / "b" / "counts.json").write_text("{}")
    assert "counts.json has" in failure(capsys, tmp_path / "b", code=1)


# ---- wrong lines -----------------------------------------------------------------------------


def test_without_torch_the_pip_line_is_told(onnx_file, monkeypatch, capsys):
    real = importlib.import_module

    def missing(name):
        if name == "torch":
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    for subject in ("micronet-m0", onnx_file):
        assert 'pip install "torch==' in failure(capsys, subject, code=7)


@pytest.mark.parametrize(
    ("typed", "code", "says"),
    [
        ("micronet-m9", 2, "did you mean micronet-m"),
        ("resnet", 2, "`edgekit models` lists all"),
        ("missing.onnx", 1, "no such ONNX file: missing.onnx"),
        ("./missing", 1, "no bundle at"),
        ("missing.edgekit", 1, "no bundle at"),
        ("micronet-m0 --input-shape 1,3,8,8", 2, "--input-shape is for your own FILE.onnx"),
        ("micronet-m0 --runtime openvino", 2, "--runtime is for a bundle"),
        ("micronet-m0 --imgsz 8", 2, "image_size is 8 pixels"),
        ("micronet-m0 --imgsz 0", 2, "not a positive whole number"),
        ("missing.onnx --imgsz 64", 2, "--imgsz is for a network of the zoo"),
        ("missing.onnx --runtime x", 2, "--runtime is for a bundle"),
        ("./missing --num-classes 3", 2, "--num-classes is for a network of the zoo"),
        ("./missing --input-shape 1,3", 2, "--input-shape is for your own FILE.onnx"),
        ("pyproject.toml", 2, "'pyproject.toml' cannot be counted"),
    ],
)
def test_a_wrong_line_is_one_line(typed, code, says, capsys):
    assert says in failure(capsys, *typed.split(), code=code)


def test_an_empty_name_counts_nothing(capsys):
    assert "an empty name counts nothing" in failure(capsys, "", code=2)


def test_an_unknown_runtime_of_a_bundle(bundle, capsys):
    line = failure(capsys, bundle, "--runtime", "litert", code=2)
    assert "known: openvino, onnxruntime" in line


def test_fc_squeeze_counts_the_row_of_its_own(capsys):
    id_ = "dcd-mobilenetv2-x0.35"
    assert main(["count", id_, "--imgsz", "32", "--json", "--fc-squeeze", "8"]) == 0
    narrow = json.loads(capsys.readouterr().out)
    assert (narrow["model"], narrow["params"]) == (f"{id_}-fs8", 2_267_932)
    assert main(["count", "micronet-m0", "--fc-squeeze", "8"]) == 2
    assert "micronet-m0 has no such choice" in capsys.readouterr().err
    assert main(["count", "none.onnx", "--fc-squeeze", "8"]) == 2
    assert "--fc-squeeze is for a network of the zoo" in capsys.readouterr().err
