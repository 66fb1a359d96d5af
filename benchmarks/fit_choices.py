"""Where the rows of ``edgekit.export.passes.costs.py`` come from: measured single operators.

    taskset -c 1 python benchmarks/fit_choices.py litert

prints a row of ``COSTS`` for this machine and how far the formulas are from what was measured.
Permutations are timed between depthwise convolutions, so that they meet the memory layout they
meet in a network; each figure is the p10 of interleaved rounds.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit.export.passes.costs import Costs
from edgekit.export.passes.notation import parse

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.engines import RUNTIMES, open_engine, time_calls

_PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert"}
_REPEATED = 4  # permutations in a row, each followed by a depthwise convolution

# Channels and edge length of maps in nets of this kind.
_MAPS = ((6, 112), (12, 56), (24, 56), (16, 28), (32, 28), (64, 28), (64, 14), (96, 14),
         (192, 14), (384, 14), (192, 7), (384, 7), (720, 7))  # fmt: skip
_RUNS = (2, 3, 4, 6, 8)

# Inputs, outputs, largest number of groups, edge length, kernel.
_CONVOLUTIONS = (
    (24, 8, 2, 56, (1, 1)), (32, 16, 4, 28, (1, 1)), (64, 16, 4, 14, (1, 1)),
    (96, 32, 4, 14, (1, 1)), (192, 32, 4, 14, (1, 1)), (192, 64, 8, 14, (1, 1)),
    (192, 64, 8, 7, (1, 1)), (384, 96, 8, 7, (1, 1)), (480, 120, 10, 7, (1, 1)),
    (720, 120, 10, 7, (1, 1)), (16, 96, 4, 14, (1, 1)), (32, 192, 8, 14, (1, 1)),
    (64, 384, 8, 14, (1, 1)), (80, 480, 10, 14, (1, 1)), (64, 384, 8, 7, (1, 1)),
    (96, 576, 12, 7, (1, 1)), (120, 720, 12, 7, (1, 1)), (6, 12, 1, 84, (3, 1)),
    (8, 16, 8, 40, (3, 1)), (12, 24, 12, 56, (3, 1)), (16, 32, 16, 28, (3, 1)),
    (16, 32, 16, 20, (5, 1)), (32, 64, 32, 14, (5, 1)), (24, 48, 24, 28, (3, 1)),
)  # fmt: skip

# Channels, edge length, kernel.
_DEPTHWISE = ((6, 112, (3, 1)), (12, 112, (3, 1)), (24, 112, (3, 1)), (48, 112, (3, 1)),
              (6, 80, (3, 1)), (12, 80, (3, 1)), (24, 80, (3, 1)), (12, 56, (1, 3)),
              (24, 56, (1, 3)), (16, 28, (1, 3)), (32, 28, (1, 3)), (64, 28, (1, 3)),
              (32, 14, (1, 5)), (64, 14, (1, 5)), (96, 14, (5, 1)), (192, 14, (5, 1)),
              (384, 7, (3, 1)), (720, 7, (5, 1)))  # fmt: skip


def main() -> None:
    """Measure, fit and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runtimes", nargs="*", default=list(RUNTIMES))
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    for runtime in arguments.runtimes:
        print(f'    "{runtime}-{_machine()}": {_fit(runtime, arguments.rounds)},', flush=True)


def _machine() -> str:
    return {"x86_64": "x86", "aarch64": "arm"}.get(platform.machine(), platform.machine())


def _fit(runtime: str, rounds: int) -> Costs:
    gather, slices, concat = _fit_permutations(runtime, rounds)
    convolution, tile = _fit_convolutions(runtime, rounds)
    depthwise = _fit_depthwise(runtime, rounds, tile)
    what = f"{_PACKAGES[runtime]} {version(_PACKAGES[runtime])} on {_cpu()}"
    return Costs(gather, slices, concat, convolution, tile, depthwise, what)  # type: ignore[arg-type]


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def _p10(runtime: str, graphs: Sequence[str], rounds: int) -> NDArray[np.float64]:
    calls = [open_engine(runtime, parse(graph)) for graph in graphs]
    return np.percentile(time_calls(calls, rounds=rounds, block_s=2e-3), 10, axis=1)


