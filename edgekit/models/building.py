"""From a row of the zoo to a network that can be exported: built, in eval mode, with weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from edgekit.errors import CheckpointError, UsageError
from edgekit.models.checkpoint import (
    build_network,
    load_strict,
    read_checkpoint,
    read_recorded,
    variant_shapes,
)
from edgekit.models.fitting import Fit, Given, fit
from edgekit.models.naming import COUNTER, in_module
from edgekit.models.random_init import (
    calibration_count,
    calibration_images,
    randomise,
    state_sha256,
)
from edgekit.models.weights import Located, NoneFound, resolve
from edgekit.models.zoo import VARIANTS, Variant, get_variant

RANDOM_NOTE = "RANDOM weights: fit for latency work and not for predictions"
RANDOM_HEAD_NOTE = (
    "RANDOM head: the body is from {source}, what the network answers means nothing until its "
    "head is trained"
)
FC_SQUEEZES = (8, 16)  # of DCD's MobileNetV2; the rows with 8 end in -fs8, 16 is the default
_TASKS = {"linear": "classification", "projection": "embedding", "projection-bn": "embedding"}


@dataclass(frozen=True)
class WeightsInfo:
    """Where the weights of a network came from.

    Attributes:
        source: an address or ``"file NAME"``, both with ``#PART`` if one was taken, or ``"random,
            seed N"``; with ``", head random, seed N"`` if only the body is from there.
        sha256: of the checkpoint file; of all values if some were drawn.
        random: no training is behind them, or none behind the head.
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
    """A network with weights, in eval mode, on the CPU, float32.

    Attributes:
        module: (B, 3, image_size, image_size) -> (B, num_classes).
        variant: its row.
        num_classes: outputs: classes, or the width of the embedding.
        image_size: height and width of the input in pixels.
        weights: where they came from.
        head: kind of its last layers, see `edgekit.models.heads`.
        labels: names of its classes, where its checkpoint has them.
    """

    module: nn.Module
    variant: Variant
    num_classes: int
    image_size: int
    weights: WeightsInfo
    head: str = "linear"
    labels: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """``"classification"``, or ``"embedding"`` behind a projection head."""
        return _TASKS[self.head]


def create(
    model_id: str,
    weights: str = "auto",
    *,
    num_classes: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
    drop_head: bool = False,
    fc_squeeze: int | None = None,
) -> CreatedModel:
    """Build a network of the zoo and give it weights.

    A checkpoint's own head decides which kind of head is built: a file of self-supervised training
    with a projection gives embeddings, where the network is known to take both.

    Args:
        model_id: a row of the zoo.
        weights: see `edgekit.models.weights`.
        num_classes: outputs; by default those of a checkpoint that names its classes, else as
            published. Released weights fit only that.
        image_size: height and width of the input in pixels; by default those that a checkpoint was
            trained for, if it says so, else as published.
        seed: of random weights.
        drop_head: take a checkpoint's body only and draw the head from the seed.
        fc_squeeze: of DCD's MobileNetV2, see `select_variant`.

    Raises:
        UnknownNameError: no such model.
        UsageError: impossible sizes, an unknown form of ``weights``, or options that do not apply.
        CheckpointError, DownloadError: the weights cannot be had or do not fit. With ``auto``
            that leads to random weights and a note.
    """
    return create_variant(
        select_variant(model_id, fc_squeeze),
        weights,
        num_classes=num_classes,
        image_size=image_size,
        seed=seed,
        drop_head=drop_head,
    )


def create_variant(
    variant: Variant,
    weights: str,
    *,
    num_classes: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
    drop_head: bool = False,
    any_width: bool = False,
) -> CreatedModel:
    """As `create`, of a row that need not be of the zoo.

    With ``any_width`` a checkpoint's head may have any number of outputs.
    """
    if drop_head and weights == "random":
        raise UsageError("--drop-head drops the head of a checkpoint: --weights random has none.")
    size = variant.image_size if image_size is None else image_size
    # Impossible sizes are named before anything is fetched or read.
    variant_shapes(variant, num_classes, image_size=size)
    found = _find(weights, variant, num_classes, drop_head)
    if isinstance(found, Located):
        try:
            return _from_checkpoint(
                found, variant, num_classes, image_size, seed, drop_head=drop_head,
                any_width=any_width,
            )  # fmt: skip
        except CheckpointError as error:
            if weights != "auto":
                raise
            found = NoneFound(str(error))
    return _from_nothing(found, variant, num_classes, size, seed)


