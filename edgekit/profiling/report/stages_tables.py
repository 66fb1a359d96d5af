"""Results by stage as Markdown, one table a runtime, and as CSV, one row a stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from edgekit.profiling.report import stages_words, words
from edgekit.profiling.report.csv_rows import Cell, csv_text
from edgekit.profiling.report.markdown import safe, table
from edgekit.profiling.report.stages_words import Setting
from edgekit.profiling.stages_result import WHOLE, StagesResult

COLUMNS = (
    "model", "random_weights", "params", "macs", "image", "board", "cpu", "architecture", "kernel",
    "edgekit", "stage", "runtime", "threads", "p10_ms", "p50_ms", "p90_ms", "of_look", "samples",
    "processes", "spread", "verdict", "reasons", "caption_tokens",
)  # fmt: skip


def stages_markdown(results: Sequence[StagesResult], *, unlike: Sequence[str] = ()) -> str:
    """Where it was measured, a table a runtime, and what limits the figures.

    Args:
        results: in the order to be shown.
        unlike: what differs between their environments: said first.
    """
    lines = [f"**Unlike environments:** {safe(text)}" for text in unlike]
    for name, result in zip(stages_words.names(results), results, strict=True):
        lines += [""] if lines else []
        lines += [f"{safe(name)}: {stages_words.counts(result)}.", *_where(result), ""]
        found = stages_words.settings(result)
        for _, group in groupby(_together(found), key=lambda one: one.runtime):
            lines += _of_runtime(list(group))
        lines += _limits(result)
    return "\n".join(lines).strip() + "\n"


def _where(result: StagesResult) -> Iterator[str]:
    yield f"Measured on {safe(stages_words.place(result))}."
    yield f"Image: {safe(result.image)}."


def _together(found: Sequence[Setting]) -> list[Setting]:
    """All thread counts of a runtime one after the other, runtimes in their order."""
    order = list(dict.fromkeys(one.runtime for one in found))
    return sorted(found, key=lambda one: (order.index(one.runtime), one.threads))


def _of_runtime(group: Sequence[Setting]) -> list[str]:
    """Rows are stages; each number of threads has its columns."""
    stages = dict.fromkeys(run.stage for one in group for run in one.runs.values())
    heads = ["stage"]
    for one in group:
        threads = words.plural(one.threads, "thread")
        heads += [f"p50 ms, {threads}", "of look", "p90 ms", "verdict"]
    rows = [[_stage(name), *_cells(group, name)] for name in sorted(stages, key=_calls_last)]
    return [f"**{safe(group[0].runtime)}**", "", *table(heads, rows)]


def _calls_last(stage: str) -> bool:
    return stage in WHOLE


def _stage(name: str) -> str:
    return f"**{name}**" if name in WHOLE else safe(name)


def _cells(group: Sequence[Setting], stage: str) -> Iterator[str]:
    for one in group:
        run = one.runs.get(stage)
        if run is None:
            yield from ("–",) * 4
        else:
            share = one.of_look(run)
            yield words.ms(run.p50_ms)
            yield "–" if share is None else words.percent(share)
            yield words.ms(run.p90_ms)
            yield safe(run.verdict)


def _limits(result: StagesResult) -> list[str]:
    doubtful, of = stages_words.doubtful(result)
    said = (
        (doubtful, f"Not trustworthy as they stand: {doubtful} of {words.plural(of, 'call')}."),
        (result.random, "Random weights: for latency work only."),
    )
    return [text for holds, text in said if holds]


# ---- CSV -------------------------------------------------------------------------------------


def stages_rows(results: Sequence[StagesResult]) -> Iterator[dict[str, Cell]]:
    """One a stage, runtime and number of threads, with the keys of ``COLUMNS``."""
    for result in results:
        for one in stages_words.settings(result):
            for cells in _rows(result, one):
                yield dict(zip(COLUMNS, cells, strict=True))


def stages_csv(results: Sequence[StagesResult]) -> str:
    """The rows as text, under a line of names."""
    return csv_text(COLUMNS, (row.values() for row in stages_rows(results)))


def _rows(result: StagesResult, one: Setting) -> Iterator[tuple[Cell, ...]]:
    for run in one.runs.values():
        yield (
            *_of_result(result),
            run.stage,
            run.runtime,
            run.threads,
            run.p10_ms,
            run.p50_ms,
            run.p90_ms,
            one.of_look(run),
            stages_words.samples(run),
            len(run.samples_ms),
            run.spread,
            run.verdict,
            "; ".join(run.reasons),
            result.tokens.get(run.runtime) or None,
        )


def _of_result(result: StagesResult) -> tuple[Cell, ...]:
    machine = result.machine
    return (
        result.model,
        result.random,
        result.params,
        result.macs,
        result.image,
        machine.board,
        machine.cpu,
        machine.architecture,
        machine.kernel,
        machine.packages.get("edgekit", ""),
    )
