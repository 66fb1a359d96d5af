"""A user's own ``.onnx`` file, read as untrusted input and brought to edgekit's form.

    file -> external data checked, loaded -> fixed shapes -> a child process opens and runs it
         -> inlined -> opset

The form is the one ``trace`` gives: one graph, no functions, edgekit's opset, static shapes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.inliner
import onnx_ir as ir
import onnxscript.optimizer
from google.protobuf.message import DecodeError

from edgekit.errors import GraphError, UsageError
from edgekit.export.trace import strip_metadata
from edgekit.runtimes.probe import probe_file

_SIZE_CAP = 2**31 - 1  # a larger protobuf cannot be one file

InputShapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class UserModel:
    """The graph edgekit works on, and the file it must stay equal to.

    Attributes:
        graph: inlined, converted to edgekit's opset, static.
        original: the user's model as written, only its input shapes fixed and weights inside.
    """

    graph: ir.Model
    original: bytes


def load_onnx(path: Path, *, opset: int, input_shapes: InputShapes) -> UserModel:
    """Read ``path`` and fix its shapes.

    Args:
        path: the ``.onnx`` file.
        opset: default-domain opset of the result.
        input_shapes: shapes for inputs whose own are dynamic; key "" stands for the only input.

    Raises:
        GraphError: invalid, hostile, or with shapes that stay dynamic.
        UsageError: ``input_shapes`` names no input, or contradicts the file.
    """
    proto = _read(path)
    _load_external_data(proto, path)
    _fix_input_shapes(proto, input_shapes)
    original = _try_in_a_child(proto, path)
    proto = _convert_opset(_inline_functions(proto), opset)
    model = ir.from_proto(_infer_shapes(proto))
    # As the exporter does for traced modules: shape arithmetic becomes constants.
    onnxscript.optimizer.optimize_ir(model)
    _check_output_shapes(model)
    _name_nodes(model)
    strip_metadata(model)
    return UserModel(model, original)


def _read(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise GraphError(f"no such ONNX file: {path}")
    size = path.stat().st_size
    if not 0 < size <= _SIZE_CAP:
        raise GraphError(f"{path} has {size} bytes; an ONNX file has 1 to {_SIZE_CAP}")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise GraphError(f"{path} is not an ONNX file, or is truncated") from error
    if not proto.graph.node or not proto.opset_import:
        raise GraphError(f"{path} is not an ONNX model: it has no nodes or names no opset")
    return proto


def _try_in_a_child(proto: onnx.ModelProto, path: Path) -> bytes:
    """``proto`` as bytes, once a child process has opened and run them.

    Native code reads them next, and a broken or hostile graph may take the process down with it.
    """
    size = proto.ByteSize()
    if size > _SIZE_CAP:
        raise GraphError(f"{path} has {size} bytes with its weights; at most {_SIZE_CAP} are read")
    data = bytes(proto.SerializeToString(deterministic=True))
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(data)
        probe_file(copy, "onnxruntime")
    return data


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor of ``graph``, those of its subgraphs and attributes too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)  # t is an empty one where there is none
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _tensors(inner)


def _external_tensors(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    tensors = [*_tensors(proto.graph)]
    for function in proto.functions:
        tensors += _tensors_of_nodes(function.node)
    return [t for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL or t.external_data]


def _load_external_data(proto: onnx.ModelProto, path: Path) -> None:
    """Weights may lie in a file beside the model and nowhere else."""
    folder = path.resolve().parent  # where the model's file lies, also when ``path`` is a link
    external = _external_tensors(proto)
    for tensor in external:
        facts = {entry.key: entry.value for entry in tensor.external_data}
        location = facts.get("location", "")
        plain = location not in ("", ".", "..") and Path(location).name == location
        if not plain or "\\" in location:
            raise GraphError(
                f"{path}: weights of {tensor.name!r} point to {location!r}; only a file beside "
                "the model is read"
            )
        _check_external_file(path, tensor.name, folder / location, facts)
    if not external:
        return
    try:
        onnx.load_external_data_for_model(proto, str(folder))
    except Exception as error:  # onnx raises what its C++ raises, of several types
        raise GraphError(f"the external weights cannot be read: {_first_line(error)}") from error
    left = _external_tensors(proto)
    if left:
        raise GraphError(
            f"{path}: {left[0].name!r} of a sparse tensor lies in another file: save the model "
            "without external data"
        )


def _check_external_file(path: Path, tensor: str, data: Path, facts: Mapping[str, str]) -> None:
    if data.is_symlink() or not data.is_file():
        raise GraphError(f"{path}: weights file {data.name!r} of {tensor!r} is missing or a link")
    try:
        end = int(facts.get("offset", "0")) + int(facts.get("length", "0"))
        start = int(facts.get("offset", "0"))
    except ValueError as error:
        raise GraphError(f"{path}: offset or length of {tensor!r} is not a number") from error
    size = data.stat().st_size
    if start < 0 or end < start or end > size:
        raise GraphError(
            f"{path}: {tensor!r} lies at bytes {start} to {end} of {data.name!r}, which has {size}"
        )


def _inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.inliner.inline_local_functions(proto) if proto.functions else proto


def _convert_opset(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    written = {entry.domain: entry.version for entry in proto.opset_import}.get("", 0)
    if written == opset:
        return proto
    try:
        return onnx.version_converter.convert_version(proto, opset)
    except Exception as error:  # the converter raises RuntimeError, IndexError and others
        raise GraphError(
            f"the model uses ONNX opset {written} and cannot be converted to {opset}: "
            f"{_first_line(error)}; write it with opset {opset}"
        ) from error


def _runtime_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in constants]


def _dims(value: onnx.ValueInfoProto) -> list[int | str]:
    shape = value.type.tensor_type.shape
    return [d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in shape.dim]


def _fix_input_shapes(proto: onnx.ModelProto, asked: InputShapes) -> None:
    inputs = {value.name: value for value in _runtime_inputs(proto.graph)}
    if not inputs:
        raise GraphError("the model has no inputs: there is nothing to run")
    for name, value in inputs.items():
        if not value.type.HasField("tensor_type"):
            raise GraphError(f"input {name!r} is no tensor: edgekit runs models of tensors")
    shapes = dict(asked)
    if "" in shapes:
        if len(inputs) != 1:
            raise UsageError(
                f"the model has inputs {', '.join(inputs)}: say which, --input-shape NAME:1,3,8,8"
            )
        shapes[next(iter(inputs))] = shapes.pop("")
    for name in shapes:
        if name not in inputs:
            raise UsageError(f"--input-shape names {name!r}; the inputs are {', '.join(inputs)}")
    free = [value for name, value in inputs.items() if name not in shapes and _is_dynamic(value)]
    if free:
        raise _dynamic_error(free)
    for name, value in inputs.items():
        if name in shapes:
            _fix_shape(name, value, shapes[name])
    # Shapes recorded for a dynamic batch contradict the fixed ones: they are inferred anew.
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")


def _has_rank(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.HasField("shape"))


def _is_dynamic(value: onnx.ValueInfoProto) -> bool:
    return not _has_rank(value) or any(isinstance(d, str) or d <= 0 for d in _dims(value))


def _dynamic_error(values: Sequence[onnx.ValueInfoProto]) -> GraphError:
    """What to type for all of them at once: the file's own sizes, and 1 where it has none."""
    shapes = "; ".join(f"{v.name!r} has dynamic shape [{_listed(_dims(v))}]" for v in values)
    options = " ".join(
        f"--input-shape {value.name}:{_suggested(_dims(value)) or '1,3,224,224'}"
        for value in values
    )
    return GraphError(
        f"input {shapes}: fix it with {options} (1 stands for your size; in Python, input_shapes)"
    )


