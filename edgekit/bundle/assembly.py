"""Several bundles that work as one: a folder with ``assembly.json`` and a bundle a graph.

assembly.json   what the whole is, and the checksum of each part's manifest
detector/ ...   a part each: an ordinary bundle, which every verb of edgekit takes by itself
vocab.txt ...   what the parts share

Verified from the top: ``assembly.json`` has the sha256 of each shared file and of each part's
``manifest.json``, and that has those of the part's files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.bundle import schema
from edgekit.bundle.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    FileFacts,
    ModelFacts,
    WeightsFacts,
    is_safe_file_name,
)
from edgekit.bundle.reading import Bundle, open_bundle, open_plain, parse_labels, verify
from edgekit.bundle.schema import SchemaError
from edgekit.bundle.writing import ASSEMBLY, placing, recover
from edgekit.errors import BundleError, UnknownNameError

ASSEMBLY_VERSION = 1
VISION_LANGUAGE = "vision-language"
_MOST = 1 << 16  # of any size in the settings: far above what a model for the edge has
_MOST_ANCHORS = 1 << 24
_MOST_NUMBERS = 1 << 26
_TASKS = ("vqa", "caption", "match", "nlvr2")


@dataclass(frozen=True)
class VlmSettings:
    """What stands between the graphs of a vision-language model.

    Attributes:
        height: of the canvas that images are fitted into, in pixels; ``width`` likewise.
        mean: per RGB channel, on the scale 0..1; ``std`` likewise.
        anchors: side of a square anchor on each map, in pixels.
        candidates: anchors of each map that compete.
        proposals: boxes that go to the second stage.
        proposal_iou: overlap with a better one beyond which a proposal is dropped.
        pooled: cells a side that are read from each box.
        samples: points a side in each cell.
        regions: that the transformer sees; ``region_iou`` as ``proposal_iou``, for them.
        min_score: of the best class, for a region to be kept.
        lengths: text tokens of each fusion graph, the shortest first.
        caption: tokens of a caption, with the first and the last.
        tags: tokens of tags beside it.
        layers: of the transformer.
        heads: of its attention.
        head_size: numbers a head.
        tasks: that the graphs are for.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    anchors: tuple[int, ...]
    candidates: int
    proposals: int
    proposal_iou: float
    pooled: int
    samples: int
    regions: int
    region_iou: float
    min_score: float
    lengths: tuple[int, ...]
    caption: int
    tags: int
    layers: int
    heads: int
    head_size: int
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Agreement:
    """How the whole, run with one runtime, compared with its source.

    Attributes:
        reference: what it was compared with.
        images: tried.
        count: regions that the reference found in them, likely ones or not.
        regions: share of the reference's regions that it found at the same place, to a thousandth
            of the image's longer side.
        steady: share of them that no rounding error moves: they must be found.
        features: largest relative error of the features of the same region.
        captions: that were the same, token by token, of ``images``; None without that task.
        answers: first answers that were the same; None without that task.
    """

    reference: str
    images: int
    count: int
    regions: float
    steady: float
    features: float
    captions: int | None
    answers: int | None


@dataclass(frozen=True)
class Assembly:
    """All of ``assembly.json``."""

    kind: str
    model: ModelFacts
    weights: WeightsFacts
    target: str
    precision: str
    settings: VlmSettings
    agreement: Mapping[str, Agreement]
    parts: Mapping[str, FileFacts]
    files: Mapping[str, FileFacts]
    assembly_version: int = ASSEMBLY_VERSION


