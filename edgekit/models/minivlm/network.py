"""MiniVLM as one network, from files and into them.

    tee.*      of `edgekit.models.minivlm.tee`
    fusion.*   of `edgekit.models.minivlm.fusion`

A file that edgekit's training writes also has the names that the network answers with, in its
metadata. Files of others hold a part: `load_fusion` takes OSCAR's, VinVL's and MiniLM's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from edgekit.errors import CheckpointError, UsageError
from edgekit.models.building import RANDOM_NOTE, WeightsInfo
from edgekit.models.checkpoint import load_strict, read_checkpoint
from edgekit.models.fitting import some
from edgekit.models.minivlm.fusion import Fusion
from edgekit.models.minivlm.specs import FusionSpec, MiniVlmSpec, get_vlm
from edgekit.models.minivlm.tee import Fuse, Tee
from edgekit.models.mobilenetv3 import SqueezeExcite
from edgekit.models.random_init import (
    calibrate,
    calibration_images,
    draw_parameters,
    state_sha256,
)
from edgekit.models.weights import Located, locate
from edgekit.models.whole_file import replacing
from edgekit.optional import require

_DECODER = "cls.predictions.decoder.weight"
_FACTS = "edgekit-vlm"  # key of the metadata; one, as in edgekit.models.checkpoint
# "detect" is of the detector, which later stages keep; all others are of the transformer.
TASKS = ("detect", "vqa", "caption", "match", "nlvr2")
UNTRAINED_DETECTOR = "its detector was never trained: what it says of images means nothing"
_MAX_NAMES = 1 << 16
_GATE_SHARE = 0.25  # of what is drawn, for random weights
_RANDOM_ANSWERS = 3129  # as many as VQA's usual list has


@dataclass(frozen=True)
class VlmFacts:
    """What weights say of themselves.

    Attributes:
        variant: id of the row; "" in files of others.
        tasks: that they were trained for, of `TASKS`.
        answers: of the VQA head, in its order.
        objects: names of the detector's classes, without the background.
        attributes: names of the attributes.
        min_score: of a region's best class, for the transformer to have seen it; 0 where nothing
            was left out.
        vocabulary: sha256 of its tokens, one a line; "" where it is not known.
        canvas: height and width that images were fitted into, in pixels; none for the row's.
        image_norm: see `edgekit.models.minivlm.specs.FusionSpec`.
    """

    variant: str = ""
    tasks: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    min_score: float = 0.0
    vocabulary: str = ""
    canvas: tuple[int, ...] = ()
    image_norm: bool = True

    @property
    def detects(self) -> bool:
        """Whether the detector was trained; older files do not say so, but name its objects."""
        return "detect" in self.tasks or bool(self.objects)

    @property
    def speaks(self) -> bool:
        """Whether the transformer was trained for a task; pre-training is none."""
        return any(task != "detect" for task in self.tasks)

    def heads(self) -> dict[str, int]:
        """Further heads of the fusion: name -> outputs."""
        heads = {"vqa": len(self.answers)} if self.answers else {}
        return {**heads, **({"nlvr2": 2} if "nlvr2" in self.tasks else {})}


class MiniVlm(nn.Module):
    """Both parts; what stands between them is numpy, see ``runtimes/vision_language``."""

    def __init__(self, spec: MiniVlmSpec, heads: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.tee = Tee(spec.tee)
        self.fusion = Fusion(spec.fusion, heads)


@dataclass(frozen=True)
class CreatedVlm:
    """A network with weights, in eval mode; see `edgekit.models.building.CreatedModel`."""

    module: MiniVlm
    facts: VlmFacts
    weights: WeightsInfo

    @property
    def spec(self) -> MiniVlmSpec:
        """Its row, with the sizes that it was built with."""
        return self.module.spec


def fitted(spec: MiniVlmSpec, facts: VlmFacts, vocabulary: int | None = None) -> MiniVlmSpec:
    """``spec`` with as many classes, attributes and tokens as there are names for."""
    tee, fusion, lengths = spec.tee, replace(spec.fusion, image_norm=facts.image_norm), spec.lengths
    if facts.canvas:
        lengths = replace(lengths, height=facts.canvas[0], width=facts.canvas[1])
    if facts.objects:
        tee = replace(tee, classes=len(facts.objects) + 1)
    if facts.attributes:
        tee = replace(tee, attributes=len(facts.attributes))
    if vocabulary is not None:
        fusion = replace(fusion, vocabulary=vocabulary)
    return replace(spec, tee=tee, fusion=fusion, lengths=lengths)


def canvas_of(spec: MiniVlmSpec, facts: VlmFacts) -> tuple[int, int]:
    """Height and width that images are fitted into."""
    lengths = fitted(spec, facts).lengths
    return lengths.height, lengths.width


def fresh_vlm(spec: MiniVlmSpec, facts: VlmFacts, seed: int) -> MiniVlm:
    """As the parts' authors draw them, from ``seed``: to be trained."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        return MiniVlm(spec, facts.heads())
    finally:
        torch.set_rng_state(state)


