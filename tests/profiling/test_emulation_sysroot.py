"""What passes for an AArch64 system, and what making one says when it cannot."""

import pytest

from edgekit.errors import DeviceError, MissingDependencyError, OutputExistsError, UsageError
from edgekit.profiling.emulation import sysroot
from tests.profiling import fake_qemu


def test_a_system_is_found_with_its_packages(tmp_path):
    root = fake_qemu.write_sysroot(tmp_path / "root")
    found = sysroot.open_sysroot(root)
    assert found.python == root / "usr/bin/python3.11"
    assert found.has("numpy") and not found.has("ai_edge_litert")


def test_the_newest_python_is_taken(tmp_path):
    root = fake_qemu.write_sysroot(tmp_path / "root")
    header = (root / "usr/bin/python3.11").read_bytes()
    for name in ("python3.9", "python3.13", "python3.13-config", "python3.x"):
        (root / "usr/bin" / name).write_bytes(header)
    assert sysroot.open_sysroot(root).python.name == "python3.13"


def test_the_environment_names_the_default(tmp_path, monkeypatch):
    root = fake_qemu.write_sysroot(tmp_path / "root")
    monkeypatch.setenv("EDGEKIT_SYSROOT", str(root))
    assert sysroot.open_sysroot().folder == root


def test_no_system_has_the_command_that_makes_it(tmp_path, monkeypatch):
    monkeypatch.delenv("EDGEKIT_SYSROOT", raising=False)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="-m edgekit.profiling.emulation.sysroot$"):
        sysroot.open_sysroot()
    with pytest.raises(MissingDependencyError, match=f"emulation.sysroot {tmp_path / 'x'}$"):
        sysroot.open_sysroot(tmp_path / "x")


@pytest.mark.parametrize("header", [b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01\x01" + bytes(9)])
def test_a_folder_of_this_machine_is_no_aarch64_system(header, tmp_path):
    root = fake_qemu.write_sysroot(tmp_path / "root")
    (root / "usr/bin/python3.11").write_bytes(header)
    with pytest.raises(UsageError, match="no AArch64 system"):
        sysroot.open_sysroot(root)


def test_an_x86_python_is_refused(tmp_path):
    root = fake_qemu.write_sysroot(tmp_path / "root")
    x86 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00"
    (root / "usr/bin/python3.11").write_bytes(x86)
    with pytest.raises(UsageError, match="no AArch64 system"):
        sysroot.open_sysroot(root)


def test_making_one_leaves_other_folders_alone(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(OutputExistsError, match="name another folder"):
        sysroot.make_sysroot(tmp_path)
    assert [*tmp_path.iterdir()] == [tmp_path / "mine"]


def test_without_the_tool_the_package_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sysroot.main([str(tmp_path / "new")]) == 7
    assert "apt-get install mmdebstrap" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_failed_download_is_quoted_and_leaves_nothing(tmp_path, monkeypatch):
    tool = tmp_path / "bin/mmdebstrap"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'I: fetching' >&2; echo 'E: no network' >&2; exit 2\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    with pytest.raises(DeviceError, match="mmdebstrap failed: E: no network"):
        sysroot.make_sysroot(tmp_path / "new/sysroot")
    assert [*(tmp_path / "new").iterdir()] == []


def test_what_is_made_is_not_made_again(tmp_path, monkeypatch):
    """The second call compares what was asked for, and pip is not started."""
    root = fake_qemu.write_sysroot(tmp_path / "root")
    pins = tmp_path / "pins.txt"
    pins.write_text("numpy==2.4.6\n")
    calls: list[list[str]] = []
    monkeypatch.setattr(sysroot, "_run", calls.append)
    assert sysroot.make_sysroot(root, pins) and not sysroot.make_sysroot(root, pins)
    assert len(calls) == 1 and {"--python-version=3.11", *sysroot.WHEELS} <= set(calls[0])
    assert "--platform=manylinux_2_28_aarch64" in calls[0]
    pins.write_text("numpy==2.4.7\n")
    assert sysroot.make_sysroot(root, pins) and len(calls) == 2
