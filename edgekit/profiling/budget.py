"""What a model may cost: ``budget.toml``, and a result held against it.

    [budget]                       for every target
    max_mmacs = 7
    p90_ms = 2.5                   of every runtime measured
    [budget.latency.onnxruntime]   of this runtime instead
    p90_ms = 4.0
    [budget.rpi4]                  for this target instead, key by key
    p90_ms = 12.0
    [budget.rpi4.latency.litert]
    threads = 4
    p90_ms = 5.0

A table of a target replaces single keys of the common one; a table of a runtime replaces single
keys for that runtime. Every key has its unit in its name. The file is read as if a stranger had
written it: what is not known is refused, with the names that come close.
"""

from __future__ import annotations

import math
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit import optional
from edgekit.bundle import Manifest
from edgekit.errors import InputError, UnknownNameError, UsageError
from edgekit.profiling.compare import run_text, thread_text
from edgekit.profiling.request import Request
from edgekit.profiling.result import (
    ENGINE,
    MAX_RESULT_BYTES,
    SCOPES,
    STABLE,
    ProfileResult,
    Run,
    result_from_json,
)
from edgekit.profiling.result_text import result_text
from edgekit.runtimes import RUNTIMES
from edgekit.targets import TARGETS

MAX_BUDGET_BYTES = 64 << 10
MAX_LINE = 1000  # tomllib takes time squared for a key of many parts

STATIC, TIME, MEMORY, INSTRUCTIONS = "static", "time", "memory", "instructions"
OK, OVER, NOT_MEASURED = "ok", "over", "not measured"


@dataclass(frozen=True)
class Key:
    """One key of the file: what it limits, where the figure comes from, and its unit."""

    name: str
    kind: str
    unit: str
    meaning: str


KEYS: dict[str, Key] = {
    row.name: row
    for row in (
        Key("max_mmacs", STATIC, "M", "millions of MACs of the model as defined"),
        Key("max_mmadds", STATIC, "M", "millions of MACs and element-wise multiplies"),
        Key("max_mflops", STATIC, "M", "millions of FLOPs: 2 a MAC, 1 an element-wise multiply"),
        Key("max_params", STATIC, "", "parameters"),
        Key("max_size_kb", STATIC, "kB", "files of each runtime, thousands of bytes"),
        Key("max_bundle_kb", STATIC, "kB", "all files of the bundle, thousands of bytes"),
        Key("max_relative_error", STATIC, "", "parity with the source, worst output"),
        Key("p50_ms", TIME, "ms", "median latency"),
        Key("p90_ms", TIME, "ms", "90th percentile of latency"),
        Key("p99_ms", TIME, "ms", "99th percentile of latency; needs 1000 samples"),
        Key("peak_rss_mb", MEMORY, "MB", "peak resident set in use, millions of bytes"),
        Key("minstructions", INSTRUCTIONS, "M", "millions of instructions of an emulated core"),
    )
}

# Which run the times are of, with what is meant when nothing is said.
CHOICES: dict[str, int | float | str] = {"threads": 1, "scope": ENGINE, "pace_hz": 0.0}

_LATENCY_KEYS = (*(key.name for key in KEYS.values() if key.kind == TIME), *CHOICES)
_TABLE_KEYS = (*KEYS, *CHOICES, "latency")

Values = Mapping[str, int | float | str]


@dataclass(frozen=True)
class Budget:
    """What holds for one target.

    Attributes:
        limits: key of ``KEYS`` -> the most that is allowed; and ``CHOICES``, where given.
        latency: runtime -> what it has instead.
    """

    limits: Values = field(default_factory=dict)
    latency: Mapping[str, Values] = field(default_factory=dict)

    def of_runtime(self, runtime: str) -> Values:
        """Limits and choices of latency for one runtime, choices completed."""
        general = {name: self.limits[name] for name in _LATENCY_KEYS if name in self.limits}
        return {**CHOICES, **general, **self.latency.get(runtime, {})}

    def has(self, kind: str) -> bool:
        """Whether anything of ``kind`` is limited."""
        tables = (self.limits, *self.latency.values())
        return any(KEYS[name].kind == kind for table in tables for name in table if name in KEYS)


@dataclass(frozen=True)
class Row:
    """One limit and what was found.

    Attributes:
        limit: key of ``KEYS``; ``unit`` is its.
        kind: ``static``, ``time``, ``memory`` or ``instructions``.
        subject: what it was held against: the model, a runtime, a run.
        allowed: by the budget.
        got: the point estimate, which alone decides; None: nothing measured it. Nothing takes
            no time, no memory and no instructions: such a 0 is no figure either.
        interval: 95 %, of p50 and p90.
        verdict: ``ok``, ``over`` or ``not measured``.
        close: the limit lies inside the interval: too close to call.
        trust: the run's verdict; ``stable`` of what is no time.
        hint: what would measure what is not.
    """

    limit: str
    kind: str
    unit: str
    subject: str
    allowed: float
    got: float | None
    interval: tuple[float, float] | None = None
    verdict: str = OK
    close: bool = False
    trust: str = STABLE
    hint: str = ""


