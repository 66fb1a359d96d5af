"""TensorRT plans on disk: one folder per fingerprint, built once, never trusted blindly.

    EDGEKIT_CACHE (default ~/.cache/edgekit)
      plans/<fingerprint>/model.plan   the plan
      plans/<fingerprint>/plan.json    what it was built from, its sha256 and self-test
      plans/<fingerprint>.lock         two processes that want the same plan build it once
      timing/<device>.bin              TensorRT's timings of kernels, shared by all models

A plan runs on the GPU, driver and TensorRT it was built with only, so all of them are in the
fingerprint: a JetPack update gives another fingerprint, never a plan that fails to load.
``plan.json`` is written after the plan and names its sha256: a process killed in between leaves
an entry that does not verify, and is built again. A cache that cannot be written costs a build
each time and a note, nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PLAN, RECORD = "model.plan", "plan.json"
FORMAT = "edgekit plan 1"
_DIGITS = 32  # of the sha256: 128 bits


@dataclass(frozen=True)
class Fingerprint:
    """All that a plan depends on.

    Attributes:
        tensorrt: module and version.
        gpu: name of the GPU.
        compute_capability: e.g. ``"8.7"``.
        multiprocessors: their number; all Orin modules have one name and differ in this.
        driver: newest CUDA version that the driver knows.
        model_sha256: of the ONNX file.
        options: of the build, as ``dataclasses.asdict`` gives them.
    """

    tensorrt: str
    gpu: str
    compute_capability: str
    multiprocessors: int
    driver: str
    model_sha256: str
    options: Mapping[str, int | bool]

    def digest(self) -> str:
        """Name of the entry."""
        return _digest(asdict(self))

    def device_digest(self) -> str:
        """Name of the timings: the same for every model on this device."""
        return _digest({**asdict(self), "model_sha256": "", "options": {}})


@dataclass(frozen=True)
class PlanRecord:
    """What ``plan.json`` says.

    Attributes:
        fingerprint: what the plan was built from.
        plan_sha256: of ``model.plan``.
        layers: of the parsed network.
        golden_sha256: of the golden data that the plan was tested against, or "".
        self_test: output -> max relative error against that golden data.
    """

    fingerprint: Fingerprint
    plan_sha256: str
    layers: int
    golden_sha256: str
    self_test: Mapping[str, float]


@dataclass(frozen=True)
class CachedPlan:
    """A plan that verified against its record."""

    plan: bytes
    record: PlanRecord


class Entry:
    """The place of one plan. Use it within ``PlanCache.locked``.

    Attributes:
        notes: what the user should know, e.g. that a damaged plan is built again.
        path: of the plan that was loaded or stored; None before, and when storing failed.
    """

    def __init__(
        self, folder: Path, timing: Path, fingerprint: Fingerprint, unwritable: str = ""
    ) -> None:
        self._folder, self._timing, self._fingerprint = folder, timing, fingerprint
        self._unwritable = unwritable
        self.notes: list[str] = []
        self.path: Path | None = None

    def load(self) -> CachedPlan | None:
        """The plan, if there is one and it verifies; a note says why one does not."""
        try:
            text = (self._folder / RECORD).read_bytes()
            plan = (self._folder / PLAN).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self.notes.append(f"the cached plan cannot be read ({error.strerror}): built again")
            return None
        record = _parse_record(text)
        problem = _problem(record, plan, self._fingerprint)
        if problem or record is None:
            self.notes.append(f"the cached plan {problem}: built again")
            return None
        self.path = self._folder / PLAN
        return CachedPlan(plan, record)

    def store(self, plan: bytes, record: PlanRecord) -> None:
        """Write plan and record, each at once or not at all. Failing is a note."""
        document = {"format": FORMAT, **asdict(record)}
        text = json.dumps(document, indent=2) + "\n"
        plan_written = self._write(self._folder / PLAN, plan)
        stored = plan_written and self._write(self._folder / RECORD, text.encode())
        self.path = self._folder / PLAN if stored else None
        if not stored:
            self.notes.append(
                f"the plan is not cached ({self._unwritable}) and the next load builds it again; "
                "set EDGEKIT_CACHE to a folder that can be written"
            )

    def timings(self) -> bytes:
        """TensorRT's timing cache of this device, or b""."""
        try:
            return self._timing.read_bytes()
        except OSError:
            return b""

    def store_timings(self, timings: bytes) -> None:
        """Keep the timing cache for the next build on this device."""
        if timings:
            self._write(self._timing, timings)

    def _write(self, path: Path, data: bytes) -> bool:
        """Whether it was written; after the first failure nothing more is tried."""
        if not self._unwritable:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _write_at_once(path, data)
            except OSError as error:
                self._unwritable = _reason(error)
        return not self._unwritable


class PlanCache:
    """The cache below ``root``; ``EDGEKIT_CACHE`` or ``~/.cache/edgekit`` when None."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or _default_root()

    @contextmanager
    def locked(
        self, fingerprint: Fingerprint, waiting: Callable[[], None] = lambda: None
    ) -> Iterator[Entry]:
        """The entry of ``fingerprint``, for this process alone.

        Args:
            fingerprint: of the wanted plan.
            waiting: called once if another process has the entry.
        """
        plans, name = self.root / "plans", fingerprint.digest()
        timing = self.root / "timing" / f"{fingerprint.device_digest()}.bin"
        descriptor, unwritable = -1, ""
        try:
            descriptor = _lock(plans / f"{name}.lock", waiting)
        except OSError as error:
            unwritable = _reason(error)
        try:
            yield Entry(plans / name, timing, fingerprint, unwritable)
        finally:
            if descriptor >= 0:
                os.close(descriptor)  # and with it the lock


def _default_root() -> Path:
    named = os.environ.get("EDGEKIT_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "edgekit"


def _lock(path: Path, waiting: Callable[[], None]) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _reason(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _write_at_once(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _parse_record(text: bytes) -> PlanRecord | None:
    """The record, or None if anything about it is not as this version writes it."""
    try:
        document: dict[str, Any] = json.loads(text)
        if document.pop("format") != FORMAT:
            return None
        fingerprint = Fingerprint(**document.pop("fingerprint"))
        record = PlanRecord(fingerprint=fingerprint, **document)
        errors = {str(name): float(error) for name, error in record.self_test.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return PlanRecord(
        fingerprint, str(record.plan_sha256), int(record.layers), str(record.golden_sha256), errors
    )


def _problem(record: PlanRecord | None, plan: bytes, wanted: Fingerprint) -> str:
    if record is None:
        return f"has a damaged {RECORD}"
    if asdict(record.fingerprint) != asdict(wanted):
        return "was built for something else"
    if record.plan_sha256 != hashlib.sha256(plan).hexdigest():
        return "is damaged (its sha256 differs)"
    return ""


def _digest(facts: Mapping[str, object]) -> str:
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
