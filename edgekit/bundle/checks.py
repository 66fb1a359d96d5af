"""What a model file must look like before a vendor's parser sees it.

These are cheap checks of structure, one a suffix. They refuse a file that is something else,
cut short, or that reaches outside the bundle (ONNX external data, XML entities). They do not
prove that a model is valid: the runtime does that.

    .tflite   flatbuffer identifier TFL3, root table and its vtable inside the file
    .onnx     protobuf with a graph, all lengths inside the file, no external data
    .xml      well-formed, root <net>, no DTD and no entities
    .npz      a zip whose members unpack to a bounded size

and one that goes by its whole name: counts.json, whose numbers and texts are of bounded size.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from xml.parsers import expat

from edgekit.bundle.counts import COUNTS, check_counts
from edgekit.bundle.golden import check_npz
from edgekit.errors import BundleError


def check_structure(name: str, data: bytes) -> None:
    """Refuse ``data`` if it cannot be what the suffix of ``name`` says.

    Raises:
        BundleError: one line that names the file and what is wrong with it.
    """
    if name == COUNTS:
        check_counts(name, data)
    for suffix, check in _CHECKS.items():
        if name.endswith(suffix):
            check(name, data)


def needs_check(name: str) -> bool:
    """Whether ``name`` or its suffix has a check."""
    return name == COUNTS or name.endswith(tuple(_CHECKS))


# ---- flatbuffers -----------------------------------------------------------------------------


def _check_tflite(name: str, data: bytes) -> None:
    if len(data) < 16 or data[4:8] != b"TFL3":
        raise BundleError(f"{name} is not a TFLite model: the identifier TFL3 is missing")
    root = int.from_bytes(data[:4], "little")
    if not 8 <= root <= len(data) - 4:
        raise BundleError(f"{name} is damaged: its root table is outside the file")
    (offset,) = struct.unpack_from("<i", data, root)
    vtable = root - offset
    if not 4 <= vtable <= len(data) - 4:
        raise BundleError(f"{name} is damaged: its vtable is outside the file")
    vtable_bytes, table_bytes = struct.unpack_from("<HH", data, vtable)
    if vtable + vtable_bytes > len(data) or root + table_bytes > len(data) or vtable_bytes < 4:
        raise BundleError(f"{name} is damaged: its root table is cut short")


# ---- protobuf --------------------------------------------------------------------------------

# Message -> {field number: message inside}. Only the way to every tensor, from onnx.proto.
_MESSAGES: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor",
                  23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}  # fmt: skip
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of Tensor
_MAX_DEPTH = 64


def _check_onnx(name: str, data: bytes) -> None:
    fields = set()
    try:
        for number, kind, start, end in _protobuf_fields(data, 0, len(data)):
            fields.add(number)
            inner = _MESSAGES["Model"].get(number)
            if inner and kind == 2 and _has_external_data(inner, data, start, end, 0):
                raise BundleError(
                    f"{name} keeps weights in another file: edgekit takes single-file ONNX; "
                    "save it without external data"
                )
    except ValueError as error:
        raise BundleError(f"{name} is not an ONNX model: {error}") from None
    if not {1, 7} <= fields:
        raise BundleError(f"{name} is not an ONNX model: it has no IR version or no graph")


def _has_external_data(message: str, data: bytes, start: int, end: int, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError(f"graphs nested more than {_MAX_DEPTH} deep")
    inside = _MESSAGES[message]
    for number, kind, first, last in _protobuf_fields(data, start, end):
        if message == "Tensor":
            if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and last):
                return True
            continue
        inner = inside.get(number) if kind == 2 else None
        if inner and _has_external_data(inner, data, first, last, depth + 1):
            return True
    return False


def _protobuf_fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Fields of one message: number, wire type, and start and end of the payload.

    A varint's payload is given as (0, value).
    """
    while at < end:
        key, at = _varint(data, at, end)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at, end)
            yield number, kind, 0, value
            continue
        if kind == 2:
            size, at = _varint(data, at, end)
        else:
            size = _FIXED_BYTES.get(kind, -1)
        if size < 0 or number == 0 or at + size > end:
            raise ValueError("not a protobuf message, or cut short")
        yield number, kind, at, at + size
        at += size


_FIXED_BYTES = {1: 8, 5: 4}  # wire type -> bytes


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("not a protobuf message, or cut short")


# ---- OpenVINO IR -----------------------------------------------------------------------------


def _check_xml(name: str, data: bytes) -> None:
    roots: list[str] = []

    def refuse(*_: object) -> None:
        raise BundleError(f"{name} declares a document type or an entity: not an OpenVINO model")

    def start(tag: str, _attributes: object) -> None:
        if not roots:
            roots.append(tag)

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise BundleError(f"{name} is not well-formed XML: {error}") from None
    if roots != ["net"]:
        raise BundleError(f"{name} is not an OpenVINO model: its root is <{roots[0]}>, not <net>")


def _check_npz(name: str, data: bytes) -> None:
    del name  # its errors name golden.npz, the one .npz there is
    check_npz(data)


_CHECKS: Mapping[str, Callable[[str, bytes], None]] = {
    ".tflite": _check_tflite,
    ".onnx": _check_onnx,
    ".xml": _check_xml,
    ".npz": _check_npz,
}
