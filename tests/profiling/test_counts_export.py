"""An exported bundle counts what its files compute, under the names that its files have."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from edgekit.bundle import open_bundle
from edgekit.errors import GraphError
from edgekit.export.counting import count_artifacts, count_onnx, count_zoo
from edgekit.export.pipeline import export_model, export_zoo
from edgekit.profiling.counts_file import BundleCounts, read_counts


class Small(nn.Module):
    """A convolution, a gate that becomes a convolution, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.gate, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
        return self.head(x.mean((2, 3)))


def _counts(path: Path) -> BundleCounts:
    with open_bundle(path) as bundle:
        counts = read_counts(bundle)
    assert counts is not None
    return counts


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "b"
    return export_model(Small(), torch.zeros(1, 3, 16, 16), target="jetson", out=out).path


def test_the_names_are_those_of_the_file(small: Path) -> None:
    counts = _counts(small)
    assert set(counts.artifacts) == {"tensorrt", "onnxruntime"}
    with open_bundle(small) as bundle:
        files = {a.runtime: a.files[0] for a in bundle.manifest.artifacts}
    for runtime, graph in counts.artifacts.items():
        written = onnx.load(small / files[runtime]).graph.node
        assert [(n.name, n.op_type) for n in graph.nodes] == [(n.name, n.op_type) for n in written]
        assert len({node.name for node in graph.nodes}) == len(graph.nodes)


def test_the_counts_are_the_models_own(small: Path) -> None:
    counts = _counts(small)
    own = 14 * 14 * 8 * 27 + 8 * 8 + 8 * 5
    assert counts.model.macs == own
    assert counts.model.elementwise_multiplies == 14 * 14 * 8
    assert counts.model.params == sum(p.numel() for p in Small().parameters())
    assert {node.scope for node in counts.model.layers} >= {"conv", "gate", "head"}
    assert {graph.macs for graph in counts.artifacts.values()} == {own}
    gates = [node for node in counts.artifacts["onnxruntime"].layers if node.scope == "gate"]
    assert [node.op_type for node in gates] == ["Conv"]  # rewritten, and still known by its name


def test_an_older_bundles_file_has_the_same_layers(small: Path) -> None:
    with open_bundle(small) as bundle:
        found = count_artifacts(bundle)
    stored = _counts(small).artifacts["onnxruntime"]
    assert [node.madds for node in found["onnxruntime"].nodes] == [n.madds for n in stored.nodes]
    assert found["onnxruntime"].peak_activation_bytes == stored.peak_activation_bytes


def test_a_file_that_is_another_graph_than_the_manifest_says_is_refused(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_bundle(small) as bundle:
        other = small / bundle.manifest.artifacts[0].files[0]
        graph = onnx.load(other)
        graph.graph.node.pop()
        changed = small.parent / "changed.onnx"
        onnx.save(graph, changed)
        monkeypatch.setattr(bundle, "file", lambda _: changed)
        with pytest.raises(GraphError, match="and the manifest says"):
            count_artifacts(bundle)
        changed.write_bytes(b"nothing")
        with pytest.raises(GraphError, match="cannot be read as ONNX"):
            count_artifacts(bundle)


def test_counting_from_the_zoo_and_from_its_bundle_is_the_same(tmp_path: Path) -> None:
    path = export_zoo(
        "micronet-m0",
        "arm",
        weights="random",
        out=tmp_path / "b",
        image_size=32,
        num_classes=10,
    ).path
    exported = _counts(path)
    counted = count_zoo("micronet-m0", image_size=32, num_classes=10).counts
    assert exported.model == counted
    for graph in exported.artifacts.values():  # rewritten: never fewer MACs, the same products
        assert graph.elementwise_multiplies == counted.elementwise_multiplies
        assert graph.macs >= counted.macs
    assert exported.artifacts["litert"].macs > counted.macs  # grouped 1x1 made dense
    # The file of the artifact, counted as a stranger's.
    own = count_onnx(path / "model.onnx", input_shapes={}).counts
    assert own.macs == exported.artifacts["onnxruntime"].macs
