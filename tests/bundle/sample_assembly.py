"""A small valid assembly of two parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgekit.bundle import ModelFacts, WeightsFacts
from edgekit.bundle.assembly import (
    VISION_LANGUAGE,
    Agreement,
    Assembly,
    VlmSettings,
    assembling,
    finish_assembly,
)
from tests.bundle import sample_bundle

SETTINGS = VlmSettings(
    64, 64, (0.5,) * 3, (0.25,) * 3, (8, 16, 32, 48, 64), 10, 4, 0.7, 2, 2, 3, 0.5, 0.0, (8, 16), 6,
    4, 1, 2, 3, ("vqa", "caption", "match"),
)  # fmt: skip
ASSEMBLY = Assembly(
    VISION_LANGUAGE,
    ModelFacts("small-vlm", "minivlm", "vision-language", 10, 20, 0),
    WeightsFacts("seed 0", "", random=True),
    "x86",
    "fp32",
    SETTINGS,
    {"onnxruntime": Agreement("torch", 5, 40, 1.0, 0.9, 1e-6, 5, 5)},
    {},
    {},
)
FILES = {"vocab.txt": b"[PAD]\n", "answers.txt": b"yes\nno\n"}
PARTS = ("detector", "fusion-8")


def write(where: Path, *, force: bool = False, settings: VlmSettings = SETTINGS) -> Path:
    with assembling(where, force=force) as folder:
        for name in PARTS:
            sample_bundle.write(folder / name)
        finish_assembly(folder, replace(ASSEMBLY, settings=settings), FILES)
    return where
