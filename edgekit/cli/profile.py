"""``edgekit profile``: latency, cold start, memory and time per layer of a bundle."""

from __future__ import annotations

import argparse
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edgekit.cli import emulation
from edgekit.cli.arguments import comma_list, duration, path, positive, rate
from edgekit.cli.console import Console, size_text
from edgekit.errors import MeasurementError, UsageError

if TYPE_CHECKING:
    from edgekit.profiling.request import Request
    from edgekit.profiling.result import ColdStart, ProfileResult, Run

T = TypeVar("T")

_COLUMNS = (
    *("runtime", "threads", "scope", "p50 ms", "95 % interval"),
    *("p90", "p99", "min", "samples", "verdict"),
)
_SCOPES = "engine, copies, pipeline"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument("bundle", help="folder or .edgekit file")
    _what(parser.add_argument_group("what is measured"))
    _how(parser.add_argument_group("how long and where"))
    emulation.add_arguments(parser)
    parser.add_argument("--save", type=path, metavar="DIR", help="write the result there as JSON")
    parser.add_argument(
        "--allow-noisy",
        action="store_true",
        help="exit 0 also when a verdict is not stable (default: exit 5)",
    )


def _what(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--runtime",
        action="append",
        type=comma_list(str),
        metavar="NAMES",
        help="e.g. onnxruntime,litert (default: all of the bundle that are installed)",
    )
    group.add_argument(
        "--threads",
        action="append",
        type=comma_list(positive),
        metavar="N,N",
        help="compute threads, each is measured (default: 1)",
    )
    group.add_argument(
        "--scope", action="append", type=comma_list(str), help=f"{_SCOPES} or all (default: all)"
    )
    group.add_argument(
        "--pace", type=rate, default=0.0, metavar="HZ", help="also start so many a second"
    )
    group.add_argument(
        "--sustain",
        type=duration,
        default=0.0,
        metavar="TIME",
        help="also run back-to-back for 60, 90s or 5m, as a time series",
    )
    group.add_argument("--image", default="", metavar="FILE", help="feed it to the pipeline scope")
    group.add_argument("--no-layers", action="store_true", help="no times per layer")
    group.add_argument("--no-memory", action="store_true", help="no memory")
    group.add_argument(
        "--references",
        action="store_true",
        help="time MobileNetV2-0.5 and MobileNetV3-small in turns with it, for ratios; "
        "they are exported once",
    )
    group.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="BUNDLE",
        help="a bundle to time in turns with this one, for ratios",
    )


