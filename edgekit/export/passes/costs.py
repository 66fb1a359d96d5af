"""What permutations and convolutions cost, per runtime and machine.

    gather       g0 + g1 * elements
    slices       s0 + s1 * runs + s2 * elements + s3 * runs * pixels       (Slices and a Concat)
    concat       j0 + j1 * parts * pixels + j2 * elements
    convolution  c0 + pixels * groups * (c1 + c2 * inputs * round_up(outputs, tile))
    depthwise    d0 + pixels * (d1 + d2 * kernel * round_up(channels, tile))

in microseconds. ``inputs`` and ``outputs`` are per group, ``inputs`` counts kernel positions,
``pixels`` are of the output. The rows are printed by ``benchmarks/fit_choices.py``; an export
never times anything. They only choose between exact forms of one graph, so a row that does not
fit a machine costs time there and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """One row; see the formulas above.

    Attributes:
        gather: (g0, g1).
        slices: (s0, s1, s2, s3).
        concat: (j0, j1, j2).
        convolution: (c0, c1, c2).
        tile: channels that a kernel computes at once.
        depthwise: (d0, d1, d2).
        fitted: packages and machine it was fitted on.
    """

    gather: tuple[float, float]
    slices: tuple[float, float, float, float]
    concat: tuple[float, float, float]
    convolution: tuple[float, float, float]
    tile: int
    depthwise: tuple[float, float, float]
    fitted: str

    def gather_us(self, elements: int) -> float:
        return self.gather[0] + self.gather[1] * elements

    def slices_us(self, elements: int, pixels: int, runs: int) -> float:
        s0, s1, s2, s3 = self.slices
        return s0 + s1 * runs + s2 * elements + s3 * runs * pixels

    def prefers_slices(self, elements: int, pixels: int, runs: int) -> bool:
        """Whether a permutation of so many contiguous runs is Slices and a Concat."""
        return self.slices_us(elements, pixels, runs) < self.gather_us(elements)

    def permutation_us(self, elements: int, pixels: int, runs: int) -> float:
        """A permutation in its cheaper form."""
        return min(self.gather_us(elements), self.slices_us(elements, pixels, runs))

    def concat_us(self, elements: int, pixels: int, parts: int) -> float:
        j0, j1, j2 = self.concat
        return j0 + j1 * parts * pixels + j2 * elements

    def convolution_us(self, pixels: int, groups: int, inputs: int, outputs: int) -> float:
        c0, c1, c2 = self.convolution
        return c0 + pixels * groups * (c1 + c2 * inputs * self._padded(outputs))

    def depthwise_us(self, pixels: int, channels: int, kernel: int) -> float:
        d0, d1, d2 = self.depthwise
        return d0 + pixels * (d1 + d2 * kernel * self._padded(channels))

    def _padded(self, channels: int) -> int:
        return -(-channels // self.tile) * self.tile


COSTS: dict[str, Costs] = {
    "onnxruntime-x86": Costs(
        gather=(0.926, 0.000138),
        slices=(0.196, 0.363, 0.000186, 0.0),
        concat=(1.32, 0.0, 0.000243),
        convolution=(2.37, 0.000221, 8.29e-06),
        tile=16,
        depthwise=(0.833, 0.000641, 3.45e-05),
        fitted="onnxruntime 1.32.0 on AMD EPYC",
    ),
    "openvino-x86": Costs(
        gather=(2.68, 0.000254),
        slices=(0.0, 0.108, 8.84e-05, 0.00258),
        concat=(0.32, 0.00224, 0.000119),
        convolution=(6.82, 0.000969, 7.88e-06),
        tile=16,
        depthwise=(1.95, 0.0, 4.83e-05),
        fitted="openvino 2026.4.1 on AMD EPYC",
    ),
    "litert-x86": Costs(
        gather=(0.0, 0.000195),
        slices=(0.0, 0.00952, 7.41e-05, 0.00345),
        concat=(0.0724, 0.00258, 0.000111),
        convolution=(0.416, 0.00162, 7.48e-06),
        tile=16,
        depthwise=(0.0, 0.00112, 3.74e-05),
        fitted="ai-edge-litert 2.3.0 on AMD EPYC",
    ),
}
