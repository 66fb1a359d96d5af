"""examples/report.html and .json: real, readable, and about nothing but the measurement."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from edgekit.profiling.report import html_report, words
from edgekit.profiling.report.html import tag
from edgekit.profiling.result import result_from_json

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "examples" / "report.html"
RESULT = ROOT / "examples" / "report.json"


@pytest.fixture(scope="module")
def result():
    return result_from_json(RESULT.read_text(encoding="utf-8"))


def test_the_example_is_valid_by_the_published_schema():
    schema = json.loads((ROOT / "docs" / "result.schema.json").read_text(encoding="utf-8"))
    document = json.loads(RESULT.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)


def test_the_example_shows_most_of_what_there_is(result):
    assert result.complete
    for part in (result.runs, result.starts, result.layers, result.memory, result.references):
        assert part
    assert {run.scope for run in result.runs} == {"engine", "copies", "pipeline"}
    assert any(run.pace_hz for run in result.runs)
    assert any(run.layers for run in result.layers)


def test_the_page_is_of_the_result_and_small(result):
    text = PAGE.read_text(encoding="utf-8")
    assert str(tag("title", words.sentence(result))) in text
    assert result.facts.bundle_sha256 in text
    assert len(text) < 600_000 and RESULT.stat().st_size < 600_000
    regenerate = "edgekit report examples/report.json -o examples/report.html --force"
    headings = re.compile(r"<h[1-4]>.*?</h[1-4]>")
    assert headings.findall(text) == headings.findall(html_report([result])), regenerate


def test_nothing_of_the_machine_but_what_matters_is_in_it(result):
    text = RESULT.read_text(encoding="utf-8") + PAGE.read_text(encoding="utf-8")
    assert result.device == "local"
    assert not re.search(r"[\"' =](/(home|root|tmp|work|Users|opt)/)", text)
    assert not any(word.startswith(("/", "~")) for word in result.command)
