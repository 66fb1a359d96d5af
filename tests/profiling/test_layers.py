"""Kernels with the layers that they compute, and what those cost, beside."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.bundle import open_bundle, schema
from edgekit.bundle.schema import SchemaError
from edgekit.errors import UsageError
from edgekit.export.pipeline import export_zoo
from edgekit.profiling import layers
from edgekit.profiling.clock import SystemClock
from edgekit.profiling.counts import Counts, LayerCount
from edgekit.profiling.counts_file import BundleCounts, read_counts
from edgekit.profiling.job import Job
from edgekit.profiling.layers import LayerDocument, layer_run, named_share
from edgekit.runtimes.null import NullSession
from edgekit.runtimes.session import KernelTime
from tests.profiling.wide_net import write_bundle

REORDERS = ("Reorder", "ReorderInput", "ReorderOutput")
NODES = (
    LayerCount("conv", "Conv", "stem.conv", (1, 4, 8, 8), macs=1000, input_bytes=30),
    LayerCount("relu", "Relu", "stem.act", (1, 4, 8, 8), output_bytes=12),
    LayerCount("swish", "HardSwish", "", (1, 4), other_multiplies=4),
    LayerCount("head", "Gemm", "head", (1, 2), macs=8, weight_bytes=5),
)
COUNTS = BundleCounts(Counts(9, ()), {"onnxruntime": Counts(9, NODES)})
KERNELS = (
    KernelTime("fused", "FusedConv", ("conv", "relu"), 0.5),
    KernelTime("moved", "ReorderOutput", (), 0.25),
    KernelTime("half", "HardSigmoid", ("swish",), 0.125),
    KernelTime("other half", "Mul", ("swish", "head"), 0.0625),
    KernelTime("head", "Gemm", ("head", "never heard of"), 0.0625),
)


def document(**changed):
    said = LayerDocument("onnxruntime", 2, "a clock", "", 50, KERNELS)
    return schema.encode(said) | changed


def test_kernels_are_joined_with_what_they_compute():
    run = layer_run(document(), COUNTS, 0.8)
    assert (run.runtime, run.threads, run.source, run.note) == ("onnxruntime", 2, "a clock", "")
    assert (run.sum_ms, run.total_ms, run.inferences) == (1.0, 0.8, 50)
    fused, moved, half, other, head = run.layers
    assert (fused.kernel, fused.kind, fused.ms) == ("fused", "FusedConv", 0.5)
    assert (fused.layers, fused.scope) == (("conv", "relu"), "stem.conv")
    assert (fused.macs, fused.bytes_moved) == (1000, 42)
    assert (moved.layers, moved.scope, moved.macs, moved.bytes_moved) == ((), "", None, None)
    assert (half.layers, half.macs) == (("swish",), 0)
    assert (other.layers, other.scope) == (("swish", "head"), "head")
    assert head.layers == ("head",), "a name that the graph does not have"
    # A layer in two kernels is counted with the longer one; of equals with the first.
    assert (other.macs, head.macs) == (8, 0)
    assert sum(layer.macs or 0 for layer in run.layers) == 1008
    assert named_share(run) == 0.75


def test_without_counts_names_are_all_there_is():
    for counts in (None, BundleCounts(Counts(9, ()), {"openvino": Counts(9, NODES)})):
        run = layer_run(document(), counts, None)
        assert run.total_ms is None
        assert [layer.layers for layer in run.layers] == [kernel.layers for kernel in KERNELS]
        assert {(row.scope, row.macs, row.bytes_moved) for row in run.layers} == {("", None, None)}


def test_why_there_are_no_times_is_kept():
    run = layer_run(document(kernels=[], note="it has none", inferences=0), COUNTS, 0.8)
    assert (run.note, run.source, run.layers) == ("it has none", "", ())
    assert run.sum_ms is None
    assert run.total_ms == 0.8
    assert named_share(run) is None


@pytest.mark.parametrize(
    "broken",
    [{}, {"runtime": 3}, document(kernels=[{"kernel": "a"}]), document(kernels={}), document(x=1)],
)
def test_something_else_is_refused(broken):
    with pytest.raises(SchemaError):
        layer_run(broken, COUNTS, None)


class Slow(NullSession):
    """Takes as long as it is told, by a clock of its own."""

    def __init__(self, seconds):
        self.seconds, self.now = seconds, 0
        self.asked = 0

    def now_ns(self) -> int:
        return self.now

    def sleep_until_ns(self, when: int) -> None:
        self.now = when

    def run(self, inputs):
        self.now += int(self.seconds * 1e9)

    def layer_times(self, inputs, inferences):
        raise UsageError("not here")


@pytest.mark.parametrize(
    ("seconds", "count"), [(1e-6, 150), (0.0125, 120), (0.05, 30), (10.0, 10), (0.0, 150)]
)
def test_a_slow_model_is_run_less_often(seconds, count):
    slow = Slow(seconds)
    assert layers._inferences(slow, {}, slow) == count


@pytest.fixture(scope="module", params=["micronet-m0", "micronet-m1"])
def bundle(request, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / request.param
    export_zoo(request.param, "x86", weights="random", out=out)
    return out


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_micronet_is_attributed(bundle: Path, runtime: str, monkeypatch):
    """All time is that of layers or of the engine's reorders, and no layer is missing."""
    monkeypatch.setattr(layers, "_SECONDS", 0.05)
    said = layers.work(Job("layers", str(bundle), runtime), SystemClock())
    with open_bundle(bundle) as opened:
        counts = read_counts(opened)
    assert counts is not None
    run = layer_run(said, counts, None)
    assert run.sum_ms is not None
    reorders = sum(row.ms for row in run.layers if row.kind.split()[0] in REORDERS)
    named = named_share(run)
    assert named is not None
    assert named > 0.5
    assert named + reorders / run.sum_ms > 0.95
    graph = counts.artifacts[runtime]
    assert sum(row.macs or 0 for row in run.layers) == graph.macs
    found = {name for row in run.layers for name in row.layers}
    assert {node.name for node in graph.layers} <= found
    scopes = {row.scope for row in run.layers if row.layers}
    assert any(scope.startswith("features.1.") for scope in scopes)


def test_a_runtime_without_times_is_a_note(tmp_path: Path):
    bundle = write_bundle(tmp_path / "wide")
    run = layer_run(layers.work(Job("layers", str(bundle), "litert"), SystemClock()), None, None)
    assert run.layers == ()
    assert run.note.startswith("LiteRT gives no times per operator to Python")
