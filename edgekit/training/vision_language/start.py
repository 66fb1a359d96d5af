"""The weights that a transformer is trained from: drawn ones, a MiniVLM's, OSCAR's or MiniLM's.

The detector beside it is that of the same MiniVLM, or of a file of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from edgekit.errors import UsageError
from edgekit.models.minivlm.network import (
    MiniVlm,
    VlmFacts,
    fitted,
    fresh_vlm,
    from_file,
    has_image_norm,
    load_fusion,
    read_facts,
)
from edgekit.models.minivlm.specs import MiniVlmSpec, get_vlm
from edgekit.models.minivlm.tee import Tee
from edgekit.models.weights import Located, locate
from edgekit.training.run_folder import weights_of
from edgekit.training.vision_language.losses import prior_bias

_NO_FACTS = VlmFacts()
_WORDS = "bert.embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class Detector:
    """A detector that was trained.

    Attributes:
        tee: it.
        facts: of its file; of the names, and of what it was trained for, only those of a detector
            are its own.
        sha256: of the file; "" where it is that of the weights.
    """

    tee: Tee
    facts: VlmFacts
    sha256: str = ""


@dataclass(frozen=True)
class Found:
    """Weights to start from.

    Attributes:
        spec: the row that is trained.
        path: of the file; None for drawn ones.
        facts: that the file says of itself; none in a file of others.
        whole: the network of a file of this row; None of a file of others.
        sha256: of the file.
        detector: to look with; None where none was trained.
        image_norm: see `edgekit.models.minivlm.specs.FusionSpec`.
    """

    spec: MiniVlmSpec
    path: Path | None = None
    facts: VlmFacts = _NO_FACTS
    whole: MiniVlm | None = None
    sha256: str = ""
    detector: Detector | None = None
    image_norm: bool = True


@dataclass(frozen=True)
class Start:
    """A network to train, and what was not taken of a file."""

    module: MiniVlm
    notes: tuple[str, ...] = ()


def find(model: str, weights: str, detector: str = "") -> Found:
    """What ``weights`` names, with the detector of another file if one is named.

    Args:
        model: a row of `edgekit.models.minivlm.specs.VLMS`.
        weights: ``random``, a run's folder, or what `edgekit.models.weights` takes.
        detector: a MiniVLM's file or run; "" for the detector of ``weights``.

    Raises:
        UnknownNameError: no such row.
        UsageError: the detector that is named was never trained.
        CheckpointError, DownloadError: no such file, or of another row.
    """
    spec = get_vlm(model)
    own = _detector(spec, detector) if detector else None
    if weights == "random":
        return Found(spec, detector=own)
    located = _located(weights)
    facts = read_facts(located.path)
    if not facts.variant:
        normed = has_image_norm(located.path)
        return Found(spec, located.path, sha256=located.sha256, detector=own, image_norm=normed)
    whole = from_file(spec, located).module
    if own is None and facts.detects:
        own = Detector(whole.tee, facts)
    return Found(spec, located.path, facts, whole, located.sha256, own, facts.image_norm)


def _located(weights: str) -> Located:
    return locate(weights if "://" in weights else str(weights_of(Path(weights))))


def _detector(spec: MiniVlmSpec, weights: str) -> Detector:
    if "://" not in weights and not Path(weights).exists():
        raise UsageError(f"--detector {weights}: no such file or run")
    located = _located(weights)
    created = from_file(spec, located)
    if not created.facts.detects:
        raise UsageError(
            f"--detector {weights}: its detector was never trained; edgekit train {spec.id} "
            "--stage detect trains one"
        )
    return Detector(created.module.tee, created.facts, located.sha256)


def begin(found: Found, facts: VlmFacts, tokens: int, seed: int) -> Start:
    """The network of ``found``, with the heads of ``facts``; what it lacks is drawn.

    Args:
        found: weights.
        facts: names that the network is to answer with; those of ``found.detector`` if it has one.
        tokens: of the vocabulary.
        seed: of what is drawn.

    Raises:
        CheckpointError: the file is of another size.
    """
    module = fresh_vlm(fitted(found.spec, facts, tokens), facts, seed)
    _start_answers(module)
    notes: tuple[str, ...] = ()
    if found.whole is not None:
        notes = _take(module, found.whole, facts, found.facts)
    elif found.path is not None:
        notes = load_fusion(module.fusion, found.path)
    seen_by = found.detector or found.whole  # which may have one that nobody trained
    if seen_by is not None:
        module.tee.load_state_dict(seen_by.tee.state_dict())
    if found.detector is not None and found.detector.sha256 and found.facts.detects:
        notes += ("the weights' transformer was trained on what another detector saw",)
    return Start(module, notes)


def _start_answers(module: MiniVlm) -> None:
    """As unlikely as each of many answers is."""
    for name, head in module.fusion.heads.items():
        if name == "vqa" and isinstance(head, nn.Linear):
            nn.init.constant_(head.bias, prior_bias())


def _differ(one: str, other: str) -> bool:
    """Of two vocabularies' fingerprints; older files have none."""
    return bool(one and other and one != other)


@torch.no_grad()
def _take(module: MiniVlm, whole: MiniVlm, ours: VlmFacts, theirs: VlmFacts) -> tuple[str, ...]:
    """Put what fits of a file's transformer into ``module``; says what does not.

    A transformer with other tokens says other things by them, and is not taken at all.
    """
    own, state = module.fusion.state_dict(), whole.fusion.state_dict()
    if theirs.tasks == ("detect",) and not theirs.vocabulary:
        return ()  # a detector's, whose transformer is as it was drawn
    if _differ(ours.vocabulary, theirs.vocabulary):
        return ("the weights' transformer was trained with other tokens: it begins as drawn",)
    if own[_WORDS].shape != state[_WORDS].shape:
        return (
            f"the weights' transformer has {len(state[_WORDS])} tokens and the vocabulary "
            f"{len(own[_WORDS])}: it begins as drawn",
        )
    notes = []
    same = {"vqa": ours.answers == theirs.answers}
    for name in module.fusion.heads:
        if not (name in whole.fusion.heads and same.get(name, True)):
            state = {k: v for k, v in state.items() if not k.startswith(f"heads.{name}.")}
            if name in whole.fusion.heads:
                notes.append(f"head {name} is of other answers, and begins as drawn")
    module.fusion.load_state_dict({**own, **{key: state[key] for key in own if key in state}})
    return tuple(notes)
