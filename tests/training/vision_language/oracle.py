"""A detector that is always right, in the place of a trained one: it is told what is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgekit.models.minivlm.specs import get_vlm
from edgekit.training.data.scenes import (
    COLOURS,
    HELD_OUT_FROM,
    SHAPES,
    SIDE,
    SIZES,
    Scene,
    Thing,
    scene,
)
from edgekit.training.vision_language import talk
from edgekit.training.vision_language.drawn import Seen, told_of
from edgekit.training.vision_language.source import Floats, VlmSplits
from edgekit.training.vision_language.tsv import write_tsv

SPEC = get_vlm("minivlm-tiny")
_NAMES = (*SHAPES, *COLOURS, *SIZES)
_NOISE = 0.2


def look(scenes: Sequence[Scene]) -> list[Seen]:
    """Features are mixed from the true names, with noise; boxes are the true ones."""
    draw = np.random.default_rng(0)
    mix = draw.normal(size=(len(_NAMES), SPEC.tee.feature)).astype(np.float32)
    return [Seen(_regions(one, mix), talk.tags(one)) for one in scenes]


def _regions(what: Scene, mix: Floats) -> Floats:
    draw = np.random.default_rng(what.number)
    rows = np.stack([_row(thing, mix) for thing in what.things])
    rows[:, : len(mix[0])] += _NOISE * draw.normal(size=(len(rows), len(mix[0])))
    return draw.permutation(rows).astype(np.float32)


def _row(thing: Thing, mix: Floats) -> Floats:
    named = np.array([name in (thing.shape, thing.colour, thing.size) for name in _NAMES], float)
    x1, y1, x2, y2 = thing.box
    return np.concatenate([named @ mix, np.array([x1, y1, x2, y2, x2 - x1, y2 - y1]) / SIDE])


def splits(train: int, held_out: int) -> VlmSplits:
    """So many scenes."""
    return VlmSplits(
        told_of([scene(number) for number in range(train)], look, held_out=False),
        told_of([scene(HELD_OUT_FROM + n) for n in range(held_out)], look, held_out=True),
        talk.vocabulary(),
    )


def folder(path: Path, train: int, held_out: int) -> tuple[str, str]:
    """Scenes as a folder of files: what --data and --vocab are then."""
    made = splits(train, held_out)
    write_tsv(path, made.train, made.held_out)
    words = path / "vocab.txt"
    words.write_text("".join(f"{word}\n" for word in talk.vocabulary()))
    return f"tsv:{path}", str(words)
