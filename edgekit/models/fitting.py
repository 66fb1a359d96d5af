"""What a state dict is of: which network, in whose names, with which head, in which part of a file.

`fit` decides whether a checkpoint may be loaded into a network and gives its tensors the
network's own names. Body and head are judged apart: the body must be exactly the network's, the
head decides what the network ends in. Everything else is an error that says what the file looks
like and what to do.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgekit.errors import CheckpointError, NoHeadError
from edgekit.models.naming import COUNTER, NAMINGS, Naming, Shapes, Table, in_module, tables
from edgekit.models.zoo import VARIANTS, Variant

# ---------------------------------------------------------------------------
# Networks
# ---------------------------------------------------------------------------


def build_network(
    variant: Variant,
    num_classes: int | None = None,
    image_size: int | None = None,
    head: str | None = None,
) -> nn.Module:
    """The network of a row, by the builder the row names, with the builder's own parameters."""
    module, _, function = variant.build.partition(":")
    build: Callable[..., nn.Module] = getattr(importlib.import_module(module), function)
    return build(
        variant.config,
        num_classes=variant.num_classes if num_classes is None else num_classes,
        image_size=variant.image_size if image_size is None else image_size,
        head=head or variant.head,
    )


def variant_shapes(
    variant: Variant,
    num_classes: int | None = None,
    image_size: int | None = None,
    head: str | None = None,
) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a network of the zoo, whose weights are never touched."""
    with _NothingDrawn():
        return shapes_of(build_network(variant, num_classes, image_size, head).state_dict())


class _NothingDrawn(TorchFunctionMode):
    """While open, parameters keep what is in their memory, which then is not even used.

    Cheaper than the device "meta", whose operators are written in Python.
    """

    _DRAWING = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.zero_, Tensor.fill_})

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        if func in self._DRAWING or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes."""
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


# ---------------------------------------------------------------------------
# Matching
# ---------------------------------------------------------------------------

OTHER_HEAD = "other"
_OUTPUTS = 10_007  # a prime that is the size of nothing else: marks dimensions that are outputs


@dataclass(frozen=True)
class Match:
    """How a state dict lies on a network, in the names that come closest.

    Attributes:
        variant: the network.
        table: the names.
        missing: keys of the body that the state dict lacks, in its own names.
        left_over: keys that are neither of the body nor of a head.
        differ: key -> shape got, shape expected, where they are not the same.
        head: kind of its head, `OTHER_HEAD` for one that the network cannot have, "" for none.
        outputs: of its head, 0 if unknown.
    """

    variant: Variant
    table: Table
    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    differ: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    head: str
    outputs: int

    @property
    def distance(self) -> int:
        """Tensors that stand in the way; 0 means the body is the network's."""
        return len(self.missing) + len(self.left_over) + len(self.differ)

    @property
    def same_function(self) -> bool:
        """Whether the names allow the network's flavour."""
        return self.variant.flavour in self.table.naming.flavours

    @property
    def is_of_it(self) -> bool:
        """Whether the state dict may be loaded into the network, its head apart."""
        return self.distance == 0 and self.same_function

    @property
    def is_as_published(self) -> bool:
        """Whether the head is the one of the row."""
        return (self.head, self.outputs) == (self.variant.head, self.variant.num_classes)


def match(variant: Variant, got: Shapes) -> Match:
    """The closest match of ``got`` with ``variant``."""
    candidates = [_match(variant, table, got) for table in _tables(variant)]
    return min(candidates, key=lambda found: found.distance)


def _match(variant: Variant, table: Table, got: Shapes) -> Match:
    own = _expected(variant, variant.head, got)
    keys = {theirs: mine for mine, theirs in table.keys.items() if mine in own}
    heads = (*_head_prefixes(table.naming), *table.naming.beside)
    head, outputs = _head(variant, table, got)
    return Match(
        variant,
        table,
        missing=tuple(key for key in keys if key not in got),
        left_over=tuple(
            key for key in got if key not in keys and not any(in_module(key, h) for h in heads)
        ),
        differ={
            theirs: (got[theirs], own[mine])
            for theirs, mine in keys.items()
            if theirs in got and not _same(got[theirs], own[mine], mine in table.flat)
        },
        head=head,
        outputs=outputs,
    )


def _same(got: tuple[int, ...], expected: tuple[int, ...], flat: bool) -> bool:
    """Equal, or but for a trailing 1x1 where one source has a convolution for a linear layer."""
    return got == expected or (flat and {got, expected} == {got[:2], (*got[:2], 1, 1)})


