"""One row a run or count, for a spreadsheet: RFC 4180, with names that stay in their order.

A cell that a spreadsheet would take for a formula begins with an apostrophe: names come from
files that somebody else wrote.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from edgekit.profiling.report.html import shown
from edgekit.profiling.result import Instructions, ProfileResult, Run

Cell = str | int | float | None

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_OF_RESULT = (
    "model", "target", "precision", "random_weights", "device", "board", "cpu", "architecture",
    "kernel", "edgekit", "started", "preset", "result_complete",
)  # fmt: skip
_OF_RUN = (
    "runtime", "threads", "scope", "pace_hz", "p50_ms", "p50_low_ms", "p50_high_ms", "p90_ms",
    "p90_low_ms", "p90_high_ms", "p95_ms", "p99_ms", "min_ms", "max_ms", "mean_ms", "mad_ms",
    "samples", "processes", "spread", "verdict", "reasons", "complete",
)  # fmt: skip
_OF_MODEL = (
    "params", "macs", "elementwise_multiplies", "madds", "flops", "bundle_sha256",
    "artifact_sha256",
)  # fmt: skip
_OF_COUNT = ("core", "instructions", "emulator")
COLUMNS = (*_OF_RESULT, *_OF_RUN, *_OF_MODEL, *_OF_COUNT)
INSTRUCTIONS = "instructions"  # in the column of scopes: a count, so that all times are empty


def csv_rows(results: Sequence[ProfileResult]) -> Iterator[dict[str, Cell]]:
    """One a run and one a count, with the keys of ``COLUMNS``; what was not measured is None."""
    for result in results:
        for run in result.runs:
            timed = (*_run_cells(run), *_model_cells(result, run.runtime), None, None, None)
            yield dict(zip(COLUMNS, (*_result_cells(result), *timed), strict=True))
        for one in result.instructions:
            yield dict.fromkeys(COLUMNS) | _count_cells(result, one)


def csv_report(results: Sequence[ProfileResult]) -> str:
    """The rows as text, under a line of names."""
    return csv_text(COLUMNS, (row.values() for row in csv_rows(results)))


def csv_text(names: Iterable[str], rows: Iterable[Iterable[Cell]]) -> str:
    """A line of names and the rows; lines end as RFC 4180 has it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_written(cell) for cell in row])
    return text.getvalue()


def _written(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        text = shown(cell, 4000)
        return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return repr(cell)


def _result_cells(result: ProfileResult) -> tuple[Cell, ...]:
    machine, facts = result.environment.machine, result.facts
    return (
        result.model,
        facts.target,
        facts.precision,
        facts.random_weights,
        result.device,
        machine.board,
        machine.cpu,
        machine.architecture,
        machine.kernel,
        machine.packages.get("edgekit", ""),
        result.started,
        result.preset,
        result.complete,
    )


def _run_cells(run: Run) -> tuple[Cell, ...]:
    return (
        run.runtime,
        run.threads,
        run.scope,
        run.pace_hz,
        run.p50_ms,
        *run.p50_interval_ms,
        run.p90_ms,
        *run.p90_interval_ms,
        run.p95_ms,
        run.p99_ms,
        run.min_ms,
        run.max_ms,
        run.mean_ms,
        run.mad_ms,
        run.samples,
        len(run.processes),
        run.spread,
        run.verdict,
        "; ".join(run.reasons),
        run.complete,
    )


def _count_cells(result: ProfileResult, one: Instructions) -> dict[str, Cell]:
    return {
        **dict(zip(_OF_RESULT, _result_cells(result), strict=True)),
        **dict(zip(_OF_MODEL, _model_cells(result, one.runtime), strict=True)),
        "runtime": one.runtime,
        "threads": one.threads,
        "scope": INSTRUCTIONS,
        "samples": len(one.counts),
        "spread": one.spread,
        "core": one.core,
        "instructions": one.per_inference,
        "emulator": one.emulator,
    }


def _model_cells(result: ProfileResult, runtime: str) -> tuple[Cell, ...]:
    facts = result.facts
    counts = (facts.params, facts.macs, facts.elementwise_multiplies, facts.madds, facts.flops)
    return (*counts, facts.bundle_sha256, facts.artifacts.get(runtime, ""))
