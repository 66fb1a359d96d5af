"""On the device: from a bundle to a plan that is built, proven and cached.

    bundle -> fingerprint -> cached plan that was proven on this golden data?  use it
                          -> otherwise build, run the golden input, compare     cache it

``edgekit finish`` and the first ``load`` go through ``prepare``: a plan is used only after it
computed the golden output within tolerance, and one that does not is not kept.

Not yet executed on a device: the tests run it against doubles of TensorRT and CUDA.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgekit.bundle import (
    PARITY_TOLERANCE,
    Golden,
    TensorSpec,
    golden_bytes,
    open_bundle,
    relative_error,
)
from edgekit.errors import BundleError, DeviceError, ParityError, UnknownNameError, UsageError
from edgekit.runtimes import cudart
from edgekit.runtimes.cudart import Cudart, Device
from edgekit.runtimes.plan_cache import Entry, Fingerprint, PlanCache, PlanRecord
from edgekit.runtimes.trt_build import BuildOptions, build_plan, default_options
from edgekit.runtimes.trt_engine import Engine
from edgekit.runtimes.trt_vendor import title, vendor

Progress = Callable[[str], None]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FinishReport:
    """What ``edgekit finish`` did.

    Attributes:
        bundle: the bundle.
        model: its model id.
        plan: where the plan is cached, or "" when the cache cannot be written.
        built: whether it was built now; False when the cache had it.
        tensorrt: module and version.
        gpu: name of the GPU.
        compute_capability: of the GPU.
        driver: newest CUDA version that the driver knows.
        layers: of the network that TensorRT parsed.
        self_test: output -> max relative error against the golden output.
        tolerance: largest error allowed.
        cuda_graph: ``"yes"``, or ``"no: why"``.
        notes: what else the user should know.
    """

    bundle: str
    model: str
    plan: str
    built: bool
    tensorrt: str
    gpu: str
    compute_capability: str
    driver: str
    layers: int
    self_test: Mapping[str, float]
    tolerance: float
    cuda_graph: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Ready:
    """A proven plan, loaded."""

    engine: Engine
    device: Device
    record: PlanRecord
    path: Path | None
    built: bool
    notes: tuple[str, ...]


def finish_bundle(
    path: str | Path, *, force: bool = False, progress: Progress = lambda _: None
) -> FinishReport:
    """Build the TensorRT plan of a bundle on this device, prove it and cache it.

    Args:
        path: a bundle with a TensorRT artifact.
        force: build even if the cache has the plan, e.g. after another power mode was set.
        progress: called with one line per step.

    Raises:
        UsageError: the bundle has no TensorRT artifact.
        BundleError: the bundle is damaged.
        MissingDependencyError: no TensorRT here.
        DeviceError: no GPU or driver here, or it fails.
        GraphError: this TensorRT refuses the graph.
        ParityError: the plan does not compute the golden output; it is not kept.
    """
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
        artifacts = {artifact.runtime: artifact for artifact in manifest.artifacts}
        if "tensorrt" not in artifacts:
            raise UsageError(
                f"{str(path)!r} has no TensorRT artifact to finish, only {', '.join(artifacts)}: "
                "it is ready to run as it is; export with --target jetson for TensorRT"
            )
        tolerance = tolerance_of(manifest.precision)
        ready = prepare(
            bundle.file(artifacts["tensorrt"].files[0]).read_bytes(),
            golden=bundle.golden(),
            tolerance=tolerance,
            force=force,
            progress=progress,
        )
    try:
        return _report(str(path), manifest.model.id, ready, tolerance)
    finally:
        ready.engine.close()


def tolerance_of(precision: str) -> float:
    """Tolerance of the self-test.

    Raises:
        UnknownNameError: a precision that this edgekit cannot prove.
    """
    if precision not in PARITY_TOLERANCE:
        raise UnknownNameError("precision", precision, PARITY_TOLERANCE, "Upgrade edgekit.")
    return PARITY_TOLERANCE[precision]


def prepare(
    onnx_bytes: bytes,
    *,
    golden: Golden | None,
    tolerance: float,
    force: bool = False,
    graph: bool = True,
    cache: PlanCache | None = None,
    progress: Progress = lambda _: None,
) -> Ready:
    """The plan of an ONNX file, from the cache or built now, loaded and proven.

    Args:
        onnx_bytes: the file.
        golden: what it must compute; None proves nothing (a bare file has none).
        tolerance: of the self-test.
        force: do not take it from the cache.
        graph: run it as a CUDA graph.
        cache: where plans are kept; the user's when None.
        progress: called with one line per step.

    Raises:
        EdgekitError: what ``finish_bundle`` raises, for the same reasons.
    """
    trt = vendor()
    cuda, device = find_gpu()
    options = default_options()
    fingerprint = _fingerprint(title(trt), device, onnx_bytes, options)

    def waiting() -> None:
        progress("another process builds this plan: waiting for it")

    with (cache or PlanCache()).locked(fingerprint, waiting) as entry:
        work = _Work(onnx_bytes, options, cuda, graph, golden, tolerance, progress)
        known = None if force else work.from_cache(entry)
        engine, record = known or work.build(entry, fingerprint)
        notes, path = tuple(entry.notes), entry.path
    return Ready(engine, device, record, path, known is None, notes)


def find_gpu() -> tuple[Cudart, Device]:
    """CUDA and the GPU of this machine.

    Raises:
        DeviceError: no CUDA runtime, driver or GPU.
    """
    try:
        cuda = cudart.load()
        count = cuda.device_count()
    except DeviceError as error:
        raise DeviceError(
            f"TensorRT needs an NVIDIA GPU and its driver: {error}{_elsewhere()}"
        ) from error
    if count < 1:
        raise DeviceError(f"TensorRT needs an NVIDIA GPU, and this machine has none{_elsewhere()}")
    return cuda, cuda.device()


def _elsewhere() -> str:
    """On a PC the next step is the board; a board has its GPU, and the cause is another."""
    if platform.machine() == "aarch64":
        return ""
    return ": run this on the Jetson; here, edgekit run BUNDLE INPUT --runtime onnxruntime"


@dataclass(frozen=True)
class _Work:
    """One plan to be had."""

    onnx_bytes: bytes
    options: BuildOptions
    cuda: Cudart
    graph: bool
    golden: Golden | None
    tolerance: float
    progress: Progress

    def from_cache(self, entry: Entry) -> tuple[Engine, PlanRecord] | None:
        """Load the cached plan; prove it, unless it was on the same golden data."""
        found = entry.load()
        if found is None:
            return None
        self.progress("load the cached plan")
        try:
            engine = Engine(found.plan, self.cuda, graph=self.graph)
        except BundleError as error:
            entry.notes.append(f"{error}: built again")
            return None
        if self.golden is None or found.record.golden_sha256 == _golden_sha256(self.golden):
            return engine, found.record
        record = self._prove(engine, found.record)
        entry.store(found.plan, record)
        return engine, record

    def build(self, entry: Entry, fingerprint: Fingerprint) -> tuple[Engine, PlanRecord]:
        """Build, prove, and only then cache."""
        self.progress("build a TensorRT plan for this GPU (minutes on a small board)")
        built = build_plan(
            self.onnx_bytes, self.options, timing_cache=entry.timings(), progress=self.progress
        )
        entry.store_timings(built.timing_cache)
        engine = Engine(built.plan, self.cuda, graph=self.graph)
        sha256 = hashlib.sha256(built.plan).hexdigest()
        record = self._prove(engine, PlanRecord(fingerprint, sha256, built.layers, "", {}))
        entry.store(built.plan, record)
        return engine, record

    def _prove(self, engine: Engine, record: PlanRecord) -> PlanRecord:
        if self.golden is None:
            return record
        self.progress("self-test against the golden output")
        try:
            errors = self_test(engine, self.golden, self.tolerance)
        except BaseException:
            engine.close()
            raise
        return replace(record, golden_sha256=_golden_sha256(self.golden), self_test=errors)


def self_test(engine: Engine, golden: Golden, tolerance: float) -> dict[str, float]:
    """Run the golden input and compare: output -> max relative error.

    Raises:
        BundleError: the plan has other tensors than the golden data.
        ParityError: an output is beyond ``tolerance``.
    """
    _check_names("inputs", engine.inputs, golden.inputs)
    _check_names("outputs", engine.outputs, golden.outputs)
    got = engine.run(golden.inputs)
    errors = {name: relative_error(got[name], want) for name, want in golden.outputs.items()}
    worst = max(errors, key=lambda name: errors[name])
    if not errors[worst] <= tolerance:
        raise ParityError(
            f"the TensorRT plan is not the same function: output {worst!r} differs from the golden "
            f"output by {errors[worst]:.3g} relative, and {tolerance:g} is allowed; the plan is "
            "not kept; run the bundle with --runtime onnxruntime, or update JetPack"
        )
    return errors


def _check_names(kind: str, specs: Sequence[TensorSpec], tensors: Mapping[str, Array]) -> None:
    has = {spec.name: (spec.dtype, spec.shape) for spec in specs}
    wanted = {name: (tensor.dtype.name, tensor.shape) for name, tensor in tensors.items()}
    if has != wanted:
        raise BundleError(f"the TensorRT plan has the {kind} {has}, the golden data {wanted}")


def _fingerprint(
    tensorrt: str, device: Device, onnx_bytes: bytes, options: BuildOptions
) -> Fingerprint:
    return Fingerprint(
        tensorrt=tensorrt,
        gpu=device.name,
        compute_capability=device.compute_capability,
        multiprocessors=device.multiprocessors,
        driver=device.driver,
        model_sha256=hashlib.sha256(onnx_bytes).hexdigest(),
        options=asdict(options),
    )


def _golden_sha256(golden: Golden) -> str:
    return hashlib.sha256(golden_bytes(golden.inputs, golden.outputs)).hexdigest()


def _report(bundle: str, model: str, ready: Ready, tolerance: float) -> FinishReport:
    return FinishReport(
        bundle=bundle,
        model=model,
        plan=str(ready.path or ""),
        built=ready.built,
        tensorrt=ready.record.fingerprint.tensorrt,
        gpu=ready.device.name,
        compute_capability=ready.device.compute_capability,
        driver=ready.device.driver,
        layers=ready.record.layers,
        self_test=dict(ready.record.self_test),
        tolerance=tolerance,
        cuda_graph=ready.engine.describe()["cuda_graph"],
        notes=ready.notes,
    )
