"""Choose the order of every class by a cost model: coordinate descent over good candidates.

The cost of an assignment of orders is the sum over the places where orders matter:

    a permutation whose two sides are stored alike costs nothing, else a Gather or some Slices
    a grouped convolution runs in as many groups as the orders of its two sides allow, or reads
    its operand through a permutation, or writes its result through one
    an output of the graph, and what knows the true order only, costs a permutation

A shift by one group and one place is a roll of a few contiguous runs if each group is stored
in the order in which the group before it is shifted into it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.costs import Costs
from edgekit.export.passes.graph import Array, constant, shape
from edgekit.export.passes.linear import Linear, as_linear
from edgekit.export.passes.merge_groups import divisors, merged_us
from edgekit.export.passes.order.classes import Classes, OrderClass
from edgekit.export.passes.order.relations import Relation, channels
from edgekit.export.passes.order.rewrite import (
    Orders,
    concat_order,
    finest_groups,
    moves,
    runs,
)
from edgekit.export.passes.permutations import permutation

_SWEEPS = 4  # sweeps over all classes; it has always settled in three


def plan_orders(graph: ir.Graph, costs: Costs) -> tuple[Orders, float]:
    """Orders for ``graph`` that cost little by ``costs``, and the microseconds they save."""
    plan = _Plan(graph, costs)
    plan.search()
    return plan.orders(), plan.true_order_us() - plan.total()


# ---------------------------------------------------------------------------
# Places where orders matter
# ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Feeding:
    """How a linear node is run: see `Orders.fed` and `Orders.written`."""

    us: float
    fed: Array
    written: Array


class _Prices:
    """What the plan pays for permutations and convolutions."""

    def __init__(self, costs: Costs) -> None:
        self.costs = costs
        self._known: dict[tuple[ir.Node, int], float] = {}

    def permutation(self, value: ir.Value, have: Array, want: Array) -> float:
        """Storing ``value``, which is in order ``have``, in order ``want`` as well."""
        if np.array_equal(have, want):
            return 0.0
        sizes = shape(value)
        pixels = sizes[0] * math.prod(sizes[2:])
        return self.costs.permutation_us(math.prod(sizes), pixels, len(runs(moves(have, want))))

    def linear(self, linear: Linear, groups: int) -> float:
        """A convolution that can run in ``groups`` groups, and so in any divisor of them."""
        key = linear.node, groups
        if key not in self._known:
            self._known[key] = min(merged_us(linear, n, self.costs) for n in divisors(groups))
        return self._known[key]

    def feeding(self, linear: Linear, have: Array, stored: Array) -> Feeding:
        """The cheapest way to compute ``stored`` from an operand stored as ``have``."""
        result = linear.node.outputs[0]
        best = Feeding(np.inf, have, stored)
        for fed, written in _feedings(linear, have, stored):
            us = self.permutation(linear.source, have, fed)
            us += self.linear(linear, finest_groups(linear, fed, written))
            us += self.permutation(result, written, stored)
            best = min(best, Feeding(us, fed, written), key=lambda feeding: feeding.us)
        return best


def _feedings(linear: Linear, have: Array, stored: Array) -> Iterator[tuple[Array, Array]]:
    """Orders in which a linear node may read and write; the plainest first."""
    yield have, stored
    if linear.groups == 1 or finest_groups(linear, have, stored) == linear.groups:
        return
    reads, writes = linear.inputs // linear.groups, linear.outputs // linear.groups
    yield _sorted_like(have, reads, stored // writes), stored
    written = _sorted_like(stored, writes, have // reads)
    yield have, written
    yield _sorted_like(have, reads, have // reads), written


def _sorted_like(order: Array, per_group: int, groups: Array) -> Array:
    """``order`` with its groups one after the other, as they first appear in ``groups``."""
    _, first = np.unique(groups, return_index=True)
    return order[np.argsort(first[order // per_group], kind="stable")]


# ---------------------------------------------------------------------------
# Candidates
# ---------------------------------------------------------------------------


def _candidates(
    size: int, partitions: list[Array], shifts: list[Array], current: Array
) -> Iterator[Array]:
    """Orders of ``size`` labels worth trying.

    Args:
        size: number of labels.
        partitions: group of each label, per grouped convolution that reads or writes the class.
        shifts: per permutation inside the class, the label that each label is replaced by.
        current: the order so far.
    """
    identity = np.arange(size)
    yield identity
    for shift in shifts:
        yield from _cycles(shift)
    for partition in partitions:
        for like in (identity, current, *(_joined(partition, other) for other in partitions)):
            order = _sorted_by(partition, like)
            yield order
            for shift in shifts:
                yield from _rolled(order, partition, shift)


def _sorted_by(partition: Array, like: Array) -> Array:
    """``like`` with the groups of ``partition`` contiguous, in order of first appearance."""
    _, first = np.unique(partition[like], return_index=True)
    return like[np.argsort(first[partition[like]], kind="stable")]


def _joined(partition: Array, other: Array) -> Array:
    """Labels sorted by the finest blocks that both partitions respect, then by ``other``."""
    block = partition.copy()
    while True:
        merged = block.copy()
        for groups in (other, partition):
            smallest = np.full(groups.max() + 1, len(block))
            np.minimum.at(smallest, groups, merged)
            merged = smallest[groups]
        if np.array_equal(merged, block):
            return np.lexsort((partition, block))
        block = merged


def _rolled(order: Array, partition: Array, shift: Array) -> Iterator[Array]:
    """``order`` with the labels inside each group such that ``shift`` moves groups as blocks."""
    groups = [order[partition[order] == group] for group in dict.fromkeys(partition[order])]
    place = {int(partition[group[0]]): position for position, group in enumerate(groups)}
    done: dict[int, Array] = {}
    for position, group in enumerate(groups):
        labels = group
        while position not in done:
            done[position] = labels
            labels = shift[labels]
            position = place[int(partition[labels[0]])]
            if set(labels.tolist()) != set(groups[position].tolist()):
                return
    yield np.concatenate([done[position] for position in range(len(groups))])


def _cycles(shift: Array) -> Iterator[Array]:
    """Cycle after cycle; and, if all are of one length, the cycles interleaved: a single roll."""
    cycles, seen = [], np.zeros(len(shift), dtype=bool)
    for label in range(len(shift)):
        cycle = []
        while not seen[label]:
            seen[label] = True
            cycle.append(label)
            label = int(shift[label])
        if cycle:
            cycles.append(np.asarray(cycle))
    yield np.concatenate(cycles)
    if len({len(cycle) for cycle in cycles}) == 1:
        yield np.stack(cycles, axis=1).ravel()


# ---------------------------------------------------------------------------
# Search
# ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Somewhere orders matter: what it costs, and the classes it depends on."""

    us: Callable[[], float]
    classes: tuple[OrderClass, ...]
    known: dict[tuple[bytes, ...], float] = field(default_factory=dict)

    def us_of(self, orders: Mapping[OrderClass, Array]) -> float:
        """``us``, remembered: the search comes back to the same few orders again and again."""
        key = tuple(orders[cls].tobytes() for cls in self.classes)
        if key not in self.known:
            self.known[key] = self.us()
        return self.known[key]


