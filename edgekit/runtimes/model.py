"""``edgekit.load``: a bundle (or a bare model file) as a model in the user's own app.

    with edgekit.load("m1-rpi4") as model:
        model.run({"image": array})       # {"logits": array}
        model.predict("cat.jpg", top=5)   # [("tabby", 0.62), ...]

Which runtime: the first of the manifest's artifacts whose package is installed here; a warning
names those before it. It is a fixed order, not a timing, and a runtime that fails to open is an
error, never a silent fallback.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgekit.bundle import Artifact, Bundle, Manifest, open_bundle
from edgekit.errors import BundleError, InputError, MissingDependencyError, UsageError
from edgekit.runtimes import RUNTIMES, get_runtime, is_available, open_session
from edgekit.runtimes.postprocess import softmax, top_k
from edgekit.runtimes.preprocess import load_image, preprocess
from edgekit.runtimes.probe import open_unknown
from edgekit.runtimes.session import Array, Session

RANDOM_WEIGHTS = "random weights: fit for latency work, not for predictions"


class Model:
    """A loaded bundle. Use as a context manager, or ``close`` it.

    Attributes:
        session: the runtime underneath; ``session.clone()`` for another thread.
        bundle: what was opened, or None for a bare model file.
        warnings: what must be said beside any result, e.g. that the weights are random.
    """

    def __init__(
        self,
        session: Session,
        bundle: Bundle | None,
        path: Path,
        skipped: tuple[str, ...] = (),
    ) -> None:
        self.session, self.bundle, self.path = session, bundle, path
        self.warnings = (*_warnings(bundle), *skipped)
        self._labels = bundle.labels() if bundle else ()

    @property
    def manifest(self) -> Manifest | None:
        """The bundle's manifest, or None for a bare model file."""
        return self.bundle.manifest if self.bundle else None

    @property
    def is_classifier(self) -> bool:
        """Whether the one output is a score per class."""
        task = self.manifest.model.task if self.manifest else ""
        return task == "classification" and len(self.session.outputs) == 1

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once: see ``Session.run``."""
        return self.session.run(inputs)

    def preprocess(self, image: Any) -> dict[str, Array]:
        """The inputs of an image: see ``load_image`` for what an image can be.

        Raises:
            UsageError: the bundle has no preprocessing, or not exactly one input.
            InputError: the image cannot be read.
        """
        rule = self.manifest.preprocessing if self.manifest else None
        if rule is None or len(self.session.inputs) != 1:
            raise UsageError(
                f"{str(self.path)!r} does not say how an image becomes its input: "
                f"export it with --mean and --std, or give a {_tensor_file(self.session)} "
                "(in Python, arrays to run)"
            )
        return {self.session.inputs[0].name: preprocess(load_image(image), rule)}

    def predict(self, image: Any, top: int = 5) -> list[tuple[str, float]]:
        """The ``top`` classes of an image with their probabilities, the best first.

        Without labels in the bundle a class is called ``"class 17"``.

        Raises:
            UsageError: not a classifier with preprocessing.
            InputError: the image cannot be read.
        """
        return self.classify(self.run(self.preprocess(image)), top)

    def classify(self, outputs: Mapping[str, Array], top: int = 5) -> list[tuple[str, float]]:
        """What ``predict`` makes of the outputs of ``run``."""
        if not self.is_classifier:
            task = self.manifest.model.task if self.manifest else "unknown"
            raise UsageError(
                f"{str(self.path)!r} is no classifier (task {task!r}): "
                "call run and read its outputs"
            )
        if top < 1:
            raise UsageError(f"top is 1 or more, got {top}")
        scores = outputs[self.session.outputs[0].name]
        if not np.isfinite(scores).all():
            raise InputError("the model's output has NaN or Inf: its weights or input are broken")
        return top_k(softmax(scores), self._labels, top)

    def close(self) -> None:
        """Close the session and the bundle."""
        self.session.close()
        if self.bundle:
            self.bundle.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        name = self.manifest.model.id if self.manifest else self.path.name
        note = f", {self.warnings[0]}" if self.warnings else ""
        return f"Model({name}, {self.session!r}{note})"


def load(path: str | os.PathLike[str], runtime: str | None = None, threads: int = 1) -> Model:
    """Load a bundle, or a bare ``.onnx``, ``.tflite`` or ``.xml`` file.

    Args:
        path: folder, ``.edgekit`` file, or model file. A bare file is first opened in a child
            process, so that a damaged one cannot take the app down.
        runtime: key of ``RUNTIMES``; by default the first of the bundle that is installed.
        threads: how many threads to compute with.

    Raises:
        BundleError: missing, damaged, hostile, or refused by the runtime.
        UsageError: the bundle has no artifact for ``runtime``.
        MissingDependencyError: the runtime's package is not installed.
    """
    if threads < 1:
        raise UsageError(f"threads is 1 or more, got {threads}")
    if runtime is not None:
        get_runtime(runtime)
    where = Path(path)
    if where.suffix in _BARE_SUFFIXES and not where.is_dir():
        return Model(open_unknown(where, _bare_runtime(where, runtime), threads), None, where)
    bundle = open_bundle(where)
    try:
        session = open_artifact(bundle, runtime, threads)
        skipped = () if runtime else _skipped(bundle, session.runtime)
        return Model(session, bundle, where, skipped)
    except BaseException:
        bundle.close()
        raise


def open_artifact(
    bundle: Bundle,
    runtime: str | None = None,
    threads: int = 1,
    options: Mapping[str, str] | None = None,
) -> Session:
    """A session on the bundle's artifact for ``runtime``, or on the first that is installed.

    ``options`` are the runtime's own, see its module.

    Raises:
        UsageError: the bundle has no artifact for ``runtime``.
        MissingDependencyError: the runtime's package is not installed.
        BundleError: the runtime refuses the file.
    """
    artifact = artifact_of(bundle, runtime)
    manifest = bundle.manifest
    return open_session(
        artifact.runtime,
        [bundle.file(name) for name in artifact.files],
        manifest.inputs,
        manifest.outputs,
        threads=threads,
        options={
            **(_proof(bundle) if get_runtime(artifact.runtime).builds else {}),
            **(options or {}),
        },
    )


def _proof(bundle: Bundle) -> dict[str, str]:
    """What a runtime that compiles on the device must reproduce before it is used."""
    manifest = bundle.manifest
    return {"golden": str(bundle.file(manifest.golden)), "precision": manifest.precision}


def artifact_of(bundle: Bundle, runtime: str | None) -> Artifact:
    """What ``runtime`` opens of a bundle, or the first artifact whose runtime is installed.

    Raises:
        UsageError, BundleError, MissingDependencyError: as `open_artifact`.
    """
    artifacts = {artifact.runtime: artifact for artifact in bundle.manifest.artifacts}
    if runtime is not None:
        if runtime == "null":  # stands in for whatever the bundle has
            first = next(iter(artifacts.values()))
            return Artifact("null", first.files, (), None, first.macs, {})
        if runtime not in artifacts:
            raise UsageError(
                f"{str(bundle.path)!r} has no artifact for runtime {runtime!r}; "
                f"it has: {', '.join(artifacts)}"
            )
        return artifacts[runtime]
    known = [name for name in artifacts if name in RUNTIMES]
    if not known:
        raise BundleError(
            f"{str(bundle.path)!r} has artifacts for {', '.join(artifacts)} only, "
            "which this edgekit does not know: pip install -U edgekit"
        )
    for name in known:
        if is_available(name):
            return artifacts[name]
    remedies = "; or ".join(RUNTIMES[name].remedy for name in known)
    raise MissingDependencyError(f"{str(bundle.path)!r}", f"one of {', '.join(known)}", remedies)


def _skipped(bundle: Bundle, chosen: str) -> tuple[str, ...]:
    """What was passed over on the way to ``chosen``: nobody may take the one for the other."""
    names = [artifact.runtime for artifact in bundle.manifest.artifacts]
    return tuple(
        f"{name} skipped: it is not installed here (edgekit doctor says how to get it)"
        for name in names[: names.index(chosen)]
        if name in RUNTIMES
    )


def _warnings(bundle: Bundle | None) -> tuple[str, ...]:
    if bundle is None:
        return ()
    return (RANDOM_WEIGHTS,) if bundle.manifest.weights.random else ()


def _tensor_file(session: Session) -> str:
    return ".npy" if len(session.inputs) == 1 else ".npz"


# Suffix of a bare model file -> runtimes that open it, the preferred first.
_BARE_SUFFIXES = {
    ".onnx": ("onnxruntime", "openvino"),
    ".tflite": ("litert",),
    ".xml": ("openvino",),
}


def _bare_runtime(path: Path, runtime: str | None) -> str:
    candidates = _BARE_SUFFIXES[path.suffix]
    if runtime is None:
        return next((name for name in candidates if is_available(name)), candidates[0])
    if runtime not in candidates:
        raise UsageError(
            f"runtime {runtime!r} does not open {path.suffix} files; "
            f"these do: {', '.join(candidates)}"
        )
    return runtime
