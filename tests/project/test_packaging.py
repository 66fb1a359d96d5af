"""The wheel, built from a clean copy: what is in it, and that it works where nothing else is."""

import email
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgekit import __version__, optional

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def clean_copy(tmp_path_factory):
    """The tracked files and nothing else, links as links."""
    copy = tmp_path_factory.mktemp("clean") / "edgekit"
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if os.path.lexists(ROOT / name):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="module")
def wheel(clean_copy):
    # No isolation: an isolated build would fetch setuptools from the network.
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-q"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "-w", "dist", "."]
    subprocess.run(command, cwd=clean_copy, check=True, capture_output=True)
    (built,) = (clean_copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"edgekit-{__version__}.dist-info/METADATA").decode()
    return email.message_from_string(text)


def test_the_wheel_is_the_package_and_nothing_else(wheel, clean_copy):
    wanted = {
        path.relative_to(clean_copy).as_posix()
        for path in (clean_copy / "edgekit").rglob("*")
        if path.is_file()
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"edgekit-{__version__}.dist-info/"
    assert {name for name in names if not name.startswith(info)} == wanted
    assert {"edgekit/py.typed", "edgekit/models/data/imagenet-1k.txt"} <= names
    assert "edgekit/profiling/emulation/count_instructions.c" in names
    assert {f"{info}licenses/LICENSE", f"{info}licenses/NOTICE"} <= names


def test_the_base_is_what_a_board_needs(metadata):
    base = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert {line.split(">")[0] for line in base} == {"numpy", "pillow", "tomli"}
    (tomli,) = [line for line in base if line.startswith("tomli")]
    assert 'python_version < "3.11"' in tomli  # from there on Python has tomllib
    assert metadata["Requires-Python"] == "<3.14,>=3.10"


def test_every_extra_that_edgekit_tells_users_to_install_exists(metadata):
    extras = set(metadata.get_all("Provides-Extra"))
    assert extras == {
        "onnx",
        "openvino",
        "tflite",
        "tensorrt",
        "export",
        "train",
        "vlm",
        "all",
        "dev",
    }
    required = metadata.get_all("Requires-Dist")
    for distribution, extra in optional.EXTRAS.values():
        assert any(
            line.lower().startswith(distribution) and f'extra == "{extra}"' in line
            for line in required
        ), f"[{extra}] does not bring {distribution}"


def test_tensorrt_is_never_pulled_onto_a_jetson(metadata):
    (line,) = [line for line in metadata.get_all("Requires-Dist") if line.startswith("tensorrt")]
    assert 'platform_machine == "x86_64"' in line


def test_everything_that_is_tested_is_pinned(metadata):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    named = {
        line.partition(";")[0].split("[")[0].strip(" ").split(">")[0].split("=")[0].split("<")[0]
        for line in metadata.get_all("Requires-Dist")
        if 'python_version < "3.11"' not in line  # the pins are of 3.11
    }
    assert named - {"edgekit"} <= pinned


def test_the_wheel_works_where_nothing_else_is_installed(wheel, tmp_path):
    bare = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    pip = [sys.executable, "-m", "pip", "--python", bare / "bin" / "python"]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def edgekit(*arguments):
        return subprocess.run(
            [bare / "bin" / "edgekit", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    assert edgekit("--version").stdout == f"edgekit {__version__}\n"
    assert "export" in edgekit("--help").stdout
    assert "micronet-m1" in edgekit("models").stdout
    listed = edgekit("targets")
    assert "jetson" in listed.stdout
    assert 'pip install "torch==2.13.0" "edgekit[export]"' in listed.stdout
    refused = edgekit("export", "micronet-m1", "--target", "x86")
    assert refused.returncode == 7
    assert 'pip install "torch==2.13.0" "edgekit[export]"' in refused.stderr
    for verb in ("train", "distill", "evaluate"):
        refused = edgekit(verb, "micronet-m0", "--data", "digits")
        assert refused.returncode == 7
        assert 'pip install "torch==2.13.0" "edgekit[train]"' in refused.stderr


def test_the_signposts_lead_into_the_package(clean_copy):
    for name in ("models", "export", "runtimes"):
        assert (clean_copy / name).is_symlink()
        assert (clean_copy / name).resolve() == (clean_copy / "edgekit" / name).resolve()