def _suggested(dims: Sequence[int | str]) -> str:
    return ",".join(str(d if isinstance(d, int) and d > 0 else 1) for d in dims)


def _listed(dims: Iterable[int | str]) -> str:
    return ", ".join(map(str, dims))


def _fix_shape(name: str, value: onnx.ValueInfoProto, asked: Sequence[int]) -> None:
    dims, has_rank = _dims(value), _has_rank(value)
    fits = not has_rank or (
        len(asked) == len(dims)
        and all(isinstance(d, str) or d <= 0 or d == a for d, a in zip(dims, asked, strict=True))
    )
    if not fits or any(size <= 0 for size in asked):
        raise UsageError(
            f"--input-shape {','.join(map(str, asked))} does not fit input {name!r}, "
            f"which is [{_listed(dims)}]"
        )
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for size in asked:
        shape.dim.add().dim_value = size


def _infer_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        inferred = onnx.shape_inference.infer_shapes(
            proto, check_type=True, strict_mode=True, data_prop=True
        )
    except Exception as error:  # C++ exceptions of several types reach Python
        raise GraphError(f"the shapes of the model contradict: {_first_line(error)}") from error
    return inferred


def _check_output_shapes(model: ir.Model) -> None:
    for output in model.graph.outputs:
        if output.shape is None or not output.shape.is_static():
            raise GraphError(
                f"output {output.name!r} still has a dynamic shape after the inputs were fixed: "
                "edgekit exports static shapes"
            )


def _name_nodes(model: ir.Model) -> None:
    """Errors name nodes, so that every node needs a name: its operator and first output."""
    for node in model.graph:
        if not node.name:
            node.name = f"{node.op_type}:{node.outputs[0].name if node.outputs else ''}"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason")