@dataclass(frozen=True)
class _Link:
    """An order for one class that suits the order another one has."""

    leader: OrderClass
    follower: OrderClass
    order: Callable[[], Array]


class _Plan:
    def __init__(self, graph: ir.Graph, costs: Costs) -> None:
        self.graph = graph
        self.prices = _Prices(costs)
        self.classes = Classes(graph)
        self.derived = self._derived_classes()
        self.order = {c: self._first_order(c) for c in self.classes.all}
        self._derive()
        self.places = list(self._places())
        self.partitions, self.shifts = self._structure()
        self.links = list(self._links())

    def stored(self, value: ir.Value) -> Array:
        cls = self.classes.of[value]
        return cls.order_of(value, self.order[cls])

    def orders(self) -> Orders:
        true = {v: np.arange(c.size) for v, c in self.classes.of.items()}
        stored = {v: self.stored(v) for v in self.classes.of}
        feedings = {
            linear.node: self.prices.feeding(linear, stored[linear.source], stored[result])
            for linear in self._linears()
            for result in linear.node.outputs
        }
        return Orders(
            {v: order for v, order in stored.items() if not np.array_equal(order, true[v])},
            {node: feeding.fed for node, feeding in feedings.items()},
            {node: feeding.written for node, feeding in feedings.items()},
            self.prices.costs,
        )

    # -- structure -----------------------------------------------------------

    def _linears(self) -> Iterator[Linear]:
        """Linear nodes that are free to choose: all but the depthwise, which follow."""
        for node, kind in self.classes.relations.items():
            linear = as_linear(node) if kind is Relation.LINEAR else None
            if linear is not None and not linear.depthwise:
                yield linear

    def _derived_classes(self) -> dict[OrderClass, ir.Node]:
        """Classes whose order follows from that of the parts of a Split."""
        derived: dict[OrderClass, ir.Node] = {}
        for node, kind in self.classes.relations.items():
            source = node.inputs[0] if node.inputs else None
            if kind is Relation.SPLIT and source is not None:
                cls = self.classes.of[source]
                parts = {self.classes.of[value] for value in node.outputs}
                if cls.pinned is None and not parts & {cls, *derived}:
                    derived[cls] = node
        return derived

    def _first_order(self, cls: OrderClass) -> Array:
        value = cls.pinned if cls.pinned is not None else next(iter(cls.labels))
        return cls.labels[value].copy()

    def _derive(self) -> None:
        for cls, node in self.derived.items():
            source = node.inputs[0]
            assert source is not None  # _derived_classes has seen it
            stored = concat_order([self.stored(value) for value in node.outputs])
            self.order[cls] = cls.order_from(source, stored)

    def _structure(self) -> tuple[dict[OrderClass, list[Array]], dict[OrderClass, list[Array]]]:
        partitions: dict[OrderClass, list[Array]] = {c: [] for c in self.classes.all}
        shifts: dict[OrderClass, list[Array]] = {c: [] for c in self.classes.all}
        for linear in self._linears():
            if linear.groups > 1:
                for value in (linear.source, linear.node.outputs[0]):
                    cls = self.classes.of[value]
                    group = np.empty(cls.size, dtype=np.int64)
                    group[cls.labels[value]] = np.arange(cls.size) * linear.groups // cls.size
                    partitions[cls].append(group)
        for source, index, result in self._selections():
            cls = self.classes.of[source]
            if cls is self.classes.of[result]:
                shift = np.empty(cls.size, dtype=np.int64)
                shift[cls.labels[result]] = cls.labels[source][index]
                if (shift != np.arange(cls.size)).any():
                    shifts[cls].append(shift)
        return (
            {cls: _distinct(found) for cls, found in partitions.items()},
            {cls: _distinct(found) for cls, found in shifts.items()},
        )

    def _selections(self) -> Iterator[tuple[ir.Value, Array, ir.Value]]:
        for node, kind in self.classes.relations.items():
            index = permutation(node) if kind is Relation.SELECT else None
            if index is not None and node.inputs[0] is not None:
                yield node.inputs[0], index, node.outputs[0]

    def _links(self) -> Iterator[_Link]:
        for linear in self._linears():
            if linear.groups > 1:
                source, result = linear.source, linear.node.outputs[0]
                classes = self.classes.of[source], self.classes.of[result]
                yield _Link(*classes, _like_the_source(self, linear))
                yield _Link(*classes[::-1], _like_the_result(self, linear))
        for node, kind in self.classes.relations.items():
            if kind is Relation.CONCAT:
                whole, parts = node.outputs[0], [v for v in node.inputs if v is not None]
                for part in parts:
                    classes = self.classes.of[part], self.classes.of[whole]
                    yield _Link(*classes, _like_the_parts(self, whole, parts))

    # -- costs ---------------------------------------------------------------

    def _places(self) -> Iterator[_Place]:
        of = self.classes.of
        for linear in self._linears():
            result = linear.node.outputs[0]
            yield _Place(_linear_us(self, linear), (of[linear.source], of[result]))
        for source, index, result in self._selections():
            yield _Place(_selection_us(self, source, index, result), (of[source], of[result]))
        for value in self._read_in_true_order():
            yield _Place(_restore_us(self, value), (of[value],))
        for node, kind in self.classes.relations.items():
            if kind in (Relation.SPLIT, Relation.CONCAT):
                whole = node.inputs[0] if kind is Relation.SPLIT else node.outputs[0]
                parts = node.outputs if kind is Relation.SPLIT else node.inputs
                found = [value for value in parts if value is not None and value in of]
                if whole is not None and len(found) == len(parts):
                    classes = (of[whole], *(of[value] for value in found))
                    yield _Place(_parts_us(self, whole, found), tuple(dict.fromkeys(classes)))

    def _read_in_true_order(self) -> list[ir.Value]:
        found = [value for value in self.graph.outputs if value in self.classes.of]
        for node, kind in self.classes.relations.items():
            if kind is Relation.FIXED:
                found += [v for v in node.inputs if v is not None and v in self.classes.of]
        return list(dict.fromkeys(v for v in found if constant(v) is None))

    def total(self) -> float:
        """Microseconds of all places."""
        return self._us(self.places)

    def _us(self, places: Sequence[_Place]) -> float:
        return sum(place.us_of(self.order) for place in places)

    def true_order_us(self) -> float:
        """Microseconds of the graph as it is: every permutation is one in memory."""
        us = sum(self.prices.linear(linear, linear.groups) for linear in self._linears())
        for source, index, _ in self._selections():
            us += self.prices.permutation(source, np.arange(len(index)), index)
        return us

    # -- search --------------------------------------------------------------

    def search(self) -> None:
        """Improve class by class until a sweep over all of them finds nothing."""
        free = [cls for cls in self.classes.all if self._free(cls)]
        for _ in range(_SWEEPS):
            improved = [self._improve(cls) for cls in free]
            if not any(improved):
                return

    def _free(self, cls: OrderClass) -> bool:
        return cls.pinned is None and cls not in self.derived

    def _improve(self, cls: OrderClass) -> bool:
        """Try other orders for ``cls``, alone and with the classes next to it following."""
        followers = [k for k in self.links if k.leader is cls and self._free(k.follower)]
        places = self._affected({cls, *(link.follower for link in followers)})
        before = best_orders = dict(self.order)
        start = best = self._us(places)
        for order in self._orders_to_try(cls):
            for following in ([], followers) if followers else ([],):
                self.order = {**before, cls: order}
                for link in following:
                    self.order[link.follower] = link.order()
                self._derive()
                us = self._us(places)
                if us < best - 1e-9:
                    best, best_orders = us, self.order
        self.order = best_orders
        return best < start

    def _orders_to_try(self, cls: OrderClass) -> list[Array]:
        found = list(_candidates(cls.size, self.partitions[cls], self.shifts[cls], self.order[cls]))
        found += [link.order() for link in self.links if link.follower is cls]
        return _distinct(found)

    def _affected(self, changed: set[OrderClass]) -> list[_Place]:
        touched = set(changed)
        for derived, node in self.derived.items():
            if any(self.classes.of[value] in touched for value in node.outputs):
                touched.add(derived)
        return [place for place in self.places if touched.intersection(place.classes)]


