"""The ONNX that TensorRT 10.3 and everything after it takes, and a check of it without a GPU.

A plan runs only on the GPU and the TensorRT it was built with, so the host writes ONNX and the
device builds. What the device would refuse is refused here, by the node's name:

    _SUPPORTED    operators that 10.3 imports; any other is refused
    _LIMITS       what it refuses about an operator that it imports
    _DTYPES       tensor types, and INT8 between QuantizeLinear and DequantizeLinear only
    check_build   the file through the real parser and builder of tensorrt-rtx, in a child

Sources: ONNX-TensorRT's ``docs/operators.md`` for 8.5 and 10.15, the releases on either side of
10.3 (there is no edition of its own: a limit of either is taken for one of 10.3), and its
``docs/Changelog.md`` for what came after 10.3. Everything here is an fp32 network with static
shapes: precision is in the graph, and a static network can be captured in a CUDA graph.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import onnx_ir as ir

from edgekit.errors import GraphError, UnsupportedOperatorError
from edgekit.export.onnx_file import to_bytes
from edgekit.export.passes.graph import attribute, constant
from edgekit.runtimes.trt_build import BuildOptions
from edgekit.runtimes.trt_probe import probe

MIN_TENSORRT = "10.3"
# operators.md: 10.15 takes opset 9 to 24; 10.0 and 10.1 take 9 to 20, and 10.3 is beside those.
OPSETS = range(9, 21)
# NvInfer: Dims::MAX_DIMS.
MAX_RANK = 8
# Beyond it a builder is stuck: MicroNet-sized graphs take half a second.
BUILD_SECONDS = 300.0

_OPERATORS = "ONNX-TensorRT operators.md"
_CHANGELOG = "ONNX-TensorRT changelog"
_SCOPES = "pkg.torch.onnx.name_scopes"
_EXPECTED_WORKSPACE_MIB = 512  # of a board with 8 GB: trt_build.workspace_mib

# Supported in operators.md of 8.5 and of 10.15, or added by a release up to 10.3.
_SUPPORTED_NAMES = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization
    Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh
    CumSum DeformConv DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand
    EyeLike Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
    GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization GRU Hardmax
    HardSigmoid HardSwish Identity InstanceNormalization IsInf IsNaN LayerNormalization
    LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool LRN LSTM MatMul Max MaxPool
    Mean MeanVarianceNormalization Min Mish Mod Mul Neg Not OneHot Or Pad Pow PRelu
    QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
    ReverseSequence RNN RoiAlign Round Scatter ScatterElements ScatterND Selu Shape Shrink
    Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze
    Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
    """
_SUPPORTED = frozenset(_SUPPORTED_NAMES.split())

_QUANTISE_WITH_QDQ = "Quantise with QuantizeLinear and DequantizeLinear around float operators."
_DATA_DEPENDENT = (
    "its output shape depends on the data, and edgekit runs static shapes (a CUDA graph needs them)"
)
_CONTROL_FLOW = "edgekit runs static graphs: control flow cannot be captured in a CUDA graph"
_UNSEEDED = f"TensorRT ignores its seed, so no output could be proven ({_OPERATORS})"
_QOPERATOR = f"TensorRT imports no quantised operators ({_OPERATORS})"

# Operators that people do meet, with a better answer than "not in the table": (why, remedy).
_REFUSED: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"),
        (_QOPERATOR, _QUANTISE_WITH_QDQ),
    ),
    **dict.fromkeys(
        ("NonZero", "NonMaxSuppression", "Unique", "Compress"),
        (_DATA_DEPENDENT, "Do this step in the app, after the network."),
    ),
    **dict.fromkeys(("If", "Loop", "Scan"), (_CONTROL_FLOW, "Unroll it before the export.")),
    **dict.fromkeys(
        ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        (_UNSEEDED, "Take the random numbers as an input."),
    ),
    **dict.fromkeys(
        ("BlackmanWindow", "HammingWindow", "HannWindow"),
        (f"TensorRT 10.4 brings it and 10.3 lacks it ({_CHANGELOG})", "Fold it into a constant."),
    ),
    "STFT": (
        f"TensorRT 10.5 brings it and 10.3 lacks it ({_CHANGELOG})",
        "Compute the spectrogram before the network.",
    ),
}