def _head(variant: Variant, table: Table, got: Shapes) -> tuple[str, int]:
    """Kind and outputs of the head in ``got``."""
    several = [under for p in _head_prefixes(table.naming) if (under := _under(p, got))]
    if len(several) > 1:
        return OTHER_HEAD, 0
    found = several[0] if several else {}
    for kind in variant.heads:
        expected = _under(table.own_head, _expected(variant, kind, got))
        if outputs := _outputs(expected, found):
            return kind, outputs
    return (OTHER_HEAD if found else ""), 0


def _head_prefixes(naming: Naming) -> tuple[str, ...]:
    return (naming.head, *naming.other_heads)


def _outputs(expected: Shapes, found: Shapes) -> int:
    """The one number of outputs with which ``found`` is ``expected``, or 0."""
    if expected.keys() != found.keys():
        return 0
    outputs: set[int] = set()
    for key, shape in expected.items():
        if shape[:1] == (_OUTPUTS,) and found[key][1:] == shape[1:]:
            outputs.update(found[key][:1])
        elif shape != found[key]:
            return 0
    return outputs.pop() if len(outputs) == 1 else 0


def _under(module: str, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """What is in ``module``, without that prefix."""
    return {k[len(module) + 1 :]: shape for k, shape in shapes.items() if in_module(k, module)}


def _expected(variant: Variant, head: str, got: Shapes) -> Shapes:
    """The network's own keys, without counts of batches where ``got`` has none at all."""
    own = _own_shapes(variant, head)
    if any(key.endswith(COUNTER) for key in got):
        return own
    return {key: shape for key, shape in own.items() if not key.endswith(COUNTER)}


@functools.cache
def _tables(variant: Variant) -> tuple[Table, ...]:
    return tables(variant.family, _own_shapes(variant, variant.head))


@functools.cache
def _own_shapes(variant: Variant, head: str) -> Shapes:
    return variant_shapes(variant, _OUTPUTS, head=head)


# ---------------------------------------------------------------------------
# Suggestions
# ---------------------------------------------------------------------------


def suggestion(got: Shapes) -> str:
    """What of the zoo a state dict would fit, in one sentence."""
    found = _fits(got)
    if not found:
        return "It fits no network of the zoo."
    # Exact fits first: a head of another width is the less likely explanation.
    best = min(found, key=lambda one: not one.is_as_published)
    alike = [one for one in found if (one.head, one.outputs) == (best.head, best.outputs)]
    names = " or ".join(one.variant.id for one in alike)
    if best.head in ("", OTHER_HEAD):
        return f"It fits {names} but for the head: use --drop-head to draw that at random."
    if best.head != "linear":
        return f"It fits {names} with a {best.head} head of {best.outputs} outputs."
    if best.is_as_published:
        return f"It fits {names} with {best.outputs} classes, which needs no --num-classes."
    return f"It fits {names} with another head: use --num-classes {best.outputs}."


def _fits(got: Shapes) -> list[Match]:
    """Every network of the zoo whose body ``got`` is, in names that allow its flavour."""
    found = (match(row, got) for row in VARIANTS.values() if _has_mark(row, got))
    return [one for one in found if one.is_of_it]


def _has_mark(variant: Variant, got: Shapes) -> bool:
    """Cheap, where building each network to compare it is not."""
    return any(naming.mark in got for naming in NAMINGS[variant.family])


def list_parts(keys: Iterable[str]) -> str:
    """The parts of a state dict for a message, the largest first, with how much is in each."""
    counts = Counter(key.partition(".")[0] for key in keys).most_common()
    names = (f"{name[:40]} ({n} tensors)" if n > 1 else name[:40] for name, n in counts)
    return some(names, most=6)


def offer(spec: str) -> str:
    """``--weights spec`` as it is typed; a # inside a word needs no quotes."""
    plain = shlex.quote(spec.replace("#", "")) == spec.replace("#", "")
    return f"--weights {spec if plain else shlex.quote(spec)}"


_MOST_PARTS = 8  # a file may have thousands, and each is compared with the zoo


def _networks_inside(got: Shapes) -> dict[str, Shapes]:
    """Parts that hold a network of some family: prefix -> what is under it."""
    marks = [f".{naming.mark}" for namings in NAMINGS.values() for naming in namings]
    prefixes = (key[: -len(mark)] for key in got for mark in marks if key.endswith(mark))
    some_of_them = itertools.islice(dict.fromkeys(prefixes), _MOST_PARTS)
    return {prefix: _under(prefix, got) for prefix in some_of_them}


def _misfit(given: Given, found: Match) -> CheckpointError:
    """What to do with a state dict that is not the body of ``found.variant``."""
    name, variant = given.name, found.variant
    inside = _networks_inside(shapes_of(given.state))
    usable = [part for part, got in inside.items() if match(variant, got).is_of_it]
    if usable:
        offers = " or ".join(offer(given.part(part)) for part in usable)
        return CheckpointError(
            f"{name} as a whole does not fit {variant.id}: it holds {list_parts(given.state)}. "
            f"Use {offers}."
        )
    what = problems(found.missing, found.left_over, found.differ)
    shown = itertools.islice(inside.items(), 4)
    advice = [f"Part {part[:80]}: {suggestion(got)}" for part, got in shown]
    return CheckpointError(
        f"{name} does not fit {variant.id}: {what}. "
        f"{' '.join(advice) or suggestion(shapes_of(given.state))}"
    )


# ---------------------------------------------------------------------------
# Fitting
# ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """A state dict and what is known of the file it came from.

    Attributes:
        state: as `read_checkpoint` returns it.
        name: the file's, for messages.
        spec: what a user types for it, with the part if one was chosen.
        source: its address, or its name again.
        recorded: the id that `save_checkpoint` wrote into it, or "".
        classes: of which it has the names, or None.
    """

    state: Mapping[str, Tensor]
    name: str
    spec: str = ""
    source: str = ""
    recorded: str = ""
    classes: int | None = None

    def part(self, name: str) -> str:
        """What a user types for a part of it."""
        spec = self.spec or self.name
        return f"{spec}.{name}" if "#" in spec else f"{spec}#{name}"


@dataclass(frozen=True)
class Fit:
    """A checkpoint in a network's own names.

    Attributes:
        state: without the tensors of the head if that was dropped.
        head: kind of head to build.
        outputs: of it.
        dropped: prefix of the head's keys if that was dropped, else "".
        notes: what the user should know.
    """

    state: dict[str, Tensor]
    head: str
    outputs: int
    dropped: str = ""
    notes: tuple[str, ...] = ()


def fit(
    given: Given,
    variant: Variant,
    num_classes: int | None = None,
    *,
    drop_head: bool = False,
    any_width: bool = False,
) -> Fit:
    """Decide whether ``given`` is of ``variant``, and how it is loaded.

    Args:
        given: a checkpoint.
        variant: the network it is to be loaded into.
        num_classes: outputs that were asked for; by default what the head in the file has, if
            that is the row's, of another kind than the row's, or of classes that the file names.
        drop_head: take the body only.
        any_width: take a head of as many outputs as it has.

    Raises:
        CheckpointError: it is of another network, flavour or number of classes.
        NoHeadError: there is none in it.
    """
    if given.recorded not in ("", variant.id):
        raise CheckpointError(
            f"{given.name} was saved by edgekit as {given.recorded[:80]}, and is not for "
            f"{variant.id}: {_use(given.recorded)}."
        )
    found = match(variant, shapes_of(given.state))
    if found.distance:
        raise _misfit(given, found)
    if not (found.same_function or given.recorded):
        raise _other_flavour(given, found)
    if drop_head:
        outputs = variant.num_classes if num_classes is None else num_classes
        notes = tuple(filter(None, [_tensorflow_note(given, found)]))
        return Fit(_body(given, found), variant.head, outputs, found.table.own_head, notes)
    _check_head(given, found, found.outputs if any_width else num_classes)
    return Fit(_renamed(given, found), found.head, found.outputs, notes=_notes(given, found))


def _use(recorded: str) -> str:
    return f"use {recorded}" if recorded in VARIANTS else "this edgekit has no such network"


def problems(
    missing: Iterable[str],
    left_over: Iterable[str],
    differ: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
) -> str:
    """What keeps a state dict from being a network's, or "": counts and the first names."""
    missing, left_over = list(missing), list(left_over)
    shapes = (f"{key}: got {list(g)}, expected {list(e)}" for key, (g, e) in differ.items())
    parts = (
        f"{len(missing)} keys missing ({some(missing)})" if missing else "",
        f"{len(left_over)} left over ({some(left_over)})" if left_over else "",
        f"{len(differ)} of another shape ({some(shapes)})" if differ else "",
    )
    return ", ".join(part for part in parts if part)


def some(names: Iterable[str], most: int = 3) -> str:
    """The first ``most`` of them, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(name[:80] for name in listed[:most]) + more


_FLAVOURS = {
    "torchvision": "torchvision's function",
    "timm": "timm's function",
    "tf": "TensorFlow's function (timm's tf_ files)",
    "seed": "SEED's function",
}


def _other_flavour(given: Given, found: Match) -> CheckpointError:
    naming, variant = found.table.naming, found.variant
    theirs = " or ".join(_FLAVOURS[flavour] for flavour in naming.flavours)
    alike = " or ".join(one.variant.id for one in _fits(shapes_of(given.state)))
    looks = f" It looks like {alike}." if alike else ""
    own = naming == NAMINGS[variant.family][0]
    way_out = (
        " A file of edgekit's own says what it is for: see edgekit.models.checkpoint."
        "save_checkpoint."
    )
    return CheckpointError(
        f"{given.name} has {naming.whose}'s names and so weights for {theirs}; {variant.id} "
        f"computes {_FLAVOURS[variant.flavour]}, and shape-compatible is not "
        f"function-compatible.{looks}{way_out if own else ''}"
    )


_DROP = "--drop-head to keep its body and draw a head at random"


def _check_head(given: Given, found: Match, num_classes: int | None) -> None:
    """Refuse a head that nobody asked for, and offer what can be done."""
    variant, naming = found.variant, found.table.naming
    if found.head in ("", OTHER_HEAD):
        heads = _head_prefixes(naming)
        keys = [key for key in given.state if any(in_module(key, head) for head in heads)]
        what = f"a head that it cannot have ({some(keys)})" if keys else "no head"
        kind = CheckpointError if keys else NoHeadError
        raise kind(f"{given.name} has the body of {variant.id} and {what}: use {_DROP}.")
    wanted = num_classes
    if wanted is None and found.head == variant.head == "linear":
        wanted = given.classes or variant.num_classes
    if wanted in (None, found.outputs):
        return
    unit = "classes" if found.head == "linear" else "outputs"
    if num_classes is not None and (found.is_as_published or found.head != "linear"):
        way = "leave out --num-classes"
    else:
        way = f"use --num-classes {found.outputs}"
    raise CheckpointError(
        f"{given.name} has a {found.head} head of {found.outputs} {unit}, and {variant.id} is to "
        f"have {wanted}: {way}, or {_DROP}."
    )


def _body(given: Given, found: Match) -> dict[str, Tensor]:
    own = _own_shapes(found.variant, found.variant.head)
    state = {}
    for mine, theirs in found.table.keys.items():
        if theirs in given.state:
            tensor = given.state[theirs]
            state[mine] = tensor.reshape(own[mine]) if mine in found.table.flat else tensor
    return state


def _renamed(given: Given, found: Match) -> dict[str, Tensor]:
    mine = found.table.own_head
    head = {
        mine + key[len(theirs) :]: tensor
        for theirs in _head_prefixes(found.table.naming)
        for key, tensor in given.state.items()
        if in_module(key, theirs)
    }
    return {**_body(given, found), **head}


def _notes(given: Given, found: Match) -> tuple[str, ...]:
    variant = found.variant
    notes = [_tensorflow_note(given, found)]
    if found.head != variant.head or (found.head != "linear" and not found.is_as_published):
        notes.append(
            f"{given.name} has a {found.head} head of {found.outputs} outputs, and the network is "
            f"built with it; {variant.id} as published has a {variant.head} head of "
            f"{variant.num_classes}"
        )
    return tuple(note for note in notes if note)


def _tensorflow_note(given: Given, found: Match) -> str:
    """A warning where the file's path says another flavour than the id, or says none."""
    flavours, variant = found.table.naming.flavours, found.variant
    if "tf" not in flavours or len(flavours) == 1:
        return ""
    path = f"{given.spec} {given.source} {given.name}".lower()
    if not re.search(r"efficientnet|mobilenet", path):
        return (
            f"{given.name} has timm's names, which are for timm's own function or for TensorFlow's "
            f"(its tf_ files), and nothing tells which: predictions of {variant.id} are right only "
            "if its weights are for it"
        )
    says_so = re.search(r"(?<![a-z])tf_(efficientnet|mobilenet)", path) is not None
    if says_so == (variant.flavour == "tf"):
        return ""
    others = (one.variant for one in _fits(shapes_of(given.state)))
    better = " or ".join(row.id for row in others if says_so == (row.flavour == "tf"))
    return (
        f"the name {given.name} {'has' if says_so else 'lacks'} the tf_ of timm's files with "
        f"TensorFlow's function: if its weights are for {better or 'the other one'}, predictions "
        f"of {variant.id} are wrong, and nothing inside the file tells"
    )
