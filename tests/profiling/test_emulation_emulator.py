"""Finding QEMU, and compiling its plugin once."""

import os
import shutil
import subprocess

import pytest

from edgekit.errors import DeviceError, MissingDependencyError
from edgekit.profiling.emulation import emulator as qemu
from tests.profiling import fake_qemu

QEMU7 = qemu.Emulator(qemu.SOURCE, "7.2.22", ())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Alone on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def write_compiler(folder, text):
    (folder / "cc").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "cc").chmod(0o755)


def test_the_emulator_says_what_it_is(folder):
    program = fake_qemu.write_qemu(folder)
    found = qemu.find_emulator()
    assert found == qemu.Emulator(program, "7.2.22", fake_qemu.CPUS)


@pytest.mark.parametrize(
    ("version", "api"), [("7.2.22", 1), ("8.2.10", 1), ("9.0.0", 2), ("10.2.0", 2)]
)
def test_the_plugin_calls_itself_what_that_qemu_takes(version, api):
    assert qemu.Emulator(qemu.SOURCE, version, ()).plugin_api == api


def test_no_qemu_has_the_line_to_type(folder):
    with pytest.raises(MissingDependencyError, match="apt-get install qemu-user"):
        qemu.find_emulator()


def test_a_static_qemu_cannot_count(folder):
    fake_qemu.write_qemu(folder, help="-strace")
    with pytest.raises(MissingDependencyError, match="does not, as every static build"):
        qemu.find_emulator()


def test_something_else_of_that_name_is_refused(folder):
    fake_qemu.write_qemu(folder, version="hello")
    with pytest.raises(DeviceError, match="this is not QEMU's user mode"):
        qemu.find_emulator()


def test_a_program_that_cannot_run_is_refused(folder):
    (folder / "qemu-aarch64").write_bytes(b"\x7fELF nonsense")
    (folder / "qemu-aarch64").chmod(0o755)
    with pytest.raises(DeviceError, match="does not answer"):
        qemu.find_emulator()


def test_a_qemu_that_hangs_is_refused(folder, monkeypatch):
    program = folder / "qemu-aarch64"
    program.write_text("#!/bin/sh\nexec /bin/sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(qemu, "_ASK_S", 0.2)
    with pytest.raises(DeviceError, match="does not answer"):
        qemu.find_emulator()


def test_no_compiler_has_the_line_to_type(folder, tmp_path):
    with pytest.raises(MissingDependencyError, match="apt-get install gcc libc6-dev"):
        qemu.build_plugin(QEMU7, tmp_path / "cache", tmp_path)


def test_a_compiler_that_fails_is_quoted(folder, tmp_path):
    write_compiler(folder, "echo 'stdio.h: No such file' >&2; exit 1")
    with pytest.raises(MissingDependencyError, match="stdio.h: No such file"):
        qemu.build_plugin(QEMU7, tmp_path / "cache", tmp_path)
    assert not [*(tmp_path / "cache").iterdir()]


def test_a_plugin_is_compiled_once_a_version(folder, tmp_path):
    # $10: the place of the output in the compiler's words
    write_compiler(folder, f'echo called >>{tmp_path}/calls; for last; do :; done; : >"$last"')
    cache = tmp_path / "cache"
    first = qemu.build_plugin(QEMU7, cache, tmp_path)
    assert qemu.build_plugin(QEMU7, cache, tmp_path) == first and first.parent == cache
    newer = qemu.build_plugin(qemu.Emulator(qemu.SOURCE, "9.0.0", ()), cache, tmp_path)
    assert newer != first
    assert (tmp_path / "calls").read_text() == "called\n" * 2


def test_a_cache_that_cannot_be_written_costs_a_compilation(folder, tmp_path):
    write_compiler(folder, 'for last; do :; done; : >"$last"')
    (tmp_path / "file").touch()
    made = qemu.build_plugin(QEMU7, tmp_path / "file/cache", tmp_path)
    assert made.parent == tmp_path


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler on this machine")
@pytest.mark.parametrize("api", [1, 2])
def test_the_plugin_compiles_without_warnings(api, tmp_path):
    flags = ("-shared", "-fPIC", "-O2", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
    out = tmp_path / "plugin.so"
    words = ["cc", *flags, f"-DQEMU_PLUGIN_API={api}", str(qemu.SOURCE), "-o", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 0, done.stderr


def test_addresses_are_random_where_nothing_can_fix_them(folder):
    assert qemu.fixed_addresses() == ()
    (folder / "setarch").write_text("#!/bin/sh\nexit 1\n")
    (folder / "setarch").chmod(0o755)
    assert qemu.fixed_addresses() == ()
    (folder / "setarch").write_text("#!/bin/sh\nexit 0\n")
    assert qemu.fixed_addresses() == (str(folder / "setarch"), "-R")