# ---------------------------------------------------------------------------
# Permutations
# ---------------------------------------------------------------------------


def _fit_permutations(runtime: str, rounds: int) -> tuple[tuple[float, ...], ...]:
    """(gather, slices, concat)"""
    gather, slices, concat = [], [], []
    for channels, edge in _MAPS:
        counts = [count for count in _RUNS if channels >= 2 * count]
        forms = ["", "gather", "concat", *(f"slices {count}" for count in counts)]
        times = _p10(runtime, [_chain(channels, edge, form) for form in forms], rounds)
        plain, gathered, joined, *sliced = times
        pixels, elements = edge**2, channels * edge**2
        gather.append(((1.0, elements), (gathered - plain) / _REPEATED))
        concat.append(((1.0, 2 * pixels, elements), (joined - plain) / _REPEATED))
        for count, us in zip(counts, sliced, strict=True):
            row = (1.0, count, elements, count * pixels)
            slices.append((row, (us - plain) / _REPEATED))
    return tuple(
        _solve(f"{runtime} {name}", rows)
        for name, rows in (("gather", gather), ("slices", slices), ("concat", concat))
    )


def _chain(channels: int, edge: int, form: str) -> str:
    """Depthwise convolutions with ``form`` before each."""
    lines, value = [f"x: float[1, {channels}, {edge}, {edge}]"], "x"
    for step in range(_REPEATED):
        written, read = _permuted(value, channels, step, form)
        lines += written
        lines.append(
            f"d{step} = Conv({read}, k{step}[{channels}, 1, 3, 3], b{step}[{channels}], "
            f"group={channels}, pads=[1, 1, 1, 1])"
        )
        value = f"d{step}"
    return "\n".join([*lines, f"return {value}"])


def _permuted(value: str, channels: int, step: int, form: str) -> tuple[list[str], str]:
    name = f"p{step}"
    if form == "":
        return [], value
    if form == "gather":
        index = np.random.default_rng(channels + step).permutation(channels).tolist()
        return [f"{name} = Gather({value}, {index}, axis=1)"], name
    if form == "concat":
        half = channels // 2
        split = f"u{step}, v{step} = Split({value}, [{half}, {channels - half}], axis=1)"
        lines = [f"r{step} = Relu(u{step})", f"s{step} = Relu(v{step})"]
        return [split, *lines, f"{name} = Concat(r{step}, s{step}, axis=1)"], name
    count = int(form.split()[1])
    cuts = [round(channels * i / count) for i in range(count + 1)]
    parts = [f"{name}_{i}" for i in reversed(range(count))]
    lines = [
        f"{name}_{i} = Slice({value}, [{cuts[i]}], [{cuts[i + 1]}], [1], [1])"
        for i in reversed(range(count))
    ]
    return [*lines, f"{name} = Concat({', '.join(parts)}, axis=1)"], name


# ---------------------------------------------------------------------------
# Convolutions
# ---------------------------------------------------------------------------


def _fit_convolutions(runtime: str, rounds: int) -> tuple[tuple[float, ...], int]:
    """The formula's constants and the tile with which it fits best.

    The last column, elements read and written, stands for the engine's own reordering of inputs
    and outputs, which a convolution inside a network does not pay; its constant is dropped.
    """
    measured = []
    for inputs, outputs, most, edge, kernel in _CONVOLUTIONS:
        counts = [groups for groups in range(most, 0, -1) if most % groups == 0]
        graphs = [_convolution(inputs, outputs, groups, edge, kernel) for groups in counts]
        for groups, us in zip(counts, _p10(runtime, graphs, rounds), strict=True):
            measured.append((inputs, outputs, groups, edge**2, kernel[0] * kernel[1], us))
    fits = {}
    for tile in (4, 8, 16, 32):
        rows = [(_convolution_row(*row[:-1], tile), row[-1]) for row in measured]
        fits[tile] = (_error(rows), rows)
    tile = min(fits, key=lambda tile: fits[tile][0])
    return _solve(f"{runtime} convolution, tile {tile}", fits[tile][1])[:3], tile


