from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.bundle import manifest_from_json, manifest_to_json, schema
from edgekit.bundle.manifest import is_safe_file_name
from edgekit.errors import BundleError
from tests.bundle import sample_bundle

Break = Callable[[dict[str, Any]], Any]


def parse(document: Any) -> Any:
    return manifest_from_json(json.dumps(document))


def test_round_trip_is_canonical():
    text = json.dumps(sample_bundle.document())
    manifest = manifest_from_json(text)
    written = manifest_to_json(manifest)
    assert manifest_from_json(written) == manifest
    assert manifest_to_json(manifest_from_json(written)) == written
    assert written.endswith("}\n")
    keys = list(json.loads(written))
    assert keys == sorted(keys)
    assert '\n  "artifacts": [\n    {' in written


def test_ints_where_floats_are_meant_are_written_as_floats():
    document = sample_bundle.document()
    document["preprocessing"]["mean"] = [0, 0, 0]
    assert parse(document).preprocessing.mean == (0.0, 0.0, 0.0)
    assert '"mean": [\n      0.0,' in manifest_to_json(parse(document))


@pytest.mark.parametrize(
    ("family", "size", "batch"),
    [("tiny", 1, 1), ("tiny", 4, 4), ("tiny", -1, 1), ("own", 4, 1), ("own", 1, 1)],
)
def test_how_many_of_what_is_counted_are_computed_at_once(family: str, size: int, batch: int):
    document = sample_bundle.document()
    document["model"]["family"] = family
    document["inputs"][0]["shape"][0] = size
    assert parse(document).batch == batch


def test_fields_with_defaults_may_be_absent():
    document = sample_bundle.document()
    del document["model"]["notes"]
    assert parse(document).model.notes == ()


def _set(path: str, value: Any) -> Break:
    *way, last = (int(part) if part.isdigit() else part for part in path.split("."))

    def change(document: dict[str, Any]) -> None:
        at: Any = document
        for part in way:
            at = at[part]
        at[last] = value

    return change


def _delete(key: str) -> Break:
    return lambda document: document.pop(key)


# What is done to a valid manifest -> the start of what must be said about it.
BREAKS: list[tuple[Break, str]] = [
    (_set("schema_version", 2), r"schema_version: 2 is newer than this edgekit reads \(1\)"),
    (_set("schema_version", "1"), r"schema_version: missing or not a number"),
    (_delete("schema_version"), r"schema_version: missing or not a number"),
    (_set("surprise", 1), r"surprise: unknown key; known: model, weights"),
    (_set("artifacts.0.surprise", 1), r"artifacts\[0\]\.surprise: unknown key"),
    (_delete("golden"), r"golden: missing"),
    (_set("model", []), r"model: expected an object, got \[\]"),
    (_set("model.params", 1.5), r"model\.params: expected a whole number, got 1\.5"),
    (_set("model.params", True), r"model\.params: expected a whole number, got true"),
    (_set("model.params", 2**63), r"model\.params: expected a whole number"),
    (_set("model.id", 7), r"model\.id: expected a text, got 7"),
    (_set("model.id", "a\x1b[2Jb"), r"model\.id: has a control character"),
    (_set("model.id", "a\u202eb"), r"model\.id: has a control character"),
    (_set("weights.random", "no"), r'weights\.random: expected true or false, got "no"'),
    (
        _set("artifacts.0.parity.tolerance", "x"),
        r'artifacts\[0\]\.parity\.tolerance: expected a number, got "x"',
    ),
    (
        _set("artifacts.0.parity.max_relative_error", {"a b": None}),
        r'artifacts\[0\]\.parity\.max_relative_error\["a b"\]: expected a number, got null',
    ),
    (_set("artifacts", []), r"artifacts: expected at least one"),
    (_set("artifacts.0.files", []), r"artifacts\[0\]\.files: expected at least one file"),
    (_set("artifacts.0.files", ["gone.onnx"]), r"artifacts\[0\]\.files\[0\]: 'gone.onnx' is not"),
    (_set("artifacts.0.files", "model.dat"), r"artifacts\[0\]\.files: expected a list"),
    (lambda d: d["artifacts"].append(d["artifacts"][0]), r"artifacts: one a runtime, got null, n"),
    (_set("golden", "other.npz"), r"golden: 'other.npz' is not one of files"),
    (_set("labels", "other.txt"), r"labels: 'other.txt' is not one of files"),
    (_set("inputs", []), r"inputs: expected at least one tensor"),
    (_set("inputs.0.dtype", "object"), r"inputs\[0\]\.dtype: 'object' is none of float32"),
    (_set("inputs.0.shape", [1, 0]), r"inputs\[0\]\.shape: sizes are 1 or more"),
    (_set("inputs.0.layout", "NC"), r"inputs\[0\]\.layout: 'NC' does not name 4 axes"),
    (lambda d: d["inputs"].append(d["inputs"][0]), r"inputs: two tensors have the same name"),
    (_set("preprocessing.crop", [4]), r"preprocessing\.crop: expected 2 items, got 1"),
    (_set("preprocessing.crop", [9, 4]), r"preprocessing\.crop: \(9, 4\) does not fit in resize 5"),
    (_set("preprocessing.resize", 10**6), r"preprocessing\.resize: 1000000 pixels is more"),
    (_set("preprocessing.std", [1, 0, 1]), r"preprocessing\.std: expected numbers above 0"),
    (_set("preprocessing.interpolation", "cubic"), r"preprocessing\.interpolation: 'cubic'"),
    (
        lambda d: d["files"].update({"golden.npz": None}),
        r'files\["golden.npz"\]: expected an object, got null',
    ),
    (
        lambda d: d["files"].update({"x/y": d["files"]["labels.txt"]}),
        r'files\["x/y"\]: not a plain file name',
    ),
]


