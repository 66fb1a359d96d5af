"""From a request to the pieces of work it takes: one fresh process each.

    preset     processes   timed a scope     scopes   also
    quick      1           5 s               engine   nothing: a first look
    default    3           3.4 s each        all      per layer, memory
    thorough   5           5 s each          all      per layer, memory, 30 a second, 60 s
                                                      sustained, and all the big cores

Processes of all runtimes alternate in rounds, so that what drifts slowly (heat, a neighbour)
hits all alike. What heats the machine comes last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.bundle import Bundle, open_bundle
from edgekit.errors import MissingDependencyError, UnknownNameError, UsageError
from edgekit.profiling.environment import allowed_cpus, big_cpus, choose_cpus
from edgekit.profiling.job import Job
from edgekit.profiling.request import Request
from edgekit.profiling.result import ENGINE, PIPELINE, SCOPES
from edgekit.runtimes import RUNTIMES, get_runtime, is_available, require_runtime

MAX_PACE_HZ = 10_000.0
MAX_SUSTAIN_S = 24 * 3600.0


@dataclass(frozen=True)
class Preset:
    """One row of the table above. The fields of time are those of ``Job``."""

    processes: int
    seconds: float
    samples: int
    most_seconds: float
    warm_seconds: float
    most_warm_seconds: float
    scopes: tuple[str, ...]
    layers: bool
    memory: bool
    pace_hz: float = 0.0
    sustain_s: float = 0.0
    all_cores: bool = False


PRESETS: dict[str, Preset] = {
    "quick": Preset(1, 5.0, 1000, 7.0, 1.0, 3.0, (ENGINE,), False, False),
    # 3 x 3.4 s are more than 10 s, 3 x 340 more than 1000; the caps keep it under a minute.
    "default": Preset(3, 3.4, 340, 4.5, 1.0, 3.0, SCOPES, True, True),
    "thorough": Preset(5, 5.0, 340, 60.0, 1.0, 30.0, SCOPES, True, True, 30.0, 60.0, True),
}

_LEAST_PROCESSES = 3
_IMPORT_S = 1.0  # of a piece, beside what it times: only for the time left
_SIDE_S = 4.0  # of a run per layer, or of memory


@dataclass(frozen=True)
class Piece:
    """One process: its job, what to call it, and about how long it takes, in seconds."""

    job: Job
    title: str
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What will be done, in order, and what must be said about it."""

    pieces: tuple[Piece, ...]
    processes: int
    warnings: tuple[str, ...]


def make_plan(request: Request, bundle: Bundle, root: Path = Path("/")) -> Plan:
    """The pieces of ``request``, all checked before the first of them runs.

    Raises:
        UsageError: a preset, runtime, scope, number of threads, rate, time or CPU that cannot be.
        BundleError: a reference that cannot be opened.
        MissingDependencyError: a runtime that is asked for by name is not installed.
    """
    _check_name(request.bundle)
    preset = _preset(request)
    runtimes, warnings = choose_runtimes(request, bundle)
    for reference in request.references:
        open_bundle(Path(reference)).close()  # a mistyped path costs no measurement
    scopes = _scopes(request, preset)
    if request.image and PIPELINE not in scopes:
        raise UsageError(
            f"the image {request.image!r} would feed the scope pipeline, which is not measured: "
            "add pipeline to the scopes, or leave the image out"
        )
    base = Job(
        kind="latency",
        bundle=request.bundle,
        runtime="",
        scopes=scopes,
        seconds=preset.seconds,
        samples=preset.samples,
        most_seconds=preset.most_seconds,
        warm_seconds=preset.warm_seconds,
        most_warm_seconds=preset.most_warm_seconds,
        image=request.image,
    )
    engines = [
        replace(
            base,
            runtime=runtime,
            threads=threads,
            cpus=choose_cpus(request.cpus, threads, root),
            options=_options(request, runtime),
        )
        for runtime in runtimes
        for threads in _threads(request, preset, root)
    ]
    pieces = [*_steady(engines, preset), *_beside(engines, request, preset)]
    pieces += [*_at_a_pace(engines, preset), *_sustained(engines, preset)]
    warnings = (*warnings, *_few(preset), *_crowded(engines, root))
    return Plan(tuple(pieces), preset.processes, warnings)


def _steady(engines: Sequence[Job], preset: Preset) -> list[Piece]:
    """Back-to-back, all scopes: rounds over the engines."""
    seconds = _seconds(engines[0])
    return [
        Piece(job, f"process {number} of {preset.processes}", seconds)
        for number in range(1, preset.processes + 1)
        for job in engines
    ]


def _at_a_pace(engines: Sequence[Job], preset: Preset) -> list[Piece]:
    """At a fixed rate, the first scope."""
    if not preset.pace_hz:
        return []
    hertz = preset.pace_hz
    paced = [
        replace(
            job,
            pace_hz=hertz,
            scopes=job.scopes[:1],
            samples=1,
            # A slow rate needs its time: ten runs to warm up with, and three samples.
            most_warm_seconds=max(job.most_warm_seconds, 15 / hertz),
            seconds=max(job.seconds, 3 / hertz),
            most_seconds=max(job.most_seconds, 3 / hertz),
        )
        for job in engines
    ]
    title = f"{hertz:g} a second, process"
    return [
        Piece(job, f"{title} {number} of {preset.processes}", _seconds(job))
        for number in range(1, preset.processes + 1)
        for job in paced
    ]


