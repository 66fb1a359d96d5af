"""What ``edgekit profile`` prints: the verdicts first, then all that was measured beside them."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.cli import emulation
from edgekit.cli.console import Console, count_text, size_text

if TYPE_CHECKING:
    from edgekit.profiling.result import ColdStart, ProfileResult, Run

_COLUMNS = (
    *("runtime", "threads", "scope", "p50 ms", "95 % interval"),
    *("p90", "p99", "min", "samples", "verdict"),
)
_SLOWEST = 5
_WIDEST = 48


def show(result: ProfileResult, console: Console) -> None:
    """The document with ``--json``, else the tables."""
    from edgekit.profiling.result import result_to_json

    console.json_text(result_to_json(result))
    for warning in result.warnings:
        console.warn(warning)
    _print_heading(result, console)
    if result.runs:
        _print_runs(result.runs, console)
    emulation.print_instructions(result, console)
    _print_starts(result, console)
    _print_memory(result, console)
    _print_layers(result, console)
    _print_ratios(result, console)
    _print_sustained(result, console)
    _print_end(result, console)


def show_end(result: ProfileResult, saved: Path | None, console: Console) -> None:
    """Where it was saved, and what to type next."""
    if saved:
        console.print(f"saved {saved}")
    console.next(_next_command(result, saved))


def _print_heading(result: ProfileResult, console: Console) -> None:
    facts, machine = result.facts, result.environment.machine
    where = " ".join(filter(None, (machine.board, machine.cpu))) or machine.architecture
    if result.instructions and not result.runs:
        cores = dict.fromkeys(row.core for row in result.instructions)
        where = f"an emulated {', '.join(cores)}"
    console.print(
        f"{result.model} for {facts.target}, {facts.precision}, "
        f"{facts.macs / 1e6:.2f} M MACs, {facts.flops / 1e6:.2f} MFLOPs; on {where}"
    )
    if not result.complete:
        console.print("incomplete: this is what was finished")
    console.print()


def _print_runs(runs: Sequence[Run], console: Console) -> None:
    console.table(
        _COLUMNS,
        [
            (
                run.runtime,
                str(run.threads),
                run.scope + (f" at {run.pace_hz:g}/s" if run.pace_hz else ""),
                _ms(run.p50_ms),
                "-".join(map(_ms, run.p50_interval_ms)),
                _ms(run.p90_ms),
                _ms(run.p99_ms),
                _ms(run.min_ms),
                str(run.samples),
                run.verdict,
            )
            for run in runs
        ],
    )
    everywhere = [
        reason
        for reason in runs[0].reasons
        if len(runs) > 1 and all(reason in run.reasons for run in runs)
    ]
    for reason in everywhere:
        console.paragraph(f"- all: {reason}")
    for run in runs:
        own = [reason for reason in run.reasons if reason not in everywhere]
        if own:
            console.paragraph(f"- {run_name(run)}: {'; '.join(own)}")

    for run in runs:
        missed = sum(process.missed for process in run.processes)
        if missed:
            console.paragraph(
                f"- {run_name(run)}: {missed} of {missed + run.samples} starts were missed: an "
                "inference still ran"
            )


def _print_layers(result: ProfileResult, console: Console) -> None:
    """The slowest few of each runtime; the report has them all."""
    for row in result.layers:
        console.print()
        if row.sum_ms is None:
            console.paragraph(f"per layer, {row.runtime}: {row.note}")
            continue
        beside = f", {_ms(row.total_ms)} ms when nothing is timed" if row.total_ms else ""
        console.paragraph(
            f"per layer, {row.runtime}, {threads_text(row.threads)}: {len(row.layers)} kernels, "
            f"{_ms(row.sum_ms)} ms instrumented{beside}"
        )
        slowest = sorted(row.layers, key=lambda layer: -layer.ms)[:_SLOWEST]
        console.table(
            ("ms", "share", "MACs", "kernel", "of"),
            [
                (
                    _ms(layer.ms),
                    f"{layer.ms / row.sum_ms:.0%}" if row.sum_ms else "-",
                    count_text(layer.macs) if layer.macs is not None else "-",
                    _short(layer.kernel or layer.kind),
                    _short(layer.scope or ", ".join(layer.layers) or "the engine's own"),
                )
                for layer in slowest
            ],
        )


def _short(name: str) -> str:
    return name if len(name) <= _WIDEST else f"{name[: _WIDEST - 3]}..."


def _print_starts(result: ProfileResult, console: Console) -> None:
    groups: dict[tuple[str, int], list[ColdStart]] = {}
    for start in result.starts:
        groups.setdefault((start.runtime, start.threads), []).append(start)
    if not groups:
        return
    console.print()
    console.table(
        ("cold start", "threads", "import ms", "load ms", "first ms", "total ms", "processes"),
        [
            (
                runtime,
                str(threads),
                *(
                    f"{statistics.median(getattr(start, name) for start in starts):.1f}"
                    for name in ("import_ms", "load_ms", "first_ms", "total_ms")
                ),
                str(len(starts)),
            )
            for (runtime, threads), starts in groups.items()
        ],
    )


def _print_memory(result: ProfileResult, console: Console) -> None:
    if not result.memory:
        return
    console.print()
    console.table(
        ("memory", "threads", "imported", "loaded", "peak load", "peak use", "device"),
        [
            (
                row.runtime,
                str(row.threads),
                *map(size_text, (row.imported, row.loaded, row.peak_load, row.peak_use)),
                size_text(row.device) if row.device is not None else "-",
            )
            for row in result.memory
        ],
    )


def _print_ratios(result: ProfileResult, console: Console) -> None:
    from edgekit.profiling.references import accuracy_note, sentence

    if not result.references:
        return
    console.print()
    console.table(
        ("in turns with", "runtime", "accuracy", "p50 ms", "this model", "ratio", "95 % interval"),
        [
            (
                row.name,
                row.runtime,
                row.accuracy or "-",
                _ms(row.p50_ms),
                _ms(row.model_p50_ms),
                f"{row.ratio:.2f}",
                "-".join(f"{end:.2f}" for end in row.ratio_interval),
            )
            for row in result.references
        ],
    )
    for row in result.references:
        if row.runtime == result.references[0].runtime:
            console.paragraph(sentence(result.facts, row))
    if note := accuracy_note(result.facts, result.references):
        console.paragraph(note)


def _print_sustained(result: ProfileResult, console: Console) -> None:
    for row in result.sustained:
        if not row.p50_ms:
            continue
        console.print()
        fell = row.throttled_at_s
        end = f"fell off after {fell:.0f} s" if fell is not None else "held to the end"
        joules = row.joules_per_inference
        energy = f", {1000 * joules:.2f} mJ an inference ({row.power_source})" if joules else ""
        console.paragraph(
            f"sustained, {row.runtime}, {threads_text(row.threads)}: "
            f"{len(row.p50_ms)} windows of {row.window_s:g} s, p50 {_ms(row.p50_ms[0])} ms in "
            f"the first and {_ms(row.p50_ms[-1])} ms in the last; {end}{energy}"
        )


def _print_end(result: ProfileResult, console: Console) -> None:
    console.print()
    if result.cost:
        console.print(
            f"the profiler's own cost, inside every sample: "
            f"{(result.cost.clock_ns + result.cost.call_ns) / 1000:.2f} us"
        )
    if result.image:
        console.print(f"pipeline: {result.image}")
    for note in result.environment.notes:
        console.paragraph(f"note: {note}")


def _next_command(result: ProfileResult, saved: Path | None) -> str:
    if saved:
        return f"edgekit report {shlex.quote(str(saved))} -o report.html"
    again = shlex.join([*result.command, "--save", "runs"]) if result.command else "with --save"
    return f"{again}; edgekit report runs/*.json -o report.html"


def run_name(run: Run) -> str:
    """One figure in words."""
    pace = f" at {run.pace_hz:g}/s" if run.pace_hz else ""
    return f"{run.runtime}, {threads_text(run.threads)}, {run.scope}{pace}"


def threads_text(count: int) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{count} thread{'s' * (count > 1)}"


def _ms(value: float | None) -> str:
    """Milliseconds with the digits that a clock of nanoseconds and a noisy machine deserve."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 100 else f"{value:.1f}"
