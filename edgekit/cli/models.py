"""``edgekit models``: the zoo, its counts, and what others published, with the source."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence

from edgekit.cli.console import Console, count_text
from edgekit.errors import UsageError
from edgekit.models.minivlm.specs import VLMS, MiniVlmSpec
from edgekit.models.zoo import Variant, get_variant, list_models

_COUNTS = (
    "MACs of convolution, linear and matmul layers; MAdds adds the multiplies of dynamic "
    "coefficients and feature maps, as MicroNet's authors count; FLOPs = MACs + MAdds. One image, "
    "size as published."
)
_NAMES = (
    "The backbones are torchvision's; the end of a name says whose else: timm, tf (timm's ports of "
    "TensorFlow's weights), seed (linear probes of embeddings, not classifiers)."
)

_VLM_COUNTS = (
    "Parameters without the answers of VQA, whose number its data decide; the decoder of words is "
    "the word embeddings and is counted once. MACs of one image at the row's canvas, and of a question "
    "with its regions at the shorter length."
)

_TOP1 = ("top-1", "top-1, linear probe")
_SIZE = ("MAdds", "FLOPs (multiply-adds)", "MACs", "FLOPs")
_SHOWN = (*_TOP1, *_SIZE)
_MOST_IDS = 6  # of rows that share a note, before their names drown it

_HEADERS = ("model", "params", "MACs", "MAdds", "top-1", "published size", "weights")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument("models", nargs="*", metavar="ID", help="only these, with their notes")
    parser.add_argument("--family", help="only this family, with its notes, e.g. dcd")


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Print the table, then the sources of its figures and what users should know."""
    if vlms := _chosen_vlms(arguments):
        _run_vlms(vlms, console)
        return
    variants = _chosen(arguments)
    alone = bool(arguments.models) or arguments.family is not None
    others = [] if alone else list(VLMS.values())
    console.document([*map(_document, variants), *map(_vlm_document, others)])
    sources = _sources(variants)
    console.table(_HEADERS, list(_rows(variants, sources)))
    console.print()
    console.paragraph(_COUNTS)
    if not alone:
        console.paragraph(_NAMES)
    for number, source in enumerate(sources, start=1):
        console.paragraph(f"[{number}] {source}")
    notes = tuple(_notes(variants) if alone or console.verbose else _short_notes(variants))
    if notes:
        console.print()
    for note in notes:
        console.paragraph(note)
    if others:
        console.print()
        console.paragraph(
            f"vision-language models, see edgekit models ID: {', '.join(row.id for row in others)}"
        )
    console.next(f"edgekit export {variants[0].id} --target x86")


def _chosen_vlms(arguments: argparse.Namespace) -> list[MiniVlmSpec]:
    """Vision-language models, where only such are asked for."""
    if arguments.family == "minivlm" and not arguments.models:
        return list(VLMS.values())
    named = [model_id for model_id in dict.fromkeys(arguments.models) if model_id in VLMS]
    if named and len(named) < len({*arguments.models}):
        raise UsageError(f"{named[0]} is a vision-language model: ask for it apart from the others")
    if named and arguments.family is not None:
        raise UsageError("give ids or --family, not both")
    return [VLMS[model_id] for model_id in named]


def _run_vlms(rows: Sequence[MiniVlmSpec], console: Console) -> None:
    console.document([_vlm_document(row) for row in rows])
    console.table(
        ("model", "params", "extractor", "transformer", "extractor MACs", "question MACs"),
        [
            (row.id, *map(_count, (row.counts.params, row.counts.tee, row.counts.fusion,
                                   row.counts.tee_macs, row.counts.question_macs)))
            for row in rows
        ],
    )  # fmt: skip
    console.print()
    console.paragraph(_VLM_COUNTS)
    for row in rows:
        for figure in row.published:
            console.paragraph(f"{row.id}: {figure.metric}: {figure.value} [{figure.source}]")
    for note in dict.fromkeys(note for row in rows for note in row.notes):
        console.paragraph(note)
    console.next(f"edgekit export {rows[0].id} --target x86")


