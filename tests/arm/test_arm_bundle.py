"""The ARM bundle on AArch64 builds of the runtimes, as an app on a board meets it."""

import json

import numpy as np
import pytest

import edgekit as package
from edgekit.bundle import open_bundle
from edgekit.bundle.agreement import PARITY_TOLERANCE, relative_error

pytestmark = pytest.mark.arm

RUNTIMES = ("litert", "onnxruntime")


@pytest.fixture(scope="module")
def golden(equipped, arm_bundle, tmp_path_factory):
    """The bundle and its golden input are on the board; this is the golden data."""
    with open_bundle(arm_bundle) as bundle:
        golden = bundle.golden()
    inputs = tmp_path_factory.mktemp("golden") / "golden-input.npz"
    np.savez(inputs, **dict(golden.inputs))  # type: ignore[arg-type]
    equipped.put("pi", arm_bundle, inputs)
    return golden


def test_the_board_is_a_raspberry_pi_to_whoever_asks(board):
    assert board.run("pi", "uname -m; tr -d '\\0' </sys/firmware/devicetree/base/model") == (
        "aarch64\nRaspberry Pi 4 Model B Rev 1.1"
    )
    assert board.run("bare", "python3 -c 'import numpy' 2>&1 || true").endswith("'numpy'\n")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_bundle_computes_its_golden_output(runtime, equipped, golden, arm_bundle, tmp_path):
    words = f"run {arm_bundle.name} golden-input.npz --runtime {runtime} --save {runtime}.npz"
    document = json.loads(equipped.run("pi", f"python3 -m edgekit {words} --json"))
    assert document["engine"]["runtime"] == runtime
    with np.load(equipped.fetch("pi", f"{runtime}.npz", tmp_path)) as got:
        assert sorted(got) == sorted(golden.outputs)
        for name, wanted in golden.outputs.items():
            assert relative_error(got[name], wanted) <= PARITY_TOLERANCE["fp32"]
            # The comparison itself: one per cent off would be seen.
            assert relative_error(1.01 * got[name], wanted) > PARITY_TOLERANCE["fp32"]


def test_the_doctor_there_finds_both_runtimes(equipped):
    facts = json.loads(equipped.run("pi", "python3 -m edgekit doctor --json"))
    assert facts["machine"]["edgekit"] == package.__version__
    found = {row["runtime"]: row["problem"] for row in facts["runtimes"]}
    assert {name: found[name] for name in RUNTIMES} == dict.fromkeys(RUNTIMES, "")
    assert found["openvino"] and found["tensorrt"]  # of other targets: not there
