"""TensorRT on a Jetson: an ``.onnx`` file runs as the plan that this device builds of it.

    finish.py       fingerprint, cache, self-test: what a session opens goes through it
    trt_build.py    ONNX -> plan
    trt_engine.py   plan -> outputs (CUDA graph)
    trt_vendor.py   which TensorRT is here, and its log
    plan_cache.py   plans on disk
    cudart.py       CUDA through ctypes

Opening the first time builds (seconds to minutes); from then on the plan comes from the cache.
Not yet executed on a device: the tests run all of this against doubles of TensorRT and CUDA.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from edgekit.bundle import TensorSpec
from edgekit.bundle.golden import read_golden
from edgekit.errors import UsageError
from edgekit.runtimes.finish import FinishReport, Ready, finish_bundle, prepare, tolerance_of
from edgekit.runtimes.onnx_nodes import read_nodes
from edgekit.runtimes.session import (
    Array,
    EngineCall,
    KernelTime,
    Session,
    check_file_tensor,
    match_names,
    middle_mean,
    warm_up_of,
)
from edgekit.runtimes.trt_engine import Engine

__all__ = ["FinishReport", "TensorRtSession", "finish_bundle"]

# An app that loads a bundle for the first time waits for a build: its log says for what.
_LOGGER = logging.getLogger("edgekit.tensorrt")
_OPTIONS = {"golden": "", "precision": "fp32", "cuda_graph": "on"}


class TensorRtSession(Session):
    """An ``.onnx`` file in TensorRT.

    Options: ``golden``, a ``golden.npz`` that the plan must reproduce (a bundle's session always
    has it); ``precision``, of the bundle, for the tolerance; ``cuda_graph``, ``on`` or ``off``.
    """

    runtime = "tensorrt"
    layer_source = "TensorRT's IProfiler, without a CUDA graph; not yet executed on a device"

    def __init__(
        self,
        files: Sequence[Path],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        threads: int = 1,
        options: Mapping[str, str] | None = None,
    ) -> None:
        wanted = _read_options(options or {})
        golden = None
        if wanted["golden"]:
            data = Path(wanted["golden"]).read_bytes()
            golden = read_golden(data, tuple(inputs), tuple(outputs))
        ready = prepare(
            files[0].read_bytes(),
            golden=golden,
            tolerance=tolerance_of(wanted["precision"]),
            graph=wanted["cuda_graph"] == "on",
            progress=_LOGGER.info,
        )
        self._bind(ready, ready.engine, files[0], inputs, outputs)

    def _bind(
        self,
        ready: Ready,
        engine: Engine,
        file: Path,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
    ) -> None:
        # One thread feeds the GPU, whatever was asked for.
        super().__init__(inputs or engine.inputs, outputs or engine.outputs, threads=1)
        self._ready, self._engine, self._file = ready, engine, file
        self._feeds = _names_in_order(self.inputs, engine.inputs, "inputs", file)
        self._results = _names_in_order(self.outputs, engine.outputs, "outputs", file)

    def _run(self, arrays: list[Array]) -> dict[str, Array]:
        got = self._engine.run(dict(zip(self._feeds, arrays, strict=True)))
        return {s.name: got[name] for s, name in zip(self.outputs, self._results, strict=True)}

    def _engine_call(self, arrays: list[Array]) -> EngineCall:
        """Enqueue and synchronise, on inputs that lie on the device."""
        self._engine.place(dict(zip(self._feeds, arrays, strict=True)))

        def read() -> dict[str, Array]:
            got = self._engine.fetch()
            return {s.name: got[n] for s, n in zip(self.outputs, self._results, strict=True)}

        return EngineCall(self.runtime, self._engine.compute, read)

    def _layer_times(self, arrays: list[Array], inferences: int) -> list[KernelTime]:
        twin = self._engine.twin(graph=False)
        try:
            twin.place(dict(zip(self._feeds, arrays, strict=True)))
            times = twin.layer_milliseconds(warm_up_of(inferences), inferences)
        finally:
            twin.close()
        known = {node.title for node in read_nodes(self._file.read_bytes())}
        return [
            KernelTime(
                name,
                "Reformat" if name.startswith(_REFORMAT) else "",
                _layers(name, known),
                middle_mean(samples),
            )
            for name, samples in times.items()
            if samples
        ]

    def device_milliseconds(self, count: int) -> list[float]:
        """Time on the GPU of ``count`` runs, without copies, by CUDA events."""
        return self._engine.device_milliseconds(count)

    def clone(self) -> TensorRtSession:
        """A session on the same plan, with its own buffers and stream."""
        twin = TensorRtSession.__new__(TensorRtSession)
        twin._bind(self._ready, self._engine.twin(), self._file, self.inputs, self.outputs)
        return twin

    def _facts(self) -> dict[str, str]:
        device = self._ready.device
        return {
            **self._engine.describe(),
            "precision": "as in the graph, TF32 off",
            "gpu": device.name,
            "compute_capability": device.compute_capability,
            "cuda": f"driver {device.driver}, runtime {device.runtime}",
            "notes": "; ".join(self._ready.notes),
        }

    def close(self) -> None:
        """Give back the GPU's memory."""
        super().close()
        self._engine.close()


_REFORMAT = "Reformatting "  # "... CopyNode for Input Tensor 0 to a + b"


def _layers(name: str, known: Collection[str]) -> tuple[str, ...]:
    """The nodes in the name of a fused layer: ``"a + b"``, ``"PWN(a, b)"``, ``"PWN(PWN(a), b)"``.

    None in that of a reformat, which is TensorRT's own.
    """
    parts = [] if name.startswith(_REFORMAT) else re.split(r" \+ |, |PWN\(|[()\[\]{}]", name)
    return tuple(dict.fromkeys(part for part in parts if part in known))


def _read_options(options: Mapping[str, str]) -> dict[str, str]:
    unknown = sorted(options.keys() - _OPTIONS.keys())
    if unknown:
        raise UsageError(f"tensorrt: unknown option {unknown[0]!r}; known: {', '.join(_OPTIONS)}")
    chosen = {**_OPTIONS, **options}
    if chosen["cuda_graph"] not in ("on", "off"):
        raise UsageError(f"tensorrt: cuda_graph is on or off, got {chosen['cuda_graph']!r}")
    return chosen


def _names_in_order(
    specs: Sequence[TensorSpec], tensors: Sequence[TensorSpec], kind: str, file: Path
) -> list[str]:
    """The plan's names in the order of ``specs``, each checked against its spec."""
    order = match_names(specs, [tensor.name for tensor in tensors], kind, file)
    for spec, position in zip(specs, order, strict=True):
        check_file_tensor(spec, tensors[position].dtype, tensors[position].shape, kind, file)
    return [tensors[position].name for position in order]
