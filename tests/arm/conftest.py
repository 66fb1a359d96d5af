"""The emulated board, the AArch64 system and the bundle that the ARM tests share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.profiling.emulation.emulator import find_emulator
from edgekit.profiling.remote.own_wheel import own_wheel
from tests.arm.board import CannotRunHereError, running_board

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def arm_root():
    """The folder that ``make test-arm`` prepared."""
    named = os.environ.get("EDGEKIT_ARM_ROOT")
    assert named, "these tests need an AArch64 system: run make test-arm"
    return Path(named)


@pytest.fixture(scope="session")
def sysroot(arm_root):
    return arm_root / "sysroot"


@pytest.fixture(scope="session")
def emulator():
    return find_emulator()


@pytest.fixture(scope="session")
def board(arm_root):
    try:
        with running_board(arm_root) as running:
            yield running
    except CannotRunHereError as reason:
        pytest.skip(f"no emulated board on this machine: {reason}")


@pytest.fixture(scope="session")
def edgekit():
    """The command, in a process of its own as a user types it: (status, stdout, stderr)."""

    def call(*words, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "edgekit", *map(str, words)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )
        return done.returncode, done.stdout, done.stderr

    return call


@pytest.fixture(scope="session")
def arm_bundle(edgekit, tmp_path_factory):
    """MicroNet-M0 for a Raspberry Pi 4, exported by the command itself."""
    out = tmp_path_factory.mktemp("bundle") / "m0-rpi4"
    words = ("export", "micronet-m0", "--target", "rpi4", "--weights", "random", "-q", "-o", out)
    status, _, said = edgekit(*words)
    assert status == 0, said
    return out


@pytest.fixture(scope="session")
def equipped(board, tmp_path_factory):
    """The board with edgekit installed for its user pi, from the wheel that boards are sent."""
    wheel = tmp_path_factory.mktemp("wheel") / "edgekit.whl"
    wheel.write_bytes(own_wheel())
    board.put("pi", wheel)
    board.run("pi", "python3 -m zipfile -e edgekit.whl $(python3 -m site --user-site)")
    return board
