"""The RUNTIMES table, and what importing costs."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from edgekit import optional, runtimes
from edgekit.errors import MissingDependencyError, UnknownNameError
from edgekit.runtimes import RUNTIMES, available, open_session, status
from edgekit.runtimes.session import Session
from edgekit.targets import TARGETS

ROOT = Path(__file__).parents[2]


def test_the_table():
    assert list(RUNTIMES) == ["onnxruntime", "openvino", "litert", "tensorrt", "null"]
    assert {name for row in TARGETS.values() for name in row.runtimes} < set(RUNTIMES)


@pytest.mark.parametrize("name", RUNTIMES)
def test_every_row_has_a_session(name: str):
    module, _, class_name = RUNTIMES[name].session.partition(":")
    found = getattr(importlib.import_module(module), class_name)
    assert issubclass(found, Session)
    assert found.runtime == name


def test_unknown_runtime():
    with pytest.raises(UnknownNameError, match="unknown runtime 'tflite': did you mean litert"):
        open_session("tflite", [])


def test_nothing_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(optional, "is_installed", lambda name: False)
    assert available() == ("null",)
    by_name = {row.runtime.name: row for row in status()}
    assert by_name["null"].works
    for name in ("onnxruntime", "openvino", "litert", "tensorrt"):
        assert not by_name[name].installed
        assert not by_name[name].works
        assert "install" in by_name[name].remedy
        with pytest.raises(MissingDependencyError) as caught:
            open_session(name, [Path("x")])
        assert by_name[name].remedy in str(caught.value)


def test_status_of_what_is_installed():
    by_name = {row.runtime.name: row for row in status()}
    assert by_name["onnxruntime"].version == optional.version("onnxruntime")
    assert by_name["litert"].works
    assert by_name["litert"].remedy == ""


def test_status_knows_the_numpy_conflict(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(optional, "is_installed", lambda name: name == "tflite_runtime")
    versions = {"numpy": "2.0.1", "tflite_runtime": "2.14.0"}
    monkeypatch.setattr(optional, "version", versions.get)
    (litert,) = (row for row in status() if row.runtime.name == "litert")
    assert (litert.installed, litert.works, litert.version) == (True, False, "2.14.0")
    assert litert.remedy == 'pip install "numpy<2"'
    monkeypatch.setitem(versions, "numpy", "1.26.4")
    assert runtimes.numpy_conflict("tflite_runtime") == ""


# ---- the cost of an import -------------------------------------------------------------------


def in_a_fresh_python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_status_imports_nothing_heavy():
    program = """
        import sys
        import edgekit.bundle, edgekit.runtimes
        edgekit.runtimes.status()
        print(*sys.modules)
    """
    heavy = {"numpy", "PIL", "torch", "onnxruntime", "openvino", "ai_edge_litert", "tensorrt"}
    assert not heavy & set(in_a_fresh_python(program).split())


def test_import_takes_less_than_50_ms():
    program = """
        import time
        start = time.perf_counter()
        import edgekit
        print((time.perf_counter() - start) * 1000)
    """
    assert min(float(in_a_fresh_python(program)) for _ in range(5)) < 50


@pytest.mark.parametrize("row", RUNTIMES.values(), ids=lambda row: row.name)
def test_settings_are_named_where_they_are_read(row):
    module = importlib.import_module(row.session.partition(":")[0])
    source = inspect.getsource(module)
    for setting in row.settings:
        assert f'"{setting}"' in source