def _convolution_row(
    inputs: int, outputs: int, groups: int, pixels: int, kernel: int, tile: int
) -> tuple[float, ...]:
    padded = -(-outputs // groups // tile) * tile
    per_group = inputs // groups * kernel * padded
    return 1.0, pixels * groups, pixels * groups * per_group, (inputs + outputs) * pixels


def _convolution(inputs: int, outputs: int, groups: int, edge: int, kernel: tuple[int, int]) -> str:
    height, width = kernel
    pads = [height // 2, width // 2] * 2
    return (
        f"x: float[1, {inputs}, {edge}, {edge}]\n"
        f"y = Conv(x, w[{outputs}, {inputs // groups}, {height}, {width}], b[{outputs}], "
        f"group={groups}, pads={pads})\nreturn y"
    )


def _fit_depthwise(runtime: str, rounds: int, tile: int) -> tuple[float, ...]:
    rows = []
    for channels, edge, kernel in _DEPTHWISE:
        (us,) = _p10(runtime, [_depthwise(channels, edge, kernel)], rounds)
        padded = -(-channels // tile) * tile
        positions = kernel[0] * kernel[1]
        rows.append(((1.0, edge**2, edge**2 * positions * padded), us / _REPEATED))
    return _solve(f"{runtime} depthwise", rows)


def _depthwise(channels: int, edge: int, kernel: tuple[int, int]) -> str:
    """Depthwise convolutions one after the other."""
    (height, width), value = kernel, "x"
    lines = [f"x: float[1, {channels}, {edge}, {edge}]"]
    for step in range(_REPEATED):
        lines.append(
            f"d{step} = Conv({value}, k{step}[{channels}, 1, {height}, {width}], "
            f"b{step}[{channels}], group={channels}, pads={[height // 2, width // 2] * 2})"
        )
        value = f"d{step}"
    return "\n".join([*lines, f"return {value}"])


# ---------------------------------------------------------------------------
# Fitting
# ---------------------------------------------------------------------------

Rows = Sequence[tuple[tuple[float, ...], float]]


def _fit_constants(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Constants >= 0 with the least absolute relative error, and the errors they leave.

    Few constants: every subset of them is solved, and the best one without a negative wins.
    """
    a = np.asarray([row for row, _ in rows])
    us = np.maximum([us for _, us in rows], 0.2)  # below that it is noise
    scaled = a / us[:, None]
    best, constants = np.inf, np.zeros(a.shape[1])
    for size in range(1, a.shape[1] + 1):
        for columns in itertools.combinations(range(a.shape[1]), size):
            found = _least_absolute(scaled[:, columns])
            error = float(np.abs(scaled[:, columns] @ found - 1).sum())
            if (found >= 0).all() and error < best:
                best, constants = error, np.zeros(a.shape[1])
                constants[list(columns)] = found
    return constants, scaled @ constants - 1


def _least_absolute(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
    """x with ``scaled @ x`` near 1; least absolute error, so that one odd figure does not rule."""
    weight = np.ones(len(scaled))
    for _ in range(20):
        found, *_ = np.linalg.lstsq(scaled * weight[:, None], weight, rcond=None)
        weight = 1 / np.sqrt(np.maximum(np.abs(scaled @ found - 1), 0.02))
    return np.asarray(found, np.float64)


def _error(rows: Rows) -> float:
    return float(np.abs(_fit_constants(rows)[1]).mean())


def _solve(what: str, rows: Rows) -> tuple[float, ...]:
    constants, errors = _fit_constants(rows)
    median, worst = np.median(np.abs(errors)), np.abs(errors).max()
    print(f"# {what}: relative error {median:.0%} median, {worst:.0%} worst", flush=True)
    return tuple(float(f"{constant:.3g}") for constant in constants)


if __name__ == "__main__":
    main()