def random_vlm(spec: MiniVlmSpec, seed: int) -> CreatedVlm:
    """Weights fit for latency work: the same bits on every machine, activations alive.

    Without names: it answers ``answer 0`` and so on.
    """
    answers = tuple(f"answer {n}" for n in range(_RANDOM_ANSWERS))
    facts = VlmFacts(spec.id, ("vqa", "caption", "match"), answers)
    module = MiniVlm(spec, facts.heads()).eval()
    draw_parameters(module, seed)
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, nn.LayerNorm):
                nn.init.ones_(child.weight)
                nn.init.zeros_(child.bias)
            if isinstance(child, Fuse):
                nn.init.ones_(child.weights)
            # Gates that swing widely multiply errors with errors, in a deep network by hundreds.
            if isinstance(child, SqueezeExcite):
                child.fc1.weight.mul_(_GATE_SHARE)
                child.fc2.weight.mul_(_GATE_SHARE)
        # Drawn like the others these would move boxes across the image, or blow them up.
        for layer, share in (
            (module.tee.proposals.objectness, 0.2),
            (module.tee.proposals.deltas, 0.02),
            (module.tee.box_head.box, 0.2),
        ):
            layer.weight.mul_(share)
            cast("Tensor", layer.bias).mul_(share)
    images = calibration_images(4, max(spec.lengths.height, spec.lengths.width))
    module.eval()  # before: blocks that are left out at random would leave their mark
    calibrate(module.tee, images)
    info = WeightsInfo(f"random, seed {seed}", state_sha256(module), random=True, note=RANDOM_NOTE)
    return CreatedVlm(module, facts, info)


def create_vlm(model_id: str, weights: str, *, seed: int = 0) -> CreatedVlm:
    """Build a row of `edgekit.models.minivlm.specs.VLMS` with its weights.

    Args:
        model_id: of the row.
        weights: ``auto`` (random, since nobody released any), ``random``, a file, a URL or
            ``hf://owner/repo/file``.
        seed: of random weights.

    Raises:
        UnknownNameError: no such row.
        CheckpointError, DownloadError: the weights cannot be had or do not fit.
    """
    spec = get_vlm(model_id)
    if weights == "official":
        raise CheckpointError(f"no weights of {model_id} were released: train them, or --weights")
    if weights in ("auto", "random"):
        created = random_vlm(spec, seed)
        why = "nobody released weights of MiniVLM" if weights == "auto" else ""
        return replace(created, weights=replace(created.weights, why=why))
    return from_file(spec, locate(weights))


def from_file(spec: MiniVlmSpec, found: Located) -> CreatedVlm:
    """The network of a file that `save_vlm` wrote; its note says if nobody trained its detector.

    Raises:
        CheckpointError: another network's, or a part of one, or a decoder of words that is not
            the embedding again.
    """
    facts = read_facts(found.path)
    if facts.variant != spec.id:
        what = f"is of {facts.variant}, not {spec.id}" if facts.variant else "is of no such network"
        raise CheckpointError(
            f"{found.path.name} {what}: edgekit train {spec.id} writes its files; one of OSCAR or "
            "MiniLM is what a training starts from (--weights)"
        )
    state = read_checkpoint(found.path)
    words = state.get("fusion.bert.embeddings.word_embeddings.weight")
    if words is None:
        raise CheckpointError(f"{found.path.name} has no word embeddings.")
    module = MiniVlm(fitted(spec, facts, words.shape[0]), facts.heads())
    tied, differs = _tied(state, "fusion.")
    if differs:
        raise CheckpointError(
            f"{found.path.name} has a decoder of words that is not its word embeddings: here both "
            "are one"
        )
    notes = load_strict(module, tied, found.path.name)
    if not facts.detects:
        notes += (UNTRAINED_DETECTOR,)
    module.eval()
    info = WeightsInfo(found.source, found.sha256, random=False, note="; ".join(notes))
    return CreatedVlm(module, facts, info)


def save_vlm(module: MiniVlm, facts: VlmFacts, path: Path) -> None:
    """Write a network and its names as a .safetensors file; never half a file.

    Raises:
        CheckpointError: it cannot be written.
    """
    save_file = require("safetensors.torch", "writing .safetensors").save_file
    state = {
        key: tensor.detach().contiguous()
        for key, tensor in module.state_dict().items()
        if not key.endswith(_DECODER)  # the word embeddings once more
    }
    try:
        with replacing(path) as temporary:
            save_file(state, temporary, metadata={_FACTS: json.dumps(asdict(facts))})
    except Exception as error:  # safetensors reports a full disk with an exception of its own
        raise CheckpointError(f"cannot write {path}: {error}") from error


