"""A board for tests: a home folder, a stand-in for ssh, and a scenario of what happens there."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekit.profiling.remote import Patience, profile_on_device
from edgekit.profiling.request import Request
from edgekit.profiling.result import ProfileResult
from tests.bundle import sample_bundle

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
URL = "ssh://pi@board"
HURRIED = Patience(lost_s=30.0, silent_s=60.0, idle_s=60.0, pauses_s=(0.01,), poll_s=0.05)
LIMIT_S = 60.0  # a guard against hanging, never a measure


class FakeBoard:
    """One board. ``lines`` and ``kept`` are what ``profile`` was told."""

    def __init__(self, folder: Path, monkeypatch: Any) -> None:
        self.home, self.state = folder / "home", folder / "state"
        self.bundle = sample_bundle.write(folder / "tiny")
        self.lines: list[str] = []
        self.kept: list[ProfileResult] = []
        self.scenario: dict[str, Any] = {}
        self.calls: list[dict[str, Any]] = []
        self.interrupt = 0  # Ctrl-C, once, when so many results have come
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.home),
            "EDGEKIT_DEVICE_LOCK": str(self.home / "edgekit-device.lock"),
        }
        for place in (self.home, self.state):
            place.mkdir()
        program = f"{sys.executable} -I -S {HERE / 'fake_ssh.py'} {self.state}"
        monkeypatch.setenv("EDGEKIT_SSH", program)
        monkeypatch.setenv("EDGEKIT_DEVICE_PYTHON", sys.executable)
        monkeypatch.delenv("EDGEKIT_CACHE", raising=False)

    @property
    def base(self) -> Path:
        return self.home / ".cache" / "edgekit" / "device"

    @property
    def jobs(self) -> list[Path]:
        return list((self.base / "jobs").iterdir())

    def words(self) -> list[list[str]]:
        """Of every call of ssh."""
        path = self.state / "calls.json"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def prepare(self) -> None:
        """Write down how the next calls go."""
        environment = {
            "PYTHONPATH": f"{HERE / 'board_site'}:{ROOT}",
            "EDGEKIT_TEST_SCENARIO": json.dumps(self.scenario),
            **self.environment,
        }
        plan = {"environment": environment, "calls": [{}] * len(self.words()) + self.calls}
        (self.state / "plan.json").write_text(json.dumps(plan))

    def profile(self, *, patience: Patience = HURRIED, **changes: Any) -> ProfileResult:
        """Measure the tiny bundle there."""
        install, url = changes.pop("install", False), changes.pop("url", URL)
        request = Request(**{"bundle": str(self.bundle), "command": ("edgekit",), **changes})
        self.prepare()
        return profile_on_device(
            url,
            request,
            install=install,
            progress=self.lines.append,
            keep=self._keep,
            patience=patience,
        )

    def _keep(self, result: ProfileResult) -> None:
        self.kept.append(result)
        if len(self.kept) == self.interrupt:
            raise KeyboardInterrupt

    def in_background(self, **changes: Any) -> Background:
        """The same in a thread."""
        return Background(lambda: self.profile(**changes))


class Background:
    """A call in a thread; ``result`` waits for what it returned or raised."""

    def __init__(self, call: Callable[[], ProfileResult]) -> None:
        self._outcome: list[Any] = []
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], ProfileResult]) -> None:
        try:
            self._outcome.append(call())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            self._outcome.append(error)

    def result(self) -> Any:
        self._thread.join(LIMIT_S)
        assert self._outcome, "it hangs"
        if isinstance(self._outcome[0], BaseException):
            raise self._outcome[0]
        return self._outcome[0]


def wait_until(condition: Callable[[], Any]) -> None:
    """Until it holds; fails after a time that only something that hangs takes."""
    until = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.02)
