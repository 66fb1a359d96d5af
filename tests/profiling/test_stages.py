"""What a profile by stage makes of its processes."""

import pytest

from edgekit.profiling import stages
from edgekit.profiling.result import Process, WarmUp
from tests.profiling import sample_results as samples


def documents(preempted):
    """One process of 100 rounds, 10 ms each: 9 in one stage and 1 in the other."""
    process = Process(0.0, WarmUp(1, 0.1, True), (10_000_000,) * 100, 1.0, preempted)
    return [stages.Document({"detector": (9.0,) * 100, "regions": (1.0,) * 100}, 0, "", process)]


@pytest.mark.parametrize(("preempted", "verdict"), [(100, "stable"), (400, "contended")])
def test_a_short_stage_is_interrupted_as_often_a_second_as_its_process(preempted, verdict):
    calm = samples.state()
    rows = stages._rows("openvino", 1, documents(preempted), calm, calm)
    assert [row.verdict for row in rows] == [verdict] * 2
    for row in rows:
        assert not row.reasons or f"{preempted} times a second" in row.reasons[0]
