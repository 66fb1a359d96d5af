"""What ``manifest.json`` says: the dataclasses are the schema, and this is their JSON.

Manifest
|-- model: ModelFacts          what it is, its counts, the published Figures
|-- weights: WeightsFacts      where they came from; random ones are called random
|-- inputs, outputs            TensorSpec each: the model's own interface, for every runtime
|-- preprocessing              from an image file to the input, or null
|-- passes, skipped            what was rewritten, what was left out, and why
|-- artifacts                  one a runtime, in the order ``load`` tries them
`-- files                      sha256 and bytes of every file beside the manifest
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from edgekit.bundle import schema
from edgekit.bundle.schema import SchemaError
from edgekit.errors import BundleError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
OWN = "own"  # the family of what is no network of the zoo
PART = "part"  # of a graph that is one of several, see assembly.py
MAX_MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of an input or output, as the model defines it.

    ``layout`` names the axes (``"NCHW"``, ``"NC"``), or is "" when unknown. A size of -1 is any.
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
    """What the model is. Counts are of the model as defined.

    Of a network of the zoo they are for one image, whatever the bundle's batch; of a model of
    the user's own (family ``"own"``) for the shapes that it was exported with.
    """

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
        macs: MACs of the rewritten graph in this file, for ``Manifest.batch`` of what is counted.
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

    @property
    def batch(self) -> int:
        """How many of what ``model`` counts an artifact's graph computes at once; any counts 1."""
        shape = self.inputs[0].shape
        return max(shape[0], 1) if shape and self.model.family not in (OWN, PART) else 1


# ---- JSON ----------------------------------------------------------------------------------

DTYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")

# The same name must mean the same file on every system: no folders, no dots in front, ASCII.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}[A-Za-z0-9_-]|[A-Za-z0-9]")
_DEVICE_NAME = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows
_SHA256 = re.compile(r"[0-9a-f]{64}")


def manifest_to_json(manifest: Manifest) -> str:
    """Canonical JSON of ``manifest``: the same manifest is always the same bytes.

    Raises:
        BundleError: the manifest breaks its own schema.
    """
    try:
        checked = schema.decode(Manifest, schema.encode(manifest))
        _check(checked)
    except SchemaError as error:
        raise BundleError(f"cannot write {MANIFEST}: {error}") from None
    return schema.dumps(schema.encode(checked))


def manifest_from_json(text: str) -> Manifest:
    """Parse and validate ``manifest.json``.

    Raises:
        BundleError: not JSON, of a newer schema, or with the JSON path of what is wrong.
    """
    try:
        document = schema.loads(text)
        _check_version(document)
        manifest = schema.decode(Manifest, document)
        _check(manifest)
    except SchemaError as error:
        raise BundleError(f"{MANIFEST}: {error}") from None
    return manifest


def is_safe_file_name(name: str) -> bool:
    """Whether ``name`` is one plain file in the bundle's folder, on any system."""
    return bool(_FILE_NAME.fullmatch(name)) and not _DEVICE_NAME.fullmatch(name)


def _check_version(document: object) -> None:
    """Refuse another schema by its number, before its unknown keys are complained about."""
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise SchemaError("schema_version", "missing or not a number: not an edgekit manifest")
    if version > SCHEMA_VERSION:
        raise SchemaError(
            "schema_version",
            f"{version} is newer than this edgekit reads ({SCHEMA_VERSION}): "
            f"upgrade to an edgekit that reads schema {version}: pip install -U edgekit",
        )


def _check(manifest: Manifest) -> None:
    for rule in _RULES:
        for path, problem in rule(manifest):
            raise SchemaError(path, problem)


Problems = Iterator[tuple[str, str]]


def _file_names(manifest: Manifest) -> Problems:
    seen = {MANIFEST: MANIFEST}
    for name in manifest.files:
        path = f'files["{name}"]'
        if not is_safe_file_name(name):
            yield path, "not a plain file name (letters, digits, '.', '_', '-'; no folders)"
        if name.lower() in seen:
            yield path, f"the same file as {seen[name.lower()]!r} where case does not count"
        seen[name.lower()] = name


def _file_facts(manifest: Manifest) -> Problems:
    for name, facts in manifest.files.items():
        if not _SHA256.fullmatch(facts.sha256):
            yield f'files["{name}"].sha256', "expected 64 lower-case hex digits"
        if facts.bytes < 0:
            yield f'files["{name}"].bytes', f"expected 0 or more, got {facts.bytes}"


def _files_listed(manifest: Manifest) -> Problems:
    named = [("golden", manifest.golden)]
    if manifest.labels is not None:
        named.append(("labels", manifest.labels))
    for index, artifact in enumerate(manifest.artifacts):
        if not artifact.files:
            yield f"artifacts[{index}].files", "expected at least one file"
        named += [(f"artifacts[{index}].files[{n}]", f) for n, f in enumerate(artifact.files)]
    for path, name in named:
        if name not in manifest.files:
            yield path, f"{name!r} is not one of files: {', '.join(sorted(manifest.files))}"


def _tensors(manifest: Manifest) -> Problems:
    for kind, specs in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        if not specs:
            yield kind, "expected at least one tensor"
        if len({spec.name for spec in specs}) != len(specs):
            yield kind, "two tensors have the same name"
        for index, spec in enumerate(specs):
            path = f"{kind}[{index}]"
            if spec.dtype not in DTYPES:
                yield f"{path}.dtype", f"{spec.dtype!r} is none of {', '.join(DTYPES)}"
            if any(size < 1 and size != -1 for size in spec.shape):
                yield f"{path}.shape", f"sizes are 1 or more, or -1 for any; got {spec.shape}"
            if spec.layout and len(spec.layout) != len(spec.shape):
                yield f"{path}.layout", f"{spec.layout!r} does not name {len(spec.shape)} axes"


def _preprocessing(manifest: Manifest) -> Problems:
    rule = manifest.preprocessing
    if rule is None:
        return
    if min(rule.crop) < 1 or max(rule.crop) > rule.resize:
        yield "preprocessing.crop", f"{rule.crop} does not fit in resize {rule.resize}"
    if rule.resize > 1 << 14:
        yield "preprocessing.resize", f"{rule.resize} pixels is more than {1 << 14}"
    if min(rule.std) <= 0:
        yield "preprocessing.std", f"expected numbers above 0, got {rule.std}"
    if rule.interpolation not in ("bilinear", "bicubic"):
        yield "preprocessing.interpolation", f"{rule.interpolation!r}: not bilinear or bicubic"


def _runtimes(manifest: Manifest) -> Problems:
    names = [artifact.runtime for artifact in manifest.artifacts]
    if not names:
        yield "artifacts", "expected at least one"
    if len(set(names)) != len(names):
        yield "artifacts", f"one a runtime, got {', '.join(names)}"


_RULES: tuple[Callable[[Manifest], Problems], ...] = (
    _file_names,
    _file_facts,
    _files_listed,
    _tensors,
    _preprocessing,
    _runtimes,
)
