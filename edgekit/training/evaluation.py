"""Accuracy on images that were not trained on: of a network, and of a bundle in each runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgekit.bundle import Manifest, Preprocessing, open_bundle
from edgekit.errors import UsageError
from edgekit.models.building import CreatedModel, create
from edgekit.models.checkpoint import read_recorded
from edgekit.models.preparation import variant_preprocessing
from edgekit.runtimes import is_available
from edgekit.runtimes.model import load
from edgekit.training.data import open_data
from edgekit.training.data.loading import Batch, evaluation_batches, worker_count
from edgekit.training.data.source import ImageSource
from edgekit.training.run_folder import weights_of

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Accuracy:
    """What one way of running a network gets right.

    Attributes:
        runtime: ``torch``, or a runtime of the bundle.
        top1: share of images whose best class is right.
        top5: share whose class is among the five best, None with fewer than six classes.
        images: that were evaluated.
        agreement: share of images whose best class is the one that torch gives; None where no
            torch network is at hand.
        delta: top-1 less torch's; None likewise.
        unreadable: images that are not among them.
    """

    runtime: str
    top1: float
    top5: float | None
    images: int
    agreement: float | None = None
    delta: float | None = None
    unreadable: int = 0


def logits_of(network: nn.Module, batches: Iterator[Batch]) -> tuple[Logits, NDArray[np.int64]]:
    """What ``network`` answers, and the classes, of all images that can be read."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            answers = [
                (network(batch.images.to(device)).float().cpu().numpy(), batch.classes.numpy())
                for batch in batches
                if len(batch.images)
            ]
    finally:
        network.train(was_training)
    return _joined(answers)


def _joined(
    answers: Sequence[tuple[Logits, NDArray[np.int64]]],
) -> tuple[Logits, NDArray[np.int64]]:
    if not answers:
        raise UsageError("none of the images to evaluate on can be read")
    logits, classes = zip(*answers, strict=True)
    return np.concatenate(logits), np.concatenate(classes)


def accuracy(
    runtime: str, logits: Logits, classes: NDArray[np.int64], torchs: Logits | None = None
) -> Accuracy:
    """Figures of ``logits`` (N, classes)."""
    best = logits.argmax(1)
    top5 = None
    if logits.shape[1] > 5:
        five = np.argpartition(-logits, 5, axis=1)[:, :5]
        top5 = float((five == classes[:, None]).any(1).mean())
    top1 = float((best == classes).mean())
    if torchs is None:
        return Accuracy(runtime, top1, top5, len(classes))
    wanted = torchs.argmax(1)
    delta = top1 - float((wanted == classes).mean())
    return Accuracy(runtime, top1, top5, len(classes), float((best == wanted).mean()), delta)


def evaluate_network(
    network: nn.Module, source: ImageSource, rule: Preprocessing, *, workers: int = -1
) -> Accuracy:
    """Top-1 and top-5 of a classifier on all of ``source``, prepared as its bundle prepares."""
    batches = evaluation_batches(source, rule, batch_size=64, workers=worker_count(workers, source))
    found = accuracy("torch", *logits_of(network, batches))
    return replace(found, unreadable=len(source) - found.images)


def evaluate(
    source: Path | str,
    data: str,
    *,
    weights: Path | str | None = None,
    runtimes: Sequence[str] = (),
    threads: int = 1,
    trained_on: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Accuracy]:
    """Accuracy of weights in torch, or of a bundle in each of its runtimes that are here.

    Args:
        source: weights, a run, whose best they are, or a bundle.
        data: see `edgekit.training.data`.
        weights: of a bundle only, see `evaluate_bundle`,
        runtimes: likewise,
        threads: likewise.
        trained_on: evaluate on the images of the training, not on those held out.
        progress: told which runtime is next.

    Raises:
        EdgekitError: any of the tree in ``edgekit.errors``.
    """
    path = weights_of(Path(source))
    if not path.exists():
        raise UsageError(f"no weights, run or bundle at {path}")
    if not is_weights(path):
        return evaluate_bundle(
            path, data, weights_of(Path(weights)) if weights else None,
            runtimes=runtimes, threads=threads, trained_on=trained_on, progress=progress,
        )  # fmt: skip
    if weights or runtimes:
        raise UsageError("--weights and --runtime are for a bundle")
    return [evaluate_saved(path, data, trained_on=trained_on)]


def is_weights(source: Path) -> bool:
    """By its name; a bundle is a folder or has a suffix of its own."""
    return source.suffix in (".safetensors", ".pth", ".pt", ".tar")


def evaluate_saved(path: Path, data: str, *, trained_on: bool = False) -> Accuracy:
    """Of weights that `save_checkpoint` wrote, with the network and the size that they name.

    Args:
        path: a .safetensors file of a run.
        data: see `edgekit.training.data`.
        trained_on: evaluate on the images of the training, not on those held out.

    Raises:
        UsageError: the file does not name its network, or has other classes than the data.
    """
    source = _split(data, trained_on)
    created = load_saved(path)
    if created.task == "embedding":
        raise UsageError(
            f"{path.name} gives embeddings and tells no classes apart: use --knn or --linear-probe"
        )
    _check_labels(path.name, created.num_classes, created.labels, source)
    rule = variant_preprocessing(created.variant, created.image_size)
    return evaluate_network(created.module, source, rule)


