"""edgekit sends nothing to anybody, and neither do the runtimes that it opens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK = ROOT / "edgekit/runtimes/data/check.onnx"

OPEN_ALL = f"""
import time
from pathlib import Path
import numpy as np
from edgekit.runtimes import open_session
for runtime in ("openvino", "onnxruntime"):
    with open_session(runtime, [Path({str(CHECK)!r})]) as session:
        session.run({{s.name: np.zeros(s.shape, s.dtype) for s in session.inputs}})
time.sleep(2)  # reporters send from a thread or a process of their own
"""
REPORTER = "import sys; print('REPORTER', 'openvino_telemetry.main' in sys.modules)"


def _run(script: str, home: Path) -> str:
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    environment.pop("XDG_CACHE_HOME", None)
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    return subprocess.run(
        [sys.executable, "-c", f"{script}\n{REPORTER}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout


def test_a_plain_import_of_openvino_would_report(tmp_path: Path) -> None:
    # Or the test below could not fail.
    assert "REPORTER True" in _run("import openvino", tmp_path)


def test_opening_runtimes_reports_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    assert "REPORTER False" in _run(OPEN_ALL, tmp_path)
    left = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert left == [], "a reporter's identity or queue in the user's home"


def test_the_users_own_choice_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit import optional

    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    optional.require("onnxruntime", "a test")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