_DTYPES = frozenset(("FLOAT", "FLOAT16", "BFLOAT16", "INT32", "INT64", "BOOL"))
# operators.md: "INT8 ... support is available only through quantization".
_QUANTISED = frozenset(("INT8", "INT4", "FLOAT8E4M3FN"))


@dataclass(frozen=True)
class Limit:
    """What TensorRT 10.3 refuses about an operator that it otherwise takes.

    Attributes:
        ops: the operators.
        rule: what must hold, as the user reads it.
        got: node -> what stands against the rule, or "" when it holds.
        source: where the rule was read.
        remedy: what to do about it.
    """

    ops: tuple[str, ...]
    rule: str
    got: Callable[[ir.Node], str]
    source: str
    remedy: str = ""


def check_dialect(model: ir.Model) -> tuple[str, ...]:
    """Notes on a graph that TensorRT 10.3 and later take, e.g. on 64-bit integers.

    Raises:
        UnsupportedOperatorError: names the first node that TensorRT 10.3 refuses, and why.
        GraphError: an opset, an input or a type that it refuses.
    """
    _check_opset(model)
    for value in model.graph.inputs:
        _check_input(value)
    for node in model.graph:  # before constants: a node's refusal says more
        _check_operator(node)
        for value in node.outputs:
            _check_value(node, value)
    for value in model.graph.initializers.values():
        _check_initializer(value)
    return tuple(_notes(model))


def lower_tensorrt(model: ir.Model) -> dict[str, bytes]:
    """Lowering for TensorRT: the ONNX file, and the recipe that a device builds it by.

    Raises:
        GraphError: beyond the dialect; see ``check_dialect``.
    """
    notes = check_dialect(model)
    text = json.dumps(recipe(model, notes), indent=2) + "\n"
    return {"model.onnx": to_bytes(model), "tensorrt.json": text.encode()}


def recipe(model: ir.Model, notes: tuple[str, ...] = ()) -> dict[str, object]:
    """How a device builds the plan: what ``edgekit finish`` does, and the same with trtexec."""
    options = BuildOptions(workspace_mib=_EXPECTED_WORKSPACE_MIB)
    return {
        "format": "edgekit TensorRT recipe 1",
        "needs": f"TensorRT {MIN_TENSORRT} or later, built and run on the same device",
        "opset": model.opset_imports[""],
        "inputs": [_interface(value) for value in model.graph.inputs],
        "outputs": [_interface(value) for value in model.graph.outputs],
        "options": asdict(options),
        "workspace_rule": "power of two up to an eighth of the memory, 64 to 1024 MiB",
        "trtexec": " ".join(trtexec_line(options)),
        "notes": list(notes),
    }


def trtexec_line(options: BuildOptions) -> tuple[str, ...]:
    """The build with ``trtexec`` of TensorRT 10 (11 ignores --stronglyTyped: it always is)."""
    return (
        "/usr/src/tensorrt/bin/trtexec",
        "--onnx=MODEL.onnx",
        "--saveEngine=MODEL.plan",
        "--stronglyTyped",
        "--noTF32",
        f"--memPoolSize=workspace:{options.workspace_mib}",
    )


def check_build(files: Mapping[str, bytes]) -> Mapping[str, str]:
    """Checks of the files of ``lower_tensorrt``, for the manifest; see ``parse_and_build``."""
    onnx_file = next(data for name, data in files.items() if name.endswith(".onnx"))
    return parse_and_build(onnx_file)


def parse_and_build(
    onnx_bytes: bytes, *, build: bool = True, timeout: float = BUILD_SECONDS
) -> Mapping[str, str]:
    """Put the file through a real TensorRT parser, and builder, in a child process.

    The outcome holds no times and no sizes: equal files give equal words. Where no TensorRT is
    installed that works without a GPU, the outcome says so and nothing fails.

    Raises:
        UnsupportedOperatorError: the parser refuses a node; its words.
        GraphError: the builder refuses the graph, crashed, or took longer than ``timeout`` s.
    """
    outcome = probe(onnx_bytes, build=build, timeout=timeout)
    if not outcome.parser:
        return {"parser": f"not checked: {outcome.unavailable}"}
    checks = {"parser": f"{outcome.parser} parsed {outcome.layers} layers"}
    if build:
        checks["builder"] = f"{outcome.parser} built for {outcome.architecture}, TF32 off"
    # Words, not a figure: only a board can run the plan.
    checks["device"] = "not yet executed on a device"
    return checks


