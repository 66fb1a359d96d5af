"""The weights that a detector is trained from: drawn ones, a MiniVLM's, or a classifier's trunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    from_file,
    read_facts,
)
from edgekit.models.minivlm.specs import MiniVlmSpec, get_vlm
from edgekit.models.weights import Located, locate
from edgekit.training.run_folder import VOCABULARY, weights_of

_TRUNK, _STAGES = "features.", 8  # of a classifier, of which the ninth stage is its last layer
# What depends on the names of the data, so that other names need other weights.
_OF_OBJECTS = ("box_head.score.", "attributes.classes.")
_OF_ATTRIBUTES = ("attributes.out.", "attributes.hidden.")


@dataclass(frozen=True)
class Start:
    """A network to train, and where it comes from.

    Attributes:
        module: the whole of it.
        facts: that the weights of the run will say of themselves.
        notes: what was not taken of a file, and what comes of what was.
        sha256: of the file.
        vocabulary: the vocab.txt of a transformer that was taken; None where it lies nowhere.
    """

    module: MiniVlm
    facts: VlmFacts
    notes: tuple[str, ...] = ()
    sha256: str = ""
    vocabulary: Path | None = None


def begin(spec: MiniVlmSpec, facts: VlmFacts, weights: str, seed: int) -> Start:
    """The network of ``spec`` with outputs for the names in ``facts``.

    A file of a whole MiniVLM gives its transformer, too, with what it was trained for.

    Args:
        spec: a row.
        facts: names of the data.
        weights: ``random``, a run's folder, or what `edgekit.models.weights` takes.
        seed: of what is drawn.

    Raises:
        CheckpointError, DownloadError: no such file, or no part of it fits.
    """
    facts = replace(facts, tasks=("detect",))
    module = fresh_vlm(fitted(spec, facts), facts, seed)
    if weights == "random":
        return Start(module, facts)
    found = locate(weights if "://" in weights else str(weights_of(Path(weights))))
    theirs = read_facts(found.path)
    if theirs.variant == spec.id:
        return _beside_transformer(module, facts, theirs, found)
    if theirs.variant:
        raise CheckpointError(f"{found.path.name} is of {theirs.variant}, not of {spec.id}.")
    state, name = read_checkpoint(found.path, found.part, found.spec), found.path.name
    if any(key.startswith("tee.") for key in state):
        taken = _of_detector(state, theirs, facts)
    else:
        taken = _of_classifier(state)
    return Start(module, facts, _load(module, taken, name), found.sha256)


def _beside_transformer(drawn: MiniVlm, facts: VlmFacts, theirs: VlmFacts, found: Located) -> Start:
    """Detector and transformer of a file, with what is of other names as in ``drawn``."""
    whole = from_file(get_vlm(theirs.variant), found).module
    spoken = tuple(task for task in theirs.tasks if task not in facts.tasks)
    facts = replace(
        facts,
        tasks=(*facts.tasks, *spoken),
        answers=theirs.answers,
        min_score=theirs.min_score,
        vocabulary=theirs.vocabulary,
        image_norm=theirs.image_norm,
    )
    drawn.fusion, drawn.spec = whole.fusion, replace(drawn.spec, fusion=whole.spec.fusion)
    notes = _load(drawn, _of_detector(whole.state_dict(), theirs, facts), found.path.name)
    if facts.speaks:
        notes += (
            f"{found.path.name}: its transformer is kept, and was trained on what its detector saw "
            "until now: train it again with --weights of this run",
        )
    beside = found.path.parent / VOCABULARY
    return Start(drawn, facts, notes, found.sha256, beside if beside.is_file() else None)


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