def _how(group: argparse._ArgumentGroup) -> None:
    lengths = group.add_mutually_exclusive_group()
    lengths.add_argument("--quick", action="store_true", help="a first look: about 10 s a runtime")
    lengths.add_argument(
        "--thorough",
        action="store_true",
        help="5 processes, all big cores too, paced, sustained: several minutes a runtime",
    )
    group.add_argument(
        "--cpus", default="auto", metavar="LIST", help="pin to e.g. 0-3,6; auto (default) or none"
    )
    group.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="RUNTIME.NAME=VALUE",
        help="a setting of a runtime",
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Measure, print, save; then say with the exit code whether to believe it."""
    from edgekit.profiling.saving import check_folder, save_result

    if arguments.save:
        check_folder(arguments.save)
    request = request_of(arguments)
    kept = _Kept()
    try:
        _measure(request, arguments, console, kept)
    finally:
        if kept.result is not None:
            saved = save_result(kept.result, arguments.save) if arguments.save else None
            _show(kept.result, saved, console)
    if kept.result is not None:
        _judge(kept.result, arguments)


@dataclass
class _Kept:
    """The latest result: all there is after Ctrl-C or an error."""

    result: ProfileResult | None = field(default=None)

    def keep(self, result: ProfileResult) -> None:
        self.result = result


def _measure(
    request: Request, arguments: argparse.Namespace, console: Console, kept: _Kept
) -> None:
    from edgekit.profiling.profile import run_profile

    if arguments.emulate:
        kept.keep(emulation.measure(request, arguments, console))
        return
    if arguments.references:
        request = replace(request, references=(*request.references, *_standard(request, console)))
    run_profile(request, progress=console.progress, keep=kept.keep)


def _standard(request: Request, console: Console) -> tuple[str, ...]:
    """Bundles of the standard reference networks for the bundle's target.

    Raises:
        MissingDependencyError: torch is not installed: they are built where bundles are.
    """
    from edgekit.bundle import open_bundle
    from edgekit.export.references import build_references
    from edgekit.profiling.plan import choose_runtimes

    with open_bundle(Path(request.bundle)) as bundle:
        runtimes, _ = choose_runtimes(request, bundle)
        target = bundle.manifest.target
    return tuple(map(str, build_references(target, runtimes, progress=console.progress)))


def request_of(arguments: argparse.Namespace) -> Request:
    """What the command line asks for."""
    from edgekit.profiling.request import Request

    scopes = _flat(arguments.scope)
    return Request(
        bundle=arguments.bundle,
        preset="quick" if arguments.quick else "thorough" if arguments.thorough else "default",
        runtimes=_flat(arguments.runtime),
        threads=_flat(arguments.threads),
        scopes=tuple(_SCOPES.split(", ")) if "all" in scopes else scopes,
        pace_hz=arguments.pace,
        sustain_s=arguments.sustain,
        cpus=arguments.cpus,
        references=tuple(arguments.reference),
        layers=False if arguments.no_layers else None,
        memory=False if arguments.no_memory else None,
        image=arguments.image,
        options=dict(map(_option, arguments.option)),
        command=("edgekit", *arguments.words),
    )


def _flat(groups: Sequence[tuple[T, ...]] | None) -> tuple[T, ...]:
    """What was given with several flags, as one."""
    return tuple(item for group in groups or () for item in group)


def _option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        raise UsageError(f"--option {text!r} is not RUNTIME.NAME=VALUE")
    return key, value


def _judge(result: ProfileResult, arguments: argparse.Namespace) -> None:
    """Raise what makes the figures untrustworthy.

    Raises:
        MeasurementError: a verdict is not ``stable``, without ``--allow-noisy``.
    """
    from edgekit.profiling.result import VERDICTS

    shaky = [run for run in result.runs if run.verdict != "stable"]
    if shaky and not arguments.allow_noisy:
        first = max(shaky, key=lambda run: VERDICTS.index(run.verdict))
        raise MeasurementError(
            f"{len(shaky)} of {len(result.runs)} figures cannot be trusted: {_name(first)} is "
            f"{first.reasons[0] if first.reasons else first.verdict}; "
            "measure again on an idle machine, or accept them with --allow-noisy"
        )


# ---- tables ----------------------------------------------------------------------------------


def _show(result: ProfileResult, saved: Path | None, console: Console) -> None:
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
    _print_ratios(result, console)
    _print_sustained(result, console)
    _print_end(result, console)
    if saved:
        console.print(f"saved {saved}")
    console.next(_next_command(result, saved))


def _print_heading(result: ProfileResult, console: Console) -> None:
    facts, machine = result.facts, result.environment.machine
    where = " ".join(filter(None, (machine.board, machine.cpu))) or machine.architecture
    console.print(
        f"{result.model} for {facts.target}, {facts.precision}, "
        f"{facts.macs / 1e6:.2f} M MACs, {facts.flops / 1e6:.2f} MFLOPs; on {where}"
    )
    if result.preset == "quick":
        console.print("a first look: one process, the engine alone; leave --quick out to know more")
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
    reasons = {f"{_name(run)}: {reason}": None for run in runs for reason in run.reasons}
    for reason in reasons:
        console.paragraph(f"- {reason}")


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


def _print_sustained(result: ProfileResult, console: Console) -> None:
    for row in result.sustained:
        fell = row.throttled_at_s
        end = f"fell off after {fell:.0f} s" if fell is not None else "held to the end"
        joules = row.joules_per_inference
        energy = f", {1000 * joules:.2f} mJ an inference ({row.power_source})" if joules else ""
        console.paragraph(
            f"sustained, {row.runtime}, {row.threads} thread{'s' * (row.threads > 1)}: "
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


def _name(run: Run) -> str:
    pace = f" at {run.pace_hz:g}/s" if run.pace_hz else ""
    return f"{run.runtime}, {run.threads} thread{'s' * (run.threads > 1)}, {run.scope}{pace}"


def _ms(value: float | None) -> str:
    """Milliseconds with the digits that a clock of nanoseconds and a noisy machine deserve."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 100 else f"{value:.1f}"
