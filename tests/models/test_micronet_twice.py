"""MicroNet was written twice from its description, by people who did not compare: they agree.

The reference outputs at hand are of M0 and M2; M1 and M3 have this.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.plain_micronet import NETS, PlainMicroNet
from edgekit.models.micronet import build_micronet
from tests.models.fill_rule import images, state

VARIANTS = ("m0", "m1", "m2", "m3")


def test_both_have_the_four_released_networks() -> None:
    assert set(NETS) == {f"micronet-{name}" for name in VARIANTS}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_two_agree_in_double_precision(name: str) -> None:
    weights = {key: torch.as_tensor(value) for key, value in state(name).items()}
    ours, plain = build_micronet(name), PlainMicroNet(f"micronet-{name}")
    sample = torch.as_tensor(images(2)).double()
    outputs = []
    for network in (ours, plain):
        network.load_state_dict(weights, strict=True)
        with torch.no_grad():
            outputs.append(network.double().eval()(sample))
    assert outputs[0].abs().max() > 1
    assert torch.allclose(outputs[0], outputs[1], rtol=0, atol=1e-12)
