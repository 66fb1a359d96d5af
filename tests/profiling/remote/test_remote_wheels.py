"""What is sent with --install: this edgekit as a wheel, and a wheelhouse for the board."""

import base64
import csv
import hashlib
import importlib.metadata
import io
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

import edgekit
from edgekit.errors import DownloadError, EdgekitError, MissingDependencyError, UsageError
from edgekit.profiling.remote import own_wheel, wheelhouse
from edgekit.profiling.remote.device import BoardFacts
from edgekit.runtimes import RUNTIMES

ROOT = Path(__file__).resolve().parents[3]
PI = BoardFacts(
    python=(3, 11, 2), executable="/usr/bin/python3", edgekit="", implementation="cpython",
    bits=64, machine="aarch64", libc="glibc 2.36", markers={"python_version": "3.11"}, free=1,
    base="/b", board="Raspberry Pi 4 Model B Rev 1.1", l4t="", system="Debian", stored={},
    memory_available=1, busy=None,
)  # fmt: skip


def test_a_board_in_one_line():
    assert PI.text() == (
        "Raspberry Pi 4 Model B Rev 1.1, aarch64, Debian, Python 3.11.2, glibc 2.36, "
        "0.0 GB of memory and 0.0 GB of disk free"
    )
    line = "# R36 (release), REVISION: 4.0, GCID: 1, BOARD: generic, EABI: aarch64, DATE: x"
    assert "L4T 36.4.0 (JetPack 6.1)" in replace(PI, l4t=line).text()
    assert "L4T 99.1.0," in replace(PI, l4t=line.replace("36", "99").replace("4.0", "1")).text()


# ---- the platform ----------------------------------------------------------------------------


def test_every_glibc_from_the_boards_down_is_named():
    tags = wheelhouse.platform_of(PI).tags
    assert tags[0] == "manylinux_2_36_aarch64"
    assert {f"manylinux_2_{minor}_aarch64" for minor in range(17, 37)} <= set(tags)
    assert "manylinux2014_aarch64" in tags and "manylinux_2_16_aarch64" not in tags


@pytest.mark.parametrize(
    ("changes", "tag"),
    [
        ({"bits": 32}, "manylinux_2_36_armv7l"),  # a 32-bit system on a 64-bit kernel
        ({"machine": "x86_64"}, "manylinux_2_5_x86_64"),
        ({"machine": "x86_64"}, "manylinux1_x86_64"),
        ({"libc": "musl"}, "musllinux_1_2_aarch64"),
        ({"machine": "armv7l", "bits": 32}, "linux_armv7l"),  # piwheels
    ],
)
def test_other_boards(changes, tag):
    assert tag in wheelhouse.platform_of(replace(PI, **changes)).tags


@pytest.mark.parametrize(
    "changes",
    [
        {"implementation": "pypy"},
        {"libc": ""},
        {"libc": "glibc 2"},
        {"libc": "glibc 2.x"},
        {"libc": "glibc 2.16"},
        {"libc": "glibc ²³.1"},
    ],
)
def test_boards_without_wheels(changes):
    with pytest.raises(UsageError, match="--install"):
        wheelhouse.platform_of(replace(PI, **changes))


# ---- what is fetched -------------------------------------------------------------------------


class Pip:
    """Downloads nothing: writes an empty wheel a requirement, and refuses some."""

    def __init__(self, *refused, reason="No matching distribution found for it"):
        self.refused, self.reason, self.calls = refused, reason, []

    def __call__(self, words, markers, to):
        self.calls.append(words)
        wanted = [word for word in words if ">=" in word and ";" not in word]
        if any(name in word for word in wanted for name in self.refused):
            raise wheelhouse._pip_error(f"ERROR: {self.reason}")
        for word in wanted:
            (to / f"{word.partition('>')[0]}.whl").write_bytes(b"")


def fetch(tmp_path, pip, *runtimes, **options):
    platform = wheelhouse.platform_of(PI)
    return wheelhouse.fetch(platform, runtimes, cache=tmp_path, pip=pip, **options)


def names(house):
    return sorted(path.stem for path in house.wheels)


def test_base_and_runtimes_and_never_tensorrt(tmp_path):
    house = fetch(tmp_path, Pip(), "onnxruntime", "litert", "tensorrt", "null")
    assert names(house) == ["ai-edge-litert", "numpy", "onnxruntime", "pillow"]
    assert house.warnings == ()


def test_the_second_time_nothing_is_fetched(tmp_path):
    pip = Pip()
    first, second = (fetch(tmp_path, pip, "onnxruntime") for _ in range(2))
    assert first == second and len(pip.calls) == 1
    fetch(tmp_path, pip, "openvino")
    assert len(pip.calls) == 2


