"""The rows of the table, against the networks that they build."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgekit.errors import UnknownNameError
from edgekit.models.minivlm.fusion import Fusion
from edgekit.models.minivlm.specs import VLMS, MiniVlmSpec, get_vlm
from edgekit.models.minivlm.tee import Tee


@pytest.mark.parametrize("row", VLMS.values(), ids=list(VLMS))
def test_counts(row: MiniVlmSpec) -> None:
    tee, fusion = Tee(row.tee).eval(), Fusion(row.fusion).eval()
    assert sum(p.numel() for p in tee.parameters()) == row.counts.tee
    assert sum(p.numel() for p in fusion.parameters()) == row.counts.fusion
    t, lengths = row.tee, row.lengths
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        tee(torch.zeros(1, 3, lengths.height, lengths.width))
        tee.box_head(torch.zeros(t.proposals, t.width, t.pooled, t.pooled))
    assert counter.get_total_flops() // 2 == row.counts.tee_macs
    text = torch.zeros(1, lengths.short, row.fusion.width)
    visual = torch.zeros(1, t.regions, t.visual)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        hidden = fusion(text, visual, torch.ones(1, lengths.short + t.regions))
        fusion.bert.pool(hidden)
    assert counter.get_total_flops() // 2 == row.counts.question_macs


@pytest.mark.parametrize("row", VLMS.values(), ids=list(VLMS))
def test_sizes_fit_each_other(row: MiniVlmSpec) -> None:
    assert row.fusion.visual == row.tee.visual
    assert row.fusion.width % row.fusion.heads == 0
    assert row.lengths.height % 64 == 0 and row.lengths.width % 64 == 0
    longest = max(row.lengths.long, row.lengths.caption + row.lengths.tags)
    assert longest <= row.fusion.positions


def test_an_unknown_row() -> None:
    with pytest.raises(UnknownNameError, match="minivlm"):
        get_vlm("minivlm-large")
