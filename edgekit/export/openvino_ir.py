"""The graph as OpenVINO IR: ``model.xml`` (topology) and ``model.bin`` (weights, float32).

IR, not ONNX, is what OpenVINO opens without its ONNX front end, which a board may lack.
"""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import onnx_ir as ir

from edgekit.errors import GraphError
from edgekit.export.onnx_file import to_bytes
from edgekit.optional import require

if TYPE_CHECKING:
    import openvino


def lower_openvino(model: ir.Model) -> dict[str, bytes]:
    """Lowering for OpenVINO.

    Raises:
        GraphError: OpenVINO cannot read the graph; its own first line is kept.
        MissingDependencyError: openvino is not installed.
    """
    ov = require("openvino", "an OpenVINO artifact")
    try:
        converted = ov.Core().read_model(io.BytesIO(to_bytes(model)))
    except RuntimeError as error:
        raise GraphError(f"openvino: {_reason(error)}") from error
    _name_by_position(converted)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        xml = Path(folder) / "model.xml"
        try:
            ov.save_model(converted, xml, compress_to_fp16=False)
        except RuntimeError as error:  # a full disk is "iostream error" in its words
            raise GraphError(
                f"openvino cannot write its files to {folder!r}: {_reason(error)}; is there space?"
            ) from error
        return {
            "model.xml": _without_run_info(xml.read_bytes()),
            "model.bin": xml.with_suffix(".bin").read_bytes(),
        }


def _name_by_position(model: openvino.Model) -> None:
    """Give unnamed nodes a name of their own.

    OpenVINO numbers them by a counter of the process, and the second export of a process would
    not be the bytes of the first.
    """
    for position, node in enumerate(model.get_ordered_ops()):
        kind = node.get_type_name()
        if re.fullmatch(rf"{kind}_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{kind}@{position}")


def _without_run_info(xml: bytes) -> bytes:
    """Drop the ``rt_info`` of the whole model: it names the converter's run, not the model."""
    root = ElementTree.fromstring(xml)
    for info in root.findall("rt_info"):
        root.remove(info)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _reason(error: RuntimeError) -> str:
    """The line of OpenVINO's message that says what is wrong, without its source locations."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check "))]
    return (telling or lines or ["the graph cannot be read"])[-1]
