"""Zeros around a map that a convolution can put there itself."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.export.passes.graph import (
    Attribute,
    Builder,
    attribute,
    constant,
    producer,
    replace,
    scalar,
    shape,
)
from edgekit.export.passes.infra import NodePass


class PadIntoConv(NodePass):
    """A Pad with zeros becomes the padding of the convolution after it.

    TensorFlow pads unevenly where a stride does not divide, and PyTorch's convolutions cannot:
    networks that do as TensorFlow does have a Pad of their own.

    Given:
        x: float[1, 8, 6, 6]
        a = Pad(x, [0, 0, 0, 0, 0, 0, 1, 1], 0.0)
        y = Conv(a, w[6, 8, 3, 3], strides=[2, 2])
        return y
    Result:
        x: float[1, 8, 6, 6]
        y = Conv(x, w[6, 8, 3, 3], pads=[0, 0, 1, 1], strides=[2, 2])
        return y
    """

    name = "pad-into-conv"
    op_types = ("Conv",)
    refused = "not folded"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        pad = producer(node.inputs[0], "Pad")
        if pad is None or pad.inputs[0] is None:
            return False
        if attribute(node, "auto_pad", "NOTSET") != "NOTSET":
            return "the convolution pads by auto_pad"
        zeros = _zeros(pad)
        if isinstance(zeros, str):
            return zeros
        own = attribute(node, "pads", (0,) * len(zeros))
        attributes: dict[str, Attribute] = {k: a.value for k, a in node.attributes.items()}
        attributes["pads"] = tuple(a + b for a, b in zip(own, zeros, strict=True))
        built = Builder(node).one("Conv", pad.inputs[0], *node.inputs[1:], **attributes)
        replace(node.outputs[0], built)
        return True


def _zeros(pad: ir.Node) -> tuple[int, ...] | str:
    """Zeros before and after each axis of the map, or why it is more than that."""
    rank = len(shape(pad.outputs[0]))
    amounts = constant(pad.inputs[1]) if len(pad.inputs) > 1 else None
    if amounts is None or len(pad.inputs) > 3:  # with axes, amounts are of those only
        return "how much is padded where is not constant, or by axes"
    filled = pad.inputs[2] if len(pad.inputs) > 2 else None
    if attribute(pad, "mode", "constant") != "constant" or (
        filled is not None and scalar(filled) != 0
    ):
        return "it does not pad with zeros"
    before, after = amounts[:rank], amounts[rank:]
    if any(before[:2]) or any(after[:2]) or (amounts < 0).any():
        return "it pads batch or channels, or cuts"
    return tuple(int(n) for n in (*before[2:], *after[2:]))