# ---------------------------------------------------------------------------
# The graph as a whole
# ---------------------------------------------------------------------------


def _check_opset(model: ir.Model) -> None:
    opset = model.opset_imports.get("")
    if opset not in OPSETS:
        raise GraphError(
            f"tensorrt: opset {opset} is beyond TensorRT {MIN_TENSORRT}, which takes {OPSETS[0]} "
            f"to {OPSETS[-1]} ({_OPERATORS}); convert the model to opset 18"
        )
    if model.functions:
        names = ", ".join(sorted(name for _, name, _ in model.functions))
        raise GraphError(f"tensorrt: the graph calls local functions ({names}); inline them first")


def _check_input(value: ir.Value) -> None:
    if value.shape is None or not value.shape.is_static():
        raise GraphError(
            f"tensorrt: input {value.name!r} has shape {value.shape}, and edgekit builds plans of "
            "static shapes; give it a fixed shape"
        )
    kind = _kind(value)
    if kind not in _DTYPES | {"UINT8"}:
        raise GraphError(
            f"tensorrt: input {value.name!r} is {kind}, and TensorRT takes "
            f"{', '.join(sorted(_DTYPES | {'UINT8'}))} ({_OPERATORS}); cast it in the app"
        )


def _check_initializer(value: ir.Value) -> None:
    kind = _kind(value)
    if kind not in _DTYPES | _QUANTISED:
        raise GraphError(
            f"tensorrt: constant {value.name!r} is {kind}, and TensorRT takes "
            f"{', '.join(sorted(_DTYPES | _QUANTISED))} ({_OPERATORS}); convert the model to float"
        )


def _check_operator(node: ir.Node) -> None:
    if node.domain not in ("", "ai.onnx"):
        raise _refusal(
            node,
            f"it is of the domain {node.domain!r}, and TensorRT takes plain ONNX operators",
            "Rewrite it with plain operators.",
        )
    if node.op_type in _REFUSED:
        raise _refusal(node, *_REFUSED[node.op_type])
    if node.op_type not in _SUPPORTED:
        raise _refusal(
            node,
            f"TensorRT {MIN_TENSORRT} does not import it ({_OPERATORS})",
            "Rewrite it with other operators.",
        )
    for limit in _LIMITS:
        got = limit.got(node) if node.op_type in limit.ops else ""
        if got:
            raise _refusal(node, f"{limit.rule} ({limit.source}), and {got}", limit.remedy)


def _check_value(node: ir.Node, value: ir.Value) -> None:
    if not value.name:
        return  # an optional output that nobody asked for
    kind = _kind(value)
    allowed = _DTYPES | (_QUANTISED if node.op_type in ("QuantizeLinear", "Constant") else set())
    if kind not in allowed and kind != "unknown":
        raise _refusal(
            node,
            f"its output {value.name!r} is {kind}, and TensorRT computes "
            f"{', '.join(sorted(_DTYPES))} ({_OPERATORS})",
            "Convert the model to one of these types.",
        )
    if value.shape is not None and not value.shape.is_static():
        raise _refusal(
            node,
            f"its output {value.name!r} has shape {value.shape}, and edgekit builds plans of "
            "static shapes",
            "Give every input a fixed shape.",
        )
    if value.shape is not None and len(value.shape) > MAX_RANK:
        raise _refusal(
            node,
            f"its output {value.name!r} has {len(value.shape)} dimensions, "
            f"and TensorRT has {MAX_RANK} at most (NvInfer Dims)",
        )


def _notes(model: ir.Model) -> Iterator[str]:
    for value in (*model.graph.inputs, *model.graph.outputs):
        if _kind(value) == "INT64":
            yield f"{value.name} is int64 on the device too: TensorRT 9 and later do not narrow it"
    unknown = [
        str(value.name)
        for node in model.graph
        for value in node.outputs
        if value.name and (_kind(value) == "unknown" or value.shape is None)
    ]
    if unknown:
        yield f"{len(unknown)} values have no known type and were not checked, first {unknown[0]}"


def _interface(value: ir.Value) -> dict[str, object]:
    shape = [] if value.shape is None else [int(size) for size in value.shape.numpy()]
    dtype = "unknown" if value.dtype is None else value.dtype.numpy().name
    return {"name": value.name, "dtype": dtype, "shape": shape}


