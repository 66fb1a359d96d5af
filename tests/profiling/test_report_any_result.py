"""Whatever the schema lets through can be drawn: zeros, negatives, huge numbers, empty lists."""

import json

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edgekit.profiling.report import csv_report, html_report, markdown_report, words
from edgekit.profiling.result import result_from_json, result_to_json
from tests.profiling import sample_results as samples

MOST = 2**63 - 1
EDGES = [0, 1, -1, 3, MOST, -MOST]
INTS = st.one_of(st.sampled_from(EDGES), st.integers(-MOST, MOST))
FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 1e-300, 5e-324, -1e-9, float(2**62), 0.48]),
    st.floats(-(2.0**62), 2.0**62, allow_nan=False),
)
TEXTS = st.one_of(
    st.sampled_from(["", "engine", "stable", "noisy", "litert", "<b>", "a b", "x" * 500, "|`\\"]),
    st.text(st.characters(exclude_categories=["C"]), max_size=12),
)


TABLES = {"inputs", "published", "artifacts", "governors", "mhz", "min_mhz", "max_mhz", "celsius"}


def changed(value, draw, name=""):
    """``value`` with its numbers, texts and lengths drawn anew."""
    if isinstance(value, dict):
        if name in TABLES and draw(st.booleans()):
            return {}
        return {key: changed(item, draw, key) for key, item in value.items()}
    if isinstance(value, list):
        if len(value) == 2 and all(isinstance(item, float) for item in value):
            return [draw(FLOATS), draw(FLOATS)]  # an interval
        kept = draw(st.integers(0, min(3, len(value))))
        return [changed(item, draw) for item in value[:kept]]
    if isinstance(value, bool) or value is None:
        return value
    pick = {int: INTS, float: FLOATS, str: TEXTS}[type(value)]
    return draw(pick)


FULL = json.loads(result_to_json(samples.everything()))
KEEP = ("kind", "schema_version")


@st.composite
def results(draw):
    document = {k: changed(value, draw, k) for k, value in FULL.items() if k not in KEEP}
    document["environment"]["machine"] = FULL["environment"]["machine"]
    return {**document, **{key: FULL[key] for key in KEEP}}


@given(results())
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.reuse, Phase.generate],  # shrinking a whole profile takes minutes
)
def test_anything_that_the_schema_takes_can_be_drawn(document):
    result = result_from_json(json.dumps(document))
    assert words.sentence(result)
    page = html_report([result])
    assert page.endswith("</html>\n")
    assert not {"nan", "inf"} & set(page.replace('"', " ").replace("%", " ").split())
    page.encode("utf-8")
    assert markdown_report([result])
    assert csv_report([result])
