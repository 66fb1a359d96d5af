"""From a bundle of several graphs to a model: one session a graph, and what they share."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bundle.assembly import Assembled, open_assembly
from edgekit.errors import BundleError, InputError, UsageError
from edgekit.runtimes.model import RANDOM_WEIGHTS, artifact_of, open_artifact
from edgekit.runtimes.session import Session
from edgekit.runtimes.vision_language.model import (
    BOX_HEAD,
    CAPTION,
    CONTEXT,
    DETECTOR,
    FUSED,
    JUDGE,
    NLVR2,
    STEP,
    VQA,
    Names,
    Seen,
    Tables,
    VisionLanguage,
    fusion_name,
)
from edgekit.runtimes.vision_language.regions import BOX_NUMBERS, POOLED, Floats, map_sizes
from edgekit.runtimes.vision_language.text import Vocabulary

VOCABULARY, ANSWERS, OBJECTS = "vocab.txt", "answers.txt", "objects.txt"
WORDS, POSITIONS, TYPES = (f"{name}-embeddings.npy" for name in ("word", "position", "type"))


class LoadedVlm(VisionLanguage):
    """A vision-language bundle. Use as a context manager, or ``close`` it.

    Attributes:
        bundle: what was opened.
        runtime: that every graph runs with.
        visual: numbers that describe a region: a feature, and six of its box.
        warnings: what must be said beside any result, e.g. that the weights are random.
    """

    def __init__(self, bundle: Assembled, runtime: str | None, threads: int) -> None:
        self.bundle = bundle
        self.runtime = artifact_of(bundle.parts[DETECTOR], runtime).runtime
        self.visual = _features(bundle) + BOX_NUMBERS
        self._sessions: dict[str, Session] = {}
        self._threads = threads
        super().__init__(
            {name: functools.partial(self._run, name) for name in bundle.parts},
            bundle.assembly.settings,
            _vocabulary(bundle),
            _tables(bundle),
            Names(bundle.names(ANSWERS), bundle.names(OBJECTS)),
        )
        _check_agree(self, bundle)
        weights = bundle.assembly.weights
        note = RANDOM_WEIGHTS if weights.random else weights.note
        self.warnings: tuple[str, ...] = (note,) if note else ()

    def session(self, name: str) -> Session:
        """The runtime's session of one graph, opened when it is first needed."""
        if name not in self._sessions:
            self._sessions[name] = open_artifact(
                self.bundle.parts[name], self.runtime, self._threads
            )
        return self._sessions[name]

    def told(self, regions: Floats, tags: Sequence[str] = ()) -> Seen:
        """What another extractor found, to be given in the place of an image.

        Args:
            regions: (R, F + 6), the surest first: a feature, and the corners and the size of its
                box as shares of the image's sides. Those that do not fit are left out.
            tags: names of what is there, the surest first.

        Returns:
            ``Seen``, with shares of the image's sides for boxes, and no scores (NaN).

        Raises:
            InputError: of another width, or not finite.
        """
        rows = np.asarray(regions, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.visual:
            raise InputError(f"regions of shape {rows.shape}: (R, {self.visual}) is what fits")
        if not np.isfinite(rows).all():
            raise InputError("the regions have NaN or Inf")
        rows = rows[: self.settings.regions]
        visual = np.zeros((self.settings.regions, self.visual), np.float32)
        visual[: len(rows)] = rows
        corners = rows[:, -BOX_NUMBERS : -BOX_NUMBERS + 4]
        unknown = np.full(len(rows), np.nan, np.float32)
        return Seen(corners, unknown, ("",) * len(rows), visual, tuple(tags))

    def _run(self, name: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        session = self.session(name)
        return session.run({spec.name: inputs[spec.name] for spec in session.inputs})

    def close(self) -> None:
        """Close the sessions and the bundle."""
        for session in self._sessions.values():
            session.close()
        self.bundle.close()

    def __enter__(self) -> LoadedVlm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LoadedVlm({self.bundle.assembly.model.id}, {self.runtime})"


def load_vlm(
    path: str | os.PathLike[str], runtime: str | None = None, threads: int = 1
) -> LoadedVlm:
    """Load a vision-language bundle.

    Args:
        path: its folder.
        runtime: key of ``RUNTIMES``; by default the first of the bundle that is installed.
        threads: how many threads each graph computes with.

    Raises:
        BundleError: missing, damaged, hostile, or refused by the runtime.
        UsageError: the bundle has no artifact for ``runtime``.
        MissingDependencyError: a package is not installed.
    """
    bundle = open_assembly(path)
    try:
        missing = [name for name in _needed(bundle) if name not in bundle.parts]
        if missing:
            raise BundleError(f"{bundle.path.name} lacks its part {missing[0]!r}")
        return LoadedVlm(bundle, runtime, threads)
    except BaseException:
        bundle.close()
        raise


def _needed(bundle: Assembled) -> list[str]:
    settings = bundle.assembly.settings
    fusion = [fusion_name(n) for n in settings.lengths] if FUSED & {*settings.tasks} else []
    judge = [JUDGE] if NLVR2 in settings.tasks else []
    caption = [CONTEXT, STEP] if CAPTION in settings.tasks else []
    return [DETECTOR, BOX_HEAD, *fusion, *judge, *caption]


def _vocabulary(bundle: Assembled) -> Vocabulary:
    if VOCABULARY not in bundle.assembly.files:
        raise BundleError(f"{bundle.path.name} lists no {VOCABULARY}: its texts cannot be read")
    try:
        return Vocabulary.read(bundle.file(VOCABULARY))
    except UsageError as error:
        raise BundleError(str(error)) from None


def _tables(bundle: Assembled) -> Tables:
    return Tables(*(_table(bundle, name) for name in (WORDS, POSITIONS, TYPES)))


def _table(bundle: Assembled, name: str) -> NDArray[np.float32]:
    """An embedding, read from the disk where it is looked up."""
    try:
        table = np.lib.format.open_memmap(bundle.file(name), mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise BundleError(f"{name} is no array of numbers: {error}") from None
    if table.dtype != np.float32 or table.ndim != 2:
        raise BundleError(f"{name} is {table.dtype} of {table.ndim} axes: float32 of two expected")
    return np.asanyarray(table, np.float32)


def _check_agree(model: VisionLanguage, bundle: Assembled) -> None:
    """Refuse parts that do not fit each other before an index leaves an array."""
    tables, settings = model._tables, model.settings
    rows, places, types = (len(each) for each in (tables.words, tables.positions, tables.types))
    if model.vocabulary.size != rows:
        raise BundleError(
            f"{VOCABULARY} has {model.vocabulary.size} tokens and {WORDS} {rows} rows"
        )
    longest = max(*settings.lengths, settings.caption + settings.tags)
    if places < longest:
        raise BundleError(f"{POSITIONS} has {places} rows, and texts have up to {longest} tokens")
    if types < 2:
        raise BundleError(f"{TYPES} has {types} rows, and texts have two types of tokens")
    if len({each.shape[1] for each in (tables.words, tables.positions, tables.types)}) != 1:
        raise BundleError("the embeddings have different widths")
    _check_names(model, bundle)
    wanted = _shapes(model, bundle)
    for part, tensors in wanted.items():
        if part not in bundle.parts:
            continue
        manifest = bundle.parts[part].manifest
        found = {spec.name: spec.shape for spec in (*manifest.inputs, *manifest.outputs)}
        for name, shape in tensors.items():
            if found.get(name) != shape:
                raise BundleError(
                    f"{part} has {name} {found.get(name, 'not at all')}, and the bundle's settings "
                    f"are for {shape}: its parts are of different models"
                )


def _check_names(model: VisionLanguage, bundle: Assembled) -> None:
    """As many names as outputs, where there are any."""
    for file, part, output, more in (
        (OBJECTS, BOX_HEAD, "scores", 1),  # the background has no name
        (ANSWERS, fusion_name(model.settings.lengths[0]), "answers", 0),
    ):
        names = bundle.names(file)
        if not names or part not in bundle.parts:
            continue
        outputs = {spec.name: spec.shape for spec in bundle.parts[part].manifest.outputs}
        if outputs.get(output, (0,))[-1] != len(names) + more:
            raise BundleError(f"{file} has {len(names)} names, and {part} other outputs")


def _features(bundle: Assembled) -> int:
    """Numbers of a region's feature."""
    return _last(bundle, BOX_HEAD, "features")


def _last(bundle: Assembled, part: str, output: str) -> int:
    """The last side of an output; 0 where there is none, which is refused later."""
    if part not in bundle.parts:
        return 0
    outputs = {spec.name: spec.shape for spec in bundle.parts[part].manifest.outputs}
    return outputs.get(output, (0,))[-1]


def _shapes(model: VisionLanguage, bundle: Assembled) -> dict[str, dict[str, tuple[int, ...]]]:
    """Tensors of each part whose shape the settings tell."""
    s = model.settings
    width = model._tables.words.shape[1]
    visual = (1, s.regions, _features(bundle) + BOX_NUMBERS)
    inputs = {spec.name: spec.shape for spec in bundle.parts[BOX_HEAD].manifest.inputs}
    channels = inputs.get("pooled", (0,))[-1]
    # As many as there are, but some: which task needs which outputs is said by no other check.
    classes = max(2, _last(bundle, BOX_HEAD, "scores"))
    first = fusion_name(s.lengths[0])
    answers = {"answers": (1, max(1, _last(bundle, first, "answers")))} if VQA in s.tasks else {}
    pooled = {"pooled": (1, width)} if NLVR2 in s.tasks else {}
    own = (s.layers * s.heads, 1, s.head_size)
    cells = sum(rows * columns for rows, columns in map_sizes(s.height, s.width)[:POOLED])
    anchors = len(model.anchors)
    cache = (s.layers * s.heads, s.caption + s.tags + s.regions, s.head_size)
    context = (s.layers * s.heads, s.tags + s.regions, s.head_size)
    return {
        DETECTOR: {
            "image": (1, 3, s.height, s.width), "cells": (1, cells, channels),
            "logits": (1, anchors), "deltas": (1, anchors, 4),
        },
        BOX_HEAD: {
            "pooled": (s.proposals, s.pooled**2, channels), "deltas": (s.proposals, 4),
            "features": (s.proposals, _features(bundle)), "scores": (s.proposals, classes),
        },
        **{
            fusion_name(n): {
                "text": (1, n, width), "visual": visual, "seen": (1, n + s.regions),
                "match": (1, 2), **answers, **pooled,
            }
            for n in s.lengths
        },
        JUDGE: {"pooled": (1, 2 * width), "judged": (1, 2)},
        CONTEXT: {"tags": (1, s.tags, width), "visual": visual, "keys": context, "values": context},
        STEP: {
            "pair": (1, 2, width), "cached_keys": cache, "cached_values": cache,
            "words": (1, model.vocabulary.size), "keys": own, "values": own,
        },
    }  # fmt: skip