def read_facts(path: Path) -> VlmFacts:
    """What a file says of itself; nothing in a file of others.

    Raises:
        CheckpointError: unreadable, or facts that nobody could have written.
    """
    with path.open("rb") as file:
        if file.read(9)[8:] != b"{":
            return VlmFacts()
    safetensors = require("safetensors", "reading .safetensors")
    try:
        with safetensors.safe_open(path, "pt") as file:
            written = json.loads((file.metadata() or {}).get(_FACTS, "{}"))
        named: dict[str, Any] = {key: _names(key, value) for key, value in written.items()}
        return VlmFacts(**named)
    except Exception as error:  # of a compiled type that is no public class, among others
        raise CheckpointError(f"{path.name} says of itself what cannot be: {error}.") from error


def _names(key: str, value: object) -> str | float | tuple[str, ...] | tuple[int, ...]:
    if key == "min_score" and isinstance(value, (int, float)) and 0 <= value <= 1:
        return float(value)
    if key in ("variant", "vocabulary") and isinstance(value, str) and value.isprintable():
        return value
    if key == "image_norm" and isinstance(value, bool):
        return value
    if key == "canvas" and isinstance(value, list) and len(value) in (0, 2):
        if not all(type(side) is int and 64 <= side <= 2048 and not side % 64 for side in value):
            raise ValueError("canvas has sides that are none")
        return tuple(value)
    if not isinstance(value, list) or len(value) > _MAX_NAMES:
        raise ValueError(f"{key} is no list of names")
    if key == "tasks" and not {*map(str, value)} <= {*TASKS}:
        raise ValueError(f"tasks are of {', '.join(TASKS)}")
    if not all(isinstance(name, str) and name.isprintable() for name in value):
        raise ValueError(f"{key} is no list of names")
    return tuple(value)


# ---- files of others -------------------------------------------------------------------------

_ABSENT = ("bert.img_embedding.", "bert.LayerNorm.", "cls.", "heads.")  # from a text's BERT


def load_fusion(module: Fusion, path: Path) -> tuple[str, ...]:
    """Start a transformer from a file of OSCAR, VinVL or MiniLM; returns what to tell the user.

    Every weight of the encoder must be there and fit. What a BERT of text has not (regions,
    matching, answers) stays as it was drawn, and is named; so does a matching of three ways
    (Oscar+), and a region projection of another width. A decoder of words that is not the word
    embeddings again is not taken: here both are one.

    Raises:
        CheckpointError: it is of another size, or no such file.
    """
    own = module.state_dict()
    state, differs = _tied(_named_as_ours(read_checkpoint(path)), "")
    if not any(key.startswith("bert.encoder.") for key in state):
        raise CheckpointError(f"{path.name} holds no encoder of BERT: none of its keys begins so.")
    drawn = [
        key
        for key in own
        if key.startswith(_ABSENT) and (key not in state or state[key].shape != own[key].shape)
    ]
    unused = sorted(key for key in state if key not in own or key in drawn)
    taken = {key: state[key] if key in state and key not in drawn else own[key] for key in own}
    missing = [key for key in own if key not in state and key not in drawn]
    if missing:
        raise CheckpointError(f"{path.name} does not fit this network: without {some(missing)}.")
    notes = load_strict(module, taken, path.name)
    if drawn:
        notes += (f"{path.name} has no fitting {some(drawn)}: as drawn",)
    if unused:
        notes += (f"{path.name}: not used are {some(unused)}",)
    if differs:
        notes += (f"{path.name} has {_DECODER} of its own: the word embeddings are in its place",)
    return notes


def has_image_norm(path: Path) -> bool:
    """Whether a file of others normalises regions; so does one that knows no regions.

    Raises:
        CheckpointError: it cannot be read.
    """
    state = _named_as_ours(read_checkpoint(path))
    return "bert.img_embedding.weight" not in state or "bert.LayerNorm.weight" in state


def _named_as_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BertModel's own keys get the prefix that they have in a model with heads."""
    bare = ("embeddings.", "encoder.", "pooler.")
    named = {f"bert.{key}" if key.startswith(bare) else key: value for key, value in state.items()}
    # Saved by some versions of transformers; it is 0, 1, 2 ..
    named.pop("bert.embeddings.position_ids", None)
    return named


def _tied(state: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], bool]:
    """With the word embeddings as the decoder of words; and whether the file's own is another."""
    words = state.get(f"{prefix}bert.embeddings.word_embeddings.weight")
    if words is None:
        return dict(state), False
    decoder = state.get(f"{prefix}{_DECODER}")
    same = decoder is None or (
        decoder.shape == words.shape and torch.equal(decoder.float(), words.float())
    )
    return {**state, f"{prefix}{_DECODER}": words}, not same


def check_vocabulary(spec: FusionSpec, tokens: int, name: str) -> None:
    """Refuse a vocabulary that is not the network's.

    Raises:
        UsageError: another number of tokens.
    """
    if tokens != spec.vocabulary:
        raise UsageError(
            f"{name} has {tokens:,} tokens and the network {spec.vocabulary:,}: give the "
            "vocabulary that it was trained with (--vocab)"
        )
