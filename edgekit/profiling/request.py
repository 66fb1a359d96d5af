"""What somebody asks of the profiler: the same on this machine and, as JSON, on a board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """One profile to make. Empty tuples mean what the preset does.

    Attributes:
        bundle: folder or ``.edgekit`` file.
        preset: ``quick``, ``default`` or ``thorough``: what is measured and how long.
        runtimes: keys of ``RUNTIMES``; empty: all of the bundle that are installed.
        threads: each is measured; empty: 1, and with ``thorough`` also all the big cores.
        scopes: of ``result.SCOPES``.
        pace_hz: also measure at this rate of starts per second; 0: not.
        sustain_s: also run back-to-back for so long and keep the time series; 0: not.
        cpus: ``auto``, ``none`` (do not pin) or a list such as ``0-3,6``.
        references: bundles of reference networks, timed in turns with the model.
        layers: measure per layer; None is what the preset does. ``memory`` likewise.
        image: file that the pipeline scope is fed; "" for a drawn one.
        options: of the runtimes, ``{"tensorrt.cuda_graph": "off"}``.
        command: the words typed, for the record.
    """

    bundle: str
    preset: str = "default"
    runtimes: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    scopes: tuple[str, ...] = ()
    pace_hz: float = 0.0
    sustain_s: float = 0.0
    cpus: str = "auto"
    references: tuple[str, ...] = ()
    layers: bool | None = None
    memory: bool | None = None
    image: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