class Assembled:
    """An assembly that has been verified. Use as a context manager, or ``close`` it.

    Attributes:
        path: its folder.
        assembly: its ``assembly.json``.
        parts: a bundle each.
    """

    def __init__(self, path: Path, assembly: Assembly, parts: Mapping[str, Bundle]) -> None:
        self.path, self.assembly, self.parts = path, assembly, parts

    def file(self, name: str) -> Path:
        """Where the shared file ``name`` lies.

        Raises:
            UnknownNameError: it is not listed.
        """
        if name not in self.assembly.files:
            raise UnknownNameError("file of the bundle", name, self.assembly.files)
        return self.path / name

    def names(self, name: str) -> tuple[str, ...]:
        """Lines of the shared file ``name``; none if it is not there."""
        if name not in self.assembly.files:
            return ()
        return parse_labels(name, self.file(name).read_bytes())

    def close(self) -> None:
        """Close the parts."""
        for part in self.parts.values():
            part.close()

    def __enter__(self) -> Assembled:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_assembly(path: str | os.PathLike[str]) -> bool:
    """Whether a folder says that it is one; nothing is verified."""
    return (Path(path) / ASSEMBLY).is_file()


def open_assembly(path: str | os.PathLike[str]) -> Assembled:
    """Open and verify an assembly.

    Raises:
        BundleError: missing, damaged, hostile, or written by a newer edgekit.
    """
    where = Path(path)
    if not os.path.lexists(where):
        recover(where)
    if not is_assembly(where):
        raise BundleError(f"no bundle of several graphs at {str(where)!r}: it has no {ASSEMBLY}")
    with open_plain(where / ASSEMBLY) as stream:
        data = stream.read(MAX_MANIFEST_BYTES + 1)
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{ASSEMBLY} is larger than {MAX_MANIFEST_BYTES} bytes")
    assembly = assembly_from_json(data)
    for name, facts in sorted(assembly.files.items()):
        _check_file(where, name, facts)
    parts: dict[str, Bundle] = {}
    try:
        for name, facts in assembly.parts.items():
            if (where / name).is_symlink():
                raise BundleError(f"{name} is a link: a bundle holds its own parts")
            _check_file(where, f"{name}/{MANIFEST}", facts)
            parts[name] = _open_part(where, name)
    except BaseException:
        for part in parts.values():
            part.close()
        raise
    return Assembled(where, assembly, parts)


def _open_part(where: Path, name: str) -> Bundle:
    try:
        return open_bundle(where / name)
    except BundleError as error:
        raise BundleError(f"{name}: {error}") from None


def _check_file(where: Path, name: str, facts: FileFacts) -> None:
    """``name`` may lead into a part."""
    again = "copy or export the bundle again"
    if not os.path.lexists(where / name):
        raise BundleError(f"{name} is listed in {ASSEMBLY} but is not there: {again}")
    with open_plain(where / name) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size != facts.bytes:
            raise BundleError(f"{name} has {size} bytes, {ASSEMBLY} says {facts.bytes}: {again}")
        verify(name, stream, facts.sha256)


@contextmanager
def assembling(destination: str | os.PathLike[str], *, force: bool) -> Iterator[Path]:
    """A folder beside ``destination`` that takes its place at the end, and is gone after an error.

    Into it go the parts, by `edgekit.bundle.write_bundle`; last of all call `finish_assembly`.

    Raises:
        OutputExistsError, BundleError: as `write_bundle`.
    """
    with placing(destination, force=force) as folder:
        yield folder