def _kind(value: ir.Value) -> str:
    return "unknown" if value.dtype is None else value.dtype.name


def _refusal(node: ir.Node, why: str, remedy: str = "") -> UnsupportedOperatorError:
    return UnsupportedOperatorError(
        "tensorrt",
        node.op_type,
        node.name or str(node.outputs[0].name),
        why,
        producer=_producer(node),
        remedy=remedy or "--skip tensorrt leaves it out.",
    )


def _producer(node: ir.Node) -> str:
    """Dotted name of the module that the node was traced from, or ""."""
    try:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    except (ValueError, SyntaxError):
        return ""  # another exporter's words
    modules = [scope for scope in scopes[:-1] if scope] if isinstance(scopes, list) else []
    return str(modules[-1]) if modules else ""


# ---------------------------------------------------------------------------
# Limits of single operators: each looks at one node, and answers what is wrong, or ""
# ---------------------------------------------------------------------------


def _input(node: ir.Node, position: int) -> ir.Value | None:
    return node.inputs[position] if position < len(node.inputs) else None


def _computed(position: int) -> Callable[[ir.Node], str]:
    """The input at ``position`` is neither absent nor an initializer or Constant."""

    def got(node: ir.Node) -> str:
        value = _input(node, position)
        absent = value is None or not value.name
        return "" if absent or constant(value) is not None else f"{_show(value)} is computed"

    return got


def _show(value: ir.Value | None) -> str:
    return "it" if value is None else repr(value.name)


def _outputs_beyond_first(node: ir.Node) -> str:
    extra = [value for value in node.outputs[1:] if value.uses() or value.is_graph_output()]
    return f"{_show(extra[0])} is used" if extra else ""


def _is(name: str, allowed: tuple[object, ...], default: object) -> Callable[[ir.Node], str]:
    """The attribute ``name`` is none of ``allowed``."""

    def got(node: ir.Node) -> str:
        value = attribute(node, name, default)
        return "" if value in allowed else f"{name} is {value!r}"

    return got


def _dilated(node: ir.Node) -> str:
    dilations = attribute(node, "dilations", ())
    return f"dilations are {list(dilations)}" if any(d != 1 for d in dilations) else ""


def _not_2d_or_3d(node: ir.Node) -> str:
    kernel = attribute(node, "kernel_shape", ())
    return "" if len(kernel) in (2, 3) else f"the kernel has {len(kernel)} dimensions"


def _weights_depend_on_input(node: ir.Node) -> str:
    weights = _input(node, 1)
    return "" if weights is None or _derived(weights) else f"weights {_show(weights)} are computed"


def _derived(value: ir.Value) -> bool:
    """Constant, or computed from constants only: a dequantised weight."""
    if constant(value) is not None:
        return True
    node = value.producer()
    return node is not None and all(i is None or _derived(i) for i in node.inputs)


def _zero_point_not_zero(node: ir.Node) -> str:
    value = _input(node, 2)
    zero = constant(value)
    if zero is None:
        return "" if value is None or not value.name else f"{_show(value)} is computed"
    return f"it is {np.ravel(zero)[0]}" if np.any(zero) else ""


def _zero_point_unsigned(node: ir.Node) -> str:
    value = _input(node, 2)
    kind = "UINT8" if value is None or not value.name else _kind(value)  # ONNX: uint8 when absent
    if node.op_type == "DequantizeLinear":
        kind = _kind(node.inputs[0]) if node.inputs[0] is not None else kind
    return "" if kind in _QUANTISED | {"unknown"} else f"it is {kind}"


def _too_many(node: ir.Node) -> str:
    count = constant(_input(node, 1))
    return "" if count is None or int(count.flat[0]) < 3840 else f"K is {int(count.flat[0])}"


def _einsum_form(node: ir.Node) -> str:
    equation = str(attribute(node, "equation", ""))
    terms = re.split(r",|->", equation.replace(" ", ""))
    odd = any("." in term or len(set(term)) != len(term) for term in terms)
    return f"it is {equation!r}" if odd else ""


def _integer_power(node: ir.Node) -> str:
    kinds = [_kind(value) for value in node.inputs if value is not None]
    return f"it raises {kinds[0]} to {kinds[1]}" if any("INT" in kind for kind in kinds) else ""