def _split(data: str, trained_on: bool) -> ImageSource:
    splits = open_data(data)
    if not splits.held_out.labels:
        raise UsageError(f"data {data!r} has no classes to evaluate on")
    return splits.train if trained_on else splits.held_out


def load_saved(path: Path) -> CreatedModel:
    """The network of weights that `save_checkpoint` wrote.

    Raises:
        UsageError: the file does not name its network.
    """
    recorded = read_recorded(path)
    if not recorded.variant:
        raise UsageError(
            f"{path.name} does not say of which network it is: edgekit train writes that, and so "
            "does edgekit.models.checkpoint.save_checkpoint"
        )
    return create(recorded.variant, str(path))


def evaluate_bundle(
    path: Path,
    data: str,
    weights: Path | None = None,
    *,
    runtimes: Sequence[str] = (),
    threads: int = 1,
    trained_on: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Accuracy]:
    """Of each runtime that this machine has; with ``weights`` torch's own and the agreement.

    Args:
        path: a bundle that takes one image.
        data: see `edgekit.training.data`; its classes are the bundle's.
        weights: what the bundle was exported from.
        runtimes: only these.
        threads: of each runtime.
        trained_on: evaluate on the images of the training, not on those held out.
        progress: told which runtime is next.

    Raises:
        UsageError: it is no classifier of these classes, or takes no images.
    """
    with open_bundle(path) as bundle:
        manifest, labels = bundle.manifest, bundle.labels()
    source = _split(data, trained_on)
    rule = _rule(manifest)
    _check_labels("the bundle", manifest.outputs[0].shape[-1], labels, source)
    found, torchs = [], None
    if weights is not None:
        progress("evaluate torch")
        created = load_saved(weights)
        if (created.variant.id, created.labels) != (manifest.model.id, labels):
            raise UsageError(f"the bundle is not of {weights.name}: another network or classes")
        if created.weights.sha256 != manifest.weights.sha256:
            raise UsageError(
                f"the bundle was exported from other weights than {weights}: agreement with them "
                "would say nothing of it"
            )
        torchs, classes = logits_of(
            created.module, evaluation_batches(source, rule, batch_size=64, workers=0)
        )
        found.append(accuracy("torch", torchs, classes))
    for runtime in runtimes or _here(manifest, progress):
        progress(f"evaluate {runtime}")
        logits, classes = _run_all(path, runtime, source, rule, threads)
        found.append(accuracy(runtime, logits, classes, torchs))
    if not found:
        raise UsageError(
            "this machine has none of the bundle's runtimes: edgekit doctor tells more"
        )
    return [replace(each, unreadable=len(source) - each.images) for each in found]


def _here(manifest: Manifest, progress: Callable[[str], None]) -> list[str]:
    """The bundle's runtimes that this machine has; the others are named."""
    names = [artifact.runtime for artifact in manifest.artifacts]
    for name in names:
        if not is_available(name):
            progress(f"{name} is not on this machine")
    return [name for name in names if is_available(name)]


def _check_labels(what: str, classes: int, labels: Sequence[str], source: ImageSource) -> None:
    """Refuse classes of other names: an accuracy on them would be a number and mean nothing."""
    if classes != len(source.labels):
        raise UsageError(
            f"{what} tells {classes} classes apart and the data have {len(source.labels)}"
        )
    pairs = zip(labels, source.labels, strict=True) if len(labels) == classes else ()
    for number, (own, theirs) in enumerate(pairs):
        if own != theirs and not own.startswith("class "):
            raise UsageError(f"class {number} of {what} is {own!r}, and of the data {theirs!r}")


def _rule(manifest: Manifest) -> Preprocessing:
    if manifest.preprocessing is None or manifest.batch != 1:
        raise UsageError(f"{manifest.model.id} does not take one image, as an evaluation gives")
    return manifest.preprocessing


def _run_all(
    path: Path, runtime: str, source: ImageSource, rule: Preprocessing, threads: int
) -> tuple[Logits, NDArray[np.int64]]:
    answers = []
    with load(path, runtime=runtime, threads=threads) as model:
        name, output = model.session.inputs[0].name, model.session.outputs[0].name
        for batch in evaluation_batches(source, rule, batch_size=1, workers=0):
            if len(batch.images):
                logits = model.run({name: batch.images.numpy()})[output]
                answers.append((np.asarray(logits, np.float32), batch.classes.numpy()))
    return _joined(answers)


def figures(found: Accuracy) -> Mapping[str, float]:
    """Of an epoch, by name."""
    shown = {"top-1": found.top1}
    return shown if found.top5 is None else {**shown, "top-5": found.top5}