def finish_assembly(folder: Path, assembly: Assembly, files: Mapping[str, bytes]) -> None:
    """Write the shared ``files`` and ``assembly.json`` beside the parts that are in ``folder``."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    parts = {
        each.name: _facts((each / MANIFEST).read_bytes())
        for each in sorted(folder.iterdir())
        if each.is_dir()
    }
    named = {name: _facts(data) for name, data in sorted(files.items())}
    text = assembly_to_json(replace(assembly, parts=parts, files=named))
    (folder / ASSEMBLY).write_text(text, encoding="utf-8")


def _facts(data: bytes) -> FileFacts:
    return FileFacts(hashlib.sha256(data).hexdigest(), len(data))


# ---- JSON ----------------------------------------------------------------------------------


def assembly_to_json(assembly: Assembly) -> str:
    """Canonical JSON: the same assembly is always the same bytes.

    Raises:
        BundleError: it breaks its own schema.
    """
    try:
        checked = schema.decode(Assembly, schema.encode(assembly))
        _check(checked)
    except SchemaError as error:
        raise BundleError(f"cannot write {ASSEMBLY}: {error}") from None
    return schema.dumps(schema.encode(checked))


def assembly_from_json(data: bytes) -> Assembly:
    """Parse and validate.

    Raises:
        BundleError: not JSON, of a newer version, or with the JSON path of what is wrong.
    """
    try:
        document = schema.loads(data.decode("utf-8"))
        version = document.get("assembly_version") if isinstance(document, dict) else None
        if version != ASSEMBLY_VERSION:
            raise SchemaError(
                "assembly_version",
                f"{version!r} is not {ASSEMBLY_VERSION}, which this edgekit reads: "
                "pip install -U edgekit",
            )
        assembly = schema.decode(Assembly, document)
        _check(assembly)
    except UnicodeDecodeError as error:
        raise BundleError(f"{ASSEMBLY} is not UTF-8: {error}") from None
    except SchemaError as error:
        raise BundleError(f"{ASSEMBLY}: {error}") from None
    return assembly


Problems = Iterator[tuple[str, str]]


def _check(assembly: Assembly) -> None:
    for rule in _RULES:
        for path, problem in rule(assembly):
            raise SchemaError(path, problem)


def _names(assembly: Assembly) -> Problems:
    seen = {ASSEMBLY}
    for group in ("parts", "files"):
        for name in getattr(assembly, group):
            if not is_safe_file_name(name) or name.lower() in seen:
                yield f'{group}["{name}"]', "not a plain name of its own"
            seen.add(name.lower())
    if assembly.kind != VISION_LANGUAGE:
        yield "kind", f"{assembly.kind!r} is none that this edgekit knows: {VISION_LANGUAGE}"


def _cached(settings: VlmSettings) -> int:
    """Places whose keys and values a caption's step has."""
    return settings.caption + settings.tags + settings.regions


def _sizes(assembly: Assembly) -> Problems:
    settings = assembly.settings
    for name in _COUNTS:
        value = getattr(settings, name)
        if not 1 <= value <= _MOST:
            yield f"settings.{name}", f"expected 1 to {_MOST}, got {value}"
    for name in ("caption", "tags"):
        if not 2 <= getattr(settings, name) <= _MOST:
            yield f"settings.{name}", f"expected 2 to {_MOST}, got {getattr(settings, name)}"
    for what, numbers in (
        ("proposals", settings.proposals * settings.pooled**2 * settings.samples**2),
        ("layers", settings.layers * settings.heads * settings.head_size * _cached(settings)),
    ):
        if numbers > _MOST_NUMBERS:
            yield f"settings.{what}", f"{numbers} numbers are kept for it: no model for the edge"
    unknown = sorted({*settings.tasks} - {*_TASKS})
    if unknown:
        yield "settings.tasks", f"{unknown[0]!r} is none of {', '.join(_TASKS)}"
    if settings.height * settings.width > _MOST_ANCHORS:
        yield "settings.height", f"{settings.height} x {settings.width} is no canvas for the edge"
    for name in ("proposal_iou", "region_iou", "min_score"):
        if not 0 <= getattr(settings, name) <= 1:
            yield f"settings.{name}", f"expected 0 to 1, got {getattr(settings, name)}"
    if len(settings.anchors) != 5 or not all(1 <= side <= _MOST for side in settings.anchors):
        yield "settings.anchors", f"expected five sides of anchors, got {settings.anchors}"
    rising = settings.lengths and list(settings.lengths) == sorted(set(settings.lengths))
    if not rising or not all(3 <= length <= _MOST for length in settings.lengths):
        yield "settings.lengths", f"expected rising lengths, got {settings.lengths}"
    if min(settings.std) <= 0:
        yield "settings.std", f"expected numbers above 0, got {settings.std}"


_COUNTS = (
    "height", "width", "candidates", "proposals", "pooled", "samples", "regions", "layers", "heads",
    "head_size",
)  # fmt: skip
_RULES: tuple[Callable[[Assembly], Problems], ...] = (_names, _sizes)