def select_variant(model_id: str, fc_squeeze: int | None = None) -> Variant:
    """The row of ``model_id`` with that fc-squeeze.

    Args:
        model_id: a row of the zoo; with ``fc_squeeze`` one of DCD's MobileNetV2s.
        fc_squeeze: by how much their coefficient branches narrow: 16, the default, or 8, which
            is another row.

    Raises:
        UnknownNameError: no such model.
        UsageError: a network without such a choice, another value, or one against the id.
    """
    variant = get_variant(model_id)
    if fc_squeeze is None:
        return variant
    base = model_id.removesuffix("-fs8")
    if f"{base}-fs8" not in VARIANTS:
        able = ", ".join(row.removesuffix("-fs8") for row in VARIANTS if row.endswith("-fs8"))
        raise UsageError(f"--fc-squeeze is for {able}; {model_id} has no such choice.")
    if fc_squeeze not in FC_SQUEEZES:
        raise UsageError(f"--fc-squeeze is {fc_squeeze}; 8 and 16 are possible.")
    if base != model_id and fc_squeeze != 8:
        raise UsageError(f"{model_id} has fc-squeeze 8, not {fc_squeeze}: use {base}.")
    return get_variant(f"{base}-fs8" if fc_squeeze == 8 else base)


def _find(
    weights: str, variant: Variant, classes: int | None, drop_head: bool
) -> Located | NoneFound:
    """As `resolve`; released weights are not even fetched for a head that they do not have."""
    if weights in ("auto", "official") and not drop_head:
        if classes not in (None, variant.num_classes):
            why = (
                f"the released weights of {variant.id} have {variant.num_classes} classes, not "
                f"{classes}: a head of your own needs a checkpoint of your own, --drop-head for "
                "a random head on the released body, or --weights random"
            )
            if weights == "official":
                raise CheckpointError(f"{why}.")
            return NoneFound(why)
    return resolve(weights, variant)


def _from_checkpoint(
    found: Located,
    variant: Variant,
    classes: int | None,
    image_size: int | None,
    seed: int,
    *,
    drop_head: bool,
    any_width: bool,
) -> CreatedModel:
    recorded = read_recorded(found.path)
    size = image_size or recorded.image_size or variant.image_size
    given = Given(
        state=read_checkpoint(found.path, found.part, found.spec),
        name=found.path.name,
        spec=found.spec,
        source=found.source,
        recorded=recorded.variant,
        classes=len(recorded.labels) or None,
    )
    fitted = fit(given, variant, classes, drop_head=drop_head, any_width=any_width)
    module = build_network(variant, fitted.outputs, size, fitted.head).eval()
    if fitted.dropped:
        info = _load_body(module, found, fitted, variant, size, seed)
    else:
        converted = load_strict(module, fitted.state, given.name)
        note = _joined(found.note, *fitted.notes, *converted)
        info = WeightsInfo(found.source, found.sha256, random=False, note=note)
    named = not fitted.dropped and len(recorded.labels) == fitted.outputs
    labels = recorded.labels if named else ()
    return CreatedModel(module, variant, fitted.outputs, size, info, fitted.head, labels)


def _load_body(
    module: nn.Module, found: Located, fitted: Fit, variant: Variant, size: int, seed: int
) -> WeightsInfo:
    """The body from the checkpoint, the head from the seed."""
    counted = any(key.endswith(COUNTER) for key in fitted.state)  # as `load_strict` takes a file
    head = {
        key: tensor
        for key, tensor in module.state_dict().items()
        if in_module(key, fitted.dropped) and (counted or not key.endswith(COUNTER))
    }
    converted = load_strict(module, {**fitted.state, **head}, found.path.name)
    images = calibration_images(calibration_count(size, _macs(variant, size)), size)
    randomise(module, images, seed, only=fitted.dropped)
    loud = RANDOM_HEAD_NOTE.format(source=found.source)
    return WeightsInfo(
        f"{found.source}, head random, seed {seed}",
        state_sha256(module),
        random=True,
        note=_joined(loud, found.note, *fitted.notes, *converted),
    )


def _from_nothing(
    found: NoneFound, variant: Variant, classes: int | None, size: int, seed: int
) -> CreatedModel:
    """Random weights, and a note why."""
    outputs = variant.num_classes if classes is None else classes
    module = build_network(variant, outputs, size).eval()
    randomise(module, calibration_images(calibration_count(size, _macs(variant, size)), size), seed)
    info = WeightsInfo(
        f"random, seed {seed}", state_sha256(module), random=True, note=RANDOM_NOTE, why=found.why
    )
    return CreatedModel(module, variant, outputs, size, info, variant.head)


def _macs(variant: Variant, size: int) -> int:
    """About, for an image of ``size``: maps grow with the area."""
    return variant.macs * size * size // variant.image_size**2


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