def _opset_18(node: ir.Node) -> str:
    graph = node.graph
    opset = graph.opset_imports.get("", 0) if isinstance(graph, ir.Graph) else 0
    return f"the graph is opset {opset}" if opset >= 18 else ""


_REDUCTIONS = tuple(op for op in sorted(_SUPPORTED) if op.startswith("Reduce"))
_RESIZE_COORDINATES = (
    "half_pixel",
    "pytorch_half_pixel",
    "tf_half_pixel_for_nn",
    "asymmetric",
    "align_corners",
)
_FOLD = "Fold constants first."

_LIMITS: tuple[Limit, ...] = (
    Limit(
        ("Conv", "ConvTranspose"),
        "its weights must not depend on the input (kernel shapes of such a convolution are "
        "inferred wrongly before 10.4)",
        _weights_depend_on_input,
        _CHANGELOG,
        "Use a MatMul, or a static convolution and a dynamic residual.",
    ),
    Limit(_REDUCTIONS, "axes must be an initializer", _computed(1), _OPERATORS, _FOLD),
    Limit(("Squeeze", "Unsqueeze"), "axes must be constant", _computed(1), _OPERATORS, _FOLD),
    Limit(("CumSum",), "axis must be constant", _computed(1), _OPERATORS, _FOLD),
    Limit(("OneHot",), "depth must be constant", _computed(1), _OPERATORS, _FOLD),
    Limit(("Pad",), "axes must be constant before 10.4", _computed(3), _CHANGELOG, _FOLD),
    Limit(("AveragePool", "MaxPool", "LpPool"), "dilations must be 1", _dilated, _OPERATORS),
    Limit(("AveragePool", "MaxPool"), "pooling is 2-D or 3-D", _not_2d_or_3d, _OPERATORS),
    Limit(
        ("MaxPool", "LayerNormalization", "Dropout", "BatchNormalization"),
        "only its first output is supported",
        _outputs_beyond_first,
        _OPERATORS,
    ),
    Limit(
        ("BatchNormalization",),
        "training mode is not supported",
        _is("training_mode", (0,), 0),
        "parser of tensorrt-rtx 1.7",
        "Export the model in eval mode.",
    ),
    Limit(("Resize",), "the mode is one of nearest, linear",
          _is("mode", ("nearest", "linear"), "nearest"), _OPERATORS),
    Limit(("Resize",), f"the coordinate mode is one of {', '.join(_RESIZE_COORDINATES)}",
          _is("coordinate_transformation_mode", _RESIZE_COORDINATES, "half_pixel"), _OPERATORS),
    Limit(("Resize",), "there is no antialiasing", _is("antialias", (0,), 0), _OPERATORS),
    Limit(("Resize",), "the aspect ratio policy is stretch",
          _is("keep_aspect_ratio_policy", ("stretch",), "stretch"), _OPERATORS),
    Limit(("TopK",), "results are sorted", _is("sorted", (1,), 1), _OPERATORS),
    Limit(("TopK",), "K is below 3840", _too_many, _OPERATORS),
    Limit(("QuantizeLinear", "DequantizeLinear"), "the zero point must be 0",
          _zero_point_not_zero, _OPERATORS, "Quantise symmetrically."),
    Limit(("QuantizeLinear", "DequantizeLinear"), "quantised tensors are signed (INT8): unsigned "
          "zero points are not imported before 10.10, and an INT32 bias stays float",
          _zero_point_unsigned, _CHANGELOG, "Quantise symmetrically to int8."),
    Limit(("Einsum",), "ellipses and diagonals come with 10.12", _einsum_form, _CHANGELOG,
          "Write it with MatMul."),
    Limit(("Pow",), "integer operands come with 10.8 and 10.12", _integer_power, _CHANGELOG,
          "Cast both operands to float, or multiply."),
    Limit(("ScatterND",), "opset 18 and later is imported wrongly before 10.9", _opset_18,
          _CHANGELOG, "Use ScatterElements, Where or Concat."),
    Limit(("LSTM",), "input_forget is 0", _is("input_forget", (0,), 0), _OPERATORS),
    Limit(("LSTM",), "the layout is 0", _is("layout", (0,), 0), _OPERATORS),
    Limit(("ScatterND",), "there is no reduction",
          _is("reduction", ("none",), "none"), _OPERATORS),
)  # fmt: skip
