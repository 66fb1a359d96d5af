"""The command line: ``edgekit VERB ...``.

    table of verbs -> one module a verb: add_arguments(parser), run(arguments, console)

A verb's module is imported when that verb is typed, so that ``edgekit --help`` stays quick.
Tables and results go to stdout, progress and errors to stderr; exit codes are those of
``edgekit.errors``, 130 after Ctrl-C, and 141 when the reader of a pipe has gone.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol, cast

from edgekit.cli.console import Console
from edgekit.errors import EdgekitError, MissingDependencyError, UnknownNameError, UsageError

_INTERRUPTED = 130  # 128 + SIGINT, as shells count
_BROKEN_PIPE = 141  # 128 + SIGPIPE

_EPILOG = """\
exit codes:
  0 ok, 1 failure, 2 usage, 3 parity failed, 4 budget exceeded, 5 measurement not trustworthy,
  6 device unreachable, 7 missing dependency, 130 interrupted

environment:
  EDGEKIT_CACHE          folder of weights, wheels and TensorRT plans (default: ~/.cache/edgekit)
  EDGEKIT_OFFLINE        1: never use the network
  EDGEKIT_SSH            the ssh of --device, with options: "ssh -F FILE" (default: ssh)
  EDGEKIT_DEVICE_PYTHON  the Python to use on the device (default: the first that suits)
  NO_COLOR               no colours
"""


@dataclass(frozen=True)
class Verb:
    """One command. ``module`` is imported only when the command is typed."""

    name: str
    module: str
    help: str


VERBS: dict[str, Verb] = {
    row.name: row
    for row in (
        Verb("models", "edgekit.cli.models", "the zoo: parameters, counts and published figures"),
        Verb("targets", "edgekit.cli.targets", "what each target gets, and what is missing here"),
        Verb(
            "export", "edgekit.cli.export", "make a bundle for a target, proven equal to its source"
        ),
        Verb(
            "finish", "edgekit.cli.finish", "on the board: build the TensorRT plan and self-test it"
        ),
        Verb("count", "edgekit.cli.count", "MACs, FLOPs and memory of a model, layer by layer"),
        Verb("run", "edgekit.cli.run", "classify an image, or run tensors, with a bundle"),
        Verb("profile", "edgekit.cli.profile", "measure a bundle: latency, memory, time per layer"),
        Verb("check", "edgekit.cli.check", "hold a bundle against a budget and an earlier result"),
        Verb(
            "report", "edgekit.cli.report", "results as one page of HTML; as Markdown and CSV too"
        ),
        Verb("train", "edgekit.cli.train", "a network of the zoo learns the classes of a data set"),
        Verb("distill", "edgekit.cli.distill", "a network learns without classes, from a teacher"),
        Verb(
            "evaluate",
            "edgekit.cli.evaluate",
            "accuracy of weights, or of a bundle in its runtimes",
        ),
        Verb("doctor", "edgekit.cli.doctor", "what works on this machine and what to install"),
    )
}


class Parser(argparse.ArgumentParser):
    """argparse's own, with a wrong line answered by one line instead of ten of usage."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the line."""
        raise UsageError(f"{message}; {self.prog} --help tells more")


class VerbModule(Protocol):
    """What the module of a verb has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's own arguments."""

    def run(self, arguments: argparse.Namespace, console: Console) -> None:
        """Do it; a failure is an ``EdgekitError``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    console = Console()
    return _guarded(lambda: _dispatch(argv, console), console)


def _dispatch(argv: Sequence[str], console: Console) -> int:
    verb = next((word for word in argv if not word.startswith("-")), "")
    if verb and verb not in VERBS:
        raise UnknownNameError("command", verb, VERBS, "edgekit --help lists them.")
    parser = _parser(verb)
    if not verb and not argv:
        parser.print_help()
        return 2
    arguments = parser.parse_args(argv)
    if not verb:
        parser.error("a command is needed")
    arguments.words = tuple(argv)  # for the record of what measures
    console.configure(verbose=arguments.verbose, quiet=arguments.quiet, json=arguments.json)
    if not console.verbose:
        warnings.simplefilter("ignore")
    _load(verb).run(arguments, console)
    return 0


def _parser(verb: str) -> argparse.ArgumentParser:
    """A parser that knows every verb by name, and the arguments of ``verb``."""
    parser = Parser(
        prog="edgekit",
        description="From tiny neural networks to measured deployments on Jetson, ARM and x86.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"edgekit {_version()}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    for row in VERBS.values():
        child = commands.add_parser(
            row.name,
            help=row.help,
            description=row.help[0].upper() + row.help[1:] + ".",
            allow_abbrev=False,
        )
        if row.name == verb:
            _load(verb).add_arguments(child)
            _add_common(child)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="one JSON document on stdout")
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument(
        "-v", "--verbose", action="store_true", help="notes of every stage; tracebacks of errors"
    )
    loudness.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def _load(verb: str) -> VerbModule:
    return cast(VerbModule, importlib.import_module(VERBS[verb].module))


def _version() -> str:
    from edgekit import __version__

    return __version__


def _guarded(command: Callable[[], int], console: Console) -> int:
    """Run ``command``; every way it can end becomes an exit code and at most one line."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us: ``2>&-``
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A label that the terminal's encoding lacks must not cost the answer.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = command()
        sys.stdout.flush()
        return code
    except EdgekitError as error:
        _show_traceback(console)
        console.error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        console.error("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:  # no space for temporary files, no permission
        _show_traceback(console)
        where = f" {str(error.filename)!r}" if error.filename else ""
        console.error(f"the system refuses{where}: {error.strerror or error}")
        return EdgekitError.exit_code
    except ModuleNotFoundError as error:  # of edgekit's own dependencies
        _show_traceback(console)
        name = error.name or "a package"
        missing = MissingDependencyError("edgekit", name, f"pip install {name}")
        console.error(str(missing))
        return missing.exit_code
    except Exception as error:  # noqa: BLE001 - the last resort: one line instead of a traceback
        _show_traceback(console)
        hint = "" if console.verbose else "; run again with -v for the traceback"
        message = " ".join(str(error).split()) or "no message"
        console.error(f"unexpected {type(error).__name__}: {message}{hint}")
        return 1


def _show_traceback(console: Console) -> None:
    if console.verbose:
        traceback.print_exc()
