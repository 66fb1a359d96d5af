"""The weights that a transformer is trained from: drawn ones, a MiniVLM's, OSCAR's or MiniLM's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from edgekit.models.minivlm.network import (
    MiniVlm,
    VlmFacts,
    fitted,
    fresh_vlm,
    from_file,
    load_fusion,
    read_facts,
)
from edgekit.models.minivlm.specs import MiniVlmSpec, get_vlm
from edgekit.models.weights import locate
from edgekit.training.run_folder import weights_of
from edgekit.training.vision_language.losses import prior_bias

_NO_FACTS = VlmFacts()
_WORDS = "fusion.bert.embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class Found:
    """Weights to start from.

    Attributes:
        spec: the row that is trained.
        path: of the file; None for drawn ones.
        facts: that the file says of itself; none in a file of others.
        whole: the network of a file of this row; None of a file of others.
        sha256: of the file.
    """

    spec: MiniVlmSpec
    path: Path | None = None
    facts: VlmFacts = _NO_FACTS
    whole: MiniVlm | None = None
    sha256: str = ""


@dataclass(frozen=True)
class Start:
    """A network to train, and what was not taken of a file."""

    module: MiniVlm
    notes: tuple[str, ...] = ()


def find(model: str, weights: str) -> Found:
    """What ``weights`` names.

    Args:
        model: a row of `edgekit.models.minivlm.specs.VLMS`.
        weights: ``random``, a run's folder, or what `edgekit.models.weights` takes.

    Raises:
        UnknownNameError: no such row.
        CheckpointError, DownloadError: no such file, or of another row.
    """
    spec = get_vlm(model)
    if weights == "random":
        return Found(spec)
    located = locate(weights if "://" in weights else str(weights_of(Path(weights))))
    facts = read_facts(located.path)
    if not facts.variant:
        return Found(spec, located.path, sha256=located.sha256)
    return Found(spec, located.path, facts, from_file(spec, located).module, located.sha256)


def begin(found: Found, facts: VlmFacts, tokens: int, seed: int) -> Start:
    """The network of ``found``, with the heads of ``facts``; what it lacks is drawn.

    Args:
        found: weights.
        facts: names that the network is to answer with.
        tokens: of the vocabulary.
        seed: of what is drawn.

    Raises:
        CheckpointError: the file is of another size.
    """
    module = fresh_vlm(fitted(found.spec, facts, tokens), facts, seed)
    _start_answers(module)
    if found.whole is not None:
        return Start(module, _take(module, found.whole, facts, found.facts))
    if found.path is not None:
        return Start(module, load_fusion(module.fusion, found.path))
    return Start(module)


def _start_answers(module: MiniVlm) -> None:
    """As unlikely as each of many answers is."""
    for name, head in module.fusion.heads.items():
        if name == "vqa" and isinstance(head, nn.Linear):
            nn.init.constant_(head.bias, prior_bias())


@torch.no_grad()
def _take(module: MiniVlm, whole: MiniVlm, ours: VlmFacts, theirs: VlmFacts) -> tuple[str, ...]:
    """Put what fits of a file's network into ``module``; says what does not.

    A transformer with other tokens says other things by them, and is not taken at all.
    """
    own, state = module.state_dict(), whole.state_dict()
    if own[_WORDS].shape != state[_WORDS].shape:
        state = {key: each for key, each in state.items() if key.startswith("tee.")}
        notes = [
            f"the weights' transformer has {len(whole.state_dict()[_WORDS])} tokens and the "
            f"vocabulary {len(own[_WORDS])}: it begins as drawn"
        ]
    else:
        notes = []
    same = {"vqa": ours.answers == theirs.answers}
    for name in module.fusion.heads:
        if not (name in whole.fusion.heads and same.get(name, True)):
            state = {k: v for k, v in state.items() if not k.startswith(f"fusion.heads.{name}.")}
            if name in whole.fusion.heads:
                notes.append(f"head {name} is of other answers, and begins as drawn")
    module.load_state_dict({**own, **{key: state[key] for key in own if key in state}})
    return tuple(notes)
