"""Measure on a board: probe, push, run, watch, fetch, clean up.

    host                                     board
    probe ---------------------------------> what it is, what it has
    push what it lacks --------------------> bundles, images, wheels: each under its sha256
    run -----------------------------------> the job: detached, holds the board's lock
      <- lines, results so far, signs of life (one idle connection: polls would disturb)
      x  the connection drops: again, with growing pauses
    clean ---------------------------------> the job's folder goes; goods stay, up to 2 GB

A job is named by what is to be measured. Whoever asks for the same again, after Ctrl-C of the
terminal's window, a crash of this machine or a day, finds it running or finished.
"""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit import __version__
from edgekit.bundle import Bundle, open_bundle, schema
from edgekit.errors import (
    DeviceError,
    EdgekitError,
    InputError,
    MeasurementError,
    MissingDependencyError,
    UsageError,
)
from edgekit.profiling.job import BUILD_S
from edgekit.profiling.remote import wheelhouse
from edgekit.profiling.remote.board import DONE, FAILED, STOPPED, Outcome
from edgekit.profiling.remote.device import (
    OLDEST_PYTHON,
    BoardFacts,
    Device,
    LostError,
    RefusedError,
)
from edgekit.profiling.remote.exchange import Limits
from edgekit.profiling.remote.frames import Frame, printable
from edgekit.profiling.remote.goods import (
    BUNDLES,
    IMAGES,
    Goods,
    bundle_goods,
    image_goods,
    wheel_goods,
    wheel_goods_of_bytes,
)
from edgekit.profiling.remote.own_wheel import own_wheel
from edgekit.profiling.remote.ssh import client
from edgekit.profiling.remote.url import parse_url
from edgekit.profiling.request import Request
from edgekit.profiling.result import ProfileResult, result_from_json
from edgekit.runtimes import RUNTIMES

Progress = Callable[[str], None]
Keep = Callable[[ProfileResult], None]

_MOST_ROUNDS = 5  # of sending what the board says it lacks
_LARGE_BYTES = 4_000_000  # of goods whose arrival is worth a line
MOST_BYTES = 2_000_000_000  # of goods that stay on a board


@dataclass(frozen=True)
class Patience:
    """How long, in seconds, what is waited for.

    Attributes:
        lost_s: a connection that drops is tried again.
        silent_s: a job that lives and says nothing new; what one piece of it may take is added.
        idle_s: a connection without a sign of life.
        pauses_s: between attempts; the last is repeated.
        poll_s: how often the board looks for news of the job.
    """

    lost_s: float = 300.0
    silent_s: float = 1200.0
    idle_s: float = 60.0
    pauses_s: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 15.0)
    poll_s: float = 1.0

    def pause_s(self, attempt: int) -> float:
        """Before attempt ``attempt``, counted from 0."""
        return self.pauses_s[min(attempt, len(self.pauses_s) - 1)]


def profile_on_device(
    url: str,
    request: Request,
    *,
    install: bool = False,
    progress: Progress = lambda line: None,
    keep: Keep = lambda result: None,
    patience: Patience | None = None,
) -> ProfileResult:
    """Measure ``request`` on the board at ``url``.

    Args:
        url: ``ssh://[user@]host[:port]``.
        request: as for this machine; its files are sent.
        install: send edgekit and the runtimes too; without it nothing is installed there.
        progress: told what is being done.
        keep: given what is measured so far, marked incomplete.
        patience: time limits.

    Raises:
        UsageError: an address or option that cannot be.
        DeviceError: the board cannot be reached, is busy, or goes away. What was finished has
            gone to ``keep``.
        MissingDependencyError: no ssh here; there, no edgekit or no runtime.
        EdgekitError: what measuring raised there.
        KeyboardInterrupt: after the job there was stopped and ``keep`` has what it measured.
    """
    address = parse_url(url)
    device = Device(client(address))
    with ExitStack() as stack:
        wanted = _Wanted.open(request, stack)
        only = bool(os.environ.get("EDGEKIT_DEVICE_PYTHON"))
        facts = device.probe(install=install, only_this_python=only)
        progress(f"{device.name}: {printable(facts.text(), 400)}")
        own = (wheel_goods_of_bytes(own_wheel()),) if install else ()
        identity = wanted.identity([facts.executable, *(goods.digest for goods in own)])
        if facts.busy is not None and facts.busy.job != identity:
            raise device.busy(facts.busy)  # before sending disturbs whoever measures there
        wheels, warnings = _wheels(wanted, facts, install=install, progress=progress)
        job = _Job(
            id=identity,
            device=device,
            wanted=wanted,
            facts=facts,
            wheels=(*own, *wheels),
            warnings=warnings,
            progress=progress,
            keep=keep,
            patience=patience or Patience(),
        )
        job.push()
        return job.measure()


