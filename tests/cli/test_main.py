"""The front door: verbs, exit codes, one line per error, one document with --json."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from edgekit import __version__, cli
from edgekit.cli import VERBS, main
from edgekit.errors import DeviceError, MissingDependencyError, ParityError


@pytest.fixture
def verb(monkeypatch):
    """Make ``edgekit models`` do something else."""

    class Stand:
        action: Any

        def add_arguments(self, parser):
            pass

        def run(self, arguments, console):
            self.action(console)

    stand = Stand()
    monkeypatch.setattr(cli, "_load", lambda name: stand)
    return stand


def raiser(error):
    def action(console):
        raise error

    return action


def test_the_verbs_are_exactly_those_that_work():
    assert " ".join(VERBS) == (
        "models targets export finish count run profile check report train distill evaluate doctor"
    )


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    for common in ("--json", "--verbose", "--quiet"):
        assert common in shown


def test_help_lists_every_verb_and_exit_code(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert all(row.help in shown for row in VERBS.values())
    assert "7 missing dependency" in shown


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"edgekit {__version__}\n"


def test_nothing_typed_is_a_usage_error_with_the_help(capsys):
    assert main([]) == 2
    assert "usage: edgekit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "meant"), [("exprot", "export"), ("model", "models"), ("docter", "doctor")]
)
def test_an_unknown_verb_gets_close_matches(typed, meant, capsys):
    assert main([typed]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(
        f"edgekit: error: unknown command '{typed}': did you mean {meant}"
    )
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("models --colour", "unrecognized arguments: --colour; edgekit --help tells more"),
        ("models --fam micronet", "unrecognized arguments: --fam;"),  # not guessed
        ("export micronet-m1", "required: --target; edgekit export --help tells more"),
        ("export micronet-m1 --target x86 --imgsz 0", "'0' is not a positive whole number"),
        ("run b.edgekit x.jpg -v -q", "not allowed with argument"),
        ("-v", "unrecognized arguments: -v"),
    ],
)
def test_a_wrong_line_is_one_line_and_exit_2(typed, says, capsys):
    assert main(typed.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("edgekit: error: ")
    assert says in line


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ParityError("x"), 3),
        (DeviceError("x"), 6),
        (MissingDependencyError("a", "b", "pip install b"), 7),
    ],
)
def test_an_error_of_ours_is_one_line_and_its_code(verb, error, code, capsys):
    verb.action = raiser(error)
    assert main(["models"]) == code
    assert capsys.readouterr().err == f"edgekit: error: {error}\n"


def test_an_error_of_nobodys_is_one_line_too(verb, capsys):
    verb.action = raiser(ZeroDivisionError("one\ntwo"))
    assert main(["models"]) == 1
    printed = capsys.readouterr().err
    assert printed == (
        "edgekit: error: unexpected ZeroDivisionError: one two; "
        "run again with -v for the traceback\n"
    )


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (OSError(28, "No space left on device", "/tmp/x"), 1, "refuses '/tmp/x': No space left"),
        (OSError("no reason"), 1, "the system refuses: no reason"),
        (ModuleNotFoundError("no", name="numpy"), 7, "needs numpy, .* pip install numpy$"),
    ],
)
def test_what_the_machine_lacks_is_said_plainly(verb, error, code, says, capsys):
    verb.action = raiser(error)
    assert main(["models"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(says, line)


@pytest.mark.parametrize("error", [ParityError("x"), ZeroDivisionError("x")])
def test_v_shows_the_traceback(verb, error, capsys):
    verb.action = raiser(error)
    assert main(["models", "-v"]) > 0
    printed = capsys.readouterr().err
    assert "Traceback (most recent call last)" in printed
    assert "run again" not in printed


def test_ctrl_c_is_130(verb, capsys):
    verb.action = raiser(KeyboardInterrupt())
    assert main(["models"]) == 130
    assert capsys.readouterr().err == "edgekit: error: interrupted\n"


def test_json_is_one_document_and_nothing_else(capsys):
    for arguments in (["models"], ["targets"]):
        assert main([*arguments, "--json"]) == 0
        json.loads(capsys.readouterr().out)


def test_json_of_a_failure_is_nothing_on_stdout(verb, capsys):
    verb.action = raiser(ParityError("x"))
    assert main(["models", "--json"]) == 3
    assert capsys.readouterr().out == ""


def _process(*arguments, **options):
    command = [sys.executable, "-m", "edgekit", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_a_reader_that_leaves_is_no_error_message():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "edgekit", "models"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == b""


def test_a_terminal_that_knows_only_ascii_still_gets_the_answer():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    child = _process("models", "--json", env=environment)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, b"")
    assert json.loads(out)


def test_help_is_quick_because_no_verb_is_imported():
    code = (
        "import sys; from edgekit.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    )
    code += "\nprint(*[m for m in sys.modules if m.startswith('edgekit.')], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stderr.split()) == {"edgekit.cli", "edgekit.cli.console", "edgekit.errors"}


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes them")
@pytest.mark.parametrize(("closed", "left"), [(">&-", ""), ("2>&-", "micronet-m0"), ("<&-", "")])
def test_a_stream_that_is_closed_from_the_start_costs_nothing(closed, left):
    command = f'exec "{sys.executable}" -m edgekit models --json {closed}'
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
    assert left in done.stdout and done.stderr == ""