def test_two_who_fetch_the_same_at_once(tmp_path):
    pip = Pip()

    def slow(words, markers, to):
        if not pip.calls:
            fetch(tmp_path, pip, "onnxruntime")
        pip(words, markers, to)

    assert names(fetch(tmp_path, slow, "onnxruntime")) == ["numpy", "onnxruntime", "pillow"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_runtime_without_a_wheel_is_left_out_and_named(tmp_path):
    house = fetch(tmp_path, Pip("openvino"), "onnxruntime", "openvino")
    assert names(house) == ["numpy", "onnxruntime", "pillow"]
    assert house.warnings == (
        "openvino is not measured: it has no wheel for Python 3.11, manylinux_2_36_aarch64",
    )


def test_a_runtime_that_was_asked_for_is_not_left_out(tmp_path):
    with pytest.raises(EdgekitError, match="no wheels for the board: No matching"):
        fetch(tmp_path, Pip("openvino"), "onnxruntime", "openvino", must=("openvino",))


def test_a_base_without_a_wheel_is_an_error(tmp_path):
    with pytest.raises(EdgekitError, match="no wheels for the board"):
        fetch(tmp_path, Pip("numpy"), "onnxruntime")
    assert list(tmp_path.glob("*")) == [], "half a wheelhouse would be taken for one"


def test_no_network_is_no_missing_wheel(tmp_path):
    pip = Pip("numpy", reason="No matching distribution\nNewConnectionError(...)")
    with pytest.raises(DownloadError, match="needs a network on this machine, not on the board"):
        fetch(tmp_path, pip, "onnxruntime")
    assert len(pip.calls) == 1


def test_offline_is_honoured(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_OFFLINE", "1")
    with pytest.raises(DownloadError, match="EDGEKIT_OFFLINE"):
        fetch(tmp_path, wheelhouse.run_pip)


def test_no_pip_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("EDGEKIT_OFFLINE", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="ensurepip"):
        fetch(tmp_path, wheelhouse.run_pip)


def test_pip_is_asked_for_the_boards_python_and_its_markers(tmp_path, monkeypatch):
    seen = []

    def run(command, **options):
        seen.append(command)
        return subprocess.CompletedProcess(command, 0, b"", b"")

    monkeypatch.delenv("EDGEKIT_OFFLINE", raising=False)
    monkeypatch.setattr("subprocess.run", run)
    fetch(tmp_path, wheelhouse.run_pip, "litert")
    text = " ".join(seen[0][3:])
    assert '{"python_version": "3.11"} download' in text
    assert "--only-binary=:all:" in text and "--python-version 3.11 --implementation cp" in text
    assert "--platform manylinux_2_36_aarch64 --platform manylinux_2_35_aarch64" in text


def test_pip_evaluates_markers_for_the_board():
    """The trick with pip's insides still works with this pip."""
    code = wheelhouse._PIP.replace(
        'runpy.run_module("pip", run_name="__main__", alter_sys=True)',
        "print(markers.Marker(\"python_version < '3.0'\").evaluate())",
    )
    answers = '{"python_version": "2.7"}'
    done = subprocess.run([sys.executable, "-c", code, answers], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


def test_requirements_are_those_of_the_project():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    base = re.search(r"^dependencies = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
    assert base and re.findall(r'^ +"([^"]+)"', base[1], re.MULTILINE) == list(wheelhouse.BASE)
    for extra, runtime in (("onnx", "onnxruntime"), ("openvino", "openvino"), ("tflite", "litert")):
        line = re.search(rf'^{extra} = \["([^"]+)"\]$', text, re.MULTILINE)
        assert line and wheelhouse.RUNTIMES[runtime] == (line[1],)
    assert set(wheelhouse.RUNTIMES) == set(RUNTIMES) - {"tensorrt", "null"}


# ---- this edgekit ----------------------------------------------------------------------------


def members():
    with zipfile.ZipFile(io.BytesIO(own_wheel.own_wheel())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_is_the_package_and_nothing_else():
    found = members()
    package = Path(edgekit.__file__).parent
    wanted = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    info = f"edgekit-{edgekit.__version__}.dist-info"
    assert {name for name in found if not name.startswith(info)} == wanted
    assert {f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD"} <= set(found)


def test_its_record_is_right():
    found = members()
    record = found[f"edgekit-{edgekit.__version__}.dist-info/RECORD"].decode()
    rows = list(csv.reader(io.StringIO(record)))
    assert {row[0] for row in rows} == set(found)
    for name, digest, size in rows[:-1]:
        hashed = base64.urlsafe_b64encode(hashlib.sha256(found[name]).digest()).rstrip(b"=")
        assert digest == f"sha256={hashed.decode()}" and int(size) == len(found[name])


def test_it_is_the_same_every_time():
    assert own_wheel.own_wheel() == own_wheel.own_wheel()


def test_a_checkout_that_is_not_installed_makes_one_too(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", absent)
    info = f"edgekit-{edgekit.__version__}.dist-info"
    assert f"Version: {edgekit.__version__}" in members()[f"{info}/METADATA"].decode()


def test_pip_installs_it(tmp_path):
    wheel = tmp_path / f"edgekit-{edgekit.__version__}-py3-none-any.whl"
    wheel.write_bytes(own_wheel.own_wheel())
    options = ["--no-deps", "--no-index", "--target", str(tmp_path / "site"), "-q"]
    command = [sys.executable, "-m", "pip", "install", *options, str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    code = "import edgekit, importlib.metadata as m; print(edgekit.__file__, m.version('edgekit'))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True, check=True,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.split() == [
        str(tmp_path / "site" / "edgekit" / "__init__.py"),
        edgekit.__version__,
    ]


# ---- on a board ------------------------------------------------------------------------------


def test_install_runs_the_edgekit_that_was_sent(board, monkeypatch):
    house = wheelhouse.Wheelhouse((), ("litert is not measured: it has no wheel",))
    monkeypatch.setattr(wheelhouse, "fetch", lambda *words, **options: house)
    result = board.profile(install=True)
    assert result.complete and result.warnings[-1] == house.warnings[0]
    (line,) = [line for line in board.lines if line.startswith("edgekit of")]
    assert str(board.base / "wheels") in line
    assert "importing the runtimes once, for their bytecode" in board.lines


def test_without_install_nothing_is_sent_but_the_bundle(board):
    board.profile()
    assert list((board.base / "wheels").iterdir()) == []
    assert any("edgekit of" in line and str(board.base) not in line for line in board.lines)
    assert not any("bytecode" in line for line in board.lines)
