"""The graph as OpenVINO IR: ``model.xml`` (topology) and ``model.bin`` (weights, float32).

IR, not ONNX, is what OpenVINO opens without its ONNX front end, which a board may lack.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import onnx_ir as ir

from edgekit.errors import GraphError
from edgekit.export.onnx_file import to_bytes
from edgekit.optional import require


def lower_openvino(model: ir.Model) -> dict[str, bytes]:
    """Lowering for OpenVINO.

    Raises:
        GraphError: OpenVINO cannot read the graph; its own first line is kept.
        MissingDependencyError: openvino is not installed.
    """
    openvino = require("openvino", "an OpenVINO artifact")
    try:
        converted = openvino.Core().read_model(io.BytesIO(to_bytes(model)))
    except RuntimeError as error:
        raise GraphError(f"openvino: {_reason(error)}; --skip openvino leaves it out") from error
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        xml = Path(folder) / "model.xml"
        openvino.save_model(converted, xml, compress_to_fp16=False)
        return {
            "model.xml": _without_run_info(xml.read_bytes()),
            "model.bin": xml.with_suffix(".bin").read_bytes(),
        }


def _without_run_info(xml: bytes) -> bytes:
    """Drop the ``rt_info`` of the whole model: it names the converter's run, not the model."""
    root = ElementTree.fromstring(xml)
    for info in root.findall("rt_info"):
        root.remove(info)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _reason(error: RuntimeError) -> str:
    """The line of OpenVINO's message that says what is wrong, without its source locations."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check "))]
    return (telling or lines or ["the graph cannot be read"])[-1]
