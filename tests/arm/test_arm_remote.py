"""``edgekit profile --device ssh://...`` against a board of another architecture.

Times mean nothing here, and the result must say so. What is proved is the way there and back.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgekit.profiling.result import result_from_json

pytestmark = pytest.mark.arm

QUICK = ("--quick", "--runtime", "litert", "--allow-noisy", "--json")
LONG_S = 240  # a hang guard, not a measurement


@pytest.fixture
def profile(edgekit, board, arm_bundle):
    """The command against a user of the board: (status, stdout, stderr)."""

    def call(user, *words):
        line = ("profile", arm_bundle, "--device", board.url(user), *QUICK, *words)
        return edgekit(*line, EDGEKIT_SSH=board.ssh)

    return call


def megabytes_sent(said):
    return sum(float(size) for size in re.findall(r": sending ([\d.]+) MB", said))


def left_there(board, user):
    """What of us still runs, and the jobs that still have a folder."""
    return board.run(
        user, "ls ~/.cache/edgekit/device/jobs; ps -eo args | grep '[e]dgekit.profiling' || true"
    )


def test_a_board_without_edgekit_is_told_how_to_get_it(profile):
    status, _, said = profile("bare")
    assert status == 7 and "add --install" in said


def test_an_installed_profile_runs_and_the_second_sends_nothing(profile, board):
    status, text, said = profile("bare", "--install")
    assert status == 0, said
    result = result_from_json(text)
    machine = result.environment.machine
    assert result.complete and result.runs[0].runtime == "litert" and result.runs[0].samples
    assert machine.architecture == "aarch64" and machine.cpu == "Cortex-A72"
    assert machine.board == "Raspberry Pi 4 Model B Rev 1.1"
    assert machine.packages["ai_edge_litert"]
    assert "user-mode emulation" in machine.virtual
    assert any("times say nothing" in note for note in result.environment.notes)
    assert megabytes_sent(said) > 20
    assert left_there(board, "bare") == ""
    status, text, said = profile("bare", "--install")
    assert status == 0, said
    assert result_from_json(text).complete
    # Nothing, or edgekit's own small wheel where somebody edits it meanwhile.
    assert megabytes_sent(said) < 2


def test_a_job_survives_a_dropped_connection_and_a_second_is_refused(equipped, profile, arm_bundle):
    """With the edgekit that is installed there. Every ssh of this side is killed while it runs."""
    words = ("profile", arm_bundle, "--device", equipped.url("pi"), *QUICK, "--sustain", "10")
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", *map(str, words)],
        env={**os.environ, "EDGEKIT_SSH": equipped.ssh},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    guard = threading.Timer(LONG_S, process.kill)
    guard.start()
    try:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        said = [next(line for line in lines if "litert" in line)]  # it measures
        status, _, refused = profile("pi", "--pace", "5")
        assert status == 6 and "measuring" in refused
        assert kill_ssh_of(process.pid)
        text, rest = process.communicate()
    finally:
        guard.cancel()
        process.kill()
    assert process.returncode == 0, (said, rest)
    assert "; again in" in rest  # the connection was lost, and tried again
    result = result_from_json(text)
    assert result.complete and result.sustained
    assert left_there(equipped, "pi") == ""


def kill_ssh_of(pid):
    """Kill the ssh clients of a process; how many there were."""
    deadline = time.monotonic() + LONG_S
    while time.monotonic() < deadline:
        killed = 0
        for child in children_of(pid):
            if Path(f"/proc/{child}/comm").read_text() == "ssh\n":
                os.kill(child, signal.SIGKILL)
                killed += 1
        if killed:
            return killed
        time.sleep(0.1)
    return 0


def children_of(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found
