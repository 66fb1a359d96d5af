"""docs/result.schema.json is made from the dataclasses, and takes what they take."""

import json
from pathlib import Path

import jsonschema
import pytest

from edgekit.errors import InputError
from edgekit.profiling.report.json_schema import result_schema, schema_text
from edgekit.profiling.result import result_from_json, result_to_json
from tests.profiling import sample_results as samples

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "docs" / "result.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text(encoding="utf-8")))


def document():
    return json.loads(result_to_json(samples.everything()))


def test_the_published_schema_is_up_to_date():
    regenerate = "python -m edgekit.profiling.report.json_schema > docs/result.schema.json"
    assert PUBLISHED.read_text(encoding="utf-8") == schema_text(), regenerate


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(result_schema())


@pytest.mark.parametrize(
    "made",
    [samples.everything, samples.one_sample, samples.incomplete, samples.hostile, samples.result],
)
def test_results_are_valid(made):
    VALIDATOR.validate(json.loads(result_to_json(made())))


def change(path, value):
    """A full document with one place changed; a value of ... takes it out."""
    changed = document()
    *way, last = path
    place = changed
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("kind",), "other"),
        (("schema_version",), 2),
        (("runs",), ...),
        (("runs", 0, "p50_ms"), "fast"),
        (("runs", 0, "p50_ms"), None),
        (("runs", 0, "p50_interval_ms"), [1.0]),
        (("runs", 0, "p50_interval_ms"), [1.0, 2.0, 3.0]),
        (("runs", 0, "threads"), 1.5),
        (("runs", 0, "surprise"), 1),
        (("runs", 0, "processes", 0, "samples_ns", 0), True),
        (("environment", "machine", "clusters"), {"a": "4"}),
        (("facts", "params"), 2**63),
        (("device",), None),
    ],
)
def test_schema_and_reader_refuse_the_same(path, value):
    changed = change(path, value)
    assert not VALIDATOR.is_valid(changed)
    with pytest.raises(InputError, match=str(path[-1]) if isinstance(path[-1], str) else "samples"):
        result_from_json(json.dumps(changed))


@pytest.mark.parametrize("path", [("runs", 0, "p99_ms"), ("cost",), ("environment", "after")])
def test_schema_and_reader_take_what_was_not_measured(path):
    changed = change(path, None)
    VALIDATOR.validate(changed)
    result_from_json(json.dumps(changed))


def test_words_of_the_docstrings_are_in_the_schema():
    run = result_schema()["$defs"]["Run"]["properties"]
    assert run["mad_ms"]["description"] == "median absolute deviation from the median."
    assert run["verdict"]["enum"] == ["stable", "noisy", "throttled", "contended"]
