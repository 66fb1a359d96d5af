"""``edgekit models``: the zoo, its counts, and what others published, with the source."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence

from edgekit.cli.console import Console, count_text
from edgekit.models.zoo import Variant, list_models

_COUNTS = (
    "MACs of convolution and linear layers; MAdds adds the multiplies of dynamic coefficients and "
    "feature maps, as MicroNet's authors count; FLOPs = MACs + MAdds. One image, size as published."
)

_TOP1 = ("top-1",)
_SIZE = ("MAdds", "FLOPs (multiply-adds)", "MACs")
_SHOWN = (*_TOP1, *_SIZE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument("--family", help="only this family, e.g. micronet")


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Print the table, then the sources of its figures and what users should know."""
    variants = list_models(arguments.family)
    console.document([_document(variant) for variant in variants])
    sources = _sources(variants)
    console.table(
        ("model", "params", "MACs", "MAdds", "top-1", "published size", "network", "weights"),
        [_row(variant, sources) for variant in variants],
    )
    console.print()
    console.paragraph(_COUNTS)
    for number, source in enumerate(sources, start=1):
        console.paragraph(f"[{number}] {source}")
    notes = tuple(_notes(variants) if console.verbose else _short_notes(variants))
    if notes:
        console.print()
    for note in notes:
        console.paragraph(note)
    console.next(f"edgekit export {variants[0].id} --target x86")


def _document(variant: Variant) -> dict[str, object]:
    return {**dataclasses.asdict(variant), "madds": variant.madds, "flops": variant.flops}


def _row(variant: Variant, sources: Sequence[str]) -> tuple[str, ...]:
    return (
        variant.id,
        count_text(variant.params),
        count_text(variant.macs),
        count_text(variant.madds),
        _published(variant, _TOP1, sources),
        _published(variant, _SIZE, sources),
        "approximate" if variant.approximate else variant.flavour or "official",
        "released" if variant.weights else "none",
    )


def _published(variant: Variant, metrics: Sequence[str], sources: Sequence[str]) -> str:
    for figure in variant.published:
        if figure.metric in metrics:
            return f"{figure.value} [{sources.index(figure.source) + 1}]"
    return "-"


def _sources(variants: Sequence[Variant]) -> list[str]:
    """Of the figures that the table shows."""
    shown = (figure for variant in variants for figure in variant.published)
    return list(dict.fromkeys(figure.source for figure in shown if figure.metric in _SHOWN))


def _short_notes(variants: Sequence[Variant]) -> Iterator[str]:
    """One line a row that is guessed; the whole story is told with -v and in --json."""
    guessed = [variant for variant in variants if variant.approximate]
    for variant in guessed:
        yield f"{variant.id}: {variant.notes[0]}"
    if guessed:
        yield "approximate: the code behind it was never published; edgekit models -v has the rest."


def _notes(variants: Sequence[Variant]) -> Iterator[str]:
    """What the rows say of themselves; a sentence that several rows share stands once."""
    shared: dict[str, list[str]] = {}
    for variant in variants:
        guessed = (f"approximate: {variant.approximate}.",) if variant.approximate else ()
        for note in (*guessed, *variant.notes):
            shared.setdefault(note, []).append(variant.id)
    for note, ids in shared.items():
        yield f"{', '.join(ids)}: {note}"
