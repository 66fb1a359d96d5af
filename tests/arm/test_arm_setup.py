"""``make test-arm`` tells "cannot run here" from "failed". These need no QEMU, and always run."""

import fcntl
import os
import subprocess

import pytest

from edgekit.errors import DeviceError, MissingDependencyError
from tests.arm import run


@pytest.fixture
def prepared(monkeypatch, tmp_path):
    """Everything is installed; the tests themselves are not started but noted."""
    started: list[list[str]] = []

    def start(words, **options):
        started.append(words)
        return subprocess.CompletedProcess(words, 5)

    monkeypatch.setenv("EDGEKIT_ARM_ROOT", str(tmp_path))
    monkeypatch.setattr(run, "_missing", list)
    monkeypatch.setattr(run, "find_emulator", lambda: None)
    monkeypatch.setattr(run, "make_sysroot", lambda *_: False)
    monkeypatch.setattr(subprocess, "run", start)
    return started


def fails_with(monkeypatch, name, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(run, name, fail)


def test_what_the_tests_say_is_what_it_says(prepared):
    assert run.main() == 5
    assert "arm" in prepared[0][prepared[0].index("-m", 3) :]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("find_emulator", MissingDependencyError("counting", "qemu-aarch64", "apt-get ...")),
        ("make_sysroot", MissingDependencyError("making", "mmdebstrap", "apt-get ...")),
        ("make_sysroot", DeviceError("mmdebstrap failed: E: Failed to fetch http://...")),
        ("make_sysroot", DeviceError("pip failed: ERROR: No matching distribution found")),
        ("make_sysroot", PermissionError(13, "Permission denied", "/root/.cache")),
    ],
)
def test_a_machine_that_lacks_something_skips_aloud(name, error, prepared, monkeypatch, capsys):
    fails_with(monkeypatch, name, error)
    assert run.main() == 0 and not prepared
    assert capsys.readouterr().err.startswith("SKIPPED: the ARM tests cannot run here: ")


def test_a_user_without_apt_is_told_the_packages(prepared, monkeypatch, capsys):
    monkeypatch.setattr(run, "_missing", lambda: ["qemu-aarch64", "cc"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run.main() == 0 and not prepared
    assert "apt-get install qemu-user gcc libc6-dev" in capsys.readouterr().err


def test_what_should_work_and_does_not_is_a_failure(prepared, monkeypatch):
    fails_with(monkeypatch, "make_sysroot", DeviceError("tar failed: it is broken"))
    with pytest.raises(DeviceError):
        run.main()
    assert not prepared


def test_a_second_run_is_refused(prepared, tmp_path, capsys):
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run.main() == 1 and not prepared
    assert "another make test-arm has" in capsys.readouterr().err
    assert run.main() == 5