# ---- the file --------------------------------------------------------------------------------


def read_budget(path: Path, target: str) -> Budget:
    """The limits that ``path`` has for ``target``; the whole file is checked.

    Raises:
        UsageError: missing, not TOML, too large, with unknown keys or impossible values, or
            without any limit for this target.
    """
    text = _read(path)
    try:
        budget = parse_budget(_toml(text), target, path.name)
    except RecursionError:
        raise UsageError(f"{path.name} is not a budget: nested too deeply") from None
    except ValueError as error:
        raise UsageError(f"{path.name} is not TOML: {_first(str(error))}") from None
    if not any(name in KEYS for table in _tables(budget) for name in table):
        raise UsageError(
            f"{path.name} limits nothing for target {target}: write for instance p90_ms = 2.5 "
            "under [budget]"
        )
    return budget


def parse_budget(document: Mapping[str, Any], target: str, name: str = "budget") -> Budget:
    """The same of parsed TOML.

    Raises:
        UsageError: unknown keys or impossible values, anywhere in the document.
    """
    _known(name, "key", document, ("budget",))
    table = _table(document.get("budget", {}), f"{name}: budget")
    common = {key: value for key, value in table.items() if key not in TARGETS}
    budgets = {
        key: _of_target(_table(value, f"{name}: budget.{key}"), f"{name}: budget.{key}", key)
        for key, value in table.items()
        if key in TARGETS
    }
    base = _budget(common, f"{name}: budget", others=tuple(TARGETS))
    return _merge(base, budgets.get(target, Budget()))


