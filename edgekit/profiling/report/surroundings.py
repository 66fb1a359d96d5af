"""The machine before and after, how it was measured, and what the words mean."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence

from edgekit.profiling.report import words
from edgekit.profiling.report.html import Child, Markup, tag
from edgekit.profiling.report.parts import (
    Missing,
    absent,
    badge,
    bullets,
    code,
    columns,
    facts,
    folded,
    section,
    table,
)
from edgekit.profiling.result import (
    SCOPES,
    VERDICTS,
    Environment,
    Machine,
    ProfileResult,
    State,
)

_STATE_TITLES = {
    "governors": "governor",
    "mhz": "MHz",
    "min_mhz": "lowest MHz",
    "max_mhz": "highest MHz",
    "gpu_mhz": "GPU MHz",
    "celsius": "°C",
    "load": "load, one minute",
    "others_running": "other runnable tasks",
    "quota_cpus": "CPU quota",
    "quota_throttled": "held back by the quota, times",
    "steal_ticks": "ticks stolen by the hypervisor",
    "busy_ticks": "ticks used",
    "throttle_flags": "throttled now",
    "throttle_history": "throttled since boot",
    "memory_available": "memory available",
}
_RESTLESS = {"mhz", "gpu_mhz", "celsius", "load", "others_running", "steal_ticks", "busy_ticks",
             "memory_available"}  # fmt: skip  # always differ; no one changed them


def environment(result: ProfileResult, anchor: str) -> Markup:
    """What must be equal before figures are compared, and what changed while measuring."""
    notes = result.environment.notes
    said = (tag("p", "To know, or to change before measuring again:"), bullets(notes))
    return section(
        "Environment",
        anchor,
        *(said if notes else ()),
        _machine(result),
        tag("h4", "Before and after"),
        states(result.environment),
        level=3,
    )


def _machine(result: ProfileResult) -> Markup:
    machine, where = result.environment.machine, result.environment
    pairs: list[tuple[str, Child]] = [
        ("counted on", words.cores(result) if words.emulated(result) else ""),
        (
            "emulated by" if words.emulated(result) else "measured on",
            "this machine" if result.device == "local" else result.device,
        ),
        *_hardware(machine),
        ("CPUs", _cpus(result)),
        ("pinned to", _numbers(where.cpus) or "not pinned"),
        *_software(machine),
    ]
    return facts((name, value) for name, value in pairs if value)


def computer(of: Machine) -> Markup:
    """All that is known of a machine, without what was done on it."""
    pairs: list[tuple[str, Child]] = [*_hardware(of), ("CPUs", _kinds(of)), *_software(of)]
    return facts((name, value) for name, value in pairs if value)


def _hardware(of: Machine) -> list[tuple[str, Child]]:
    return [("board", of.board), ("processor", of.cpu), ("architecture", of.architecture)]


def _software(of: Machine) -> list[tuple[str, Child]]:
    return [
        ("instruction sets", ", ".join(of.features)),
        ("memory", words.size(of.memory_bytes) if of.memory_bytes else ""),
        ("virtual", of.virtual),
        ("system", ", ".join(filter(None, (of.system, of.kernel)))),
        ("Jetson", ", ".join(filter(None, (of.jetpack, of.l4t)))),
        ("GPU", of.gpu),
        ("Python", of.python),
        ("packages", _named(of.packages)),
    ]


def _cpus(result: ProfileResult) -> str:
    allowed = result.environment.allowed_cpus
    inside = f"; may use {_numbers(allowed)}" if allowed else ""
    return f"{_kinds(result.environment.machine)}{inside}"


def _kinds(of: Machine) -> str:
    kinds = ", ".join(f"{count} of {kind}" for kind, count in of.clusters.items())
    return f"{of.cores}{f' ({kinds})' if kinds else ''}"


def _numbers(cpus: Sequence[int]) -> str:
    return ", ".join(map(str, cpus))


def _named(table_of: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in table_of.items())


def states(of: Environment) -> Markup:
    """What can change while measuring: before, after, and what did."""
    before, after = of.before, of.after
    rows = list(_state_rows(before, after))
    if not rows:
        return absent(Missing("The state of the machine", "it tells nothing"))
    drawn = table("State before and after", columns("what", "before", "after", "changed"), rows)
    missing = None if after is not None else absent(Missing("The state afterwards"))
    return tag("div", drawn, missing)


def _state_rows(before: State, after: State | None) -> Iterator[Sequence[Child]]:
    for field in dataclasses.fields(State):
        was = getattr(before, field.name)
        now = None if after is None else getattr(after, field.name)
        if _empty(was) and _empty(now):
            continue
        text = (_value(field.name, was), "–" if after is None else _value(field.name, now))
        mark = "" if after is None or was == now else _change(field.name, was, now)
        yield (_STATE_TITLES.get(field.name, field.name.replace("_", " ")), *text, mark)


def _change(name: str, was: object, now: object) -> Child:
    """By how much a figure moved that always does; for all else that it changed."""
    if name not in _RESTLESS:
        return tag("strong", "changed")
    if not isinstance(was, (int, float)) or not isinstance(now, (int, float)):
        return "moved"
    sign = "+" if now > was else "−"
    return sign + _value(name, abs(now - was))


def _empty(value: object) -> bool:
    return value is None or value in ("", (), {})


def _value(name: str, value: object) -> str:
    if _empty(value):
        return "none" if isinstance(value, tuple) else "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_number(item)}" for key, item in value.items())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if name == "memory_available" and isinstance(value, int):
        return words.size(value)
    return _number(value)


def _number(value: object) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def method(result: ProfileResult, anchor: str) -> Markup:
    """What was typed, what was opened, what the measuring itself costs."""
    cost, of = result.cost, result.facts
    own = (
        f"{cost.clock_ns:.0f} ns to read the clock, {cost.call_ns:.0f} ns to call nothing; "
        "inside every sample, not subtracted"
        if cost
        else words.NOT_MEASURED
    )
    pairs: list[tuple[str, Child]] = [
        ("command", code(shlex.join(result.command)) if result.command else "–"),
        ("bundle", code(result.bundle)),
        ("started", f"{result.started}, took {result.seconds:.0f} s"),
        ("preset", result.preset),
        ("complete", "yes" if result.complete else "no"),
        ("the profiler's own cost", own),
        ("image of scope pipeline", result.image or "–"),
        ("model", f"{of.id} for {of.target}, {of.precision}; weights: {of.weights}"),
        ("counts", _counts(result)),
        ("published", _named(of.published) or "–"),
        ("sha256 of the manifest", code(of.bundle_sha256)),
        *((f"sha256, {name}", code(sha)) for name, sha in of.artifacts.items()),
    ]
    return section("How it was measured", anchor, facts(pairs), level=3)


def _counts(result: ProfileResult) -> str:
    of = result.facts
    return (
        f"{words.count(of.params)} parameters; {words.count(of.macs)} MACs, with "
        f"{words.count(of.elementwise_multiplies)} element-wise multiplies "
        f"{words.count(of.madds)} MAdds; {words.count(of.flops)} FLOPs (2 a MAC)"
    )


def verdicts() -> Markup:
    """Each verdict in words."""
    rows = [(badge(verdict), words.VERDICT_WORDS[verdict]) for verdict in VERDICTS]
    return table("Verdicts", columns("verdict", "it says"), rows)


def glossary() -> Markup:
    """Verdicts and scopes in words."""
    scopes = [(scope, words.SCOPE_WORDS[scope]) for scope in SCOPES]
    return section(
        "What the words mean",
        "words",
        verdicts(),
        table("Scopes", columns("scope", "what is timed"), scopes),
        folded("Reading figures of several machines", tag("p", _TRAVEL)),
    )


_TRAVEL = (
    "Milliseconds belong to the machine, its clocks and its load; compare them only where the "
    "environments are equal. Ratios between networks that were timed in turns travel better. "
    "MACs are not milliseconds: the layers show how far they are apart."
)
