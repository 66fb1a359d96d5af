"""A small valid bundle, its manifest as JSON to break, and its files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundle import (
    Artifact,
    Figure,
    Manifest,
    ModelFacts,
    Parity,
    PassRecord,
    Preprocessing,
    Skipped,
    TensorSpec,
    WeightsFacts,
    golden_bytes,
    manifest_to_json,
    write_bundle,
)

INPUTS = (TensorSpec("image", "float32", (1, 3, 4, 4), "NCHW"),)
OUTPUTS = (TensorSpec("logits", "float32", (1, 3), "NC"),)

MANIFEST = Manifest(
    model=ModelFacts(
        "tiny-net", "tiny", "classification", 10, 20, 3, (Figure("top-1", "51.4 %", "paper"),)
    ),
    weights=WeightsFacts("seed 0", "", random=True),
    target="x86",
    precision="fp32",
    opset=18,
    inputs=INPUTS,
    outputs=OUTPUTS,
    preprocessing=Preprocessing(5, (4, 4), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    labels="labels.txt",
    golden="golden.npz",
    passes=(PassRecord("fold-bn", 2, ("one left alone: it is shared",)),),
    artifacts=(
        Artifact("null", ("model.dat",), (), Parity("torch", 5, 1e-4, {"logits": 2e-6}), 20, {}),
    ),
    skipped=(Skipped("litert", "--skip"),),
    tools={"edgekit": "0.1.0"},
    files={},
)

FILES = {
    "model.dat": b"weights" * 100,
    "labels.txt": b"cat\ndog\nbird\n",
    "golden.npz": golden_bytes(
        {"image": np.zeros((1, 3, 4, 4), np.float32)}, {"logits": np.zeros((1, 3), np.float32)}
    ),
    "README.md": b"# tiny-net\n",
}


def write(
    where: Path, *, force: bool = False, files: dict[str, bytes] | None = None, **changes: Any
) -> Path:
    manifest = dataclasses.replace(MANIFEST, **changes)
    return write_bundle(where, manifest, {**FILES, **(files or {})}, force=force)


def document() -> dict[str, Any]:
    """The manifest as parsed JSON, complete with files, for a test to break."""
    facts = {name: {"sha256": "0" * 64, "bytes": len(data)} for name, data in sorted(FILES.items())}
    parsed: dict[str, Any] = json.loads(
        manifest_to_json(dataclasses.replace(MANIFEST, files=_facts()))
    )
    parsed["files"] = facts
    return parsed


def _facts() -> dict[str, Any]:
    from edgekit.bundle import FileFacts

    return {name: FileFacts("0" * 64, len(data)) for name, data in FILES.items()}


def listing(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, hidden ones too."""
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}