def _distinct(found: list[Array]) -> list[Array]:
    return list({array.tobytes(): array for array in found}.values())


def _linear_us(plan: _Plan, linear: Linear) -> Callable[[], float]:
    source, result = linear.source, linear.node.outputs[0]
    return lambda: plan.prices.feeding(linear, plan.stored(source), plan.stored(result)).us


def _selection_us(
    plan: _Plan, source: ir.Value, index: Array, result: ir.Value
) -> Callable[[], float]:
    return lambda: plan.prices.permutation(source, plan.stored(source), index[plan.stored(result)])


def _restore_us(plan: _Plan, value: ir.Value) -> Callable[[], float]:
    true = np.arange(channels(value))
    return lambda: plan.prices.permutation(value, plan.stored(value), true)


def _parts_us(plan: _Plan, whole: ir.Value, parts: list[ir.Value]) -> Callable[[], float]:
    def us() -> float:
        joined = concat_order([plan.stored(value) for value in parts])
        return plan.prices.permutation(whole, plan.stored(whole), joined)

    return us


def _like_the_source(plan: _Plan, linear: Linear) -> Callable[[], Array]:
    """Groups of the result in the order of the groups of the operand."""
    reads, writes = linear.inputs // linear.groups, linear.outputs // linear.groups
    result = linear.node.outputs[0]

    def order() -> Array:
        groups = plan.stored(linear.source) // reads
        stored = _sorted_like(plan.stored(result), writes, groups)
        return plan.classes.of[result].order_from(result, stored)

    return order


def _like_the_result(plan: _Plan, linear: Linear) -> Callable[[], Array]:
    """Groups of the operand in the order of the groups of the result."""
    reads, writes = linear.inputs // linear.groups, linear.outputs // linear.groups
    result = linear.node.outputs[0]

    def order() -> Array:
        groups = plan.stored(result) // writes
        stored = _sorted_like(plan.stored(linear.source), reads, groups)
        return plan.classes.of[linear.source].order_from(linear.source, stored)

    return order


def _like_the_parts(plan: _Plan, whole: ir.Value, parts: list[ir.Value]) -> Callable[[], Array]:
    def order() -> Array:
        joined = concat_order([plan.stored(part) for part in parts])
        return plan.classes.of[whole].order_from(whole, joined)

    return order
