"""Who may import whom: the floors of the house, read from the imports of every file.

    cli                     on top
    training, export
    profiling
    models, runtimes
    bundle, targets
    errors, optional        on the ground

A file imports from lower floors and from its own room. Packages from outside are allowed by
name and place; what is not in ``OUTSIDE`` is the standard library.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "edgekit"

FLOORS = (
    {"errors", "optional"},
    {"bundle", "targets"},
    {"models", "runtimes"},
    {"profiling"},
    {"training", "export"},
    {"cli"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# A room above that a file may import all the same, and why.
EXCEPTIONS = {
    # `import edgekit` offers what the rooms have; every one of these imports is lazy.
    "__init__.py": {"bundle", "errors", "export", "models", "profiling", "runtimes"},
    "__main__.py": {"cli"},
}
# Rooms on one floor that one may use and not the other way round.
NEIGHBOURS = {"bundle": {"targets"}, "optional": {"errors"}}

# What a board lists of the zoo: the rows and what they are made of.
TABLES = ("models/__init__.py", "models/zoo.py", "models/variant.py", "models/labels.py")
ROWS = "models/rows/"

NUMERIC = {"numpy"}
TORCH = {"torch", "safetensors"}
ONNX = {"onnx", "onnx_ir", "onnxscript", "google"}
VENDORS = {
    # onnx_reference.py: a user's file is judged by plain onnxruntime, not by our way of opening it
    "onnxruntime": {"runtimes/ort.py", "export/onnx_reference.py"},
    "openvino": {"runtimes/ov.py", "export/openvino_ir.py"},
    "ai_edge_litert": {"runtimes/litert.py", "export/tflite/schema.py"},
    "tflite_runtime": {"runtimes/litert.py"},
    "tensorrt": {"runtimes/trt_vendor.py"},
    "tensorrt_rtx": {"runtimes/trt_vendor.py"},
    "flatbuffers": {"export/tflite/schema.py", "export/tflite/emission.py"},
    "PIL": {
        "runtimes/preprocess.py",
        "training/augment.py",
        "training/data/scenes.py",
        # parts of images, scaled and cut at once with their boxes
        "training/detection/loading.py",
    },
    "accelerate": {"training/engine.py"},
    "datasets": {"training/data/huggingface.py"},
    "pyarrow": {"training/data/parquet.py"},
    "kornia": {"training/augment.py"},
    "sklearn": {"training/data/digits.py"},
    "tomli_w": {"training/recipe.py"},
    "tokenizers": {"runtimes/vision_language/text.py"},
}


@dataclass(frozen=True)
class Import:
    """One import. ``runs`` is False under ``if TYPE_CHECKING``."""

    module: str
    line: int
    runs: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports_of(path: Path) -> list[Import]:
    return list(_walk(ast.parse(path.read_text(encoding="utf-8")), runs=True))


def _walk(node: ast.AST, *, runs: bool) -> Iterator[Import]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        runs = False
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, node.lineno, runs) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        yield from _from(node, runs=runs)
    if isinstance(node, ast.Call) and _is_late_import(node):
        module = node.args[0]
        if isinstance(module, ast.Constant) and isinstance(module.value, str):
            yield Import(module.value, node.lineno, runs)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, runs=runs)


def _from(node: ast.ImportFrom, *, runs: bool) -> Iterator[Import]:
    module = node.module or ""
    if module == "edgekit":  # from edgekit import optional
        yield from (Import(f"edgekit.{alias.name}", node.lineno, runs) for alias in node.names)
    else:
        yield Import(module, node.lineno, runs)


def _is_late_import(call: ast.Call) -> bool:
    name = ast.unparse(call.func).rpartition(".")[2]
    return name in ("require", "import_module") and bool(call.args)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def place_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def may_import(path: Path, room: str) -> bool:
    own = room_of(path)
    if room == own or room in EXCEPTIONS.get(place_of(path), ()):
        return True
    if room in NEIGHBOURS.get(own, ()):
        return True
    return own in FLOOR_OF and FLOOR_OF.get(room, len(FLOORS)) < FLOOR_OF[own]


def allowed_outside(path: Path) -> set[str]:
    """Packages from outside the standard library that this file may name."""
    room, place = room_of(path), place_of(path)
    allowed = {vendor for vendor, places in VENDORS.items() if place in places}
    if room not in ("errors", "optional", "targets", "__init__", "__main__"):
        allowed |= NUMERIC
    is_table = place in TABLES or place.startswith(ROWS)
    if room in ("training", "export") or (room == "models" and not is_table):
        allowed |= TORCH
    if room == "export":
        allowed |= ONNX
    return allowed


def types_only(path: Path) -> set[str]:
    """Packages whose types alone may be named: such an import never runs."""
    if room_of(path) == "profiling":
        return {"onnx_ir"}  # counts.py reads a graph that somebody else loaded
    if place_of(path) == "runtimes/preprocess.py" or room_of(path) == "training":
        return {"PIL"}
    return set()


@pytest.mark.parametrize("path", files(), ids=place_of)
def test_no_file_imports_from_above(path):
    wrong = [
        f"line {found.line}: {found.module}"
        for found in imports_of(path)
        if found.module.startswith("edgekit.")
        and not may_import(path, found.module.split(".")[1])
        and found.module.split(".")[1] != "__version__"
    ]
    assert not wrong, f"{place_of(path)} imports from above its floor"


@pytest.mark.parametrize("path", files(), ids=place_of)
def test_packages_from_outside_stay_in_their_place(path):
    wrong = [
        f"line {found.line}: {found.module}"
        for found in imports_of(path)
        if found.top not in sys.stdlib_module_names
        and found.top != "edgekit"
        and found.top not in allowed_outside(path)
        and (found.runs or found.top not in types_only(path))
    ]
    assert not wrong, f"{place_of(path)} imports what does not belong there"


def test_every_folder_of_the_package_is_one():
    folders = {path.parent for path in files()}
    bare = [place_of(folder) for folder in folders if not (folder / "__init__.py").exists()]
    assert not bare, "setuptools leaves these out of the wheel"


def test_every_room_has_a_floor():
    rooms = {room_of(path) for path in files()} - {"__init__", "__main__"}
    assert rooms <= set(FLOOR_OF)
    assert len(files()) > 40, "the package was not found"


@pytest.mark.parametrize(
    ("place", "text", "caught"),
    [
        ("runtimes/ort.py", "from edgekit.export import parity", "above"),
        ("bundle/reading.py", "import edgekit.cli", "above"),
        ("runtimes/ov.py", "import torch", "outside"),
        ("profiling/counts.py", "def f():\n    import onnx", "outside"),
        ("models/zoo.py", "import torch", "outside"),
        ("models/rows/dcd.py", "import torch", "outside"),
        ("cli/run.py", "optional.require('onnxruntime', 'x')", "outside"),
        ("export/pipeline.py", "import onnxruntime", "outside"),
        ("export/pipeline.py", "import torch", ""),
        ("runtimes/ort.py", "optional.require('onnxruntime', 'x')", ""),
        ("cli/run.py", "from edgekit.export import parity", ""),
    ],
)
def test_the_rules_themselves_catch(tmp_path, monkeypatch, place, text, caught):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(text)
    checks = {
        "above": test_no_file_imports_from_above,
        "outside": test_packages_from_outside_stay_in_their_place,
    }
    for name, check in checks.items():
        if name == caught:
            with pytest.raises(AssertionError):
                check(path)
        else:
            check(path)
