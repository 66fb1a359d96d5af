"""From a row of the zoo to a network that can be exported: built, in eval mode, with weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from edgekit.errors import CheckpointError
from edgekit.models.checkpoint import build_network, load_strict, read_checkpoint
from edgekit.models.random_init import (
    calibration_count,
    calibration_images,
    randomise,
    state_sha256,
)
from edgekit.models.weights import Located, NoneFound, resolve
from edgekit.models.zoo import Variant, get_variant

RANDOM_NOTE = "RANDOM weights: fit for latency work and not for predictions"


@dataclass(frozen=True)
class WeightsInfo:
    """Where the weights of a network came from.

    Attributes:
        source: an address, ``"file NAME"``, or ``"random, seed N"``.
        sha256: of the checkpoint file; of the drawn values if random.
        random: no training is behind them.
        note: what the user must be told, or "".
        why: why random weights were taken though others were wanted, or "". It is of this run
            and this machine, and has no place in a manifest.
    """

    source: str
    sha256: str
    random: bool
    note: str = ""
    why: str = ""


@dataclass(frozen=True)
class CreatedModel:
    """A network with weights, in eval mode, on the CPU, float32."""

    module: nn.Module
    variant: Variant
    num_classes: int
    image_size: int
    weights: WeightsInfo


def create(
    model_id: str,
    weights: str = "auto",
    *,
    num_classes: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
) -> CreatedModel:
    """Build a network of the zoo and give it weights.

    Args:
        model_id: a row of the zoo.
        weights: see `edgekit.models.weights`.
        num_classes: outputs; by default as published. Released weights fit only that.
        image_size: height and width of the input in pixels; by default as published.
        seed: of random weights.

    Raises:
        UnknownNameError: no such model.
        UsageError: impossible sizes, or an unknown form of ``weights``.
        CheckpointError, DownloadError: the weights cannot be had or do not fit. With ``auto``
            that leads to random weights and a note.
    """
    variant = get_variant(model_id)
    size = variant.image_size if image_size is None else image_size
    classes = variant.num_classes if num_classes is None else num_classes
    module = build_network(variant, classes, size).eval()
    found = _find(weights, variant, classes)
    if isinstance(found, Located):
        try:
            info = _load(module, found)
        except CheckpointError as error:
            if weights != "auto":
                raise
            found = NoneFound(str(error))
    if isinstance(found, NoneFound):
        info = _randomise(module, size, seed, found.why)
    return CreatedModel(module, variant, classes, size, info)


def _find(weights: str, variant: Variant, classes: int) -> Located | NoneFound:
    """As `resolve`; released weights are not even fetched for a head that they do not have."""
    if weights in ("auto", "official") and classes != variant.num_classes:
        why = (
            f"the released weights of {variant.id} have {variant.num_classes} classes, not "
            f"{classes}: a head of your own needs a checkpoint of your own, or --weights random"
        )
        if weights == "official":
            raise CheckpointError(f"{why}.")
        return NoneFound(why)
    return resolve(weights, variant)


def _load(module: nn.Module, found: Located) -> WeightsInfo:
    notes = load_strict(module, read_checkpoint(found.path), found.path.name)
    note = "; ".join(part for part in (found.note, *notes) if part)
    return WeightsInfo(found.source, found.sha256, random=False, note=note)


def _randomise(module: nn.Module, size: int, seed: int, why: str) -> WeightsInfo:
    randomise(module, calibration_images(calibration_count(size), size), seed)
    return WeightsInfo(
        f"random, seed {seed}", state_sha256(module), random=True, note=RANDOM_NOTE, why=why
    )
