"""Frozen dataclasses <-> strict JSON: the dataclass is the schema.

    annotation            JSON
    str int float bool    text, whole number, finite number, true/false
    X | None              X or null
    tuple[X, ...]         list
    tuple[X, Y]           list of exactly two
    Mapping[str, X]       object
    a dataclass           object with exactly its fields; a field with a default may be absent

Everything else is refused with the JSON path of what is wrong:
``artifacts[1].parity.tolerance: expected a number, got "x"``.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
import unicodedata
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

_MAX_INT = 2**63 - 1
_UNSEEN = ("Cc", "Cf", "Cs")  # Unicode categories: control, format (bidi ...), half a character


class SchemaError(ValueError):
    """JSON that does not fit; ``str(error)`` starts with the path of what is wrong."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path or 'the document'}: {problem}")


def encode(value: Any) -> Any:
    """Dataclasses, tuples and mappings as what ``json.dumps`` takes."""
    if dataclasses.is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], value: Any, path: str = "") -> T:
    """``value``, parsed JSON, as an instance of the dataclass ``kind``.

    Raises:
        SchemaError: with the path of the first thing that does not fit.
    """
    return typing.cast(T, _decode(kind, value, path))


def dumps(value: Any) -> str:
    """Canonical JSON: keys sorted, two spaces, one newline at the end."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def loads(text: str) -> Any:
    """Parse JSON, refusing what the standard does: NaN, Infinity and a key given twice.

    Raises:
        SchemaError: not JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except SchemaError:
        raise
    except RecursionError:
        raise SchemaError("", "nested too deeply") from None
    except ValueError as error:
        raise SchemaError("", f"not JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()  # not list.count: a file of a million keys would take for ever
        for name, _ in pairs:
            if name in seen:
                raise SchemaError("", f"the key {_show(name)} is given twice")
            seen.add(name)
    return table


def _no_constant(text: str) -> Any:
    raise SchemaError("", f"{text} is not JSON")


def _decode(kind: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, path)
    if origin is tuple:
        return _decode_tuple(typing.get_args(kind), value, path)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _decode(_not_none(kind), value, path)
    if origin is not None and issubclass(origin, Mapping):
        return _decode_mapping(typing.get_args(kind)[1], value, path)
    return _SCALARS[kind](value, path)


def _not_none(kind: Any) -> Any:
    (only,) = (arg for arg in typing.get_args(kind) if arg is not type(None))
    return only


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Field name -> (its type, whether it must be there)."""
    hints = typing.get_type_hints(kind)
    return {
        f.name: (
            hints[f.name],
            f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING,
        )
        for f in dataclasses.fields(kind)
    }


def _decode_dataclass(kind: Any, value: Any, path: str) -> Any:
    known = _fields(kind)
    table = _object(value, path)
    unknown = sorted(table.keys() - known.keys())
    if unknown:
        raise SchemaError(_join(path, unknown[0]), f"unknown key; known: {', '.join(known)}")
    missing = [name for name, (_, must) in known.items() if must and name not in table]
    if missing:
        raise SchemaError(_join(path, missing[0]), "missing")
    return kind(
        **{name: _decode(known[name][0], item, _join(path, name)) for name, item in table.items()}
    )


def _decode_tuple(args: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise SchemaError(path, f"expected a list, got {_show(value)}")
    if args[-1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(value) != len(args):
        raise SchemaError(path, f"expected {len(args)} items, got {len(value)}")
    return tuple(
        _decode(arg, item, f"{path}[{index}]")
        for index, (arg, item) in enumerate(zip(args, value, strict=True))
    )


def _decode_mapping(kind: Any, value: Any, path: str) -> dict[str, Any]:
    return {
        _text(key, path): _decode(kind, item, f"{path}[{_show(key)}]")
        for key, item in _object(value, path).items()
    }


def _object(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SchemaError(path, f"expected an object, got {_show(value)}")
    return value


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise SchemaError(path, f"expected a text, got {_show(value)}")
    # These texts are printed to terminals: an escape sequence in one could rewrite the screen.
    if not value.isprintable() and any(unicodedata.category(c) in _UNSEEN for c in value):
        raise SchemaError(path, f"has a control character: {_show(value)}")
    return value


def _whole(value: Any, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _MAX_INT:
        raise SchemaError(path, f"expected a whole number, got {_show(value)}")
    return value


def _number(value: Any, path: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise SchemaError(path, f"expected a number, got {_show(value)}")
    if abs(value) > _MAX_INT or not math.isfinite(value):
        raise SchemaError(path, f"expected a finite number, got {_show(value)}")
    return float(value)


def _truth(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise SchemaError(path, f"expected true or false, got {_show(value)}")
    return value


_SCALARS: dict[Any, Any] = {str: _text, int: _whole, float: _number, bool: _truth}


def _join(path: str, name: str) -> str:
    shown = name if name.isidentifier() else _show(name)
    return f"{path}.{shown}" if path else shown


def _show(value: Any) -> str:
    """A value as JSON would have it, short enough for one line."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."
