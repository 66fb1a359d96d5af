"""One process: bytes in, frames out, and an end in every case."""

import hashlib
import os
import signal
import sys

import pytest

from edgekit.errors import DeviceError
from edgekit.profiling.remote.exchange import Exchange, Limits
from edgekit.profiling.remote.frames import Frame

NONCE = "ab" * 16
END = f"""
import os, sys, time
def send(kind, data=b""):
    header = '{{"kind": "%s", "bytes": %d}}' % (kind, len(data))
    sys.stdout.buffer.write(b"\\n{NONCE} " + header.encode() + b"\\n" + data)
    sys.stdout.buffer.flush()
"""


def run(program, chunks=(), *, idle_s=30.0, total_s=60.0):
    found: list[Frame] = []
    exchange = Exchange(NONCE, Limits(idle_s, total_s))
    ending = exchange.run([sys.executable, "-c", END + program], chunks, found.append)
    return ending, found


def test_what_goes_in_comes_out():
    data = [bytes([at % 256]) * 100_000 for at in range(50)]
    program = (
        "import hashlib\n"
        "send('reply', hashlib.sha256(sys.stdin.buffer.read()).hexdigest().encode())\n"
        "send('end')"
    )
    ending, found = run(program, data)
    assert ending.finished and ending.returncode == 0 and not ending.timed_out
    assert [frame.data.decode() for frame in found] == [hashlib.sha256(b"".join(data)).hexdigest()]


def test_an_answer_before_all_is_sent_ends_it():
    ending, found = run("send('refused'); send('end')", iter(lambda: b"x" * 65536, b""))
    assert ending.finished and [frame.kind for frame in found] == ["refused"]


def test_nothing_after_the_last_frame_counts():
    ending, found = run("send('end'); send('reply'); sys.stdout.flush()")
    assert ending.finished and found == []


def test_a_process_that_ends_without_the_last_frame():
    ending, _ = run("send('reply', b'x'); sys.stderr.write('lost'); sys.exit(255)")
    assert not ending.finished and ending.returncode == 255
    assert ending.frames == 1 and ending.errors == "lost"


def test_one_that_takes_nothing_and_says_nothing():
    ending, _ = run("time.sleep(60)", iter(lambda: b"x" * 65536, b""), idle_s=0.3)
    assert ending.timed_out == "silent for 0.3 s" and ending.returncode is None


def test_one_that_talks_for_ever():
    program = "while True:\n    send('beat')\n    time.sleep(0.01)"
    ending, found = run(program, total_s=1.0)
    assert ending.timed_out == "not done after 1 s"
    assert {frame.kind for frame in found} == {"beat"}


def test_a_connection_that_stays_open_behind_it_is_not_waited_for():
    """ControlPersist: a process in the background holds stderr."""
    program = (
        "import subprocess\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'],"
        " stdout=subprocess.DEVNULL, start_new_session=True)\n"
        "sys.stderr.write('shared'); send('reply', str(p.pid).encode()); send('end')"
    )
    ending, found = run(program, total_s=15.0)
    assert ending.finished and ending.errors == "shared"
    _end(int(found[0].data))


def _end(pid):
    os.kill(pid, signal.SIGKILL)  # it would have been alive: that is the point


def test_an_interruption_takes_the_process_along():
    seen = []

    def interrupt(frame):
        seen.append(int(frame.data))
        raise KeyboardInterrupt

    program = "send('reply', str(os.getpid()).encode()); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        Exchange(NONCE, Limits()).run([sys.executable, "-c", END + program], (), interrupt)
    with pytest.raises(ProcessLookupError):
        _end(seen[0])


def test_one_that_complains_for_ever():
    """It is no sign of life, however long the call may take."""
    with pytest.raises(DeviceError, match="MiB of errors: .*oh no oh no"):
        run("while True: sys.stderr.write('oh no ' * 10_000)", total_s=1e6)


def test_only_the_end_of_stderr_is_kept():
    ending, _ = run("sys.stderr.write('x' * 100_000 + 'the end'); send('end')")
    assert ending.errors.endswith("the end") and len(ending.errors) <= 8192
