"""Tensors and operators as plain Python objects, and their packing into a ``.tflite`` file.

The only file that knows the FlatBuffer schema (TensorFlow Lite schema version 3). It uses
the classes that ``ai-edge-litert`` ships; operators, options and enum members go by the
schema's own names (``"CONV_2D"``, ``strideH=2``, ``padding="SAME"``).

    Tensor, Operator   --pack-->   bytes: "TFL3", one subgraph, signature "serving_default"

Traps of the format that the code below steps around:

    buffer 0              must be the empty sentinel: "no constant data"
    buffer data           a numpy uint8 array; bytes take a Python loop per byte (3 s a model)
    16-byte alignment     the generated Pack aligns to 4, kernels may assume 16
    deprecatedBuiltinCode still read by old runtimes, saturates at 127
    builtinOptionsType    must be set beside builtinOptions
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import GraphError
from edgekit.optional import require

Shape = tuple[int, ...]
Array = npt.NDArray[Any]

SIGNATURE = "serving_default"
_FEATURE = "the TFLite lowering"

# numpy dtype -> member of the schema's TensorType
TENSOR_TYPES: dict[str, str] = {
    "float32": "FLOAT32",
    "int32": "INT32",
    "int64": "INT64",
    "int8": "INT8",
    "uint8": "UINT8",
    "bool": "BOOL",
}

# Option fields that hold an enum member -> the enum's class.
_ENUM_FIELDS = {
    "padding": "Padding",
    "fusedActivationFunction": "ActivationFunctionType",
    "mode": "MirrorPadMode",
    "inDataType": "TensorType",
    "outDataType": "TensorType",
    "outputType": "TensorType",
}

# Operator -> its options table, where the name does not follow from the operator's.
_OPTIONS: dict[str, str] = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "RESHAPE": "ReshapeOptions",
    "SPLIT": "SplitOptions",
    "CONCATENATION": "ConcatenationOptions",
    "GATHER": "GatherOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "MIRROR_PAD": "MirrorPadOptions",
    "SOFTMAX": "SoftmaxOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "GELU": "GeluOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "CAST": "CastOptions",
    "ARG_MAX": "ArgMaxOptions",
    "ARG_MIN": "ArgMinOptions",
    "CUMSUM": "CumsumOptions",
}


@dataclass(eq=False)
class Tensor:
    """A tensor of the file; constant when it has ``data``."""

    name: str
    shape: Shape
    dtype: np.dtype[Any]
    data: Array | None = None
    source: Operator | None = field(default=None, repr=False)  # who computes it


@dataclass(eq=False)
class Operator:
    """A builtin operator; ``inputs`` may hold None for one left out."""

    code: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1


def pack(
    operators: Sequence[Operator],
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
) -> bytes:
    """The file that computes ``outputs`` from ``inputs``; what no output needs is left out.

    Args:
        operators: in an order in which they can run.
        inputs: name in the signature -> tensor.
        outputs: name in the signature -> tensor; no tensor twice, none an input or constant.

    Raises:
        MissingDependencyError: ``ai-edge-litert`` or ``flatbuffers`` is not installed.
        GraphError: the file would be larger than a FlatBuffer can be.
    """
    live = _live(operators, outputs.values())
    _name_uniquely(live, inputs, outputs)
    return _Packer(live, inputs, outputs).pack()


def _live(operators: Sequence[Operator], outputs: Iterable[Tensor]) -> list[Operator]:
    needed = {id(tensor) for tensor in outputs}
    live: list[Operator] = []
    for operator in reversed(operators):
        if any(id(tensor) in needed for tensor in operator.outputs):
            live.append(operator)
            needed |= {id(tensor) for tensor in operator.inputs if tensor is not None}
    return live[::-1]


def _name_uniquely(
    operators: Sequence[Operator], inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
) -> None:
    for name, tensor in (*inputs.items(), *outputs.items()):
        tensor.name = name
    taken: dict[str, Tensor] = {**inputs, **outputs}
    for operator in operators:
        for tensor in filter(None, (*operator.inputs, *operator.outputs)):
            if taken.get(tensor.name) is tensor:
                continue
            base, count = tensor.name, 1
            while tensor.name in taken:
                tensor.name, count = f"{base};{count}", count + 1
            taken[tensor.name] = tensor


class _Packer:
    """One file in the making: tensors get their index when they are first met."""

    def __init__(
        self,
        operators: Sequence[Operator],
        inputs: Mapping[str, Tensor],
        outputs: Mapping[str, Tensor],
    ) -> None:
        self._schema: Any = require("ai_edge_litert.schema_py_generated", _FEATURE)
        self._buffer_class: Any = _aligned_buffer_class(self._schema)
        self._operators, self._inputs, self._outputs = operators, inputs, outputs
        self._indices: dict[int, int] = {}  # id(Tensor) -> index
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [self._schema.BufferT()]  # the empty sentinel
        self._codes: dict[tuple[str, int], int] = {}  # (operator, version) -> index
        self._payload = 0  # bytes of constants

    def pack(self) -> bytes:
        subgraph = self._schema.SubGraphT()
        subgraph.name = "main"
        subgraph.inputs = [self._index(tensor) for tensor in self._inputs.values()]
        subgraph.operators = [self._operator(operator) for operator in self._operators]
        subgraph.outputs = [self._index(tensor) for tensor in self._outputs.values()]
        subgraph.tensors = self._tensors
        model = self._schema.ModelT()
        model.version = 3
        model.description = "edgekit"
        model.operatorCodes = [self._operator_code(*key) for key in self._codes]
        model.subgraphs = [subgraph]
        model.buffers = self._buffers
        model.signatureDefs = [self._signature()]
        return self._serialize(model)

    def _index(self, tensor: Tensor | None) -> int:
        if tensor is None:
            return -1  # an optional input left out
        if id(tensor) not in self._indices:
            self._indices[id(tensor)] = len(self._tensors)
            self._tensors.append(self._tensor(tensor))
        return self._indices[id(tensor)]

    def _tensor(self, tensor: Tensor) -> Any:
        packed = self._schema.TensorT()
        packed.name = tensor.name
        packed.shape = list(tensor.shape)
        packed.hasRank = True
        packed.type = self._enum("TensorType", TENSOR_TYPES[tensor.dtype.name])
        if tensor.data is not None:
            packed.buffer = len(self._buffers)
            self._buffers.append(self._buffer_class(_as_bytes(tensor.data)))
            self._payload += tensor.data.nbytes
        return packed

    def _operator(self, operator: Operator) -> Any:
        packed = self._schema.OperatorT()
        key = (operator.code, operator.version)
        packed.opcodeIndex = self._codes.setdefault(key, len(self._codes))
        packed.inputs = [self._index(tensor) for tensor in operator.inputs]
        packed.outputs = [self._index(tensor) for tensor in operator.outputs]
        if operator.code in _OPTIONS:
            kind = _OPTIONS[operator.code]
            packed.builtinOptionsType = self._enum("BuiltinOptions", kind)
            packed.builtinOptions = self._options(kind, operator.options)
        return packed

    def _options(self, kind: str, fields: Mapping[str, Any]) -> Any:
        options = getattr(self._schema, f"{kind}T")()
        for name, value in fields.items():
            if not hasattr(options, name):
                raise AttributeError(f"{kind} has no field {name!r}")
            enum = _ENUM_FIELDS.get(name)
            is_member = enum is not None and isinstance(value, str)
            setattr(options, name, self._enum(str(enum), value) if is_member else value)
        return options

    def _operator_code(self, code: str, version: int) -> Any:
        number = self._enum("BuiltinOperator", code)
        packed = self._schema.OperatorCodeT()
        packed.builtinCode = number
        packed.deprecatedBuiltinCode = min(number, 127)  # 127: "look at builtinCode"
        packed.version = version
        return packed

    def _signature(self) -> Any:
        signature = self._schema.SignatureDefT()
        signature.signatureKey = SIGNATURE
        signature.subgraphIndex = 0
        signature.inputs = self._tensor_map(self._inputs)
        signature.outputs = self._tensor_map(self._outputs)
        return signature

    def _tensor_map(self, tensors: Mapping[str, Tensor]) -> list[Any]:
        packed = []
        for name, tensor in tensors.items():
            entry = self._schema.TensorMapT()
            entry.name, entry.tensorIndex = name, self._index(tensor)
            packed.append(entry)
        return packed

    def _enum(self, kind: str, member: str) -> int:
        return int(getattr(getattr(self._schema, kind), member))

    def _serialize(self, model: Any) -> bytes:
        if self._payload >= 2**31 - 2**20:
            raise GraphError(
                f"tflite: {self._payload / 2**30:.1f} GiB of constants do not fit a .tflite file, "
                "which ends at 2 GiB: use another runtime"
            )
        flatbuffers: ModuleType = require("flatbuffers", _FEATURE)
        builder = flatbuffers.Builder(self._payload + 2**16)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def _as_bytes(data: Array) -> npt.NDArray[np.uint8]:
    little_endian = data.astype(data.dtype.newbyteorder("<"), copy=False)
    return np.frombuffer(little_endian.tobytes(), np.uint8)


def _aligned_buffer_class(schema: Any) -> Any:
    """BufferT whose data starts at a multiple of 16 bytes, as the schema promises."""

    class AlignedBufferT(schema.BufferT):  # type: ignore[misc]  # the base is loaded late
        def Pack(self, builder: Any) -> int:  # noqa: N802  # name given by the base
            size = self.data.size
            builder.StartVector(1, size, 16)
            builder.head -= size
            builder.Bytes[builder.head : builder.head + size] = self.data.tobytes()
            builder.vectorNumElems = size
            data = builder.EndVector()
            schema.BufferStart(builder)
            schema.BufferAddData(builder, data)
            return int(schema.BufferEnd(builder))

    return AlignedBufferT
