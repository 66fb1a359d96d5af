"""What stands beside the graphs: shared files, facts, the model card."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bundle import Figure, ModelFacts
from edgekit.bundle.assembly import Agreement
from edgekit.export.vision_language.whole import Whole
from edgekit.runtimes.vision_language.loaded import (
    ANSWERS,
    OBJECTS,
    POSITIONS,
    TYPES,
    VOCABULARY,
    WORDS,
)
from edgekit.runtimes.vision_language.model import BOX_HEAD, DETECTOR, fusion_name


def shared_files(whole: Whole) -> dict[str, bytes]:
    """Vocabulary, embeddings and names, by file name."""
    facts, tables = whole.created.facts, whole.tables
    files = {
        VOCABULARY: _lines(whole.vocabulary.tokens),
        WORDS: _npy(tables.words),
        POSITIONS: _npy(tables.positions),
        TYPES: _npy(tables.types),
    }
    for name, lines in ((ANSWERS, facts.answers), (OBJECTS, facts.objects)):
        if lines:
            files[name] = _lines(lines)
    return files


def _lines(names: Sequence[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


def _npy(table: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(table), allow_pickle=False)
    return stream.getvalue()


def model_facts(whole: Whole) -> ModelFacts:
    """Of the whole; its MACs are those of one short question about one image."""
    spec, network = whole.created.spec, whole.created.module
    asked = [DETECTOR, BOX_HEAD, fusion_name(whole.settings.lengths[0])]
    macs = {name: part.model.macs for name, part in whole.parts.items()}
    used = [name for name in asked if name in macs]
    notes = (
        f"MACs are those of {' + '.join(used)}, one graph a time; of each graph: "
        + ", ".join(f"{name} {count:,}" for name, count in macs.items()),
        *spec.notes,
    )
    return ModelFacts(
        spec.id, "minivlm", "vision-language", sum(p.numel() for p in network.parameters()),
        sum(macs[name] for name in used),
        sum(whole.parts[name].model.elementwise_multiplies for name in used),
        tuple(Figure(p.metric, p.value, p.source) for p in spec.published), notes,
    )  # fmt: skip


def card(whole: Whole, agreement: Mapping[str, Agreement]) -> str:
    """README.md of the bundle."""
    settings, facts = whole.settings, model_facts(whole)
    tasks = ", ".join(settings.tasks) or "none"
    lines = [
        f"# {facts.id}: a vision-language model in {len(whole.parts)} graphs",
        "",
        f"Weights: {whole.weights.source}" + (
            ". **Random: fit for latency work, not for predictions.**" if whole.weights.random
            else f". Graphs for: {tasks}."
        ),
        f"Images are fitted into {settings.height} x {settings.width} pixels; "
        f"{settings.regions} regions; texts of {' and '.join(map(str, settings.lengths))} tokens.",
        "",
        "| graph | parameters | MACs | bytes of files |",
        "|-|-:|-:|-:|",
        *(
            f"| {name} | {part.model.params:,} | {part.model.macs:,} | "
            f"{sum(file.bytes for file in part.files.values()):,} |"
            for name, part in whole.parts.items()
        ),
        "",
        f"In all {facts.params:,} parameters; graphs of the transformer each have a copy.",
        "",
        *_agreement_lines(agreement),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _agreement_lines(agreement: Mapping[str, Agreement]) -> list[str]:
    if not agreement:
        return ["No runtime of this target runs on the exporting machine: compare on the board."]
    shown = [
        f"| {runtime} | {a.count} | {a.regions:.1%} | {a.steady:.1%} | {a.features:.2g} | "
        + " | ".join("-" if n is None else f"{n} of {a.images}" for n in (a.captions, a.answers))
        + " |"
        for runtime, a in agreement.items()
    ]
    return [
        "The whole against torch, on drawn images. Some regions stay where they are whatever the",
        "rounding; they must be the same, and the others may be.",
        "",
        "| runtime | regions | the same | that no rounding moves | features, relative | captions | "
        "answers |",
        "|-|-:|-:|-:|-:|-:|-:|",
        *shown,
    ]