def _vlm_document(row: MiniVlmSpec) -> dict[str, object]:
    return {**dataclasses.asdict(row), "family": "minivlm", "task": "vision-language"}


def _chosen(arguments: argparse.Namespace) -> list[Variant]:
    if not arguments.models:
        return list_models(arguments.family)
    if arguments.family is not None:
        raise UsageError("give ids or --family, not both")
    return [get_variant(model_id) for model_id in dict.fromkeys(arguments.models)]


def _document(variant: Variant) -> dict[str, object]:
    return {**dataclasses.asdict(variant), "madds": variant.madds, "flops": variant.flops}


# ---------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------


def _rows(variants: Sequence[Variant], sources: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """One a variant; of several families each has its name above it."""
    families = list(dict.fromkeys(variant.family for variant in variants))
    blank = ("",) * len(_HEADERS)
    for family in families:
        if len(families) > 1:
            yield blank
            yield (family, *blank[1:])
        yield from (_row(variant, sources) for variant in variants if variant.family == family)


def _row(variant: Variant, sources: Sequence[str]) -> tuple[str, ...]:
    return (
        variant.id,
        _count(variant.params),
        _count(variant.macs),
        _count(variant.madds),
        _published(variant, _TOP1, sources) or "not found",
        _published(variant, _SIZE, sources) or "-",
        _weights(variant),
    )


def _count(count: int) -> str:
    return f"{count / 1e9:.2f} G" if count >= 10**9 else count_text(count)


def _published(variant: Variant, metrics: Sequence[str], sources: Sequence[str]) -> str:
    for figure in variant.published:
        if figure.metric in metrics:
            return f"{figure.value} [{sources.index(figure.source) + 1}]"
    return ""


def _weights(variant: Variant) -> str:
    """Whether edgekit fetches them, or a user must, or there are none."""
    if variant.weights is None:
        return "approximate" if variant.approximate else "none"
    return "released" if variant.weights.url else "by hand"


def _sources(variants: Sequence[Variant]) -> list[str]:
    """Of the figures that the table shows."""
    shown = (figure for variant in variants for figure in variant.published)
    return list(dict.fromkeys(figure.source for figure in shown if figure.metric in _SHOWN))


# ---------------------------------------------------------------------------
# Below the table
# ---------------------------------------------------------------------------


def _short_notes(variants: Sequence[Variant]) -> Iterator[str]:
    """One line a row that is guessed; the whole story is told by family, with -v and in --json."""
    for variant in variants:
        if variant.approximate:
            yield f"{variant.id}: {variant.notes[0]}"
    yield (
        "approximate: the code behind it was never published. by hand: weights that edgekit cannot "
        "fetch. edgekit models ID has notes and licences, --family NAME those of a family, -v all."
    )


def _notes(variants: Sequence[Variant]) -> Iterator[str]:
    """What the rows say of themselves; a sentence that several rows share stands once."""
    shared: dict[str, list[str]] = {}
    for variant in variants:
        for note in _notes_of(variant):
            shared.setdefault(note, []).append(variant.id)
    for note, ids in shared.items():
        yield f"{_whose(ids, len(variants))}: {note}"


def _whose(ids: Sequence[str], shown: int) -> str:
    """The rows that a note is of; --json has every one of them."""
    if len(ids) == shown > 1:
        return "all"
    return ", ".join(ids) if len(ids) <= _MOST_IDS else f"{ids[0]} and {len(ids) - 1} more"


def _notes_of(variant: Variant) -> Iterator[str]:
    if variant.approximate:
        yield f"approximate: {variant.approximate}."
    yield from variant.notes
    if variant.weights is not None:
        if variant.weights.where:
            yield f"weights: {variant.weights.where}."
        yield f"licence of the weights: {variant.weights.licence}."
