"""What each target gets: runtimes, ONNX opset, and the graph form that is fast there.

``TARGETS`` is the one table. The order of ``runtimes`` is the order in which
``edgekit.load`` tries them on the device: a fixed order, not a timing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit.errors import UnknownNameError, UsageError


@dataclass(frozen=True)
class GraphChoices:
    """Form of the graph where the fastest exact form depends on the machine.

    The rows are written by ``benchmarks/fit_choices.py`` from measurements; an export never
    times anything. Every form is exact, so a row that does not fit a machine costs time only.

    Attributes:
        costs: row of ``edgekit.export.passes.costs.COSTS`` that decides below.
        depth_multiplier: depthwise convolutions with a multiplier take the cheapest form.
        channel_order: channels are stored in the order in which permutations cost least.
        merge_groups: grouped convolutions run in fewer groups where that costs less.
        tile_below: the coefficients of maps with fewer channels are as wide as the map.
        synthesise_above: places of a map per channel that enters, from which on the kernel of a
            dynamic 1x1 convolution is synthesised; 0 is never.
    """

    costs: str = ""
    depth_multiplier: bool = False
    channel_order: bool = False
    merge_groups: bool = False
    tile_below: int = 0
    synthesise_above: float = 0.0


@dataclass(frozen=True)
class Target:
    """One row: a board or a class of machines.

    Attributes:
        name: what the user types after ``--target``.
        title: the machine, in words.
        machine: ``platform.machine()`` there.
        runtimes: artifacts made for it, in the order ``load`` tries them.
        opset: ONNX opset of the exported graph.
        choices: per runtime, the graph form used there.
        needs: what the device itself must bring.
        refused: why edgekit does not export for it, or "".
    """

    name: str
    title: str
    machine: str
    runtimes: tuple[str, ...]
    opset: int = 18
    choices: Mapping[str, GraphChoices] = field(default_factory=dict)
    needs: str = ""
    refused: str = ""


# Fitted on x86, where all three were measured. No ARM board has been timed yet; what is known of
# ARM are instruction counts of an emulated Cortex-A72 (benchmarks/arm_instructions.py): LiteRT's
# form takes 24 to 30 % fewer there than the canonical graph, onnxruntime's 6 to 15 % more. So ARM
# gets the one and not the other.
#
# A dynamic 1x1 convolution's kernel is synthesised where that was measured to be faster
# (benchmarks/dcd.py --forms, time of DCD-MobileNetV2-x0.5 over its feature form's): from 1 to 4
# places a channel on onnxruntime takes 0.81 to 0.83 and LiteRT 0.82 to 0.83, while OpenVINO takes
# 1.01 to 1.03 wherever the threshold is, and so gets the feature form. x1.0 (0.84 and 0.82 to 0.85)
# and x0.35 agree. These are times on x86. On the emulated core LiteRT's form of x0.5 takes 57.6 M
# instructions with kernels synthesised from 2 places and 70.0 M in the feature form, that of x0.35
# 38.8 M and 48.2 M (benchmarks/arm_instructions.py, ours and canonical).
_ONNXRUNTIME = GraphChoices(
    "onnxruntime-x86", depth_multiplier=True, channel_order=True, synthesise_above=2.0
)
_OPENVINO = GraphChoices("openvino-x86", depth_multiplier=True, channel_order=True)
_LITERT = GraphChoices(
    "litert-x86",
    depth_multiplier=True,
    channel_order=True,
    merge_groups=True,
    tile_below=48,
    synthesise_above=2.0,
)
_X86 = {"openvino": _OPENVINO, "onnxruntime": _ONNXRUNTIME}
_ARM = {"litert": _LITERT, "onnxruntime": GraphChoices()}
# TensorRT gets the canonical graph: it fuses permutations and element-wise operators by itself.
# onnxruntime opens the same file there: its parity, measured on the host, is then a statement
# about the very file the plan is built from.
_JETSON = {"tensorrt": GraphChoices(), "onnxruntime": GraphChoices()}

_JETPACK6 = "JetPack 6.1 or later (TensorRT 10.3 or later, Python 3.10 or later)"
_TOO_OLD = (
    "its last JetPack has TensorRT {trt} (ONNX opset {opset}), and edgekit's floor is "
    "TensorRT 10.3 with opset 18; use --target arm for its CPU"
)

TARGETS: dict[str, Target] = {
    row.name: row
    for row in (
        Target("x86", "x86-64 PC or server", "x86_64", ("openvino", "onnxruntime"), choices=_X86),
        Target("arm", "64-bit ARM Linux", "aarch64", ("litert", "onnxruntime"), choices=_ARM),
        Target(
            "rpi4",
            "Raspberry Pi 4 (Cortex-A72)",
            "aarch64",
            ("litert", "onnxruntime"),
            choices=_ARM,
        ),
        Target(
            "rpi5",
            "Raspberry Pi 5 (Cortex-A76)",
            "aarch64",
            ("litert", "onnxruntime"),
            choices=_ARM,
        ),
        Target(
            "jetson",
            "NVIDIA Jetson",
            "aarch64",
            ("tensorrt", "onnxruntime"),
            choices=_JETSON,
            needs=_JETPACK6,
        ),
        Target(
            "jetson-orin-nano",
            "NVIDIA Jetson Orin Nano",
            "aarch64",
            ("tensorrt", "onnxruntime"),
            choices=_JETSON,
            needs=_JETPACK6,
        ),
        Target(
            "jetson-agx-orin",
            "NVIDIA Jetson AGX Orin",
            "aarch64",
            ("tensorrt", "onnxruntime"),
            choices=_JETSON,
            needs=_JETPACK6,
        ),
        Target(
            "jetson-nano",
            "NVIDIA Jetson Nano, TX1, TX2 (JetPack 4)",
            "aarch64",
            (),
            refused=_TOO_OLD.format(trt="8.2", opset=13),
        ),
        Target(
            "jetson-xavier",
            "NVIDIA Jetson Xavier (JetPack 5)",
            "aarch64",
            (),
            refused=_TOO_OLD.format(trt="8.5", opset=17),
        ),
    )
}


def get_target(name: str) -> Target:
    """The row of ``name``.

    Raises:
        UnknownNameError: no such target.
        UsageError: a target edgekit knows and does not serve.
    """
    if name not in TARGETS:
        near = _refused_like(name)
        if near:
            raise UsageError(f"unknown target {name!r}; {near} is not supported: {_why(near)}")
        served = [row.name for row in TARGETS.values() if not row.refused]
        raise UnknownNameError("target", name, served)
    if TARGETS[name].refused:
        raise UsageError(f"target {name!r} is not supported: {_why(name)}")
    return TARGETS[name]


def _refused_like(name: str) -> str:
    """The refused row that ``name`` most likely means, or "": its board's word, or its spelling."""
    words = set(_words(name))
    served = {word for row in TARGETS.values() if not row.refused for word in _words(row.name)}
    for row in TARGETS.values():
        if row.refused and words & (set(_words(f"{row.name} {row.title}")) - served):
            return row.name
    close = difflib.get_close_matches(name.lower(), TARGETS, n=1, cutoff=0.5)
    return close[0] if close and TARGETS[close[0]].refused else ""


def _words(text: str) -> list[str]:
    """Words with a letter: versions are none."""
    return [word for word in re.findall(r"[a-z0-9]+", text.lower()) if not word.isdigit()]


def _why(name: str) -> str:
    """Why a row is refused, and the served board that it may be taken for."""
    last = name.rpartition("-")[2]
    like = [row.name for row in TARGETS.values() if not row.refused and last in _words(row.name)]
    return TARGETS[name].refused + (f"; {', '.join(like)} is another board" if like else "")
