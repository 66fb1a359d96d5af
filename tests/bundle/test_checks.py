from __future__ import annotations

import contextlib
import struct

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgekit.bundle.checks import check_structure, needs_check
from edgekit.errors import BundleError


def onnx_bytes(location: str = "", *, nested: bool = False) -> bytes:
    """A model with one weight, which may say that its data is in another file."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [2.0])
    if location:
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)
    nodes, weights = [helper.make_node("Mul", ["x", "w"], ["y"])], [weight]
    if nested:  # in an attribute of a node of a branch
        constant = helper.make_node("Constant", [], ["y"], value=weight)
        branch = helper.make_graph([constant], "b", [], [_info("y")])
        nodes = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
        weights = [helper.make_tensor("c", TensorProto.BOOL, [], [True])]
    graph = helper.make_graph(nodes, "g", [_info("x")], [_info("y")], weights)
    return bytes(helper.make_model(graph).SerializeToString())


def _info(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])


def tflite_bytes() -> bytearray:
    """A flatbuffer whose root table has an empty vtable: the least that passes."""
    data = bytearray(32)
    struct.pack_into("<I4s", data, 0, 16, b"TFL3")
    struct.pack_into("<HH", data, 8, 4, 4)  # vtable: its size, the table's size
    struct.pack_into("<i", data, 16, 8)  # table: distance back to its vtable
    return data


def _broken_tflite(at: int, form: str, *values: int) -> bytes:
    data = tflite_bytes()
    struct.pack_into(form, data, at, *values)
    return bytes(data)


GOOD = {
    "model.onnx": onnx_bytes(),
    "nested.onnx": onnx_bytes(nested=True),
    "model.tflite": bytes(tflite_bytes()),
    "model.xml": b'<?xml version="1.0"?>\n<net name="x"><layers/></net>\n',
    "anything.bin": b"\0",
    "README.md": b"",
}


@pytest.mark.parametrize("name", GOOD)
def test_sound_files_pass(name: str):
    check_structure(name, GOOD[name])


BAD = [
    ("m.onnx", b"", "m.onnx is not an ONNX model: it has no IR version or no graph"),
    ("m.onnx", b"hello, world, this is text", "m.onnx is not an ONNX model: not a protobuf"),
    ("m.onnx", GOOD["model.onnx"][:-3], "m.onnx is not an ONNX model: not a protobuf"),
    ("m.onnx", b"\x3a\x00", "it has no IR version or no graph"),
    ("m.onnx", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "not a protobuf"),
    ("m.onnx", onnx_bytes("/etc/passwd"), "m.onnx keeps weights in another file"),
    ("m.onnx", onnx_bytes("w.bin", nested=True), "m.onnx keeps weights in another file"),
    ("m.tflite", b"", "m.tflite is not a TFLite model: the identifier TFL3 is missing"),
    ("m.tflite", b"\x1c\0\0\0TFL2" + bytes(100), "the identifier TFL3 is missing"),
    ("m.tflite", _broken_tflite(0, "<I", 4000), "its root table is outside the file"),
    ("m.tflite", _broken_tflite(0, "<I", 0), "its root table is outside the file"),
    ("m.tflite", _broken_tflite(16, "<i", -400), "its vtable is outside the file"),
    ("m.tflite", _broken_tflite(16, "<i", 400), "its vtable is outside the file"),
    ("m.tflite", _broken_tflite(8, "<HH", 400, 4), "its root table is cut short"),
    ("m.tflite", _broken_tflite(8, "<HH", 4, 400), "its root table is cut short"),
    ("m.xml", b"", "m.xml is not well-formed XML: no element found"),
    ("m.xml", b"<net><layers></net>", "m.xml is not well-formed XML: mismatched tag"),
    ("m.xml", b"<html/>", "its root is <html>, not <net>"),
    ("m.xml", b'<!DOCTYPE net SYSTEM "file:///etc/passwd"><net/>', "a document type or an entity"),
    ("m.xml", b'<!DOCTYPE n [<!ENTITY a "b">]><net>&a;</net>', "a document type or an entity"),
    ("golden.npz", b"text", "golden.npz is not an .npz file"),
]


@pytest.mark.parametrize(("name", "data", "message"), BAD)
def test_other_files_are_refused_in_one_line(name: str, data: bytes, message: str):
    with pytest.raises(BundleError, match=message) as caught:
        check_structure(name, data)
    assert "\n" not in str(caught.value)


def test_deeply_nested_graphs_are_refused():
    field = b""
    for _ in range(100):  # graph -> node -> attribute -> graph -> ...
        for number in (6, 5, 1):
            field = bytes([number << 3 | 2]) + _varint(len(field)) + field
    model = b"\x08\x0a\x3a" + _varint(len(field)) + field
    with pytest.raises(BundleError, match="graphs nested more than 64 deep"):
        check_structure("m.onnx", model)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(["m.onnx", "m.tflite", "m.xml", "golden.npz"]),
    data=st.binary(max_size=200),
    seed=st.binary(max_size=3),
    at=st.integers(0, 400),
)
def test_any_bytes_pass_or_are_refused(name: str, data: bytes, seed: bytes, at: int):
    good = GOOD.get(name.replace("m.", "model."), b"PK")
    for candidate in (data, good[:at] + seed + good[at + len(seed) :]):
        with contextlib.suppress(BundleError):  # and nothing else
            check_structure(name, candidate)


def test_only_model_files_are_checked():
    assert needs_check("model.tflite")
    assert not needs_check("model.bin")
