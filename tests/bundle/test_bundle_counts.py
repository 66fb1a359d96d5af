"""``counts.json``: the same bytes for the same counts, and hostile content refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import counts as counts_module
from edgekit.bundle import open_bundle
from edgekit.bundle.counts import (
    AS_DEFINED,
    COLUMNS,
    COUNTS,
    CountsFile,
    GraphCounts,
    NodeRow,
    check_counts,
    counts_from_json,
    counts_to_json,
)
from edgekit.errors import BundleError
from tests.bundle import sample_bundle

CONV: NodeRow = ("conv", "Conv", "features.0", (1, 8, 4, 4), 20, 0, 0, "", 10, 40, 192, 512)
GATE: NodeRow = ("gate ü", "Mul", "", (1, 3), 0, 3, 0, "", 0, 0, 24, 12)
SAMPLE = CountsFile(
    graphs={
        AS_DEFINED: GraphCounts(10, 704, "conv", (CONV, GATE)),
        "null": GraphCounts(10, None, "", (CONV,)),
    },
    artifacts={"null": "null"},
)


def document() -> Any:
    return json.loads(counts_to_json(SAMPLE))


def test_what_is_written_is_what_is_read() -> None:
    assert counts_from_json(counts_to_json(SAMPLE)) == SAMPLE
    assert len(CONV) == len(COLUMNS)


def test_equal_counts_are_equal_bytes_one_line_a_node() -> None:
    turned = CountsFile(dict(reversed(list(SAMPLE.graphs.items()))), SAMPLE.artifacts)
    text = counts_to_json(SAMPLE)
    assert counts_to_json(turned) == text
    assert [line.strip() for line in text.splitlines()].count(
        json.dumps(CONV, separators=(",", ":"))
    ) == 1
    assert "ü" in text


@pytest.mark.parametrize("graphs", [{AS_DEFINED: GraphCounts(0, 0, "", ())}])
def test_a_graph_without_nodes_is_valid(graphs: dict[str, GraphCounts]) -> None:
    empty = CountsFile(graphs, {})
    assert counts_from_json(counts_to_json(empty)) == empty


def _row(index: int, value: object) -> Callable[[Any], None]:
    def change(parsed: Any) -> None:
        parsed["graphs"]["model"]["nodes"][0][index] = value

    return change


def _set(*path: Any, value: object) -> Callable[[Any], None]:
    def change(parsed: Any) -> None:
        for key in path[:-1]:
            parsed = parsed[key]
        parsed[path[-1]] = value

    return change


BROKEN: dict[str, tuple[Callable[[Any], None], str]] = {
    "a version that is none": (_set("schema_version", value="1"), "schema_version"),
    "a version below one": (_set("schema_version", value=0), "schema_version"),
    "an unknown key": (_set("more", value=1), "unknown key"),
    "no graphs": (_set("graphs", value={}), "no 'model'"),
    "graphs that are a list": (_set("graphs", value=[]), "graphs"),
    "an artifact of no graph": (_set("artifacts", "null", value="x"), "'x' is none of graphs"),
    "negative parameters": (_set("graphs", "model", "params", value=-1), "0 or more"),
    "a fraction": (_row(4, 1.5), "whole number"),
    "true as a count": (_row(4, True), "whole number"),
    "a number beyond 64 bits": (_row(4, 2**63), "whole number"),
    "negative MACs": (_row(4, -5), "0 or more"),
    "a negative size": (_row(3, [1, -8]), "0 or more"),
    "a shape that is a text": (_row(3, "1,8"), "expected a list"),
    "too many axes": (_row(3, [1] * 65), "64 axes"),
    "a number as a name": (_row(0, 7), "expected a text"),
    "an escape sequence": (_row(0, "\x1b[2J"), "control character"),
    "a name without end": (_row(0, "x" * 5000), "longer than"),
    "a row too short": (_set("graphs", "model", "nodes", 0, value=["conv"]), "expected 12 items"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_fit_is_refused_by_its_path(name: str) -> None:
    change, says = BROKEN[name]
    parsed = document()
    change(parsed)
    with pytest.raises(BundleError, match=rf"counts\.json: .*{says}"):
        counts_from_json(json.dumps(parsed))


def test_more_nodes_than_any_board_runs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "MAX_NODES", 2)
    with pytest.raises(BundleError, match="3 nodes: at most 2"):
        counts_from_json(counts_to_json(SAMPLE))


def test_counts_of_a_newer_edgekit_do_not_stop_a_bundle() -> None:
    parsed = {"schema_version": 2, "whatever": [1]}
    check_counts(COUNTS, json.dumps(parsed).encode())
    assert counts_from_json(json.dumps(parsed)) is None


# ---- in a bundle -----------------------------------------------------------------------------


def test_a_bundle_with_counts_opens(tmp_path: Path) -> None:
    sample_bundle.write(tmp_path / "b", files={COUNTS: counts_to_json(SAMPLE).encode()})
    with open_bundle(tmp_path / "b") as bundle:
        assert COUNTS in bundle.manifest.files


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "schema_version"),
        (b"{}", "schema_version"),
        (b'{"schema_version": 1}', "no 'model'"),
        (b'{"schema_version": 1, "schema_version": 1}', "given twice"),
        (b'{"schema_version": 1, "graphs": {"model": NaN}}', "NaN"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
@pytest.mark.parametrize("name", ["b", "b.edgekit"])
def test_a_bundle_with_other_things_under_that_name_does_not(
    name: str, data: bytes, says: str, tmp_path: Path
) -> None:
    sample_bundle.write(tmp_path / name, files={COUNTS: data})
    with pytest.raises(BundleError, match=rf"counts\.json.*{says}"):
        open_bundle(tmp_path / name)


def test_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "MAX_COUNTS_BYTES", 100)
    sample_bundle.write(tmp_path / "b", files={COUNTS: counts_to_json(SAMPLE).encode()})
    with pytest.raises(BundleError, match="at most 100 are accepted"):
        open_bundle(tmp_path / "b")


def test_counts_of_a_changed_file_are_caught_by_the_checksum(tmp_path: Path) -> None:
    sample_bundle.write(tmp_path / "b", files={COUNTS: counts_to_json(SAMPLE).encode()})
    path = tmp_path / "b" / COUNTS
    path.write_bytes(path.read_bytes().replace(b",20,", b",21,"))
    with pytest.raises(BundleError, match="sha256"):
        open_bundle(tmp_path / "b")
