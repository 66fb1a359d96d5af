"""Which TensorRT is found, what is said when there is none, and one logger a process."""

import importlib
import platform
import sys
import types

import pytest

from edgekit import optional
from edgekit.errors import MissingDependencyError
from edgekit.runtimes import is_available, require_runtime, trt_vendor
from tests.runtimes.trt_fixture import install


@pytest.fixture
def nothing(monkeypatch):
    monkeypatch.setattr(trt_vendor, "is_installed", lambda name: False)


def test_on_a_pc_the_answer_is_the_jetson(nothing, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(MissingDependencyError, match="run this on the Jetson") as caught:
        trt_vendor.vendor()
    assert caught.value.exit_code == 7
    assert "pip install" not in str(caught.value)


def test_on_a_board_the_rtx_edition_is_no_answer(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(trt_vendor, "is_installed", lambda name: name == "tensorrt_rtx")
    monkeypatch.setattr(optional, "is_installed", lambda name: name == "tensorrt_rtx")
    for ask in (trt_vendor.vendor, lambda: require_runtime("tensorrt")):
        with pytest.raises(MissingDependencyError, match="sudo apt install python3-libnvinfer"):
            ask()


def test_a_runtime_asked_for_by_name_gets_the_rtx_edition_on_a_pc(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(optional, "is_installed", lambda name: name == "tensorrt_rtx")
    assert require_runtime("tensorrt").name == "tensorrt"
    assert not is_available("tensorrt")  # nobody is given it unasked


@pytest.mark.parametrize(
    ("prefix", "venv"), [("/usr", "outside any"), ("/home/me/venv", "in a virtual environment")]
)
def test_on_a_jetson_the_answer_is_jetpack(nothing, monkeypatch, prefix, venv):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "prefix", prefix)
    with pytest.raises(MissingDependencyError) as caught:
        trt_vendor.vendor()
    said = str(caught.value)
    for words in ("python3-libnvinfer", "/usr/bin/python3", "--system-site-packages", venv):
        assert words in said
    assert f"this is Python {sys.version_info.major}.{sys.version_info.minor}" in said
    assert "pip install" not in said


def test_bindings_without_their_library_say_what_is_missing(monkeypatch):
    def broken(name):
        raise ImportError("libnvonnxparser.so.11: cannot open shared object file")

    monkeypatch.setattr(trt_vendor, "is_installed", lambda name: name == "tensorrt")
    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(MissingDependencyError, match=r"import fails: libnvonnxparser\.so\.11"):
        trt_vendor.vendor()


def test_tensorrt_goes_before_its_rtx_edition(monkeypatch):
    both = {name: types.ModuleType(name) for name in trt_vendor.MODULES}
    monkeypatch.setattr(trt_vendor, "is_installed", both.__contains__)
    for name, module in both.items():
        monkeypatch.setitem(sys.modules, name, module)
    assert trt_vendor.vendor() is both["tensorrt"]
    del both["tensorrt"]
    assert trt_vendor.vendor() is both["tensorrt_rtx"]


def test_there_is_one_logger_and_each_operation_hears_its_own_errors(monkeypatch, caplog):
    board = install(monkeypatch)
    logger = trt_vendor.logger(board.trt)
    assert trt_vendor.logger(board.trt) is logger
    severity = board.trt.ILogger
    with trt_vendor.listening() as first:
        logger.log(severity.ERROR, "first\n  problem")
        logger.log(severity.WARNING, "careful")
    with trt_vendor.listening() as second:
        pass
    assert first.because() == "first problem"
    assert list(first.lines) == ["first\n  problem"]
    assert second.because() == "TensorRT gave no reason"
    assert trt_vendor.last_error() == "first problem"


def test_a_flood_of_errors_is_bounded(monkeypatch):
    board = install(monkeypatch)
    logger = trt_vendor.logger(board.trt)
    with trt_vendor.listening() as said:
        for number in range(10_000):
            logger.log(board.trt.ILogger.ERROR, f"error {number}")
    assert len(said.lines) == 64


def test_the_real_logger_is_a_real_logger():
    trt = pytest.importorskip("tensorrt_rtx")
    assert isinstance(trt_vendor.logger(trt), trt.ILogger)
    assert trt_vendor.title(trt) == f"tensorrt-rtx {trt.__version__}"