@dataclass(frozen=True)
class _Wanted:
    """What is to be measured, and the goods that this takes."""

    request: Request
    bundle: Bundle
    model: Goods
    references: tuple[Goods, ...]
    image: Goods | None

    @staticmethod
    def open(request: Request, stack: ExitStack) -> _Wanted:
        bundle = stack.enter_context(open_bundle(request.bundle))
        others = [stack.enter_context(open_bundle(path)) for path in request.references]
        image = image_goods(Path(request.image)) if request.image else None
        return _Wanted(
            request, bundle, bundle_goods(bundle), tuple(map(bundle_goods, others)), image
        )

    @property
    def goods(self) -> tuple[Goods, ...]:
        return (self.model, *self.references, *((self.image,) if self.image else ()))

    def runtimes(self) -> tuple[str, ...]:
        of_bundle = tuple(artifact.runtime for artifact in self.bundle.manifest.artifacts)
        return self.request.runtimes or of_bundle

    def longest_s(self) -> float:
        """Seconds in which one piece may finish nothing: a sustained run, compiling a plan."""
        builds = any(RUNTIMES[name].builds for name in self.runtimes() if name in RUNTIMES)
        return self.request.sustain_s + (BUILD_S if builds else 0.0)

    def there(self, base: str) -> Request:
        """The request with the board's paths."""
        return replace(
            self.request,
            bundle=f"{base}/{BUNDLES}/{self.model.digest}",
            references=tuple(f"{base}/{BUNDLES}/{each.digest}" for each in self.references),
            image=f"{base}/{IMAGES}/{self.image.digest}/image" if self.image else "",
            command=(),  # what was typed here means nothing there
        )

    def here(self, text: str, base: str) -> str:
        """What the board says, with the paths as they were typed here."""
        there = self.there(base)
        pairs = [(there.bundle, self.request.bundle), (there.image, self.request.image)]
        pairs += zip(there.references, self.request.references, strict=True)
        for theirs, typed in filter(all, pairs):
            text = text.replace(theirs, typed)
        return text

    def identity(self, extra: Sequence[str]) -> str:
        """The same for the same measurement, whatever was typed for it."""
        document = schema.encode(self.there(""))
        text = json.dumps([document, __version__, *extra], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _wheels(
    wanted: _Wanted, facts: BoardFacts, *, install: bool, progress: Progress
) -> tuple[tuple[Goods, ...], tuple[str, ...]]:
    """What is sent beside the bundles and edgekit, and what must be said about it.

    Raises:
        DeviceError: the board's Python is too old.
        MissingDependencyError: not ``install``, and there is no edgekit, or another version.
    """
    if facts.python[:2] < OLDEST_PYTHON:
        raise DeviceError(
            f"the newest Python found there is {'.'.join(map(str, facts.python))} "
            f"({facts.executable}): edgekit needs 3.10 or later (JetPack 6, Raspberry Pi OS 12, "
            "Ubuntu 22.04); name another one in EDGEKIT_DEVICE_PYTHON"
        )
    if not install:
        _check_edgekit(facts, wanted.runtimes())
        return (), ()
    house = wheelhouse.fetch(
        wheelhouse.platform_of(facts),
        wanted.runtimes(),
        must=wanted.request.runtimes,
        progress=progress,
    )
    return tuple(map(wheel_goods, house.wheels)), house.warnings


def _check_edgekit(facts: BoardFacts, runtimes: Sequence[str]) -> None:
    if facts.edgekit == __version__:
        return
    extras = {"onnxruntime": "onnx", "openvino": "openvino", "litert": "tflite"}
    named = ",".join(extras[name] for name in runtimes if name in extras)
    brackets = f"[{named}]" if named else ""
    has = f"has edgekit {facts.edgekit}" if facts.edgekit else "has no edgekit"
    raise MissingDependencyError(
        "the device",
        f"edgekit {__version__}",
        f"add --install to send it and its runtimes, or there: {facts.executable} -m pip install "
        f'"edgekit{brackets}=={__version__}" (a Python of a venv is named in '
        "EDGEKIT_DEVICE_PYTHON)",
        detail=f"{facts.executable} {has}",
    )


@dataclass
class _Job:
    """One measurement on one board. ``id`` is its name there."""

    id: str
    device: Device
    wanted: _Wanted
    facts: BoardFacts
    wheels: tuple[Goods, ...]
    warnings: tuple[str, ...]
    progress: Progress
    keep: Keep
    patience: Patience
    started: bool = False
    lines_seen: int = 0
    last: ProfileResult | None = None
    outcome: Outcome | None = None
    heard: float = dataclasses.field(default_factory=time.monotonic)
    news: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def goods(self) -> tuple[Goods, ...]:
        return (*self.wanted.goods, *self.wheels)

    # ---- push ----

    def push(self) -> None:
        """Send what the board lacks; a dropped connection is tried again.

        Raises:
            DeviceError: it stays away, or has no space.
        """
        if self.facts.busy is not None:
            return  # our own job runs: it has all it needs
        self._send([goods for goods in self.goods if not self.facts.has(goods)])

    def _send(self, lacking: Sequence[Goods]) -> None:
        left = {goods.digest: goods for goods in lacking}
        attempt = 0
        while left:
            self.progress(f"{self.device.name}: sending {_megabytes(left.values()):.1f} MB")
            before = len(left)
            try:
                self.device.put(tuple(left.values()), lambda digest: self._stored(digest, left))
                return
            except LostError as error:
                attempt = 0 if len(left) < before else attempt + 1
                if not error.passing or attempt > len(self.patience.pauses_s):
                    raise
                self._pause(error, attempt)

    def _stored(self, digest: str, left: dict[str, Goods]) -> None:
        goods = left.pop(digest, None)
        if goods is not None and left and goods.size > _LARGE_BYTES:
            self.progress(f"{self.device.name}: {_megabytes(left.values()):.1f} MB left to send")

    def _pause(self, error: LostError, attempt: int) -> None:
        pause = self.patience.pause_s(attempt)
        self.progress(f"{error}; again in {pause:g} s")
        time.sleep(pause)

    # ---- run ----

    def measure(self) -> ProfileResult:
        """Start or find the job, follow it to its end, and clean up."""
        try:
            self._follow()
        except (KeyboardInterrupt, _SilentError):
            self._stop(self._take)
            raise
        except _UnusableError:  # or the same command would find it waiting for ever
            self._stop(lambda frame: None)
            raise
        outcome = self.outcome
        if outcome is None:
            raise DeviceError(f"{self.device.name} does not say how the job ended")
        self._clean()
        if outcome.state == DONE and self.last is not None:
            self.keep(self.last)
            return self.last
        raise self._error(outcome)

    def _follow(self) -> None:
        """Until the outcome is known.

        Raises:
            DeviceError: the board stays away; ``keep`` has what was finished.
        """
        self.heard = self.news = time.monotonic()
        attempt, seen, rounds = 0, self.heard, 0
        while self.outcome is None:
            try:
                self._run(fresh=not self.started)
                rounds += 1
                if rounds > _MOST_ROUNDS and self.outcome is None:
                    raise DeviceError(f"{self.device.name} neither starts nor refuses the job")
            except LostError as error:
                attempt = attempt + 1 if self.heard == seen else 0
                seen = self.heard
                self._bear(error)
                self._pause(error, attempt)

    def _bear(self, error: LostError) -> None:
        """Give up, or not yet."""
        away = time.monotonic() - self.heard
        if error.passing and away < self.patience.lost_s:
            return
        kept = "what was finished is kept" if self.last else "nothing was finished"
        raise DeviceError(
            f"{error} ({away:.0f} s without a sign); {kept}; the job may still run there: the "
            "same command picks it up"
        )

    def _run(self, *, fresh: bool) -> None:
        asked = {
            "job": self.id,
            "fresh": fresh,
            "groups": [goods.document() for goods in self.goods],
            "wheels": [goods.digest for goods in self.wheels],
            "python": self.facts.executable,
            "who": _who(),
            "request": schema.encode(self.wanted.there(self.facts.base)),
            "most_bytes": MOST_BYTES,
            "lines_seen": self.lines_seen,
            "pause_s": self.patience.poll_s,
        }
        limits = Limits(self.patience.idle_s, 14 * 86400.0)
        reply = self.device.call("run", asked, limits, on_frame=self._watch)
        lacking = reply.fields.get("lacks") if reply else None
        if isinstance(lacking, list):  # damaged there, or removed for space
            self._send([goods for at, goods in enumerate(self.goods) if at in lacking])

    def _take(self, frame: Frame) -> None:
        """One frame of a running job."""
        self.heard = time.monotonic()
        handler = _HANDLERS.get(frame.kind)
        if handler is not None:
            self.news = self.heard
            handler(self, frame)

    def _watch(self, frame: Frame) -> None:
        """One frame; refuses a job that lives and gets nowhere."""
        self._take(frame)
        silent_s = self.patience.silent_s + self.wanted.longest_s()
        if self.heard - self.news > silent_s:
            raise _SilentError(
                f"the job on {self.device.name} has said nothing for {silent_s:.0f} s"
            )

    def _running(self, frame: Frame) -> None:
        self.started = True
        since = printable(str(_mapping(frame.fields.get("about")).get("since", "?")), 60)
        if frame.fields.get("picked_up"):
            self.progress(f"{self.device.name}: a job for this runs since {since}: picked up")

    def _lines(self, frame: Frame) -> None:
        seen = frame.fields.get("lines_seen")
        self.lines_seen = seen if isinstance(seen, int) else self.lines_seen
        for line in frame.data.split(b"\n")[-20:]:
            self.progress(printable(self._here(line.decode("utf-8", "replace"))))

    def _result(self, frame: Frame) -> None:
        result = self._checked(frame.data)
        self.last = result
        if not result.complete:
            self.keep(result)

    def _ended(self, frame: Frame) -> None:
        try:
            self.outcome = schema.decode(Outcome, frame.fields.get("outcome"))
        except schema.SchemaError as error:
            raise _UnusableError(f"{self.device.name} says no usable outcome: {error}") from None

    def _checked(self, data: bytes) -> ProfileResult:
        """A result of the board as one of ours.

        Raises:
            DeviceError: not one, or one of something else.
        """
        try:
            result = result_from_json(data.decode("utf-8"))
        except (InputError, UnicodeDecodeError) as error:
            raise _UnusableError(f"{self.device.name} sends no usable result: {error}") from None
        if result.facts.bundle_sha256 != self.wanted.model.digest:
            raise _UnusableError(f"{self.device.name} sends a result of another bundle")
        request = self.wanted.request
        return replace(
            result,
            bundle=request.bundle,
            command=request.command,
            image=request.image or result.image,
            device=self.device.name,
            warnings=(*map(self._here, result.warnings), *self.warnings),
        )

    def _here(self, text: str) -> str:
        return self.wanted.here(text, self.facts.base)

    # ---- end ----

    def _stop(self, take: Callable[[Frame], None]) -> None:
        """End the job there and ``take`` what it has."""
        self.progress(
            f"{self.device.name}: stopping the job there (Ctrl-C again leaves it running)"
        )
        try:
            limits = Limits(60.0, 120.0)
            asked = {"job": self.id, "lines_seen": self.lines_seen}
            self.device.call("stop", asked, limits, on_frame=take)
            self._clean()
        except DeviceError as error:
            self.progress(f"the job was not stopped, and may still run: {error}")

    def _clean(self) -> None:
        with contextlib.suppress(LostError, RefusedError):  # swept there after a week
            self.device.call("clean", {"job": self.id}, Limits(30.0, 60.0))

    def _error(self, outcome: Outcome) -> EdgekitError:
        """What the board's outcome means here."""
        name = self.device.name
        if outcome.state == FAILED and outcome.package:
            remedy = f"{outcome.remedy}; or add --install"
            return MissingDependencyError(f"{outcome.feature} on {name}", outcome.package, remedy)
        if outcome.state == FAILED:
            return _BY_EXIT_CODE.get(outcome.exit_code, EdgekitError)(
                f"{name}: {self._here(outcome.message)}"
            )
        if outcome.state == STOPPED:
            return DeviceError(f"the job on {name} was stopped there; what was finished is kept")
        why = f": its last words are {outcome.log[-1]!r}" if outcome.log else ""
        return DeviceError(
            f"the job on {name} died (killed, out of memory, or the board restarted){why}; what "
            "was finished is kept"
        )


class _SilentError(DeviceError):
    """The job hangs."""


class _UnusableError(DeviceError):
    """What the job says is no result of what was asked."""


_HANDLERS: Mapping[str, Callable[[_Job, Frame], None]] = {
    "running": _Job._running,
    "progress": _Job._lines,
    "result": _Job._result,
    "outcome": _Job._ended,
}
_BY_EXIT_CODE: Mapping[int, Callable[[str], EdgekitError]] = {
    2: UsageError,
    5: MeasurementError,
    6: DeviceError,
}


def _megabytes(goods: Iterable[Goods]) -> float:
    return sum(each.size for each in goods) / 1e6


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _who() -> str:
    """This user at this machine, for whoever finds the board busy."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # no entry for the user id
        user = "?"
    return printable(f"{user}@{socket.gethostname()}", 64)
