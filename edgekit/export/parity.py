"""Does an artifact compute what its source computes?

The figure is ``max|a - b| / max|b|`` per output, the worst of all inputs: relative, because an
absolute bound passes anything on a network whose outputs are small, and per output, because a
large output must not hide a wrong small one. There is no default tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.bundle import Parity, TensorSpec, relative_error
from edgekit.errors import GraphError, ParityError

Tensors = dict[str, NDArray[np.generic]]
Function = Callable[[Mapping[str, NDArray[np.generic]]], Mapping[str, NDArray[np.generic]]]

SAMPLES = 5

# Indices must stay inside the smallest table they may look up; ids are drawn below this.
_INTEGER_BOUND = 2
# No index is uint8 in ONNX: these are pixels.
_UINT8_BOUND = 256


@dataclass(frozen=True)
class Reference:
    """Inputs, and what the source computes for them."""

    name: str
    inputs: tuple[Tensors, ...]
    outputs: tuple[Tensors, ...]


def make_reference(
    name: str,
    function: Function,
    inputs: Sequence[TensorSpec],
    batches: Sequence[int] = (1,) * SAMPLES,
) -> Reference:
    """Run the source on seeded inputs; the first is the golden one.

    Args:
        name: of the source, for the record.
        function: the source.
        inputs: of one image, where ``batches`` are other than 1.
        batches: how many images each input has.

    Raises:
        GraphError: an output is NaN or infinite, or zero everywhere: nothing could be proven.
    """
    draws = [sample_inputs(inputs, seed) for seed in range(max(SAMPLES, *batches))]
    return reference_of(
        name, function, [_joined(draws, first, batch) for first, batch in enumerate(batches)]
    )


def reference_of(
    name: str, function: Function, samples: Sequence[Mapping[str, NDArray[np.generic]]]
) -> Reference:
    """Run the source on given inputs; the first is the golden one.

    Raises:
        GraphError: as `make_reference`.
    """
    outputs = tuple(dict(function(sample)) for sample in samples)
    for output in outputs[0]:
        _check_telling(output, [produced[output] for produced in outputs])
    return Reference(name, tuple(map(dict, samples)), outputs)


def _joined(draws: Sequence[Tensors], first: int, batch: int) -> Tensors:
    """``batch`` of the draws as one input, no two the same, from number ``first`` on."""
    chosen = [draws[(first + i) % len(draws)] for i in range(batch)]
    if batch == 1:
        return chosen[0]
    return {name: np.concatenate([draw[name] for draw in chosen]) for name in chosen[0]}


def sample_inputs(specs: Sequence[TensorSpec], seed: int) -> Tensors:
    """One seeded input per spec: noise on a smooth ramp for floats, small ids for integers.

    Noise alone has no low frequencies, and a pooled feature map would see its mean only.
    """
    rng = np.random.default_rng(seed)
    return {spec.name: _sample(spec, rng) for spec in specs}


def _sample(spec: TensorSpec, rng: np.random.Generator) -> NDArray[np.generic]:
    dtype = np.dtype(spec.dtype)
    if dtype == np.bool_ or np.issubdtype(dtype, np.integer):
        bound = _UINT8_BOUND if dtype == np.uint8 else _INTEGER_BOUND
        return np.asarray(rng.integers(0, bound, spec.shape)).astype(dtype)
    ramp = np.zeros(spec.shape)
    for axis, size in enumerate(spec.shape):
        slope = rng.uniform(-1.5, 1.5)
        steps = np.linspace(-slope, slope, size) if size > 1 else np.full(1, slope / 2)
        ramp += steps.reshape([-1 if i == axis else 1 for i in range(len(spec.shape))])
    return np.asarray(ramp + rng.normal(0.0, 0.7, spec.shape)).astype(dtype)


def _check_telling(output: str, values: Sequence[NDArray[np.generic]]) -> None:
    if not np.issubdtype(values[0].dtype, np.floating):
        return
    if not all(np.isfinite(value).all() for value in values):
        raise GraphError(f"output {output!r} of the source model has NaN or infinite values")
    if not any(np.any(value) for value in values):
        raise GraphError(
            f"output {output!r} of the source model is zero for every input tried, "
            "so no artifact can be proven equal to it"
        )


def measure(function: Function, reference: Reference, *, tolerance: float) -> Parity:
    """Run an artifact on the reference's inputs and take the worst error of each output."""
    worst = dict.fromkeys(reference.outputs[0], 0.0)
    for inputs, wanted in zip(reference.inputs, reference.outputs, strict=True):
        got = function(inputs)
        for name, value in wanted.items():
            error = relative_error(np.asarray(got[name]), value) if name in got else math.inf
            worst[name] = max(worst[name], error)
    return Parity(reference.name, len(reference.inputs), tolerance, worst)


def check(artifact: str, parity: Parity) -> Parity:
    """Return ``parity`` if every output is within its tolerance.

    Raises:
        ParityError: names the artifact, the output and both figures.
    """
    for output, error in parity.max_relative_error.items():
        if not error <= parity.tolerance:
            raise ParityError(
                f"{artifact} is not the same function: output {output!r} differs from "
                f"{parity.reference} by {error:.3g} relative, and {parity.tolerance:g} is allowed; "
                "no bundle was written"
            )
    return parity
