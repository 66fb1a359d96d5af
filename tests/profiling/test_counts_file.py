"""Counts through ``counts.json`` and back, as a board reads them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.bundle import open_bundle
from edgekit.bundle.counts import COUNTS, counts_from_json
from edgekit.errors import BundleError
from edgekit.profiling.counts import Counts, LayerCount
from edgekit.profiling.counts_file import BundleCounts, counts_bytes, read_counts
from tests.bundle import sample_bundle

CONV = LayerCount("conv", "Conv", "features.0", (1, 8, 4, 4), macs=20, params=10, weight_bytes=40)
GATE = LayerCount("gate", "Mul", "features.1", (1, 3), elementwise_multiplies=3)
SWISH = LayerCount("swish", "HardSwish", "", (), other_multiplies=9, other_kind="activation")
MODEL = Counts(10, (CONV, GATE, SWISH), 704, "conv")
REWRITTEN = Counts(12, (CONV, GATE), None)
SAMPLE = BundleCounts(MODEL, {"null": REWRITTEN})


def test_they_come_back_as_they_were(tmp_path: Path) -> None:
    sample_bundle.write(tmp_path / "b", files={COUNTS: counts_bytes(SAMPLE)})
    with open_bundle(tmp_path / "b") as bundle:
        counts = read_counts(bundle)
    assert counts == SAMPLE
    assert counts is not None
    assert counts.model.madds == 23
    assert counts.model.apart[0].multiplies == 9
    assert [node.name for node in counts.artifacts["null"].nodes] == ["conv", "gate"]


def test_equal_graphs_are_written_once() -> None:
    same = BundleCounts(MODEL, {"a": MODEL, "b": REWRITTEN, "c": replace(REWRITTEN, params=1)})
    document = counts_from_json(counts_bytes(same).decode())
    assert document is not None
    assert set(document.graphs) == {"model", "b"}
    assert document.artifacts == {"a": "model", "b": "b", "c": "b"}


def test_a_bundle_of_an_earlier_edgekit_has_none(tmp_path: Path) -> None:
    sample_bundle.write(tmp_path / "b")
    with open_bundle(tmp_path / "b") as bundle:
        assert read_counts(bundle) is None


def test_nor_has_one_of_a_newer_edgekit(tmp_path: Path) -> None:
    sample_bundle.write(tmp_path / "b", files={COUNTS: b'{"schema_version": 9}'})
    with open_bundle(tmp_path / "b") as bundle:
        assert read_counts(bundle) is None


@pytest.mark.parametrize(
    "wrong",
    [
        BundleCounts(Counts(10, (CONV,)), {"null": REWRITTEN}),  # 3 products are missing
        BundleCounts(MODEL, {"null": Counts(10, (GATE,))}),
        BundleCounts(MODEL, {}),
        BundleCounts(MODEL, {"null": REWRITTEN, "litert": REWRITTEN}),
    ],
)
def test_what_contradicts_the_manifest_is_refused(wrong: BundleCounts, tmp_path: Path) -> None:
    sample_bundle.write(tmp_path / "b", files={COUNTS: counts_bytes(wrong)})
    with (
        open_bundle(tmp_path / "b") as bundle,
        pytest.raises(BundleError, match=r"the manifest 20 and \{'null': 20\}"),
    ):
        read_counts(bundle)


def test_lines_that_are_wrong_are_refused_when_they_are_read(tmp_path: Path) -> None:
    data = counts_bytes(SAMPLE).replace(b'"Conv"', b'"\\u001b[2J"', 1)
    sample_bundle.write(tmp_path / "b", files={COUNTS: data})
    with open_bundle(tmp_path / "b") as bundle, pytest.raises(BundleError, match="control char"):
        read_counts(bundle)


def test_a_board_needs_neither_torch_nor_onnx() -> None:
    code = (
        "import sys, edgekit.profiling.counts_file; "
        "sys.exit(str({'torch', 'onnx', 'onnx_ir', 'onnxscript'} & set(sys.modules) or '') or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
