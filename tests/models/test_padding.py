"""TensorFlow's padding against its documentation, and what is exported of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgekit.export.trace import trace
from edgekit.models.padding import SameConv2d, same_padding, same_size
from tests.models.backbones import tensorflow_pads

KERNELS_AND_STRIDES = [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2), (1, 2), (2, 2), (7, 3)]


@pytest.mark.parametrize(("kernel", "stride"), KERNELS_AND_STRIDES)
def test_padding_is_the_documented_one_and_gives_the_documented_size(
    kernel: int, stride: int
) -> None:
    for size in range(1, 70):
        low, high = same_padding(size, kernel, stride)
        assert (low, high) == tensorflow_pads(torch.zeros(1, 1, size, size), kernel, stride)
        assert low <= high <= low + 1
        padded = max(size + low + high, kernel)
        assert (padded - kernel) // stride + 1 == same_size(size, stride)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 9), (8, 9), (9, 8)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_each_side_is_padded_for_itself(kernel: int, height: int, width: int) -> None:
    conv, x = SameConv2d(4, 4, kernel, 2, groups=4).double(), torch.randn(2, 4, height, width)
    reach = kernel // 2
    top, left = reach - (height + 1) % 2, reach - (width + 1) % 2
    padded = functional.pad(x.double(), (left, reach, top, reach))
    wanted = functional.conv2d(padded, conv.weight, None, 2, 0, 1, 4)
    assert wanted.shape[2:] == ((height + 1) // 2, (width + 1) // 2)
    assert float((conv(x.double()) - wanted).detach().abs().max()) <= 1e-12


def test_a_size_given_is_the_one_that_counts() -> None:
    made_for_odd, x = SameConv2d(2, 2, 5, 2, size=15), torch.randn(1, 2, 14, 14)
    wanted = functional.conv2d(x, made_for_odd.weight, None, 2, 2)
    assert torch.equal(made_for_odd(x), wanted)
    free = SameConv2d(2, 2, 5, 2)
    free.load_state_dict(made_for_odd.state_dict())
    assert not torch.allclose(free(x), wanted, atol=1e-3)


@pytest.mark.parametrize(
    ("side", "size", "pads"),
    [(14, None, (1, 1, 2, 2)), (14, 15, (2, 2, 2, 2))],
)
def test_the_padding_is_a_constant_of_the_exported_graph(
    side: int, size: int | None, pads: tuple[int, ...]
) -> None:
    conv = SameConv2d(3, 4, 5, 2, size=size)
    graph = trace(conv, [torch.zeros(1, 3, side, side)], ["x"], ["y"], opset=18).graph
    *before, last = (node for node in graph if node.op_type != "Constant")
    assert last.op_type == "Conv"
    total = np.array(last.attributes["pads"].as_ints())  # top, left, bottom, right
    for node in before:  # an uneven one may be a node of its own
        assert node.op_type == "Pad" and pads[0] != pads[2]
        amounts = node.inputs[1]
        assert amounts is not None and amounts.const_value is not None
        total += amounts.const_value.numpy()[[2, 3, 6, 7]]
    assert len(before) <= 1
    assert tuple(total) == pads
