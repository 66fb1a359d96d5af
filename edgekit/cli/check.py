"""``edgekit check``: a gate for CI. Does the model stay in its budget, and is it not worse?

    exit 4   over a limit, or worse than the baseline beyond the noise
    exit 5   the times that would decide cannot be trusted (not with --allow-noisy)
    exit 2   a limit that nothing measured; a baseline of another machine (not with --force)

What is certain goes first: a model over its MACs fails whatever the times are worth.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgekit.cli.arguments import path
from edgekit.cli.console import Console
from edgekit.errors import BudgetError, EdgekitError, MeasurementError, UsageError

if TYPE_CHECKING:
    from edgekit.bundle import Manifest
    from edgekit.profiling.budget import Budget, Row
    from edgekit.profiling.compare import Change
    from edgekit.profiling.result import ProfileResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument("bundle", type=path, help="folder or .edgekit file")
    parser.add_argument(
        "--budget", type=path, metavar="FILE", help="what it may cost, as budget.toml"
    )
    parser.add_argument(
        "--baseline", type=path, metavar="FILE", help="an earlier result: do not be worse"
    )
    parser.add_argument(
        "--result",
        type=path,
        metavar="FILE",
        help="what edgekit profile --json wrote (default: measure now what the budget needs)",
    )
    parser.add_argument(
        "--allow-noisy", action="store_true", help="decide by times that are not stable, too"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="take a result of another build, and a baseline of another machine",
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Read, measure what is missing, compare, print; then say with the exit code how it went."""
    from edgekit.bundle import open_bundle
    from edgekit.profiling.budget import Budget, judge, read_budget, read_result

    if not (arguments.budget or arguments.baseline):
        raise UsageError("nothing to check against: give --budget FILE, --baseline FILE or both")
    with open_bundle(arguments.bundle) as bundle:
        manifest = bundle.manifest
    budget = read_budget(arguments.budget, manifest.target) if arguments.budget else Budget()
    baseline = read_result(arguments.baseline) if arguments.baseline else None
    if arguments.result:
        result: ProfileResult | None = read_result(arguments.result)
    else:
        result = _measure(arguments, console, budget, manifest, baseline)
    doubts = _doubts(arguments, manifest, result, baseline)
    rows = judge(budget, manifest, result)
    if arguments.budget and not rows:
        has = ", ".join(artifact.runtime for artifact in manifest.artifacts)
        raise UsageError(
            f"{arguments.budget.name} limits nothing of this bundle, which has {has}: a gate that "
            "checks nothing does not pass"
        )
    changes = _changes(baseline, result)
    failure = next(_failures(arguments, rows, changes, result), None)
    _show(arguments, console, rows, changes, [*doubts, *_remarks(baseline, result)], failure)
    if failure is not None:
        raise failure
    console.next(_next_command(arguments))


def _measure(
    arguments: argparse.Namespace,
    console: Console,
    budget: Budget,
    manifest: Manifest,
    baseline: ProfileResult | None,
) -> ProfileResult | None:
    """Only what the limits and the baseline speak of; None when that needs no measuring."""
    from edgekit.profiling.budget import request

    wanted = request(str(arguments.bundle), budget, manifest, baseline)
    if wanted is None:
        return None
    from edgekit.profiling.profile import run_profile

    command = ("edgekit", *arguments.words)
    return run_profile(replace(wanted, command=command), progress=console.progress)


