"""Operators that TFLite has in one piece, found in the list of ONNX operators.

    x * HardSigmoid(x, 1/6, 1/2)              ->  HardSwish(x)
    x/2 * (1 + Erf(x/sqrt 2)), any grouping   ->  Gelu(x)
    MatMul(x, W) + b                          ->  MatMul(x, W, b)
    Conv, Add, Gemm ... then Relu or a Clip   ->  the first, its result clamped

``fuse`` maps a list to a list; an operator is swallowed only when nothing else reads its result.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from edgekit.export.tflite.reader import Graph, Op, Value

# What the emitters of these operators do with Op.activation is theirs; others ignore it.
ACTIVATED = frozenset(
    {"Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "MaxPool", "AveragePool"}
    | {"BatchNormalization"}
)

# Clip bounds -> the activation that TFLite's operators can apply to their own result.
_FUSED_BOUNDS = {(0.0, math.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}


def fuse(graph: Graph) -> tuple[Op, ...]:
    """The operators of ``graph`` with every row of the table above applied."""
    ops = graph.ops
    for pattern in (_hard_swish, _gelu, _bias, _clamped):  # a bias goes before what clamps it
        ops = _Matcher(ops, graph.outputs.values()).apply(pattern)
    return ops


def clip_bounds(op: Op) -> tuple[float, float]:
    """Bounds of a ``Relu`` or ``Clip``, infinite where left out."""
    if op.type == "Relu":
        return 0.0, math.inf
    low = float(op.constant(1, "lower bound")) if op.has(1) else -math.inf
    high = float(op.constant(2, "upper bound")) if op.has(2) else math.inf
    return low, high


class _Matcher:
    """Who computes and who reads each value of a list of operators."""

    def __init__(self, ops: Sequence[Op], outputs: Iterable[Value]) -> None:
        self._ops = tuple(ops)
        self._maker = {value: op for op in ops for value in op.outputs if value is not None}
        self._uses = Counter(value for op in ops for value in op.inputs if value is not None)
        self._uses.update(outputs)

    def maker(self, value: Value | None, *types: str) -> Op | None:
        """The operator, of one of ``types``, that computes ``value`` for a single reader."""
        if value is None or self._uses[value] != 1:
            return None
        op = self._maker.get(value)
        return op if op is not None and op.type in types else None

    def either(self, op: Op, type_: str) -> Iterator[tuple[Op, Value]]:
        """Both ways to read a commutative ``op``: (maker of one input, the other input)."""
        first, second = op.inputs
        for one, other in ((first, second), (second, first)):
            maker = self.maker(one, type_)
            if maker is not None and other is not None:
                yield maker, other

    def apply(self, pattern: Callable[[_Matcher, Op], _Match | None]) -> tuple[Op, ...]:
        """The list with every match replaced, at the place of its last operator."""
        swallowed: set[Op] = set()
        replaced: dict[Op, Op] = {}
        for op in self._ops:
            match = pattern(self, op)
            if match is not None and not {*swallowed, *replaced} & {op, *match.swallowed}:
                swallowed |= set(match.swallowed)
                replaced[op] = match.result
        return tuple(replaced.get(op, op) for op in self._ops if op not in swallowed)


@dataclasses.dataclass(frozen=True)
class _Match:
    result: Op
    swallowed: tuple[Op, ...]


def _hard_swish(graph: _Matcher, op: Op) -> _Match | None:
    if op.type != "Mul":
        return None
    for sigmoid, x in graph.either(op, "HardSigmoid"):
        slope = sigmoid.attributes.get("alpha", 0.2)
        offset = sigmoid.attributes.get("beta", 0.5)
        same = np.float32(slope) == np.float32(1 / 6) and offset == 0.5
        if same and sigmoid.inputs[0] is x:
            return _Match(dataclasses.replace(op, type="HardSwish", inputs=(x,)), (sigmoid,))
    return None


def _gelu(graph: _Matcher, op: Op) -> _Match | None:
    """``op`` is the outermost Mul of one of the three groupings of 1/2 * x * (1 + erf)."""
    if op.type != "Mul":
        return None
    for x, addition, between in _gelu_factors(graph, op):
        erf = next((e for e, one in graph.either(addition, "Erf") if _is_number(one, 1.0)), None)
        if erf is None:
            continue
        scaling = graph.maker(erf.inputs[0], "Div", "Mul")
        if scaling is None:
            continue
        number = math.sqrt(2) if scaling.type == "Div" else math.sqrt(0.5)
        if _operand_beside(scaling, number) is x:
            gelu = dataclasses.replace(op, type="Gelu", inputs=(x,))
            return _Match(gelu, (addition, erf, scaling, *between))
    return None


def _gelu_factors(graph: _Matcher, op: Op) -> Iterator[tuple[Value, Op, tuple[Op, ...]]]:
    """(x, the ``1 + erf`` operator, the operators in between) for each way to read ``op``."""
    for addition, other in graph.either(op, "Add"):  # (x/2) * (1 + erf)
        halving = graph.maker(other, "Mul")
        x = None if halving is None else _operand_beside(halving, 0.5)
        if halving is not None and x is not None:
            yield x, addition, (halving,)
    for product, other in graph.either(op, "Mul"):
        if _is_number(other, 0.5):  # (x * (1 + erf)) / 2
            yield from ((x, a, (product,)) for a, x in graph.either(product, "Add"))
        half = _operand_beside(product, 0.5)
        addition_or_none = graph.maker(half, "Add")  # x * ((1 + erf) / 2)
        if addition_or_none is not None:
            yield other, addition_or_none, (product,)


def _bias(graph: _Matcher, op: Op) -> _Match | None:
    """A constant vector added to a MatMul by a constant matrix is its bias."""
    if op.type != "Add":
        return None
    for product, bias in graph.either(op, "MatMul"):
        weights = product.value(1)
        fits = weights.data is not None and weights.data.ndim == 2 and bias.data is not None
        if fits and bias.shape in ((weights.shape[-1],), (1, weights.shape[-1])):
            inputs = (*product.inputs, bias)
            fused = dataclasses.replace(product, inputs=inputs, outputs=op.outputs)
            return _Match(fused, (product,))
    return None


def _is_number(value: Value | None, number: float) -> bool:
    if value is None or value.data is None or value.data.size != 1:
        return False
    return math.isclose(float(value.data.reshape(())), number, rel_tol=1e-6)


def _operand_beside(op: Op, number: float) -> Value | None:
    """The other operand of ``op`` when one is the constant ``number``."""
    first, second = op.inputs
    if _is_number(second, number):
        return first
    return second if op.type == "Mul" and _is_number(first, number) else None


def _clamped(graph: _Matcher, op: Op) -> _Match | None:
    """A Relu, or a Clip with the right bounds, becomes the activation of what it clamps."""
    activation = _activation(op)
    maker = graph.maker(op.inputs[0], *ACTIVATED) if activation else None
    if maker is None or maker.activation != "NONE":
        return None
    clamped = dataclasses.replace(maker, outputs=op.outputs, activation=activation)
    return _Match(clamped, (maker,))


def _activation(op: Op) -> str:
    """The fused activation that ``op`` amounts to, or ""."""
    if op.type not in ("Relu", "Clip") or op.output().dtype != np.float32:
        return ""
    constant = all(value is None or value.data is not None for value in op.inputs[1:])
    return _FUSED_BOUNDS.get(clip_bounds(op), "") if constant else ""
