"""The figures of a run: one JSON object a line, and TensorBoard's events where it is installed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.optional import is_installed, require
from edgekit.training.run_folder import EVENTS, METRICS


class Metrics:
    """Writes ``metrics.jsonl`` and events into a run's folder.

    Args:
        out: the folder.
        active: whether this process writes.
        step: where the run goes on: lines of later steps are of a run that was killed, and go.
    """

    def __init__(self, out: Path, active: bool, step: int) -> None:
        self.path, self.active = out / METRICS, active
        self._board: Any = None
        if not active:
            return
        kept = [line for line in _lines(self.path) if _step(line) <= step] if step else []
        self.path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        if is_installed("tensorboard"):
            writer = require("torch.utils.tensorboard", "TensorBoard's events").SummaryWriter
            self._board = writer(str(out / EVENTS), purge_step=step + 1 if step else None)

    def close(self) -> None:
        """Nothing is written after this."""
        if self._board is not None:
            self._board.close()

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """One line, after ``step`` steps."""
        if not self.active:
            return
        whole = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **whole}) + "\n")
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _step(line: str) -> float:
    """Of a line; a line that was cut is of no step."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