def _doubts(
    arguments: argparse.Namespace,
    manifest: Manifest,
    result: ProfileResult | None,
    baseline: ProfileResult | None,
) -> list[str]:
    """Why the comparison may not be made; with ``--force`` to be said beside it.

    Raises:
        UsageError: without ``--force``.
    """
    from edgekit.profiling.assemble import model_facts
    from edgekit.profiling.compare import differences, unlike, unmatched

    doubts = []
    if result and result.facts.bundle_sha256 != model_facts(manifest).bundle_sha256:
        doubts.append(
            f"the result is of another build than {str(arguments.bundle)!r} (its manifest "
            "differs): profile this one"
        )
    if baseline and result:
        differing = unlike(baseline, result)
        if _needs_like_machines(baseline, result):
            differing += differences(baseline, result)
        if differing:
            doubts.append(f"the baseline is not comparable: {'; '.join(differing)}")
        missing = unmatched(baseline, result)
        if missing:
            doubts.append(
                f"the result lacks {len(missing)} of the baseline's {len(baseline.runs)} runs "
                f"({missing[0]}): profile it the same way, or make a new baseline"
            )
    if doubts and not arguments.force:
        raise UsageError(f"{doubts[0]}; or compare all the same with --force")
    return doubts


def _needs_like_machines(baseline: ProfileResult, result: ProfileResult) -> bool:
    """Counts and emulated instructions are the same everywhere; times and memory are not."""
    return bool((baseline.runs and result.runs) or (baseline.memory and result.memory))


def _changes(baseline: ProfileResult | None, result: ProfileResult | None) -> tuple[Change, ...]:
    """What both have.

    Raises:
        UsageError: they have nothing in common but counts.
    """
    from edgekit.profiling.compare import COUNT, changes

    if baseline is None:
        return ()
    if result is None:
        raise UsageError(
            "the baseline has neither latency nor memory to measure again: give --result FILE"
        )
    found = changes(baseline, result)
    if all(change.kind == COUNT for change in found):
        raise UsageError("the baseline and the result have no measured figure in common")
    return found


def _remarks(baseline: ProfileResult | None, result: ProfileResult | None) -> list[str]:
    """What a reader of the tables must know, and what is no reason to refuse."""
    from edgekit.profiling.compare import not_compared
    from edgekit.profiling.result import STABLE
    from edgekit.runtimes.model import RANDOM_WEIGHTS  # says nothing about what it costs

    remarks = []
    if result is not None:
        remarks += [warning for warning in result.warnings if warning != RANDOM_WEIGHTS]
    if baseline is not None and baseline.verdict != STABLE:
        remarks.append(f"the baseline itself is {baseline.verdict}: a small change hides in it")
    if baseline is not None and result is not None:
        remarks += [f"not compared: {what}" for what in not_compared(baseline, result)]
    return remarks


# ---- the verdict -----------------------------------------------------------------------------


def _failures(
    arguments: argparse.Namespace,
    rows: Sequence[Row],
    changes: Sequence[Change],
    result: ProfileResult | None,
) -> Iterator[EdgekitError]:
    """Why the gate is shut, the most certain first."""
    from edgekit.profiling.budget import TIME

    certain = [row for row in rows if row.kind != TIME]
    yield from _excess(certain, [change for change in changes if change.kind != TIME])
    yield from _unmeasured(arguments, rows)
    if not arguments.allow_noisy:
        yield from _doubtful(rows, changes, result)
    yield from _excess(rows, changes)


def _unmeasured(arguments: argparse.Namespace, rows: Sequence[Row]) -> Iterator[UsageError]:
    """A limit without a figure; of parity, one that no artifact has a figure for."""
    from edgekit.profiling.budget import NOT_MEASURED, STATIC

    measured = {row.limit for row in rows if row.verdict != NOT_MEASURED and row.kind == STATIC}
    for row in rows:
        if row.verdict == NOT_MEASURED and row.limit not in measured:
            hint = row.hint.replace("BUNDLE", shlex.quote(str(arguments.bundle)))
            yield UsageError(f"{row.limit} of {row.subject} is limited and not measured: {hint}")


