"""``edgekit.profile_bundle``: measure a bundle on this machine.

    request -> make_plan -> each piece in a fresh process -> Collected -> ProfileResult

The protocol is in docs/profiling.md. What is finished is never lost: after every piece ``keep``
is given the result so far, marked incomplete, so that Ctrl-C, a runtime that crashes or a board
that goes away costs the piece at hand and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.bundle import open_bundle
from edgekit.errors import EdgekitError
from edgekit.profiling.assemble import Collected
from edgekit.profiling.job import Job, run_job
from edgekit.profiling.plan import Piece, make_plan
from edgekit.profiling.request import Request
from edgekit.profiling.result import ProfileResult
from edgekit.profiling.scopes import read_image

Progress = Callable[[str], None]
Keep = Callable[[ProfileResult], None]


def profile_bundle(path: str | Path, **options: Any) -> ProfileResult:
    """Measure a bundle on this machine: latency, cold start, memory, time per layer.

    Args:
        path: folder or ``.edgekit`` file.
        options: fields of ``edgekit.profiling.request.Request``: ``runtimes=("litert",)``,
            ``threads=(1, 2)``, ``preset="quick"``, ``pace_hz=30`` ... A single runtime,
            number of threads, scope or reference need not be in a tuple.

    Returns:
        Figures with their verdicts; ``result.verdict`` is the worst of them. It does not raise
        when they cannot be trusted: look at it.

    Raises:
        UsageError: an option that cannot be.
        BundleError: missing, damaged, or refused by a runtime.
        MissingDependencyError: a runtime is not installed.
        EdgekitError: a measuring process crashed, hung or was killed.
    """
    return run_profile(Request(bundle=str(path), **dict(map(_plain, options.items()))))


_TUPLES = ("runtimes", "threads", "scopes", "references")


def _plain(option: tuple[str, Any]) -> tuple[str, Any]:
    """An option as ``Request`` has it: tuples, and text for paths."""
    name, value = option
    if name in _TUPLES:
        several = value if isinstance(value, (tuple, list)) else (value,)
        value = tuple(str(item) if isinstance(item, Path) else item for item in several)
    return name, str(value) if isinstance(value, Path) else value


def run_profile(
    request: Request,
    *,
    progress: Progress = lambda line: None,
    keep: Keep = lambda result: None,
    run: Callable[[Job], dict[str, Any]] = run_job,
) -> ProfileResult:
    """Measure what ``request`` asks for.

    Args:
        request: what to measure.
        progress: told what is being done, with the time left.
        keep: given the result so far, marked incomplete, after every piece.
        run: does a job in a fresh process.

    Raises:
        EdgekitError: as ``profile_bundle``. A runtime that fails is left out from there on, the
            others are measured to the end and kept, and then the first failure is raised.
    """
    if request.image:
        read_image(request.image)  # before minutes are spent
    with open_bundle(Path(request.bundle)) as bundle:
        plan = make_plan(request, bundle)
        collected = Collected(request, bundle, plan.processes)
        for warning in plan.warnings:
            collected.warn(warning)
        failures = _work_off(list(plan.pieces), collected, progress, keep, run)
        result = collected.result(complete=not failures)
    keep(result)
    if failures:
        raise next(iter(failures.values()))
    return result


def _work_off(
    pieces: list[Piece],
    collected: Collected,
    progress: Progress,
    keep: Keep,
    run: Callable[[Job], dict[str, Any]],
) -> dict[str, EdgekitError]:
    """Do the pieces in order; runtime -> why it failed."""
    failures: dict[str, EdgekitError] = {}
    watch = _TimeLeft(pieces)
    for index, piece in enumerate(pieces):
        job = piece.job
        if job.runtime in failures:
            continue
        progress(f"{_name(job)}: {piece.title}{watch.text(index)}")
        try:
            collected.add(job, run(replace(job, epoch_ns=collected.epoch_ns)))
        except EdgekitError as error:
            failures[job.runtime] = error
            collected.warn(f"{job.runtime} is incomplete: {error}")
        if index + 1 < len(pieces):
            keep(collected.result(complete=False))
    return failures


def _name(job: Job) -> str:
    return f"{job.runtime}, {job.threads} thread{'s' if job.threads > 1 else ''}"


class _TimeLeft:
    """How long the rest takes: as planned, corrected by how long the first pieces took."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces, self._begin = pieces, time.monotonic()

    def text(self, index: int) -> str:
        """With ``index`` pieces done."""
        done = sum(piece.seconds for piece in self._pieces[:index])
        left = sum(piece.seconds for piece in self._pieces[index:])
        pace = (time.monotonic() - self._begin) / done if done else 1.0
        return f" (about {left * pace:.0f} s left)"
