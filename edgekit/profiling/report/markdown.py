"""A short table for a README or a pull request.

Names come from files: those that hold anything but plain words are set as code, where neither
Markdown nor HTML nor a mention nor a link means anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from edgekit.profiling.report import words
from edgekit.profiling.report.html import shown
from edgekit.profiling.result import STABLE, Instructions, ProfileResult, Run

_LONGEST = 120
_PLAIN = re.compile(r"(?!.*(www\.|\d\. ))[A-Za-z0-9(](?:[A-Za-z0-9 .,:;()/+%-]|@ )*")
_HEADS = ("model", "runtime", "threads", "scope", "p50 ms", "95 % interval", "p90 ms", "p99 ms",
          "verdict")  # fmt: skip
_COUNTED = ("model", "emulated core", "runtime", "threads", "instructions an inference",
            "repetitions", "spread", "emulator")  # fmt: skip
_LEFT = {"model", "emulated core", "runtime", "scope", "stage", "verdict", "emulator"}


def markdown_report(results: Sequence[ProfileResult], *, unlike: Sequence[str] = ()) -> str:
    """Where it was measured, one row a run or count, and what limits the figures.

    Args:
        results: in the order to be shown.
        unlike: what differs between their environments: said first.
    """
    where = dict.fromkeys(map(_where, results))
    named = list(zip(words.names(results), results, strict=True))
    counted = list(zip(words.names(results, places=False), results, strict=True))
    lines = [
        *(f"**Unlike environments:** {safe(text)}" for text in unlike),
        *where,
        "",
        *table(_HEADS, [_row(name, run) for name, result in named for run in result.runs]),
        *table(_COUNTED, [_count(name, i) for name, r in counted for i in r.instructions]),
        *_ratios(results),
        *_limits(results),
    ]
    return "\n".join(lines).strip() + "\n"


def _where(result: ProfileResult) -> str:
    if words.emulated(result):
        return f"Instructions counted on {safe(words.cores(result))}: a count, not a time."
    if not result.runs:
        return f"No latency was measured on {safe(words.place(result))}."
    return f"Measured on {safe(words.place(result))}."


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Its lines and an empty one; nothing at all where there are no rows."""
    if not rows:
        return []
    rule = ("---" if head in _LEFT else "---:" for head in heads)
    return [_line(heads), _line(rule), *map(_line, rows), ""]


def safe(text: str) -> str:
    """``text`` where Markdown can read nothing into it, also within a table."""
    cut = " ".join(shown(text, _LONGEST).split()) or "–"
    if cut == "–" or ("://" not in cut and _PLAIN.fullmatch(cut)):
        return cut
    # A pipe ends a cell even within code, unless it is escaped.
    return "`" + cut.replace("`", "'").replace("\\", "/").replace("|", "\\|") + "`"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(name: str, run: Run) -> tuple[str, ...]:
    scope = f"{run.scope}, {words.pace(run)}" if run.pace_hz else run.scope
    return (
        safe(name),
        safe(run.runtime),
        str(run.threads),
        safe(scope),
        words.ms(run.p50_ms),
        words.between(run.p50_interval_ms),
        words.ms(run.p90_ms),
        words.maybe_ms(run.p99_ms),
        safe(run.verdict if run.complete else f"{run.verdict}, incomplete"),
    )


def _count(name: str, one: Instructions) -> tuple[str, ...]:
    return (
        safe(name),
        safe(one.core),
        safe(one.runtime),
        str(one.threads),
        f"{one.per_inference:,.0f}",
        str(len(one.counts)),
        f"{100 * one.spread:.4f} %",
        safe(one.emulator),
    )


def _ratios(results: Sequence[ProfileResult]) -> list[str]:
    lines = [
        f"- {safe(result.model)} takes {words.ms(ref.ratio)} times as long as {safe(ref.name)} "
        f"({words.between(ref.ratio_interval)}; {safe(ref.runtime)}, "
        f"{words.plural(ref.threads, 'thread')})"
        for result in results
        for ref in result.references
    ]
    return [*lines, ""] if lines else []


def _limits(results: Sequence[ProfileResult]) -> list[str]:
    doubtful = sum(run.verdict != STABLE for result in results for run in result.runs)
    said = (
        (doubtful, f"Not trustworthy as they stand: {words.plural(doubtful, 'figure')}."),
        (any(not r.complete for r in results), "Incomplete: the measurement ended early."),
        (any(r.facts.random_weights for r in results), "Random weights: for latency work only."),
        (any(r.preset == "quick" for r in results), "Made with --quick: a first look."),
    )
    return [text for holds, text in said if holds]
