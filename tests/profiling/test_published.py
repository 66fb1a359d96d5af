"""Published figures, judged by their own rounding: made-up ones that must be flagged, and real."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from edgekit.bundle import Figure
from edgekit.models.zoo import VARIANTS
from edgekit.profiling.published import (
    AGREES,
    DIFFERS,
    NOT_COMPARED,
    OTHER_UNIT,
    TRUNCATED,
    Counted,
    compare,
    parse,
)


@dataclass(frozen=True)
class Totals:
    """Of a made-up network: 10 M MACs and 2.74 M products."""

    params: int = 1_968_680
    macs: int = 10_000_000
    elementwise_multiplies: int = 2_740_000
    madds: int = 12_740_000
    flops: int = 22_740_000


def judged(metric: str, value: str, pixels: int = 224, same: bool = True) -> tuple[str, str]:
    counted = Counted(Totals(), pixels=pixels, published_pixels=224, same_outputs=same)
    row = compare(Figure(metric, value, "a paper"), counted)
    assert (row.metric, row.value, row.source) == (metric, value, "a paper")
    assert (row.counted is None) == (row.outcome == NOT_COMPARED)
    return row.outcome, row.note


@pytest.mark.parametrize(
    ("metric", "value", "outcome"),
    [
        ("MAdds", "13 M", AGREES),
        ("MAdds", "12.7 M", AGREES),
        ("MAdds", "12,740,000", AGREES),
        ("MAdds", "~13M", AGREES),
        ("MAdds", "0.0127 G", AGREES),
        ("MAdds", "12 M", TRUNCATED),
        ("MAdds", "14 M", DIFFERS),
        ("MAdds", "12.6 M", DIFFERS),
        ("MAdds", "12,740,001", DIFFERS),
        ("MAdds", "10 M", OTHER_UNIT),  # the MACs alone
        ("MACs", "10 M", AGREES),
        ("MACs", "13 M", OTHER_UNIT),
        ("MACs", "20 M", DIFFERS),
        ("FLOPs", "23 M", AGREES),
        ("FLOPs", "22 M", TRUNCATED),
        ("FLOPs", "13 M", OTHER_UNIT),
        ("FLOPs", "12 M", OTHER_UNIT),
        ("FLOPs", "6 M", DIFFERS),
        ("FLOPs (multiply-adds)", "12 M", TRUNCATED),
        ("FLOPs (multiply-adds)", "23 M", DIFFERS),  # it says itself that they are not FLOPs
        ("params", "2.0 M", AGREES),
        ("params", "1.97 M", AGREES),
        ("params", "1.96 M", TRUNCATED),
        ("params", "1.95 M", DIFFERS),
        ("top-1", "51.4 %", NOT_COMPARED),
        ("MAdds", "about a dozen", NOT_COMPARED),
        ("latency", "12 M", NOT_COMPARED),
        ("MACs at 96 pixels", "10 M", NOT_COMPARED),
    ],
)
def test_a_figure_is_judged_by_its_last_digit(metric: str, value: str, outcome: str) -> None:
    assert judged(metric, value)[0] == outcome


@pytest.mark.parametrize(("count", "within"), [(3_500_000, 1), (4_500_000, 1), (4_500_001, 0)])
def test_4_m_is_3_and_a_half_to_4_and_a_half(count: int, within: int) -> None:
    interval = parse("4 M")
    assert interval is not None
    assert interval.rounds(count) == bool(within)


def test_what_is_printed_says_what_and_by_how_much() -> None:
    assert judged("MAdds", "12 M")[1] == "12 M is this figure truncated, not rounded"
    assert judged("FLOPs", "13 M")[1] == "published as FLOPs, it is the number of MAdds"
    assert "off by -9.0%" in judged("MAdds", "14 M")[1]
    assert "13,500,000 to 14,500,000" in judged("MAdds", "14 M")[1]


def test_only_what_is_of_the_same_network_is_compared() -> None:
    assert judged("MAdds", "13 M", pixels=96) == (NOT_COMPARED, "for 224 x 224, counted at 96")
    assert judged("MACs at 96 pixels", "10 M", pixels=96)[0] == AGREES
    assert judged("params", "2.0 M", pixels=96)[0] == AGREES  # of the weights, whatever the input
    assert judged("params", "2.0 M", same=False)[0] == NOT_COMPARED


@pytest.mark.parametrize(
    "text", ["", "M", "1,2 M", "4 %", "-4 M", "4 MB", "9" * 40, "1.2.3", "4 M x"]
)
def test_what_is_no_count_is_none(text: str) -> None:
    assert parse(text) is None


def test_the_zoos_own_figures_hold() -> None:
    """The rows say the counts (proven elsewhere) and the figures: which of them differ is known."""
    found = {
        (row.id, figure.metric): compare(
            Figure(figure.metric, figure.value, figure.source),
            Counted(row, row.image_size, row.image_size, same_outputs=True),
        ).outcome
        for row in VARIANTS.values()
        for figure in row.published
    }
    micronet = {key: outcome for key, outcome in found.items() if key[0].startswith("micronet")}
    assert DIFFERS not in micronet.values()
    truncated = [key for key, outcome in micronet.items() if outcome == TRUNCATED]
    assert truncated == [("micronet-m2", "MAdds"), ("micronet-v1-m1", "FLOPs (multiply-adds)")]
    assert sum(outcome == AGREES for outcome in micronet.values()) == 7
