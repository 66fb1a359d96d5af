"""The blocks of TEE against loops, written from its description, in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from edgekit.models.minivlm.specs import TeeSpec
from edgekit.models.minivlm.tee import BoxHead, Cell

WIDTH, WIDTHS = 3, (2, 4, 5, 6)
SIZES = ((13, 10), (7, 5), (4, 3), (2, 2), (1, 1))  # of P2 to P6: odd ones, too
Map = NDArray[np.float64]
State = dict[str, Map]


def draw(module: nn.Module, least_share: float = 0.1) -> State:
    """Nothing in it is 0 or 1; the shares of what is fused are at least so much, up to 1.5."""
    module.double().eval()
    random = np.random.default_rng(4)
    with torch.no_grad():
        for name, each in module.state_dict().items():
            low = {"weights": least_share, "running_var": 0.5}.get(name.rpartition(".")[2], -1.0)
            each.copy_(torch.from_numpy(random.uniform(low, 1.5, each.shape)))
    return {name: each.numpy() for name, each in module.state_dict().items()}


def maps(widths: tuple[int, ...]) -> list[Map]:
    random = np.random.default_rng(5)
    return [
        random.normal(size=(1, width, *size)) for width, size in zip(widths, SIZES, strict=False)
    ]


# ---- a cell of the BiFPN -----------------------------------------------------------------------


def norm(state: State, name: str, x: Map) -> Map:
    scale = state[f"{name}.weight"] / np.sqrt(state[f"{name}.running_var"] + 1e-3)
    shift = state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale
    return x * scale[:, None, None] + shift[:, None, None]


def pointwise(state: State, name: str, x: Map) -> Map:
    mixed = np.einsum("oc,nchw->nohw", state[f"{name}.weight"][:, :, 0, 0], x)
    return mixed + state[f"{name}.bias"][:, None, None]


def depthwise(weight: Map, x: Map) -> Map:
    rows, columns = x.shape[2:]
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros_like(x)
    for row, column in np.ndindex(3, 3):
        part = wide[:, :, row : row + rows, column : column + columns]
        out += weight[:, 0, row, column, None, None] * part
    return out


def project(state: State, name: str, x: Map) -> Map:
    return norm(state, f"{name}.1", pointwise(state, f"{name}.0", x))


def fuse(state: State, name: str, *parts: Map) -> Map:
    shares = [max(float(share), 0.0) for share in state[f"{name}.weights"]]
    total = np.sum([share * part for share, part in zip(shares, parts, strict=True)], 0)
    mean = total / (sum(shares) + 1e-4)
    across = depthwise(state[f"{name}.depthwise.weight"], mean / (1 + np.exp(-mean)))  # swish
    return norm(state, f"{name}.norm", pointwise(state, f"{name}.pointwise", across))


def up(small: Map, like: Map) -> Map:
    """Each pixel again, to the size of ``like``."""
    (rows, columns), (from_rows, from_columns) = like.shape[2:], small.shape[2:]
    row = [n * from_rows // rows for n in range(rows)]
    column = [n * from_columns // columns for n in range(columns)]
    return small[:, :, row][:, :, :, column]


def pool(large: Map) -> Map:
    """The highest of 3 x 3 around every other pixel."""
    rows, columns = (-(-side // 2) for side in large.shape[2:])
    out = np.zeros((*large.shape[:2], rows, columns))
    for row, column in np.ndindex(rows, columns):
        top, left = max(2 * row - 1, 0), max(2 * column - 1, 0)
        out[:, :, row, column] = large[:, :, top : 2 * row + 2, left : 2 * column + 2].max((2, 3))
    return out


def cell(state: State, entering: list[Map], *, first: bool) -> list[Map]:
    """O2 to O6, wire by wire."""
    if first:
        l2, l3, l4, l5 = (project(state, f"project.{n}", x) for n, x in enumerate(entering))
        l6 = pool(l5)
        again3, again4 = (project(state, f"project_again.{n}", entering[n + 1]) for n in (0, 1))
    else:
        l2, l3, l4, l5, l6 = entering
        again3, again4 = l3, l4
    t5 = fuse(state, "down.3", l5, up(l6, l5))
    t4 = fuse(state, "down.2", l4, up(t5, l4))
    t3 = fuse(state, "down.1", l3, up(t4, l3))
    o2 = fuse(state, "down.0", l2, up(t3, l2))
    o3 = fuse(state, "up.0", again3, t3, pool(o2))
    o4 = fuse(state, "up.1", again4, t4, pool(o3))
    o5 = fuse(state, "up.2", l5, t5, pool(o4))
    return [o2, o3, o4, o5, fuse(state, "up.3", l6, pool(o5))]


@pytest.mark.parametrize("first", [True, False], ids=["of the trunk", "of a cell"])
@pytest.mark.parametrize("least_share", [0.1, -1.0])
def test_a_cell_is_its_drawing(first: bool, least_share: float) -> None:
    """With shares that are below 0, too, which count as 0."""
    module = Cell(WIDTH, WIDTHS if first else ())
    state = draw(module, least_share)
    shares = np.concatenate([each for name, each in state.items() if name.endswith("weights")])
    assert (shares < 0).any() == (least_share < 0)
    entering = maps(WIDTHS if first else (WIDTH,) * 5)
    with torch.no_grad():
        found = module([torch.from_numpy(x) for x in entering])
    for level, (one, wanted) in enumerate(
        zip(found, cell(state, entering, first=first), strict=True), 2
    ):
        assert one.shape[2:] == SIZES[level - 2] and np.abs(wanted).max() > 0.1
        error = np.abs(one.numpy() - wanted).max() / np.abs(wanted).max()
        assert error < 1e-9, f"O{level}"


# ---- the second stage --------------------------------------------------------------------------


def test_a_box_is_the_second_four_numbers_of_its_layer() -> None:
    """The first four are of the background."""
    spec = TeeSpec("tiny", WIDTH, 1, feature=7, classes=5, pooled=2)
    module = BoxHead(spec)
    state = draw(module)
    pooled = np.random.default_rng(6).normal(size=(4, WIDTH, 2, 2))
    with torch.no_grad():
        feature, score, box = (each.numpy() for each in module(torch.from_numpy(pooled)))

    def layer(name: str, x: Map) -> Map:
        return np.asarray(x @ state[f"{name}.weight"].T + state[f"{name}.bias"])

    y = np.maximum(layer("fc6", pooled.reshape(4, -1)), 0)
    y = np.maximum(layer("fc7", y), 0)
    assert (y == 0).any() and (y > 0).any()
    for one, wanted in ((feature, y), (score, layer("score", y)), (box, layer("box", y)[:, 4:])):
        assert one.shape == wanted.shape
        assert np.abs(one - wanted).max() < 1e-9 * np.abs(wanted).max()
