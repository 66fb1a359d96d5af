"""Memory of one fresh process: what the runtime takes, what the model adds, what running adds.

    import the runtime   imported    resident
    open the artifact    loaded      resident         peak_load  highest so far
    run it               peak_use    highest so far   device     taken from the accelerator

Resident is ``VmRSS`` and highest is ``VmHWM`` of ``/proc/self/status``: pages in RAM, those of
shared libraries and mapped files among them. The interpreter, numpy and edgekit are inside all
of them: ``imported`` is what a process has before it has a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.bundle import schema
from edgekit.errors import EdgekitError
from edgekit.profiling.clock import Clock
from edgekit.profiling.job import Job
from edgekit.profiling.opening import golden_inputs, import_runtime, open_model
from edgekit.profiling.result import Memory

_INFERENCES = 20  # engines have grown to their full size after a few
_STATUS = "proc/self/status"
_MOST_BYTES = 1 << 16
_RESIDENT, _PEAK = "VmRSS", "VmHWM"


def work(job: Job, clock: Clock, *, root: Path = Path("/")) -> dict[str, Any]:
    """Import, open and run, reading this process's memory in between. No time is measured."""
    import_runtime(job)
    imported = read_status(root)
    free = _free_on_device(job.runtime)
    with open_model(job) as model:
        loaded = read_status(root)
        inputs = golden_inputs(model)
        for _ in range(_INFERENCES):
            model.run(inputs)
        used = read_status(root)
        left = _free_on_device(job.runtime)
    device = None if free is None or left is None else max(free - left, 0)
    document = Memory(
        runtime=job.runtime,
        threads=job.threads,
        imported=imported.get(_RESIDENT, 0),
        loaded=loaded.get(_RESIDENT, 0),
        peak_load=loaded.get(_PEAK, 0),
        peak_use=used.get(_PEAK, 0),
        device=device,
        note=_note(bool(imported and loaded and used), device),
    )
    encoded: dict[str, Any] = schema.encode(document)
    return encoded


def memory(document: Mapping[str, Any]) -> Memory:
    """What ``work`` said.

    Raises:
        SchemaError: something else.
    """
    return schema.decode(Memory, dict(document))


def read_status(root: Path = Path("/")) -> dict[str, int]:
    """``VmRSS`` and ``VmHWM`` of this process in bytes; empty where the system has none."""
    try:
        with (root / _STATUS).open(encoding="ascii", errors="replace") as file:
            text = file.read(_MOST_BYTES)
    except OSError:
        return {}
    rows = (line.partition(":") for line in text.splitlines())
    sizes = {key: value.split() for key, _, value in rows if key in (_RESIDENT, _PEAK)}
    found = {
        key: int(words[0]) * 1024
        for key, words in sizes.items()
        if len(words) == 2 and words[0].isdecimal() and words[1] == "kB"
    }
    return found if len(found) == len((_RESIDENT, _PEAK)) else {}


def _free_on_device(runtime: str) -> int | None:
    """Bytes that nobody uses on the GPU; None without one."""
    if runtime != "tensorrt":
        return None
    from edgekit.runtimes import cudart

    try:
        return cudart.load().free_memory()
    except EdgekitError:
        return None


def _note(known: bool, device: int | None) -> str:
    if not known:
        return "not measured: this system has no /proc/self/status with VmRSS and VmHWM"
    note = f"VmRSS and VmHWM of a process that runs {_INFERENCES} inferences"
    if device is not None:
        note += (
            "; device: free before opening - free after running, by cudaMemGetInfo, the CUDA "
            "context not included; on a Jetson others use that memory too"
        )
    return note