def _excess(rows: Sequence[Row], changes: Sequence[Change]) -> Iterator[BudgetError]:
    """What is over a limit, and what is worse than before: all of it in one error."""
    from edgekit.profiling.budget import OVER
    from edgekit.profiling.compare import WORSE

    found = [
        f"{row.limit} of {row.subject} is {_figure(row.got)}, allowed {_figure(row.allowed)}"
        + (" (too close to call)" if row.close else "")
        for row in rows
        if row.verdict == OVER
    ]
    found += [
        f"{change.figure} of {change.subject} is {change.ratio:.3g} times the baseline's"
        for change in changes
        if change.verdict == WORSE
    ]
    if found:
        more = f"; and {len(found) - 1} more, see the table" if len(found) > 1 else ""
        yield BudgetError(f"{found[0]}{more}")


def _doubtful(
    rows: Sequence[Row], changes: Sequence[Change], result: ProfileResult | None
) -> Iterator[MeasurementError]:
    """Runs that decide something here and whose verdict is not stable."""
    from edgekit.profiling.budget import TIME
    from edgekit.profiling.compare import run_text
    from edgekit.profiling.result import STABLE

    timed = {row.subject for row in rows if row.kind == TIME}
    timed |= {change.subject for change in changes if change.kind == TIME}
    for run in result.runs if result else ():
        subject = run_text((run.runtime, run.threads, run.scope, run.pace_hz))
        if subject in timed and (run.verdict != STABLE or not run.complete):
            why = run.reasons[0] if run.reasons else run.verdict
            yield MeasurementError(
                f"the time of {subject} cannot be trusted: "
                f"{why if run.complete else 'it is incomplete'}; measure again on an idle "
                "machine, or decide by it with --allow-noisy"
            )


# ---- tables ----------------------------------------------------------------------------------


def _show(
    arguments: argparse.Namespace,
    console: Console,
    rows: Sequence[Row],
    changes: Sequence[Change],
    warnings: Sequence[str],
    failure: EdgekitError | None,
) -> None:
    console.document(
        {
            "exit_code": failure.exit_code if failure else 0,
            "failure": str(failure) if failure else None,
            "bundle": str(arguments.bundle),
            "budget": str(arguments.budget) if arguments.budget else None,
            "baseline": str(arguments.baseline) if arguments.baseline else None,
            "limits": rows,
            "changes": changes,
            "warnings": warnings,
        }
    )
    for warning in warnings:
        console.warn(warning)
    if rows:
        console.table(
            ("limit", "of", "allowed", "got", "95 % interval", "verdict"),
            [_limit_cells(row) for row in rows],
        )
    if rows and changes:
        console.print()
    if changes:
        console.table(
            ("figure", "of", "before", "now", "ratio", "95 % interval", "noise", "verdict"),
            [_change_cells(change) for change in changes],
        )


def _limit_cells(row: Row) -> tuple[str, ...]:
    words = [row.verdict.upper() if row.verdict == "over" else row.verdict]
    words += ["too close to call"] if row.close else []
    words += [row.trust] if row.trust != "stable" else []
    return (
        row.limit,
        row.subject,
        _figure(row.allowed, row.unit),
        _figure(row.got, row.unit),
        _range(row.interval),
        ", ".join(words),
    )


def _change_cells(change: Change) -> tuple[str, ...]:
    return (
        change.figure,
        change.subject,
        _figure(change.before),
        _figure(change.after),
        f"{change.ratio:.3f}",
        _range(change.interval),
        f"{100 * (change.floor - 1):.1f} %",
        change.verdict.upper() if change.verdict == "worse" else change.verdict,
    )


def _figure(value: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    whole = isinstance(value, int) or abs(value) >= 1e5
    text = f"{value:,.0f}" if whole else f"{value:.4g}"
    return f"{text} {unit}".rstrip()


def _range(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}"


def _next_command(arguments: argparse.Namespace) -> str:
    bundle = shlex.quote(str(arguments.bundle))
    if arguments.baseline:
        return f"edgekit profile {bundle} --thorough"
    return f"edgekit profile {bundle} --json > baseline.json"
