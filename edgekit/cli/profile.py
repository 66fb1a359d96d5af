"""``edgekit profile``: latency, cold start, memory and time per layer of a bundle."""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edgekit.cli import emulation, profile_tables, profile_vlm
from edgekit.cli.arguments import comma_list, duration, path, positive, rate
from edgekit.cli.console import Console
from edgekit.cli.profile_tables import run_name
from edgekit.errors import MeasurementError, UnknownNameError, UsageError
from edgekit.models.zoo import VARIANTS

if TYPE_CHECKING:
    from edgekit.profiling.request import Request
    from edgekit.profiling.result import ProfileResult

T = TypeVar("T")

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
        "--device", metavar="ssh://HOST", help="measure there: ssh://[user@]host[:port]"
    )
    group.add_argument(
        "--install",
        action="store_true",
        help="with --device: send edgekit and the runtimes too, into a folder of their own",
    )
    group.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="RUNTIME.NAME=VALUE",
        help="a setting of a runtime, e.g. tensorrt.cuda_graph=off",
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Measure, print, save; then say with the exit code whether to believe it."""
    from edgekit.bundle.assembly import is_assembly
    from edgekit.profiling.saving import check_folder

    if is_assembly(arguments.bundle):
        profile_vlm.run_vlm(arguments, console)
        return
    if arguments.save:
        check_folder(arguments.save)
    _check(arguments)
    request = request_of(arguments)
    kept = _Kept()
    try:
        with _stopped_like_ctrl_c():
            _measure(request, arguments, console, kept)
    except KeyboardInterrupt:
        if kept.result is None:
            console.warn("nothing was finished, so nothing is kept")
        raise
    finally:
        if kept.result is not None:
            _hand_over(kept.result, arguments, console)
    if kept.result is not None:
        _judge(kept.result, arguments)


@contextlib.contextmanager
def _stopped_like_ctrl_c() -> Iterator[None]:
    """SIGTERM, of a CI's or a ``timeout``'s end, keeps what was measured too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _hand_over(result: ProfileResult, arguments: argparse.Namespace, console: Console) -> None:
    """Save, then print: neither a closed stdout nor a full disk costs the other."""
    from edgekit.profiling.saving import save_result

    saved = None
    try:
        saved = save_result(result, arguments.save) if arguments.save else None
    finally:
        profile_tables.show(result, console)
        profile_tables.show_end(result, saved, console)


def _check(arguments: argparse.Namespace) -> None:
    """Refuse flags that say nothing together.

    Raises:
        UsageError: names them.
    """
    if arguments.install and not arguments.device:
        raise UsageError("--install is for a board: name it with --device ssh://user@host")
    if arguments.device and arguments.emulate:
        raise UsageError("--device measures on a board and --emulate counts here: give one of them")
    if arguments.sysroot and not arguments.emulate:
        raise UsageError("--sysroot is for an emulated core: name it with --emulate cortex-a72")
    if arguments.bundle in VARIANTS and not Path(arguments.bundle).exists():
        raise UsageError(
            f"{arguments.bundle} is a network of the zoo, and a bundle is what is measured: "
            f"edgekit export {arguments.bundle} --target x86, then give its folder"
        )


@dataclass
class _Kept:
    """The latest result: all there is after Ctrl-C or an error."""

    result: ProfileResult | None = field(default=None)

    def keep(self, result: ProfileResult) -> None:
        self.result = result


def _measure(
    request: Request, arguments: argparse.Namespace, console: Console, kept: _Kept
) -> None:
    if arguments.emulate:
        kept.keep(emulation.measure(request, arguments, console))
        return
    if arguments.references:
        standard = _standard(request, arguments, console)
        request = replace(request, references=(*request.references, *standard))
    if arguments.device:
        from edgekit.profiling.remote import profile_on_device

        kept.keep(
            profile_on_device(
                arguments.device,
                request,
                install=arguments.install,
                progress=console.progress,
                keep=kept.keep,
            )
        )
    else:
        from edgekit.profiling.profile import run_profile

        run_profile(request, progress=console.progress, keep=kept.keep)


def _standard(request: Request, arguments: argparse.Namespace, console: Console) -> tuple[str, ...]:
    """Bundles of the standard reference networks for the bundle's target.

    Raises:
        MissingDependencyError: torch is not installed: they are built where bundles are.
    """
    from edgekit.bundle import open_bundle
    from edgekit.export.references import build_references
    from edgekit.profiling.plan import choose_runtimes

    with open_bundle(Path(request.bundle)) as bundle:
        if arguments.device:  # what is installed here says nothing
            has = tuple(artifact.runtime for artifact in bundle.manifest.artifacts)
            runtimes = request.runtimes or has
        else:
            runtimes, _ = choose_runtimes(request, bundle)
        target = bundle.manifest.target
    return tuple(map(str, build_references(target, runtimes, progress=console.progress)))


def request_of(arguments: argparse.Namespace) -> Request:
    """What the command line asks for."""
    from edgekit.profiling.request import Request

    scopes = _flat(arguments.scope)
    known = (*_SCOPES.split(", "), "all")
    for scope in scopes:
        if scope not in known:
            raise UnknownNameError("scope", scope, known)
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
    from edgekit.profiling.result import severity

    shaky = [run for run in result.runs if run.verdict != "stable"]
    if shaky and not arguments.allow_noisy:
        first = max(shaky, key=lambda run: severity(run.verdict))
        raise MeasurementError(
            f"{len(shaky)} of {len(result.runs)} figures cannot be trusted: {run_name(first)} is "
            f"{first.reasons[0] if first.reasons else first.verdict}; "
            "measure again on an idle machine, or accept them with --allow-noisy"
        )
