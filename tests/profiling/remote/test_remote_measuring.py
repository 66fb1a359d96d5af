"""The whole way on a fake board: what is pushed, run, watched, fetched and cleaned up."""

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgekit.errors import (
    DeviceError,
    EdgekitError,
    MeasurementError,
    MissingDependencyError,
    UsageError,
)
from edgekit.profiling.job import BUILD_S
from edgekit.profiling.remote import Patience
from edgekit.profiling.remote.goods import bundle_goods
from edgekit.profiling.remote.measuring import _Wanted
from edgekit.profiling.request import Request
from tests.bundle import sample_bundle
from tests.profiling.remote.remote_boards import wait_until


def test_a_profile_is_made_there_and_told_as_ours(board):
    board.scenario = {"pieces": 3}
    result = board.profile()
    assert result.complete and result.seconds == 3.0
    assert result.device == "pi@board"
    assert result.bundle == str(board.bundle)
    assert result.command == ("edgekit",)
    assert [kept.complete for kept in board.kept][-1] is True
    assert "piece 3 of 3, 0 references" in board.lines


def test_nothing_of_the_job_is_left_and_the_goods_are_not_sent_again(board):
    board.profile()
    assert board.jobs == []
    assert len(list((board.base / "bundles").iterdir())) == 1
    assert any("sending" in line for line in board.lines)
    board.lines.clear()
    board.profile()
    assert not any("sending" in line for line in board.lines)


def test_a_bundle_that_was_damaged_there_is_sent_again(board):
    board.profile()
    (stored,) = (board.base / "bundles").iterdir()
    (stored / "model.dat").write_bytes(b"")
    board.lines.clear()
    assert board.profile().complete
    assert any("sending" in line for line in board.lines)


def test_references_and_an_image_go_along(board, tmp_path):
    other = sample_bundle.write(tmp_path / "other", target="rpi4")
    image = tmp_path / "cat; rm -rf $HOME.jpg"
    image.write_bytes(b"a photograph")
    result = board.profile(references=(str(other),), image=str(image))
    assert "piece 1 of 2, 1 references" in board.lines
    assert result.image == str(image)
    assert result.warnings == (f"about {board.bundle}", str(other)), "paths are those of this side"
    (stored,) = (board.base / "images").iterdir()
    assert (stored / "image").read_bytes() == b"a photograph"


def test_a_zipped_bundle_is_the_same_goods(board, tmp_path):
    from edgekit.bundle import open_bundle

    zipped = sample_bundle.write(tmp_path / "tiny.edgekit")
    with open_bundle(zipped) as one, open_bundle(board.bundle) as other:
        assert bundle_goods(one).digest == bundle_goods(other).digest
    assert board.profile(bundle=str(zipped)).complete


def test_no_name_of_the_users_reaches_the_command_line(board, tmp_path):
    hostile = "$(touch pwned); `id` ' \" | & \\ \n -oProxyCommand=x"
    bundle = sample_bundle.write(tmp_path / hostile)
    assert board.profile(bundle=str(bundle), command=(hostile,)).bundle == str(bundle)
    for words in board.words():
        assert not any("pwned" in word or "ProxyCommand" in word for word in words)
    assert not list(tmp_path.rglob("pwned"))


# ---- the connection --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 40, 200, 700])
def test_a_dropped_connection_is_picked_up(board, count):
    board.scenario = {"pieces": 3}
    board.calls = [{}, {}, {"cut": count}, {"say": "ssh: connect to host board: No route to host"}]
    assert board.profile().complete
    assert board.jobs == []


def test_no_line_is_told_twice_after_a_drop(board, tmp_path):
    gate = tmp_path / "gate"
    board.scenario = {"pieces": 2, "gate": {"2": str(gate)}}
    board.calls = [{}, {}, {"cut": 9000}]
    running = board.in_background()
    wait_until(lambda: "piece 2 of 2, 0 references" in board.lines)
    gate.touch()
    assert running.result().complete
    assert len([line for line in board.lines if line.startswith("piece 1")]) == 1


def test_a_push_that_is_cut_goes_on(board):
    board.calls = [{}, {"cut_input": 25000}]
    assert board.profile().complete
    assert len([line for line in board.lines if "sending" in line]) == 2


def test_a_board_that_goes_away_costs_nothing_that_was_finished(board, tmp_path):
    gate = tmp_path / "gate"
    board.scenario = {"pieces": 3, "gate": {"3": str(gate)}}
    gone = {"say": "ssh: connect to host board port 22: Connection timed out"}
    board.calls = [{}, {}, {"cut": 40000}, *[gone] * 1000]
    with pytest.raises(DeviceError, match=r"does not answer.*finished is kept.*picks it up"):
        _lose_after_two(board, gate)
    assert [kept.complete for kept in board.kept][-1] is False
    assert board.kept[-1].seconds == 2.0
    # The same command, later: the job has gone on by itself.
    gate.touch()
    board.calls = []
    board.lines.clear()
    result = board.profile()
    assert result.complete and result.seconds == 3.0
    assert any("picked up" in line for line in board.lines)
    assert not any("sending" in line for line in board.lines)


def _lose_after_two(board, gate):
    """The connection is killed once the second result is here."""
    board.calls[2] = {}
    running = board.in_background(patience=Patience(0.5, 30, 20, (0.01,), 0.05))
    wait_until(lambda: board.kept and board.kept[-1].seconds == 2.0)
    _kill_ssh(board)
    running.result()


