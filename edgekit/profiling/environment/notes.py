"""What a user should know about the machine, or change, before believing the figures.

Each rule looks at the machine and at its state before and after, and says one sentence or
nothing: what was found, what it does to the figures, what to type. edgekit itself sets nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from edgekit.profiling.result import Machine, State

_HOT = 80.0  # °C: boards hold their clocks back from 80 to 85 on
_LOW_MEMORY = 200 << 20
_STOLEN = 0.01  # of the ticks that were used
_BUSY = 0.3  # load a CPU, before measuring: an idle machine stays below

_LIMITS = 6  # policies named in one sentence


@dataclass(frozen=True)
class _Seen:
    machine: Machine
    before: State
    after: State | None


def notes(machine: Machine, before: State, after: State | None = None) -> tuple[str, ...]:
    """What to know beside the figures, the gravest first; empty is what one wants.

    Args:
        machine: from ``read_machine``.
        before: the state before measuring.
        after: the state afterwards; None leaves out what changed meanwhile.
    """
    seen = _Seen(machine, before, after)
    return tuple(sentence for rule in _RULES for sentence in rule(seen))


def _emulated(seen: _Seen) -> Iterator[str]:
    if "user-mode emulation" in seen.machine.virtual:
        yield (
            f"this is {seen.machine.virtual}: its times say nothing about the processor it "
            "plays; measure on the board, or count instructions with --emulate"
        )
    elif seen.machine.virtual:
        yield (
            f"virtual machine ({seen.machine.virtual}): neighbours share the host and its clock "
            "is not in sight; compare figures of this machine with each other only"
        )


def _throttled(seen: _Seen) -> Iterator[str]:
    for when, state in (("before", seen.before), ("after", seen.after)):
        if state is not None and state.throttle_flags:
            yield (
                f"the board reports {', '.join(state.throttle_flags)} {when} measuring: its "
                "clock was held back; check the power supply and the cooling"
            )
    if seen.after is not None:
        new = set(seen.after.throttle_history) - set(seen.before.throttle_history)
        if new:
            yield f"while measuring there was {', '.join(sorted(new))}: the figures are too high"


def _hot(seen: _Seen) -> Iterator[str]:
    for when, state in (("before", seen.before), ("after", seen.after)):
        sensors = state.celsius if state is not None else {}
        hottest = max(sensors.items(), key=lambda item: item[1], default=("", 0.0))
        if hottest[1] >= _HOT:
            yield (
                f"{hottest[0]} had {hottest[1]:.0f} °C {when} measuring: from about "
                f"{_HOT:.0f} °C boards slow down; let it cool, or add a fan"
            )


def _governor(seen: _Seen) -> Iterator[str]:
    slow: dict[str, list[str]] = {}
    for policy, governor in seen.before.governors.items():
        if governor != "performance":
            slow.setdefault(governor, []).append(policy)
    if seen.before.clocks_locked:
        return  # no room to move: the governor has no say
    for governor, policies in slow.items():
        yield (
            f"governor is {governor} ({_some(policies)}): the clock follows the load, and paced "
            "inferences start slow; for steady figures: sudo cpupower frequency-set -g performance"
        )


def _jetson(seen: _Seen) -> Iterator[str]:
    if not seen.machine.l4t:
        return
    if seen.before.clocks_locked is False:
        yield "the clocks are not locked: for steady figures: sudo jetson_clocks"
    if not seen.before.power_mode:
        yield "the power mode could not be read (nvpmodel -q): figures of two modes differ widely"


def _company(seen: _Seen) -> Iterator[str]:
    load, cores = seen.before.load, max(seen.machine.cores, 1)
    if load is not None and load / cores > _BUSY:
        yield (
            f"load was {load:.2f} on {cores} CPUs before measuring: others are computing; stop "
            "them, or measure again later"
        )


def _stolen(seen: _Seen) -> Iterator[str]:
    stolen = _grown(seen, lambda state: state.steal_ticks)
    used = _grown(seen, lambda state: state.busy_ticks)
    if stolen and used is not None and stolen > _STOLEN * (stolen + used):
        share = 100 * stolen / (stolen + used)
        yield f"the hypervisor gave {share:.0f} % of the CPU time to others while measuring"


def _quota(seen: _Seen) -> Iterator[str]:
    quota = seen.before.quota_cpus
    if quota is not None and quota < seen.machine.cores:
        yield (
            f"a cgroup allows {quota:g} of {seen.machine.cores} CPUs: more threads than that are "
            "stopped in turns"
        )
    held = _grown(seen, lambda state: state.quota_throttled)
    if held:
        yield f"the cgroup's quota held this process back {held} times while measuring"


def _grown(seen: _Seen, figure: Callable[[State], int | None]) -> int | None:
    """By how much a counter grew while measuring."""
    before, after = figure(seen.before), figure(seen.after) if seen.after else None
    return after - before if before is not None and after is not None else None


def _turbo(seen: _Seen) -> Iterator[str]:
    if seen.before.turbo == "on" and not seen.before.clocks_locked:
        yield "turbo is on: the clock depends on heat and on what other cores do"


def _battery(seen: _Seen) -> Iterator[str]:
    if seen.before.on_battery or (seen.after is not None and seen.after.on_battery):
        yield "running on battery: the system saves power; plug it in"


def _memory(seen: _Seen) -> Iterator[str]:
    left = seen.before.memory_available
    if left is not None and left < _LOW_MEMORY:
        yield f"only {left >> 20} MiB of memory were free: the system may have swapped"


def _changed(seen: _Seen) -> Iterator[str]:
    """What was another before: the figures are of two machines."""
    if seen.after is None:
        return
    for name in ("governors", "power_mode", "turbo", "min_mhz", "max_mhz", "on_battery"):
        before, after = getattr(seen.before, name), getattr(seen.after, name)
        if before != after:
            yield (
                f"{name.replace('_', ' ')} changed while measuring, from {_short(before)} to "
                f"{_short(after)}: measure again"
            )


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return _some([f"{key} {_figure(item)}" for key, item in value.items()]) or "nothing"
    return str(value) if value not in ("", None) else "nothing"


def _figure(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)


def _some(words: list[str]) -> str:
    more = f" and {len(words) - _LIMITS} more" if len(words) > _LIMITS else ""
    return ", ".join(words[:_LIMITS]) + more


_RULES: tuple[Callable[[_Seen], Iterator[str]], ...] = (
    _emulated,
    _throttled,
    _hot,
    _changed,
    _stolen,
    _quota,
    _company,
    _governor,
    _jetson,
    _battery,
    _memory,
    _turbo,
)
