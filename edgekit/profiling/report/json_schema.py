"""JSON Schema of a profile result, made from the dataclasses that are read and written.

python -m edgekit.profiling.report.json_schema > docs/result.schema.json
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any

from edgekit.profiling.result import (
    KIND,
    PRESETS,
    SCHEMA_VERSION,
    SCOPES,
    VERDICTS,
    ProfileResult,
    Run,
)

_MOST = 2**63 - 1  # what edgekit.bundle.schema takes for a number
_SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer", "minimum": -_MOST, "maximum": _MOST},
    float: {"type": "number", "minimum": -_MOST, "maximum": _MOST},
    bool: {"type": "boolean"},
}
# What the annotations cannot say: the words a field may hold.
_WORDS: dict[tuple[type, str], tuple[Any, ...]] = {
    (Run, "scope"): SCOPES,
    (Run, "verdict"): VERDICTS,
    (ProfileResult, "preset"): PRESETS,
    (ProfileResult, "kind"): (KIND,),
    (ProfileResult, "schema_version"): (SCHEMA_VERSION,),
}
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def result_schema() -> dict[str, Any]:
    """The whole schema, with one definition a dataclass."""
    definitions: dict[str, Any] = {}
    top = _schema(ProfileResult, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A profile of edgekit, version {SCHEMA_VERSION}",
        **top,
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text() -> str:
    """The schema as the file in docs/ has it."""
    return json.dumps(result_schema(), indent=2, ensure_ascii=False) + "\n"


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _reference(kind, definitions)
    if origin is tuple:
        return _list(typing.get_args(kind), definitions)
    if origin in (typing.Union, types.UnionType):
        (only,) = (arg for arg in typing.get_args(kind) if arg is not type(None))
        return {"anyOf": [_schema(only, definitions), {"type": "null"}]}
    if origin is not None and issubclass(origin, Mapping):
        inner = _schema(typing.get_args(kind)[1], definitions)
        return {"type": "object", "additionalProperties": inner}
    return dict(_SCALARS[kind])


def _reference(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # known before its fields are, should one lead back here
        definitions[kind.__name__] = _object(kind, definitions)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _object(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    about, said = _documented(kind)
    fields = dataclasses.fields(kind)
    return {
        "description": about,
        "type": "object",
        "properties": {
            field.name: {
                **_schema(hints[field.name], definitions),
                **_words(kind, field.name),
                **({"description": said[field.name]} if field.name in said else {}),
            }
            for field in fields
        },
        "required": [field.name for field in fields if _must_be_there(field)],
        "additionalProperties": False,
    }


def _must_be_there(field: dataclasses.Field[Any]) -> bool:
    none = dataclasses.MISSING
    return field.default is none and field.default_factory is none


def _words(kind: type, name: str) -> dict[str, Any]:
    allowed = _WORDS.get((kind, name))
    return {"enum": list(allowed)} if allowed else {}


def _list(args: tuple[Any, ...], definitions: dict[str, Any]) -> dict[str, Any]:
    if args[-1] is Ellipsis:
        return {"type": "array", "items": _schema(args[0], definitions)}
    return {
        "type": "array",
        "prefixItems": [_schema(arg, definitions) for arg in args],
        "minItems": len(args),
        "maxItems": len(args),
    }


def _documented(kind: type) -> tuple[str, dict[str, str]]:
    """The first lines of the docstring, and what its Attributes say by name."""
    text = inspect.cleandoc(kind.__doc__ or "")
    about, _, attributes = text.partition("\n\nAttributes:\n")
    found = {name: " ".join(said.split()) for name, said in _ATTRIBUTE.findall(attributes)}
    return " ".join(about.replace("``", "").split()), {
        name: said.replace("``", "") for name, said in found.items()
    }


if __name__ == "__main__":
    sys.stdout.write(schema_text())