def _kill_ssh(board):
    """End every process of the stand-in: its agents die with their pipes."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
            mine = f"HOME={board.home}\0".encode() in (entry / "environ").read_bytes()
        except OSError:
            continue
        if mine and b"sys.stdin.buffer.readline" in words:
            os.kill(int(entry.name), signal.SIGKILL)


def test_a_job_that_dies_there_is_told_and_its_results_are_kept(board):
    board.scenario = {"pieces": 3, "crash": 2}
    with pytest.raises(DeviceError, match="died .*'Illegal instruction'.*finished is kept"):
        board.profile()
    assert board.kept[-1].seconds == 2.0 and not board.kept[-1].complete
    assert board.jobs == []
    board.scenario = {"pieces": 1}
    assert board.profile().complete  # its lock died with it


def test_ctrl_c_stops_the_job_and_keeps_what_it_has(board, tmp_path):
    board.scenario = {"pieces": 2, "gate": {"2": str(tmp_path / "never")}}
    board.interrupt = 1
    with pytest.raises(KeyboardInterrupt):
        board.profile()
    assert board.kept[-1].seconds == 1.0 and not board.kept[-1].complete
    assert any("stopping the job" in line for line in board.lines)
    assert board.jobs == []
    board.scenario = {"pieces": 1}
    assert board.profile().complete


def test_ctrl_c_while_the_board_is_gone_says_that_the_job_may_run(board, tmp_path):
    gate = tmp_path / "gate"
    board.scenario = {"pieces": 2, "gate": {"2": str(gate)}}
    board.calls = [{}, {}, {}, {"say": "ssh: connect to host board: No route to host"}]
    board.interrupt = 1
    with pytest.raises(KeyboardInterrupt):
        board.profile()
    assert any("was not stopped, and may still run" in line for line in board.lines)
    assert not board.kept[-1].complete
    gate.touch()
    assert board.profile().complete


# ---- one at a time ---------------------------------------------------------------------------


def test_a_second_measurement_is_refused_while_one_runs(board, tmp_path):
    gate = tmp_path / "gate"
    board.scenario = {"pieces": 2, "gate": {"1": str(gate)}}
    first = board.in_background()
    wait_until(lambda: "piece 1 of 2, 0 references" in board.lines)
    with pytest.raises(
        DeviceError, match=r"is measuring for \S+@\S+ since 20\d\d-.*wait"
    ) as caught:
        board.profile(threads=(2,))
    assert caught.value.exit_code == 6
    gate.touch()
    assert first.result().complete


def test_the_same_measurement_is_picked_up_while_it_runs(board, tmp_path):
    gate = tmp_path / "gate"
    board.scenario = {"pieces": 2, "gate": {"1": str(gate)}}
    first = board.in_background()
    wait_until(lambda: "piece 1 of 2, 0 references" in board.lines)
    second = board.in_background(command=("edgekit", "--json"))
    wait_until(lambda: any("picked up" in line for line in board.lines))
    gate.touch()
    assert second.result().complete
    assert first.result().complete
    assert board.jobs == []


def test_a_lock_file_that_a_dead_owner_left_holds_nobody(board):
    ghost = {"who": "ghost", "since": "?", "job": "x"}
    (board.home / "edgekit-device.lock").write_text(json.dumps(ghost))
    assert board.profile().complete


# ---- what measuring raises there -------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "match"),
    [
        (("UsageError", ["no such scope"]), UsageError, "pi@board: no such scope"),
        (("MeasurementError", ["too noisy"]), MeasurementError, "pi@board: too noisy"),
        (("BundleError", ["it is odd"]), EdgekitError, "pi@board: it is odd"),
        (("?", ["a bug"]), EdgekitError, "pi@board: unexpected ValueError: a bug"),
        (
            ("MissingDependencyError", ["runtime 'litert'", "ai_edge_litert", "pip install x"]),
            MissingDependencyError,
            r"'litert' on pi@board needs ai_edge_litert.*pip install x; or add --install",
        ),
    ],
)
def test_an_error_there_is_the_same_error_here(board, error, kind, match):
    board.scenario = {"pieces": 1, "error": {"kind": error[0], "words": error[1]}}
    with pytest.raises(kind, match=match):
        board.profile()
    assert board.kept and not board.kept[-1].complete
    assert board.jobs == []


def test_a_result_of_something_else_is_refused(board):
    board.scenario = {"foreign": "0" * 64}
    with pytest.raises(DeviceError, match="a result of another bundle"):
        board.profile()
    assert board.kept == []
    assert board.jobs == []  # it does not wait for the next who asks


@pytest.mark.parametrize("text", ['{"kind": "edgekit-profile", "sch', '{"kind": "other"}', "\x00"])
def test_what_is_no_result_is_refused_and_its_job_ended(board, text):
    board.scenario = {"raw": text}
    with pytest.raises(DeviceError, match="pi@board sends no usable result: not a usable profile"):
        board.profile()
    assert board.kept == [] and board.jobs == []


@pytest.mark.parametrize(
    ("runtimes", "longest_s"), [((), 90.0), (("litert",), 90.0), (("tensorrt",), 90.0 + BUILD_S)]
)
def test_a_job_that_compiles_or_sustains_may_be_silent_for_longer(board, runtimes, longest_s):
    with ExitStack() as stack:
        request = Request(str(board.bundle), runtimes=runtimes, sustain_s=90.0)
        assert _Wanted.open(request, stack).longest_s() == longest_s