def _read(path: Path) -> str:
    """The file's text: a plain file, small, UTF-8; a pipe is not waited for."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise UsageError(f"{str(path)!r} is no plain file: give a budget.toml")
            data = stream.read(MAX_BUDGET_BYTES + 1)
        if len(data) > MAX_BUDGET_BYTES:
            raise UsageError(f"{path.name} has more than {MAX_BUDGET_BYTES} bytes: no budget has")
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path.name} is not UTF-8, as TOML is: {error}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read the budget {str(path)!r}: {reason}") from None
    if max(map(len, text.split("\n"))) > MAX_LINE:
        raise UsageError(
            f"{path.name} has a line of more than {MAX_LINE} characters: no budget has"
        )
    return text


def _toml(text: str) -> dict[str, Any]:
    """Python 3.10, which JetPack 6 has, lacks tomllib: there it is the package tomli."""
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    document: dict[str, Any] = optional.require(name, "reading a budget").loads(text)
    return document


def _of_target(table: Mapping[str, Any], where: str, target: str) -> Budget:
    budget = _budget(table, where)
    runtimes = TARGETS[target].runtimes
    _known(f"{where}.latency", f"runtime of {target}", budget.latency, runtimes)
    return budget


def _budget(table: Mapping[str, Any], where: str, others: tuple[str, ...] = ()) -> Budget:
    _known(where, "key", table, _TABLE_KEYS, others)
    latency = _table(table.get("latency", {}), f"{where}.latency")
    _known(f"{where}.latency", "runtime", latency, tuple(RUNTIMES))
    return Budget(
        limits={key: _value(where, key, table[key]) for key in table if key != "latency"},
        latency={
            runtime: _latency(_table(values, f"{where}.latency.{runtime}"), where, runtime)
            for runtime, values in latency.items()
        },
    )


def _latency(table: Mapping[str, Any], where: str, runtime: str) -> Values:
    place = f"{where}.latency.{runtime}"
    _known(place, "key", table, _LATENCY_KEYS)
    return {key: _value(place, key, value) for key, value in table.items()}


def _known(
    where: str,
    kind: str,
    table: Mapping[str, Any],
    known: tuple[str, ...],
    more: tuple[str, ...] = (),
) -> None:
    for key in table:
        if key not in known:
            error = UnknownNameError(kind, key[:60], (*known, *more))
            raise UsageError(f"{where}: {error}")


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: expected a table, got {_first(repr(value))}")
    return value


def _value(where: str, key: str, value: Any) -> int | float | str:
    """A limit above 0, or one of ``CHOICES`` as it can be."""
    if key == "scope":
        if value not in SCOPES:
            raise UsageError(f"{where}.scope: {_first(repr(value))} is none of {', '.join(SCOPES)}")
        return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{where}.{key}: expected a number, got {_first(repr(value))}")
    if key == "threads" and not (isinstance(value, int) and 1 <= value <= 4096):
        raise UsageError(f"{where}.threads: expected a whole number from 1, got {value}")
    least = 0 if key == "pace_hz" else 1e-300
    if not least <= value <= 1e15:  # NaN is in no range
        raise UsageError(
            f"{where}.{key}: expected a finite number above 0, got {_first(str(value))}"
        )
    return value


def _merge(base: Budget, target: Budget) -> Budget:
    runtimes = dict.fromkeys((*base.latency, *target.latency))
    return Budget(
        limits={**base.limits, **target.limits},
        latency={
            name: {**base.latency.get(name, {}), **target.latency.get(name, {})}
            for name in runtimes
        },
    )


def _tables(budget: Budget) -> tuple[Values, ...]:
    return (budget.limits, *budget.latency.values())


def _first(text: str) -> str:
    """Of a hostile text, enough for one line."""
    return text if len(text) <= 80 else text[:77] + "..."


# ---- held against it -------------------------------------------------------------------------


def judge(budget: Budget, manifest: Manifest, result: ProfileResult | None) -> tuple[Row, ...]:
    """Every limit with what was found, in the order of ``KEYS``.

    Args:
        budget: of the bundle's target.
        manifest: of the bundle.
        result: what was measured of it; None when nothing was.
    """
    rows = [*_static_rows(budget, manifest)]
    rows += _time_rows(budget, manifest, result)
    rows += _memory_rows(budget, result)
    rows += _instruction_rows(budget, result)
    order = list(KEYS)
    return tuple(sorted(rows, key=lambda row: order.index(row.limit)))


def _row(
    limit: str,
    subject: str,
    allowed: float,
    got: float | None,
    *,
    interval: tuple[float, float] | None = None,
    trust: str = STABLE,
    hint: str = "",
) -> Row:
    key = KEYS[limit]
    measured = got is not None and math.isfinite(got) and (key.kind == STATIC or got > 0)
    verdict = NOT_MEASURED if not measured else OVER if got and got > allowed else OK
    return Row(
        limit=limit,
        kind=key.kind,
        unit=key.unit,
        subject=subject,
        allowed=allowed,
        got=got,
        interval=interval,
        verdict=verdict,
        close=interval is not None and interval[0] <= allowed <= interval[1],
        trust=trust,
        hint=hint if verdict == NOT_MEASURED else "",
    )


def _static_rows(budget: Budget, manifest: Manifest) -> Iterator[Row]:
    model = manifest.model
    of_model: dict[str, float] = {
        "max_mmacs": model.macs / 1e6,
        "max_mmadds": model.madds / 1e6,
        "max_mflops": model.flops / 1e6,
        "max_params": model.params,
        "max_bundle_kb": sum(facts.bytes for facts in manifest.files.values()) / 1e3,
    }
    for name, allowed in _numbers(budget.limits, STATIC):
        if name in of_model:
            subject = "bundle" if name == "max_bundle_kb" else "model"
            yield _row(name, subject, allowed, of_model[name])
        else:
            yield from _artifact_rows(name, allowed, manifest)


def _artifact_rows(name: str, allowed: float, manifest: Manifest) -> Iterator[Row]:
    for artifact in manifest.artifacts:
        if name == "max_size_kb":
            got: float | None = sum(manifest.files[file].bytes for file in artifact.files) / 1e3
        else:
            errors = artifact.parity.max_relative_error if artifact.parity else {}
            got = max(errors.values(), default=None)
        yield _row(name, artifact.runtime, allowed, got, hint=_PARITY_HINT)


_PARITY_HINT = "the machine that exported it could not run this artifact"
_MEASURE = "measure it: edgekit profile BUNDLE {}"
_EMULATE = _MEASURE.format("--emulate cortex-a72 --json > r.json, then give --result r.json")


def _numbers(table: Values, kind: str) -> Iterator[tuple[str, float]]:
    for name, value in table.items():
        if name in KEYS and KEYS[name].kind == kind:
            yield name, float(value)


def _time_rows(budget: Budget, manifest: Manifest, result: ProfileResult | None) -> Iterator[Row]:
    """A limit of all runtimes wants one of them measured; a runtime's own table, that runtime."""
    runs = {
        (run.runtime, run.threads, run.scope, run.pace_hz): run
        for run in reversed(result.runs if result else ())
    }
    measured = {key[0] for key in runs}
    runtimes = [artifact.runtime for artifact in manifest.artifacts]
    named = [name for name in runtimes if name in measured] or runtimes[:1]
    if not dict(_numbers(budget.limits, TIME)):
        named = []
    for runtime in dict.fromkeys((*named, *_own_tables(budget, manifest))):
        wanted = budget.of_runtime(runtime)
        key = (
            runtime,
            int(wanted["threads"]),
            str(wanted["scope"]),
            float(wanted["pace_hz"]),
        )
        for limit, allowed in _numbers(wanted, TIME):
            yield _time_row(limit, allowed, run_text(key), runs.get(key), key)