@pytest.mark.parametrize(("change", "message"), BREAKS, ids=[match for _, match in BREAKS])
def test_what_is_wrong_is_named_with_its_path(change: Break, message: str):
    document = sample_bundle.document()
    change(document)
    with pytest.raises(BundleError, match=r"manifest\.json: " + message) as caught:
        parse(document)
    assert "\n" not in str(caught.value)


def test_names_that_differ_in_case_only_are_one_file_somewhere():
    document = sample_bundle.document()
    document["files"]["LABELS.txt"] = document["files"]["labels.txt"]
    with pytest.raises(BundleError, match=r"the same file as 'labels\.txt' where case"):
        parse(document)
    document = sample_bundle.document()
    document["files"]["Manifest.JSON"] = document["files"]["labels.txt"]
    with pytest.raises(BundleError, match=r"the same file as 'manifest\.json' where case"):
        parse(document)


@pytest.mark.parametrize("key", ["sha256", "bytes"])
def test_checksums_and_sizes_must_be_such(key: str):
    document = sample_bundle.document()
    document["files"]["labels.txt"][key] = "XYZ" if key == "sha256" else -1
    with pytest.raises(BundleError, match=rf'files\["labels.txt"\].{key}: expected'):
        parse(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[1]", "schema_version: missing"),
        ("null", "schema_version: missing"),
        ('{"schema_version": 1, "schema_version": 1}', 'the key "schema_version" is given twice'),
        ('{"schema_version": NaN}', "NaN is not JSON"),
        ('{"schema_version": 1, "a": Infinity}', "Infinity is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_what_is_not_a_manifest_is_refused_in_one_line(text: str, message: str):
    with pytest.raises(BundleError, match=message) as caught:
        manifest_from_json(text)
    assert len(str(caught.value)) < 400


def test_an_infinite_number_is_refused():
    text = json.dumps(sample_bundle.document()).replace("0.0001", "1e999")
    with pytest.raises(BundleError, match="tolerance: expected a finite number"):
        manifest_from_json(text)


def test_an_invalid_manifest_is_not_written():
    wrong = dataclasses.replace(sample_bundle.MANIFEST, inputs=())
    with pytest.raises(BundleError, match=r"cannot write manifest.json: golden: .* not one of"):
        manifest_to_json(wrong)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "/a", "a\\b", "c:a", ".hidden", "a.", "a b", "ä", "nul", "COM1.txt",
     "a\n", "a\0", "x" * 200, "-rf"],
)  # fmt: skip
def test_unsafe_file_names(name: str):
    assert not is_safe_file_name(name)


@pytest.mark.parametrize("name", ["a", "model.onnx", "A-b_c.1", "x" * 128, "console.txt"])
def test_safe_file_names(name: str):
    assert is_safe_file_name(name)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), value=json_values)
def test_any_value_in_any_place_is_parsed_or_refused(data: st.DataObject, value: Any):
    document = sample_bundle.document()
    at: Any = document
    while True:  # walk to a random place and put the value there
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(at[key], (dict, list)) and at[key] and data.draw(st.booleans()):
            at = at[key]
            continue
        at[key] = value
        break
    with contextlib.suppress(BundleError):  # and nothing else
        parse(document)


def test_a_key_given_twice_is_found_among_very_many_at_once():
    many = ", ".join(f'"{number}": 0' for number in range(200_000))
    with pytest.raises(schema.SchemaError, match='the key "199999" is given twice'):
        schema.loads("{" + many + ', "199999": 0}')
