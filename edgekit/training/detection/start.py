"""The weights that a detector is trained from: drawn ones, a MiniVLM's, or a classifier's trunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edgekit.errors import CheckpointError
from edgekit.models.checkpoint import load_strict, read_checkpoint
from edgekit.models.fitting import some
from edgekit.models.minivlm.network import (
    MiniVlm,
    VlmFacts,
    fitted,
    fresh_vlm,
    read_facts,
)
from edgekit.models.minivlm.specs import MiniVlmSpec
from edgekit.models.weights import locate
from edgekit.training.run_folder import weights_of

_TRUNK, _STAGES = "features.", 8  # of a classifier, of which the ninth stage is its last layer
# What depends on the names of the data, so that other names need other weights.
_OF_OBJECTS = ("box_head.score.", "attributes.classes.")
_OF_ATTRIBUTES = ("attributes.out.", "attributes.hidden.")


@dataclass(frozen=True)
class Start:
    """A network to train, what was taken of a file, and which file it was."""

    module: MiniVlm
    notes: tuple[str, ...]
    sha256: str


def begin(spec: MiniVlmSpec, facts: VlmFacts, weights: str, seed: int) -> Start:
    """The network of ``spec`` with outputs for the names in ``facts``.

    Args:
        spec: a row.
        facts: names of the data.
        weights: ``random``, a run's folder, or what `edgekit.models.weights` takes.
        seed: of what is drawn.

    Raises:
        CheckpointError, DownloadError: no such file, or no part of it fits.
    """
    module = fresh_vlm(fitted(spec, facts), facts, seed)
    if weights == "random":
        return Start(module, (), "")
    found = locate(weights if "://" in weights else str(weights_of(Path(weights))))
    state, name = read_checkpoint(found.path, found.part, found.spec), found.path.name
    if any(key.startswith("tee.") for key in state):
        taken = _of_detector(state, read_facts(found.path), facts)
    else:
        taken = _of_classifier(state)
    return Start(module, _load(module, taken, name), found.sha256)


def _of_detector(
    state: Mapping[str, Tensor], theirs: VlmFacts, ours: VlmFacts
) -> dict[str, Tensor]:
    """What a MiniVLM's file has of a detector, without what is of other names."""
    dropped = (
        *(_OF_OBJECTS if theirs.objects != ours.objects else ()),
        *(_OF_ATTRIBUTES if theirs.attributes != ours.attributes else ()),
    )
    bare = {key.removeprefix("tee."): value for key, value in state.items()
            if key.startswith("tee.")}  # fmt: skip
    return {key: value for key, value in bare.items() if not key.startswith(dropped or ("\0",))}


def _of_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trunk in torchvision's names, which are edgekit's own."""
    stages = tuple(f"{_TRUNK}{number}." for number in range(_STAGES))
    return {f"trunk.{key}": value for key, value in state.items() if key.startswith(stages)}


def _load(module: MiniVlm, taken: Mapping[str, Tensor], name: str) -> tuple[str, ...]:
    """Put ``taken`` into the detector, whole parts of it: a trunk, or all but what is of names."""
    own = module.tee.state_dict()
    if not taken:
        raise CheckpointError(
            f"{name} holds no detector (tee.*) and no trunk (features.0 to features.7, as "
            "torchvision's EfficientNet has them)"
        )
    part = "trunk." if all(key.startswith("trunk.") for key in taken) else ""
    drawn = [key for key in own if key not in taken and not key.startswith(part or "\0")]
    missing = [key for key in drawn if not part and not key.startswith(_NAMED)]
    if missing:
        raise CheckpointError(f"{name} does not fit this detector: without {some(missing)}.")
    with torch.no_grad():
        notes = load_strict(module.tee, {**{key: own[key] for key in drawn}, **taken}, name)
    if drawn:
        notes += (f"{name}: {some(drawn)} are as drawn",)
    return notes


_NAMED = (*_OF_OBJECTS, *_OF_ATTRIBUTES)
