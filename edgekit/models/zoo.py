"""VARIANTS: one row per network edgekit can build. Facts only, so that a board can list them.

What a row says is in `edgekit.models.variant`, the rows themselves are in `edgekit.models.rows`.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.errors import UnknownNameError, UsageError
from edgekit.models.minivlm.specs import VLMS
from edgekit.models.rows import dcd, efficientnet, micronet, mobilenet, resnet
from edgekit.models.variant import Published, Variant, Weights

__all__ = [
    "TEACHERS",
    "VARIANTS",
    "Published",
    "Variant",
    "Weights",
    "get_teacher",
    "get_variant",
    "list_models",
]

_FAMILIES = (micronet, dcd, mobilenet, efficientnet, resnet)

VARIANTS: dict[str, Variant] = {row.id: row for family in _FAMILIES for row in family.ROWS}
# Only to be learnt from: too large for what edgekit exports to.
TEACHERS: dict[str, Variant] = {row.id: row for row in resnet.TEACHER_ROWS}


def get_variant(model_id: str) -> Variant:
    """The row of ``model_id``.

    Raises:
        UnknownNameError: no such row; names the close ones.
        UsageError: a vision-language model, which is no such row.
    """
    return _row(model_id, VARIANTS)


def _row(model_id: str, rows: Mapping[str, Variant]) -> Variant:
    if model_id in VLMS:
        raise UsageError(
            f"{model_id} is a vision-language model of several graphs: edgekit models, train and "
            "export take it (in Python edgekit.export.vision_language.export_vlm); count and the "
            "others take a part of its bundle"
        )
    try:
        return rows[model_id]
    except KeyError:
        hint = "`edgekit models` lists all."
        raise UnknownNameError("model", model_id, [*rows, *VLMS], hint) from None


def get_teacher(model_id: str) -> Variant:
    """The row of a network that others learn from: any of the zoo, or one of `TEACHERS`.

    Raises:
        UnknownNameError: no such row; names the close ones.
    """
    return _row(model_id, {**VARIANTS, **TEACHERS})


def list_models(family: str | None = None) -> list[Variant]:
    """All rows in the order of the table, or those of one family.

    Raises:
        UnknownNameError: no such family.
    """
    families = dict.fromkeys(row.family for row in VARIANTS.values())
    if family is not None and family not in families:
        raise UnknownNameError("model family", family, families)
    return [row for row in VARIANTS.values() if family in (None, row.family)]
