"""From the bytes of an ONNX file to a TensorRT plan.

    parse        every error with its node's name
    configure    strongly typed, TF32 off, workspace by the memory of the machine
    build        timing cache in, plan and timing cache out

Precision is in the graph (casts and Q/DQ): the network is strongly typed, no builder flag
chooses a precision, and TF32, which would round fp32 convolutions to 10 bits, is off.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edgekit.errors import DeviceError, GraphError, UnsupportedOperatorError
from edgekit.runtimes.trt_vendor import Said, listening, logger, one_line, vendor

Progress = Callable[[str], None]

_MIB = 1 << 20
_MIN_WORKSPACE_MIB, _MAX_WORKSPACE_MIB = 64, 1024
_ASSUMED_MEMORY_MIB = 8192  # where /proc/meminfo cannot be read


@dataclass(frozen=True)
class BuildOptions:
    """All that shapes a plan beside the graph, the device and the version of TensorRT.

    Attributes:
        workspace_mib: scratch memory a layer may take, in MiB.
        strongly_typed: types are the graph's, not the builder's choice.
        tf32: fp32 convolutions rounded to TF32; off, so that outputs can be proven to 1e-4.
    """

    workspace_mib: int
    strongly_typed: bool = True
    tf32: bool = False


@dataclass(frozen=True)
class BuiltPlan:
    """A plan, the timings that its builder took, and the number of layers parsed."""

    plan: bytes
    timing_cache: bytes
    layers: int


def default_options() -> BuildOptions:
    """The options for this machine."""
    return BuildOptions(workspace_mib=workspace_mib(total_memory_mib()))


def workspace_mib(memory_mib: int) -> int:
    """Largest power of two up to an eighth of the memory, within 64 and 1024 MiB.

    On a Jetson the GPU shares the memory with everything else: a builder left to its default
    (all of it) has 4 GB boards killing processes. A power of two, because what the kernel
    reports differs by some MiB from boot to boot and the figure is part of a plan's fingerprint.
    """
    power = 1 << max(memory_mib // 8, 1).bit_length() - 1
    return min(max(power, _MIN_WORKSPACE_MIB), _MAX_WORKSPACE_MIB)


def total_memory_mib(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory of this machine in MiB."""
    try:
        for line in meminfo.read_text("ascii", "replace").splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) // 1024  # kB
    except (OSError, ValueError, IndexError):
        return _ASSUMED_MEMORY_MIB
    return _ASSUMED_MEMORY_MIB


def build_plan(
    onnx_bytes: bytes,
    options: BuildOptions,
    *,
    timing_cache: bytes = b"",
    architecture: str = "",
    progress: Progress = lambda _: None,
) -> BuiltPlan:
    """Build a plan.

    Args:
        onnx_bytes: a single-file ONNX model with static shapes.
        options: see ``BuildOptions``.
        timing_cache: of an earlier build on this device; ignored when TensorRT refuses it.
        architecture: e.g. ``"SM86"``, to build for a GPU that is not here (tensorrt-rtx only).
        progress: called with one line per phase of the builder.

    Raises:
        MissingDependencyError: no TensorRT.
        DeviceError: TensorRT without a GPU that it can use.
        UnsupportedOperatorError: the parser refuses a node.
        GraphError: the parser or the builder refuses the graph.
    """
    trt = vendor()
    with listening() as said:
        builder, network = _parse(trt, onnx_bytes, options, said)
        config = _configure(trt, builder, options, architecture, progress)
        cache = _attach_timing_cache(config, timing_cache)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise GraphError(f"TensorRT cannot build a plan: {said.because()}")
        return BuiltPlan(bytes(plan), _timings(config, cache), int(network.num_layers))


def count_layers(onnx_bytes: bytes, options: BuildOptions) -> int:
    """Parse only; raises what ``build_plan`` raises while it parses."""
    with listening() as said:
        _, network = _parse(vendor(), onnx_bytes, options, said)
        return int(network.num_layers)


def _parse(
    trt: ModuleType, onnx_bytes: bytes, options: BuildOptions, said: Said
) -> tuple[Any, Any]:
    try:
        builder = trt.Builder(logger(trt))
    except TypeError as error:  # the binding's word for a factory that gave nothing
        raise DeviceError(f"TensorRT finds no GPU to build for: {said.because()}") from error
    network = builder.create_network(_network_flags(trt, options))
    parser = trt.OnnxParser(network, logger(trt))
    if not parser.parse(onnx_bytes):
        raise _parse_error(parser, said)
    if network.num_outputs == 0:  # what its parser makes of a file that is no ONNX at all
        raise GraphError("TensorRT cannot parse the graph: it finds no outputs in the file")
    return builder, network


def _network_flags(trt: ModuleType, options: BuildOptions) -> int:
    """EXPLICIT_BATCH is gone from 11, where STRONGLY_TYPED stays and is always on."""
    wanted = ("EXPLICIT_BATCH", *(["STRONGLY_TYPED"] if options.strongly_typed else []))
    known = trt.NetworkDefinitionCreationFlag
    return sum(1 << int(getattr(known, name)) for name in wanted if hasattr(known, name))


def _parse_error(parser: Any, said: Said) -> GraphError:
    """The first error that names a node; later ones are mostly its echo."""
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    for error in errors:
        name, operator = _called(error, "node_name"), _called(error, "node_operator")
        if name or operator:
            why = one_line(error.desc())
            return UnsupportedOperatorError("tensorrt", operator or "an operator", name, why)
    why = one_line(errors[0].desc()) if errors else said.because()
    return GraphError(f"TensorRT cannot parse the graph: {why}")


def _called(error: Any, name: str) -> str:
    method = getattr(error, name, None)
    return str(method()) if method is not None else ""


def _configure(
    trt: ModuleType, builder: Any, options: BuildOptions, architecture: str, progress: Progress
) -> Any:
    config = builder.create_builder_config()
    if options.tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    size = options.workspace_mib * _MIB
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
    if architecture and hasattr(config, "set_compute_capability"):
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, architecture), 0)
    if hasattr(trt, "IProgressMonitor") and hasattr(config, "progress_monitor"):
        config.progress_monitor = _progress_monitor(trt, progress)
    return config


def _attach_timing_cache(config: Any, timing_cache: bytes) -> Any:
    """The cache object must outlive the build. One that TensorRT refuses is left out."""
    with warnings.catch_warnings():
        # tensorrt-rtx has these calls, and calls them deprecated: it times nothing.
        warnings.simplefilter("ignore", DeprecationWarning)
        for contents in (timing_cache, b"") if timing_cache else (b"",):
            cache = config.create_timing_cache(contents)
            if cache is not None and config.set_timing_cache(cache, False):
                return cache
    return None


def _timings(config: Any, cache: Any) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = config.get_timing_cache() if cache is not None else None
        return b"" if found is None else bytes(found.serialize())


def _progress_monitor(trt: ModuleType, progress: Progress) -> Any:
    """One line at the start of each outermost phase."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                progress(f"TensorRT: {phase_name} ({num_steps} steps)")

        def step_complete(self, phase_name: str, step: int) -> bool:
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            return None

    return Monitor()
