"""What permutations and convolutions cost, per runtime and machine.

    gather       g0 + g1 * elements
    slices       s0 + s1 * runs + s2 * elements + s3 * runs * pixels
    convolution  c0 + pixels * groups * (c1 + c2 * inputs * round_up(outputs, tile))

in microseconds; inputs and outputs are per group, ``inputs`` counts kernel positions. The rows of
``COSTS`` are written by ``benchmarks/fit_choices.py`` from measurements; an export never times
anything. They only choose between exact forms of one graph, so a row that does not fit a machine
costs time there and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """One row; see the formulas above.

    Attributes:
        gather: (g0, g1).
        slices: (s0, s1, s2, s3).
        convolution: (c0, c1, c2).
        tile: outputs that a convolution kernel computes at once.
        fitted: the machine and versions it was fitted on.
    """

    gather: tuple[float, float]
    slices: tuple[float, float, float, float]
    convolution: tuple[float, float, float]
    tile: int
    fitted: str

    def gather_us(self, elements: int) -> float:
        return self.gather[0] + self.gather[1] * elements

    def slices_us(self, elements: int, pixels: int, runs: int) -> float:
        s0, s1, s2, s3 = self.slices
        return s0 + s1 * runs + s2 * elements + s3 * runs * pixels

    def convolution_us(self, pixels: int, groups: int, inputs: int, outputs: int) -> float:
        c0, c1, c2 = self.convolution
        padded = -(-outputs // self.tile) * self.tile
        return c0 + pixels * groups * (c1 + c2 * inputs * padded)


COSTS: dict[str, Costs] = {
    "onnxruntime-x86": Costs((3.0, 1.5e-4), (6.0, 1.0, 2e-4, 0.0), (3.0, 1e-3, 2e-5), 16, ""),
    "openvino-x86": Costs((3.0, 1.5e-4), (6.0, 1.0, 2e-4, 0.0), (3.0, 1e-3, 2e-5), 16, ""),
    "litert-x86": Costs((2.0, 3.2e-4), (1.5, 0.3, 2.0e-4, 2e-3), (0.5, 2e-3, 2e-5), 16, ""),
}
