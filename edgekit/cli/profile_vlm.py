"""``edgekit profile BUNDLE``, where the bundle is a vision-language model: time by stage."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from edgekit.cli.console import Console, count_text
from edgekit.errors import MeasurementError, UsageError

if TYPE_CHECKING:
    from edgekit.profiling.stages_result import StageRun, StagesResult

# Options that are for bundles of one graph, with what they are when not given.
_NOT_HERE: dict[str, object] = {
    "scope": None,
    "pace": 0.0,
    "sustain": 0.0,
    "references": False,
    "reference": [],
    "device": None,
    "emulate": None,
    "option": [],
}
_WHOLE = ("look", "ask", "caption")
_HEADERS = ("stage", "p10 ms", "p50 ms", "p90 ms", "of look", "samples", "spread", "verdict")


def run_vlm(arguments: argparse.Namespace, console: Console) -> None:
    """Measure, print a table a runtime, save."""
    for name, unset in _NOT_HERE.items():
        if getattr(arguments, name) != unset:
            raise UsageError(
                f"--{name} is for bundles of one graph: each folder in {arguments.bundle!r} is one"
            )
    from edgekit.profiling.stages import profile_stages
    from edgekit.profiling.stages_file import save_stages

    result = profile_stages(
        arguments.bundle,
        runtimes=[name for group in arguments.runtime or () for name in group],
        threads=[count for group in arguments.threads or ((1,),) for count in group],
        preset="quick" if arguments.quick else "thorough" if arguments.thorough else "default",
        image=arguments.image,
        cpus=arguments.cpus,
        progress=console.progress,
    )
    saved = save_stages(result, arguments.save) if arguments.save else None
    console.document(result)
    _print(result, console)
    again = f"edgekit profile {shlex.quote(arguments.bundle)} --save DIR"
    console.next(f"edgekit report {shlex.quote(str(saved))}" if saved else again)
    _judge(result, arguments)


def _print(result: StagesResult, console: Console) -> None:
    macs = f"{result.macs / 1e9:.2f} G" if result.macs >= 10**9 else count_text(result.macs)
    console.print(
        f"{result.model}: {count_text(result.params)} params, {macs} MACs for "
        f"an image and a short question; {result.image}"
    )
    console.print(f"{result.machine.cpu}, {result.machine.system}")
    if result.random:
        console.warn("random weights: the times are those of trained ones, the answers are not")
    for runtime, threads in dict.fromkeys((run.runtime, run.threads) for run in result.runs):
        plural = "s" if threads > 1 else ""
        console.print(f"\n{runtime}, {threads} thread{plural}")
        rows = [run for run in result.runs if (run.runtime, run.threads) == (runtime, threads)]
        look = result.median_ms("look", runtime, threads)
        ordered = sorted(rows, key=lambda run: run.stage in _WHOLE)
        console.table(_HEADERS, [_row(run, look) for run in ordered])
        for reason in dict.fromkeys(reason for run in rows for reason in run.reasons[:1]):
            console.note(f"- {reason}")
        if result.tokens.get(runtime):
            console.print(f"caption: {result.tokens[runtime]} tokens; step: one of them")


def _row(run: StageRun, look: float) -> tuple[str, ...]:
    share = f"{run.p50_ms / look:.1%}" if run.stage not in _WHOLE else "-"
    return (
        run.stage,
        *(f"{figure:.2f}" for figure in (run.p10_ms, run.p50_ms, run.p90_ms)),
        share,
        str(sum(map(len, run.samples_ms))),
        "-" if run.spread is None else f"{run.spread:.1%}",
        run.verdict,
    )


def _judge(result: StagesResult, arguments: argparse.Namespace) -> None:
    """As for other bundles: what cannot be trusted ends with exit code 5."""
    shaky = [run for run in result.runs if run.stage in _WHOLE and run.verdict != "stable"]
    if shaky and not arguments.allow_noisy:
        first = shaky[0]
        raise MeasurementError(
            f"{first.stage} with {first.runtime} is {first.reasons[0]}; measure again on an idle "
            "machine, or accept it with --allow-noisy"
        )
