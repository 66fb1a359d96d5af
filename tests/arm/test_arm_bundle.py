"""The ARM bundle on AArch64 builds of the runtimes, as an app on a board meets it."""

import json
import subprocess

import numpy as np
import pytest

import edgekit as package
from edgekit.bundle import open_bundle
from edgekit.bundle.agreement import PARITY_TOLERANCE, relative_error
from tests.arm.conftest import ROOT

pytestmark = pytest.mark.arm

RUNTIMES = ("litert", "onnxruntime")


@pytest.fixture(scope="module")
def on_board(board, arm_bundle, tmp_path_factory):
    """edgekit itself, the bundle and its golden input, copied there by scp."""
    with open_bundle(arm_bundle) as bundle:
        golden = bundle.golden()
    inputs = tmp_path_factory.mktemp("golden") / "golden-input.npz"
    np.savez(inputs, **dict(golden.inputs))  # type: ignore[arg-type]
    copy(board, ROOT / "edgekit", arm_bundle, inputs)
    board.run("pi", f"mv edgekit lib-edgekit && mkdir lib && mv lib-edgekit lib/edgekit && "
                    f"mv {arm_bundle.name} bundle")  # fmt: skip
    return golden


def copy(board, *paths):
    words = ("scp", "-q", "-r", "-F", str(board.ssh_config), "-P", str(board.port))
    subprocess.run((*words, *map(str, paths), "pi@127.0.0.1:"), check=True, timeout=120)


def run_there(board, words):
    return board.run("pi", f"PYTHONPATH=lib python3 -m edgekit {words}")


def test_the_board_is_a_raspberry_pi_to_whoever_asks(board):
    assert board.run("pi", "uname -m; tr -d '\\0' </sys/firmware/devicetree/base/model") == (
        "aarch64\nRaspberry Pi 4 Model B Rev 1.1"
    )
    assert board.run("bare", "python3 -c 'import numpy' 2>&1 || true").endswith("'numpy'\n")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_bundle_computes_its_golden_output(runtime, board, on_board, tmp_path):
    words = f"run bundle golden-input.npz --runtime {runtime} --save {runtime}.npz --json"
    document = json.loads(run_there(board, words))
    assert document["engine"]["runtime"] == runtime
    fetch = ("scp", "-q", "-F", str(board.ssh_config), "-P", str(board.port),
             f"pi@127.0.0.1:{runtime}.npz", str(tmp_path))  # fmt: skip
    subprocess.run(fetch, check=True, timeout=60)
    with np.load(tmp_path / f"{runtime}.npz") as got:
        assert sorted(got) == sorted(on_board.outputs)
        for name, wanted in on_board.outputs.items():
            assert relative_error(got[name], wanted) <= PARITY_TOLERANCE["fp32"]
            # The comparison itself: one per cent off would be seen.
            assert relative_error(1.01 * got[name], wanted) > PARITY_TOLERANCE["fp32"]


def test_the_doctor_there_finds_both_runtimes(board, on_board):
    facts = json.loads(run_there(board, "doctor --json"))
    assert facts["machine"]["edgekit"] == package.__version__
    found = {row["runtime"]: row["problem"] for row in facts["runtimes"]}
    assert {name: found[name] for name in RUNTIMES} == dict.fromkeys(RUNTIMES, "")
    assert found["openvino"] and found["tensorrt"]  # of other targets: not there
