"""``edgekit profile --device``: what is printed, what is saved, and the exit code."""

import json

import pytest

from edgekit.cli import main
from edgekit.profiling.remote import measuring
from edgekit.profiling.result import result_from_json
from tests.profiling.remote.remote_boards import HURRIED, URL


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(measuring, "Patience", lambda: HURRIED)


def profile(board, *words):
    board.prepare()
    return main(["profile", str(board.bundle), "--device", URL, "--allow-noisy", *words])


def test_the_document_says_where_it_was_measured(board, capsys):
    assert profile(board, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["device"] == "pi@board"
    assert document["bundle"] == str(board.bundle)
    assert document["complete"] is True
    assert "--device" in document["command"]


def test_a_lost_board_saves_what_was_finished(board, capsys, tmp_path):
    board.scenario = {"pieces": 3, "crash": 2}
    assert profile(board, "--save", str(tmp_path / "runs")) == 6
    (saved,) = (tmp_path / "runs").iterdir()
    result = result_from_json(saved.read_text())
    assert not result.complete and result.seconds == 2.0
    assert "edgekit: error: the job on pi@board died" in capsys.readouterr().err


def test_what_cannot_be_reached_is_6_and_one_line(board, capsys):
    board.calls = [{"say": "ssh: connect to host board port 22: Connection timed out"}]
    assert profile(board) == 6
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1 and captured.out == ""


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [("EDGEKIT_SSH", "no-such-ssh", 7), ("EDGEKIT_DEVICE_PYTHON", "a b", 2)],
)
def test_what_is_wrong_here(board, monkeypatch, capsys, variable, value, code):
    monkeypatch.setenv(variable, value)
    assert profile(board) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_address_that_cannot_be(board, capsys):
    board.prepare()
    assert main(["profile", str(board.bundle), "--device", "ssh://-oProxyCommand=x"]) == 2
    assert "ProxyCommand" in capsys.readouterr().err
    assert board.words() == []


def test_ctrl_c_is_130_and_keeps_what_there_is(board, capsys, tmp_path, monkeypatch):
    board.scenario = {"pieces": 2, "gate": {"2": str(tmp_path / "never")}}
    told = measuring._Job._result

    def interrupt(job, frame):
        told(job, frame)
        if job.last.seconds == 1.0 and not job.__dict__.setdefault("interrupted", False):
            job.__dict__["interrupted"] = True
            raise KeyboardInterrupt

    monkeypatch.setattr(measuring, "_HANDLERS", {**measuring._HANDLERS, "result": interrupt})
    assert profile(board, "--save", str(tmp_path / "runs")) == 130
    (saved,) = (tmp_path / "runs").iterdir()
    assert not result_from_json(saved.read_text()).complete
    assert "stopping the job there" in capsys.readouterr().err
