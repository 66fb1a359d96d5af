"""The artifact edgekit makes: a folder, or one ``.edgekit`` zip of it.

    manifest.json   schema version, model, weights, target, interface, artifacts, checksums
    model.*         one or more files per runtime
    labels.txt      one class name a line
    golden.npz      one input and the source network's output for it
    README.md       model card
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of an input or output, as the model defines it.

    ``layout`` names the axes (``"NCHW"``, ``"NC"``), or is "" when unknown.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str = ""


@dataclass(frozen=True)
class Preprocessing:
    """From an image file to the input tensor: RGB, shorter side, centre crop, mean/std.

    Attributes:
        resize: length of the shorter side after resizing, in pixels.
        crop: (height, width) of the centre crop, in pixels.
        mean: per RGB channel, on the scale 0..1.
        std: per RGB channel, on the scale 0..1.
        interpolation: ``"bilinear"`` or ``"bicubic"``, as Pillow computes it.
    """

    resize: int
    crop: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"


@dataclass(frozen=True)
class Figure:
    """A published figure and where it was read, e.g. ("top-1", "51.4 %", "README of ...")."""

    metric: str
    value: str
    source: str


@dataclass(frozen=True)
class ModelFacts:
    """What the model is. Counts are of the model as defined, batch 1."""

    id: str
    family: str
    task: str
    params: int
    macs: int
    elementwise_multiplies: int
    published: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def madds(self) -> int:
        """MACs and element-wise multiplies of coefficients, as MicroNet's authors count."""
        return self.macs + self.elementwise_multiplies

    @property
    def flops(self) -> int:
        """Two per MAC, one per element-wise multiply."""
        return 2 * self.macs + self.elementwise_multiplies


@dataclass(frozen=True)
class WeightsFacts:
    """Where the weights came from. ``random`` weights are for latency work only."""

    source: str
    sha256: str
    random: bool
    licence: str = ""
    note: str = ""


@dataclass(frozen=True)
class Parity:
    """How far an artifact is from its source: max|a-b| / max|b|, worst of ``inputs`` inputs."""

    reference: str
    inputs: int
    tolerance: float
    max_relative_error: Mapping[str, float]


@dataclass(frozen=True)
class PassRecord:
    """One graph pass that ran: how many places it changed, and why it left others alone."""

    name: str
    modified: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Artifact:
    """What one runtime opens.

    Attributes:
        runtime: key of ``edgekit.runtimes.RUNTIMES``.
        files: names in the bundle, the one to open first.
        passes: the machine-dependent passes that shaped this file.
        parity: None only where this machine could not run it; ``checks`` then says so.
        checks: other checks and their outcome, e.g. a TensorRT parse and build.
        macs: MACs of the rewritten graph in this file.
    """

    runtime: str
    files: tuple[str, ...]
    passes: tuple[PassRecord, ...]
    parity: Parity | None
    macs: int
    checks: Mapping[str, str]


@dataclass(frozen=True)
class Skipped:
    """An artifact of the target that was left out, and why."""

    runtime: str
    reason: str


@dataclass(frozen=True)
class FileFacts:
    """Checksum and size of one file."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """All of ``manifest.json``. ``artifacts`` stand in the order ``load`` tries them."""

    model: ModelFacts
    weights: WeightsFacts
    target: str
    precision: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing | None
    labels: str | None
    golden: str
    passes: tuple[PassRecord, ...]
    artifacts: tuple[Artifact, ...]
    skipped: tuple[Skipped, ...]
    tools: Mapping[str, str]
    files: Mapping[str, FileFacts]
    schema_version: int = SCHEMA_VERSION