def _beside(engines: Sequence[Job], request: Request, preset: Preset) -> list[Piece]:
    """Memory, layers and reference networks, each in a process of its own, once a runtime."""
    firsts = list({job.runtime: job for job in reversed(engines)}.values())[::-1]
    kinds = [
        ("memory", "memory", preset.memory, ()),
        ("layers", "per layer", preset.layers, ()),
        ("turns", "beside reference networks", bool(request.references), request.references),
    ]
    return [
        Piece(replace(job, kind=kind, others=others), title, _SIDE_S + 1.5 * len(others))
        for kind, title, wanted, others in kinds
        if wanted
        for job in firsts
    ]


def _sustained(engines: Sequence[Job], preset: Preset) -> list[Piece]:
    if not preset.sustain_s:
        return []
    seconds = preset.sustain_s
    return [
        Piece(
            replace(job, kind="sustained", seconds=seconds, most_seconds=seconds),
            f"sustained for {seconds:g} s",
            seconds + _IMPORT_S,
        )
        for job in engines
    ]


def _seconds(job: Job) -> float:
    """About how long a process takes: the first warm-up, a third of it for the other scopes."""
    scopes = len(job.scopes)
    return _IMPORT_S + job.warm_seconds * (1 + (scopes - 1) / 3) + job.seconds * scopes


# ---- what was asked for ----------------------------------------------------------------------


def _preset(request: Request) -> Preset:
    """The preset with what the request says otherwise."""
    if request.preset not in PRESETS:
        raise UnknownNameError("preset", request.preset, PRESETS)
    preset = PRESETS[request.preset]
    _check_rate("pace", request.pace_hz, MAX_PACE_HZ, "starts a second")
    _check_rate("sustained run", request.sustain_s, MAX_SUSTAIN_S, "seconds")
    return replace(
        preset,
        pace_hz=request.pace_hz or preset.pace_hz,
        sustain_s=request.sustain_s or preset.sustain_s,
        layers=preset.layers if request.layers is None else request.layers,
        memory=preset.memory if request.memory is None else request.memory,
    )


def _check_name(path: str) -> None:
    """A result names the bundle, in JSON: half a character has no place there."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UsageError(f"the name {path!r} is no UTF-8: rename the bundle") from None


def _check_rate(what: str, value: float, most: float, unit: str) -> None:
    if not (math.isfinite(value) and 0 <= value <= most):
        raise UsageError(f"{what}: {value:g} is not possible: give 0 to {most:g} {unit}; 0 is none")


def _scopes(request: Request, preset: Preset) -> tuple[str, ...]:
    for scope in request.scopes:
        if scope not in SCOPES:
            raise UnknownNameError("scope", scope, SCOPES)
    return tuple(scope for scope in SCOPES if scope in (request.scopes or preset.scopes))


def _threads(request: Request, preset: Preset, root: Path) -> tuple[int, ...]:
    for count in request.threads:
        if count < 1:
            raise UsageError(f"threads is 1 or more, got {count}")
    cores = len(big_cpus(root))
    default = (1, cores) if preset.all_cores else (1,)
    return tuple(dict.fromkeys(request.threads or default))


def choose_runtimes(request: Request, bundle: Bundle) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those asked for, or all of the bundle that are installed; and who was left out.

    Raises:
        UsageError: unknown, or not in the bundle.
        MissingDependencyError: asked for and not installed, or none is.
    """
    has = [artifact.runtime for artifact in bundle.manifest.artifacts]
    for name in request.runtimes:
        get_runtime(name)
        if name not in has and name != "null":
            raise UsageError(
                f"{request.bundle!r} has no artifact for runtime {name!r}; it has: {', '.join(has)}"
            )
        require_runtime(name)
    if request.runtimes:
        return tuple(dict.fromkeys(request.runtimes)), ()
    known = [name for name in has if name in RUNTIMES]
    here = tuple(name for name in known if is_available(name))
    if not here:
        remedies = "; or ".join(RUNTIMES[name].remedy for name in known)
        raise MissingDependencyError(
            f"{request.bundle!r}", f"one of {', '.join(known or has)}", remedies
        )
    return here, tuple(
        f"{name} is not measured: it is not installed here (edgekit doctor says how to get it)"
        for name in known
        if name not in here
    )


def _options(request: Request, runtime: str) -> Mapping[str, str]:
    """The options of one runtime: ``tensorrt.cuda_graph`` is ``cuda_graph`` of tensorrt.

    Raises:
        UsageError: an option without a runtime in front, or one that it does not have.
    """
    for key in request.options:
        name, _, setting = key.partition(".")
        known = get_runtime(name).settings
        if not setting:
            raise UsageError(f"option {key!r} names no setting: write RUNTIME.SETTING=VALUE")
        if setting not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise UsageError(f"option {key!r}: {name} has no setting {setting!r}; {has}")
    return {
        key.partition(".")[2]: value
        for key, value in request.options.items()
        if key.partition(".")[0] == runtime
    }


def _few(preset: Preset) -> tuple[str, ...]:
    """One process shows no spread: that a figure is ``stable`` then says less."""
    if preset.processes >= _LEAST_PROCESSES:
        return ()
    return (
        "this is a first look: one process, which cannot tell how far figures move from process "
        "to process, and the engine alone: no copies, no pipeline, no memory, no layers unless "
        "asked for; leave --quick out for all of them",
    )


def _crowded(engines: Sequence[Job], root: Path) -> tuple[str, ...]:
    allowed = len(allowed_cpus(root))
    crowded = sorted({job.threads for job in engines if job.threads > (len(job.cpus) or allowed)})
    return tuple(
        f"{threads} threads share {len(engines[0].cpus) or allowed} CPUs: they wait for each other"
        for threads in crowded
    )