def _own_tables(budget: Budget, manifest: Manifest) -> list[str]:
    """Runtimes with a table that are of this target: a common budget may speak of others too."""
    target = TARGETS.get(manifest.target)
    here = {artifact.runtime for artifact in manifest.artifacts}
    here |= set(target.runtimes if target else ())
    limited = [n for n in budget.latency if dict(_numbers(budget.of_runtime(n), TIME))]
    return [name for name in limited if name in here]


def _time_row(
    limit: str, allowed: float, subject: str, run: Run | None, key: tuple[str, int, str, float]
) -> Row:
    if run is None:
        pace = f" --pace {key[3]:g}" if key[3] else ""
        words = f"--runtime {key[0]} --threads {key[1]} --scope {key[2]}{pace}"
        return _row(limit, subject, allowed, None, hint=_MEASURE.format(words))
    interval = {"p50_ms": run.p50_interval_ms, "p90_ms": run.p90_interval_ms}.get(limit)
    return _row(
        limit,
        subject,
        allowed,
        getattr(run, limit),
        interval=interval,
        trust=run.verdict if run.complete else "incomplete",
        hint=f"{run.samples} samples are too few for it; " + _MEASURE.format("--thorough"),
    )


def _memory_rows(budget: Budget, result: ProfileResult | None) -> Iterator[Row]:
    for limit, allowed in _numbers(budget.limits, MEMORY):
        rows = result.memory if result else ()
        for row in rows:
            subject = thread_text(row.runtime, row.threads)
            yield _row(limit, subject, allowed, row.peak_use / 1e6, hint=row.note)
        if not rows:
            yield _row(limit, "any runtime", allowed, None, hint=_MEASURE.format("").strip())


def _instruction_rows(budget: Budget, result: ProfileResult | None) -> Iterator[Row]:
    for limit, allowed in _numbers(budget.limits, INSTRUCTIONS):
        rows = result.instructions if result else ()
        for row in rows:
            subject = f"{thread_text(row.runtime, row.threads)}, {row.core}"
            yield _row(limit, subject, allowed, row.per_inference / 1e6, hint=_EMULATE)
        if not rows:
            yield _row(limit, "an emulated core", allowed, None, hint=_EMULATE)


def request(
    bundle: str, budget: Budget, manifest: Manifest, baseline: ProfileResult | None = None
) -> Request | None:
    """What to measure so that nothing stays open, and no more; None: nothing needs measuring."""
    timed = _own_tables(budget, manifest)
    if dict(_numbers(budget.limits, TIME)):
        timed = list(dict.fromkeys((*(a.runtime for a in manifest.artifacts), *timed)))
    wanted = [budget.of_runtime(name) for name in timed]
    before = baseline.runs if baseline else ()
    memory = budget.has(MEMORY) or bool(baseline and baseline.memory)
    if not (wanted or before or memory):
        return None
    paces = {float(row["pace_hz"]) for row in wanted} | {run.pace_hz for run in before}
    threads = {int(row["threads"]) for row in wanted} | {run.threads for run in before}
    scopes = {str(row["scope"]) for row in wanted} | {run.scope for run in before}
    named = {*timed, *(run.runtime for run in before)}
    return Request(
        bundle=bundle,
        runtimes=() if _any_runtime(budget) else tuple(sorted(named)),
        threads=tuple(sorted(threads)),
        scopes=tuple(scope for scope in SCOPES if scope in scopes) or (ENGINE,),
        pace_hz=max(paces, default=0.0),
        layers=False,
        memory=memory,
    )


def _any_runtime(budget: Budget) -> bool:
    """Whether a limit holds for whatever is installed."""
    return any(KEYS[name].kind in (TIME, MEMORY) for name in budget.limits if name in KEYS)


# ---- result files ----------------------------------------------------------------------------


def read_result(path: Path) -> ProfileResult:
    """A result file, not read at all when it is too large.

    Raises:
        InputError: missing, too large, not UTF-8, truncated, or not a profile result.
    """
    text = result_text(path, MAX_RESULT_BYTES)
    try:
        return result_from_json(text)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None
