"""Channel order: values are stored in an order of channels that makes permutations free.

    Conv -> Gather -> Conv           the second convolution reads its weights in another order
    Conv -> Gather -> DepthwiseConv  the first one writes its rows in another order
    x, x[shift] -> Mul, Mul, Add     x is stored so that the shift is a few contiguous pieces

``relations`` says what an operator asks of the order of its channels, ``classes`` finds the
values that share one, ``plan`` chooses orders by the cost model in ``costs``, and ``rewrite``
rebuilds the graph. Whatever the plan, the rewrite is exact; inputs and outputs of the graph keep
their true order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from edgekit.export.passes.costs import COSTS
from edgekit.export.passes.infra import PassResult
from edgekit.export.passes.order.plan import plan_orders
from edgekit.export.passes.order.relations import Relation, relation
from edgekit.export.passes.order.rewrite import Rewriter


@dataclass(frozen=True)
class ChannelOrder:
    """Store channels in the order in which permutations cost least.

    Given:
        x: float[1, 4, 5, 5]
        a = Conv(x, w[6, 4, 1, 1], b[6])
        p = Gather(a, [0, 2, 4, 1, 3, 5], axis=1)
        d = Conv(p, k[6, 1, 3, 3], c[6], group=6)
        q = Gather(d, [5, 4, 3, 2, 1, 0], axis=1)
        y = Conv(q, v[4, 6, 1, 1], e[4])
        return y
    Result:
        x: float[1, 4, 5, 5]
        a = Conv(x, w[6, 4, 1, 1], b[6])
        d = Conv(a, k[6, 1, 3, 3], c[6], group=6)
        y = Conv(d, v[4, 6, 1, 1], e[4])
        return y

    Attributes:
        costs: key of ``COSTS``.
    """

    costs: str
    name: ClassVar[str] = "channel-order"

    def rewrite(self, model: ir.Model) -> PassResult:
        graph = model.graph
        before = sum(relation(node) is Relation.SELECT for node in graph)
        if not before:
            return PassResult(0)
        orders, saved_us = plan_orders(graph, COSTS[self.costs])
        if saved_us <= 0:
            return PassResult(0, ("not reordered: because no order costs less than the true one",))
        left = Rewriter(graph, orders).run()
        return PassResult(before, (f"{before} permutations became {left}",))
