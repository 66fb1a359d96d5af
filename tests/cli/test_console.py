"""What goes where, and how figures are written."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekit.cli.console import Console, count_text, size_text


def loud(**options):
    console = Console()
    console.configure(**{"verbose": False, "quiet": False, "json": False, **options})
    return console


def say_everything(console):
    console.progress("progress")
    console.note("note")
    console.warn("warning")
    console.table(("name", "size"), [("a", "1 B"), ("bb", "10 B")])
    console.document({"a": 1})
    console.next("edgekit doctor")


def test_results_on_stdout_and_the_rest_on_stderr(capsys):
    say_everything(loud())
    printed = capsys.readouterr()
    assert printed.out == "name  size\na      1 B\nbb    10 B\n\nnext: edgekit doctor\n"
    assert printed.err == "progress\nedgekit: warning: warning\n"


def test_json_silences_everything_else_on_stdout(capsys):
    say_everything(loud(json=True))
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_quiet_keeps_results_and_warnings(capsys):
    say_everything(loud(quiet=True))
    printed = capsys.readouterr()
    assert "bb    10 B" in printed.out
    assert "next" not in printed.out
    assert printed.err == "edgekit: warning: warning\n"


def test_verbose_shows_notes(capsys):
    say_everything(loud(verbose=True))
    assert "note\n" in capsys.readouterr().err


class Terminal:
    """A stream that says it is one."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


@pytest.mark.parametrize(("no_colour", "coloured"), [("", True), ("1", False)])
def test_colours_on_a_terminal_unless_no_color(monkeypatch, no_colour, coloured):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("NO_COLOR", no_colour)
    loud().error("x")
    assert ("\033[31m" in terminal.text) == coloured


def test_versions_are_text_and_stay_left(capsys):
    loud().table(("v",), [("2.13.0+cpu",), ("1.0",)])
    assert capsys.readouterr().out == "v\n2.13.0+cpu\n1.0\n"


def test_documents_hold_what_json_can_say(capsys):
    @dataclass(frozen=True)
    class Row:
        path: Path
        figures: tuple[float, ...]

    loud(json=True).document([Row(Path("a/b"), (1.5, float("nan"), float("inf")))])
    assert json.loads(capsys.readouterr().out) == [{"path": "a/b", "figures": [1.5, None, None]}]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (7_110_000, "7.1 MB"),
        (5 * 10**12, "5000.0 GB"),
    ],
)
def test_sizes(count, text):
    assert size_text(count) == text


def test_millions():
    assert count_text(5_314_080) == "5.31 M"
    assert count_text(35_420) == "35.4 k"
    assert count_text(840) == "840"
