"""What ``import edgekit`` offers, and that it costs next to nothing."""

import subprocess
import sys

import edgekit

NAMES = [
    "Bundle",
    "BundleError",
    "DeviceError",
    "EdgekitError",
    "ImageFacts",
    "InputError",
    "MissingDependencyError",
    "Model",
    "ParityError",
    "Session",
    "UsageError",
    "__version__",
    "export_model",
    "export_onnx",
    "export_zoo",
    "finish_bundle",
    "list_models",
    "load",
    "open_bundle",
    "profile_bundle",
]


def test_the_surface_is_exactly_this():
    assert sorted(edgekit.__all__) == NAMES
    assert len(NAMES) <= 20


def test_every_name_is_there_and_found_where_it_is_said_to_be():
    for name in NAMES:
        assert getattr(edgekit, name) is not None
    assert dir(edgekit) == NAMES


def test_an_unknown_name_is_an_attribute_error():
    assert "export" not in edgekit.__all__  # that is a room, not a function
    assert not hasattr(edgekit, "nonsense")


def _imported_by(statement):
    code = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_brings_nothing_heavy():
    heavy = {"numpy", "torch", "onnx", "PIL", "onnxruntime", "openvino", "ai_edge_litert"}
    assert not heavy & _imported_by("import edgekit")
    assert not heavy & _imported_by("import edgekit.cli")
    assert not heavy & _imported_by("import edgekit.cli.models, edgekit.cli.targets")


def test_what_a_board_uses_brings_no_torch_and_no_onnx():
    rooms = (
        "edgekit.runtimes.model, edgekit.profiling.counts, edgekit.bundle, edgekit.models.labels"
    )
    brought = _imported_by(f"import {rooms}")
    assert "numpy" in brought
    assert not {"torch", "onnx", "onnx_ir", "onnxscript"} & brought
    # Vendor libraries wait until a session is opened.
    assert not {"onnxruntime", "openvino", "ai_edge_litert", "tensorrt"} & brought
