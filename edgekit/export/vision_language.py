"""MiniVLM as one bundle of several graphs.

    MiniVlm --graphs--> detector, box-head, fusion-35, fusion-128, context, step
                |         each through pipeline.py: passes, artifacts, parity, a bundle of its own
    torch stages, drawn images --recorded--> the inputs that each graph is proven on
                |
    the whole, in each runtime --compared--> same regions, same captions, same answers
                v
    assembly.json, vocabulary, embeddings

What is looked up (embeddings) and what has no static number of results (proposals, NMS) is in no
graph; RoIAlign is not either, since TFLite has no such operator and numpy needs a few milliseconds.
"""

from __future__ import annotations

import io
import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.bundle import PARITY_TOLERANCE, Figure, Manifest, ModelFacts, WeightsFacts
from edgekit.bundle.agreement import relative_error
from edgekit.bundle.assembly import (
    VISION_LANGUAGE,
    Agreement,
    Assembly,
    VlmSettings,
    assembling,
    finish_assembly,
    open_assembly,
)
from edgekit.errors import ParityError, UsageError
from edgekit.export.pipeline import Order, export_source, make_order
from edgekit.export.sources import Progress, part_source
from edgekit.models.minivlm.network import (
    CreatedVlm,
    MiniVlm,
    check_vocabulary,
    create_vlm,
)
from edgekit.models.minivlm.specs import get_vlm
from edgekit.models.random_init import calibration_images
from edgekit.models.variant import IMAGENET_MEAN, IMAGENET_STD
from edgekit.runtimes.vision_language.loaded import (
    ANSWERS,
    OBJECTS,
    POSITIONS,
    TYPES,
    VOCABULARY,
    WORDS,
    LoadedVlm,
)
from edgekit.runtimes.vision_language.model import (
    BOX_HEAD,
    CAPTION,
    CONTEXT,
    DETECTOR,
    MATCH,
    STEP,
    VQA,
    Arrays,
    Names,
    Seen,
    Stage,
    Tables,
    VisionLanguage,
    fusion_name,
)
from edgekit.runtimes.vision_language.text import SPECIAL, Vocabulary

# Images that the graphs and the whole are compared on: (height, width), of other shapes than the
# canvas, so that fitting and clipping take part.
_IMAGES = ((480, 640), (640, 480), (300, 300), (97, 203), (768, 1024))
# Twice that of a graph: what a region is goes through two of them.
_TOLERANCE = {precision: 2 * bound for precision, bound in PARITY_TOLERANCE.items()}


@dataclass(frozen=True)
class VlmExport:
    """Where the bundle is, what it says of itself, and what the user must be told."""

    path: Path
    assembly: Assembly
    warnings: tuple[str, ...] = ()


def export_vlm(
    model_id: str,
    target: str,
    *,
    weights: str = "auto",
    vocabulary: str | Path | None = None,
    out: str | Path | None = None,
    canvas: tuple[int, int] | None = None,
    min_score: float = 0.0,
    skip: Collection[str] = (),
    force: bool = False,
    seed: int = 0,
    precision: str = "fp32",
    progress: Progress = lambda _: None,
) -> VlmExport:
    """Export a vision-language model as one bundle for ``target``.

    Args:
        model_id: a row of `edgekit.models.minivlm.specs.VLMS`.
        target: a row of ``edgekit targets``.
        weights: ``auto``, ``random``, or a file that ``edgekit train`` wrote, as path or address.
        vocabulary: ``vocab.txt`` that the weights were trained with; by default the one beside the
            file of weights, or letters for random ones.
        out: folder of the bundle; ``./<model>-<target>`` when None.
        canvas: height and width that images are fitted into, when not the row's.
        min_score: a region's best class must be this likely.
        skip: runtimes to leave out.
        force: replace ``out`` if it is a bundle.
        seed: of random weights.
        precision: ``fp32``.
        progress: called with one line per stage.

    Raises:
        EdgekitError: any of the tree in ``edgekit.errors``; nothing is written then.
    """
    spec = get_vlm(model_id)
    _check_canvas(canvas or (spec.lengths.height, spec.lengths.width))
    order = make_order(model_id, target, out, skip, force, precision, progress)
    progress(f"build {model_id}, weights {weights}")
    created = create_vlm(model_id, weights, seed=seed)
    words = _vocabulary(created, weights, vocabulary)
    whole = _Whole(created, words, settings_of(created, canvas, min_score))
    with assembling(order.out, force=force) as folder:
        for name, module in whole.graphs.items():
            progress(f"-- {name}")
            source = part_source(
                module, whole.samples[name], whole.outputs[name],
                name=f"{model_id}-{name}", weights=whole.weights,
            )  # fmt: skip
            part = export_source(source, replace(order, out=folder / name, force=False))
            whole.parts[name] = part.manifest
        _write_whole(folder, whole, order)
    with open_assembly(order.out) as bundle:
        warnings = tuple(text for text in (created.weights.note, created.weights.why) if text)
        return VlmExport(order.out, bundle.assembly, warnings)


def _check_canvas(canvas: tuple[int, int]) -> None:
    height, width = canvas
    if height % 64 or width % 64 or not 64 <= min(canvas) <= max(canvas) <= 2048:
        raise UsageError(
            f"a canvas of {height} x {width}: both are multiples of 64 (the coarsest map's "
            "stride), from 64 to 2048"
        )


def settings_of(
    created: CreatedVlm, canvas: tuple[int, int] | None = None, min_score: float = 0.0
) -> VlmSettings:
    """What stands between the graphs of a network."""
    spec = created.spec
    tee, fusion, lengths = spec.tee, spec.fusion, spec.lengths
    height, width = canvas or (lengths.height, lengths.width)
    return VlmSettings(
        height, width, IMAGENET_MEAN, IMAGENET_STD, tee.anchors, tee.candidates, tee.proposals,
        tee.proposal_iou, tee.pooled, tee.samples, tee.regions, tee.region_iou, min_score,
        (lengths.short, lengths.long), lengths.caption, lengths.tags, fusion.layers, fusion.heads,
        fusion.width // fusion.heads,
        tuple(task for task in (VQA, CAPTION, MATCH) if task in created.facts.tasks),
    )  # fmt: skip


# ---- vocabulary ------------------------------------------------------------------------------


def _vocabulary(created: CreatedVlm, weights: str, given: str | Path | None) -> Vocabulary:
    spec = created.spec.fusion
    beside = Path(weights).parent / VOCABULARY
    if given is None and created.weights.random:
        return placeholder_vocabulary(spec.vocabulary)
    if given is None and not beside.is_file():
        raise UsageError(
            "the weights need the vocabulary that they were trained with: give its vocab.txt "
            "(--vocab)"
        )
    path = Path(given) if given is not None else beside
    vocabulary = Vocabulary.read(path)
    check_vocabulary(spec, vocabulary.size, path.name)
    return vocabulary


def placeholder_vocabulary(size: int) -> Vocabulary:
    """Letters and punctuation, filled up to ``size``: for random weights, which know no words.

    Raises:
        UsageError: ``size`` is too small for that.
    """
    letters = [*string.ascii_lowercase]
    basic = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    if size < len(basic):
        raise UsageError(f"{size} tokens are too few for letters: give a vocabulary (--vocab)")
    more = [*string.digits, *(f"##{d}" for d in string.digits), *string.punctuation]
    filled = [*basic, *more, *(f"[unused{n}]" for n in range(size))]
    return Vocabulary(filled[:size], "the placeholder vocabulary")


# ---- graphs ----------------------------------------------------------------------------------


class _BoxHead(nn.Module):
    """(P, cells, C), as RoIAlign in numpy gives them -> features, class scores, deltas."""

    def __init__(self, network: MiniVlm) -> None:
        super().__init__()
        self.head = network.tee.box_head

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features, logits, deltas = self.head(pooled.transpose(1, 2))
        return features, logits.softmax(1), deltas


class _Fusion(nn.Module):
    """Embedded text, regions, and which of both there are -> match, answers."""

    def __init__(self, network: MiniVlm) -> None:
        super().__init__()
        self.bert = network.fusion.bert
        self.matching = network.fusion.cls["seq_relationship"]
        self.answers = dict(network.fusion.heads.items()).get("vqa")

    def forward(self, text: Tensor, visual: Tensor, seen: Tensor) -> tuple[Tensor, ...]:
        x = torch.cat([self.bert.embeddings.normalise(text), self.bert.regions(visual)], 1)
        hidden, _ = self.bert.encode(x, _hidden(seen))
        pooled = self.bert.pool(hidden)
        match = self.matching(pooled)
        return (match,) if self.answers is None else (match, self.answers(pooled))


def _hidden(seen: Tensor) -> Tensor:
    return (1 - seen[:, None, None]) * -1e4


class _Context(nn.Module):
    """Tags and regions -> their keys and values in all layers (layers * heads, C, size)."""

    def __init__(self, network: MiniVlm) -> None:
        super().__init__()
        self.bert = network.fusion.bert

    def forward(self, tags: Tensor, visual: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([self.bert.embeddings.normalise(tags), self.bert.regions(visual)], 1)
        _, owns = self.bert.encode(x, _hidden(seen))
        return torch.cat([k[0] for k, _ in owns]), torch.cat([v[0] for _, v in owns])


class _Step(nn.Module):
    """The last known token and [MASK], and all before -> the next token; keys and values."""

    def __init__(self, network: MiniVlm) -> None:
        super().__init__()
        self.bert, self.predictions = network.fusion.bert, network.fusion.cls["predictions"]
        self.heads = network.spec.fusion.heads

    def forward(
        self,
        pair: Tensor,
        seen: Tensor,
        past_keys: Tensor,
        past_values: Tensor,
        context_keys: Tensor,
        context_values: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        keys = torch.cat([past_keys, context_keys], 1)[None]
        values = torch.cat([past_values, context_values], 1)[None]
        split = zip(*(torch.split(each, self.heads, 1) for each in (keys, values)), strict=True)
        mask = (1 - seen[None, None]) * -1e4
        x = self.bert.embeddings.normalise(pair)
        hidden, owns = self.bert.encode(x, mask, list(split))
        new_keys = torch.cat([k[0, :, :1] for k, _ in owns])
        new_values = torch.cat([v[0, :, :1] for _, v in owns])
        return self.predictions(hidden[:, 1]), new_keys, new_values


class _Whole:
    """The network in pieces, how they work together in torch, and what each was fed."""

    def __init__(self, created: CreatedVlm, vocabulary: Vocabulary, settings: VlmSettings) -> None:
        network = created.module
        self.created, self.vocabulary, self.settings = created, vocabulary, settings
        self.parts: dict[str, Manifest] = {}
        self.weights = _weights_facts(created)
        self.tables = _tables(network)
        self.graphs, self.outputs = _graphs(network, settings)
        self.samples: dict[str, list[dict[str, NDArray[Any]]]] = {name: [] for name in self.graphs}
        stages = {name: self._recording(name) for name in self.graphs}
        names = Names(created.facts.answers, created.facts.objects)
        self.model = VisionLanguage(stages, settings, vocabulary, self.tables, names)
        self.images = drawn_images()
        self.seen = [self.model.look(image) for image in self.images]
        self.told = [tell(self.model, seen) for seen in self.seen]
        self.samples = {name: kept[: len(_IMAGES)] for name, kept in self.samples.items()}

    def _recording(self, name: str) -> Stage:
        """The graph in torch, which remembers what it is given."""
        module, outputs = self.graphs[name].eval(), self.outputs[name]

        def run(inputs: Arrays) -> Arrays:
            given = {key: np.ascontiguousarray(value) for key, value in inputs.items()}
            self.samples[name].append({key: value.copy() for key, value in given.items()})
            with torch.no_grad():
                results = module(*(torch.from_numpy(value) for value in given.values()))
            pairs = zip(outputs, results, strict=True)
            return {key: result.numpy() for key, result in pairs}

        return run


def _graphs(
    network: MiniVlm, settings: VlmSettings
) -> tuple[dict[str, nn.Module], dict[str, tuple[str, ...]]]:
    """Graphs by name, and the names of their outputs; only those that a task needs."""
    answers = ("answers",) if "vqa" in network.fusion.heads else ()
    rows: list[tuple[str, nn.Module, tuple[str, ...]]] = [
        (DETECTOR, network.tee, ("cells", "logits", "deltas")),
        (BOX_HEAD, _BoxHead(network), ("features", "scores", "deltas")),
    ]
    if {VQA, MATCH} & {*settings.tasks}:
        rows += [
            (fusion_name(length), _Fusion(network), ("match", *answers))
            for length in settings.lengths
        ]
    if CAPTION in settings.tasks:
        rows += [
            (CONTEXT, _Context(network), ("keys", "values")),
            (STEP, _Step(network), ("words", "keys", "values")),
        ]
    return {name: each for name, each, _ in rows}, {name: outs for name, _, outs in rows}


def _tables(network: MiniVlm) -> Tables:
    embeddings = network.fusion.bert.embeddings
    return Tables(
        *(
            table.weight.detach().numpy()
            for table in (
                embeddings.word_embeddings,
                embeddings.position_embeddings,
                embeddings.token_type_embeddings,
            )
        )
    )


# ---- the whole -------------------------------------------------------------------------------


def drawn_images() -> list[NDArray[np.uint8]]:
    """RGB images of several sizes, the same each time: blobs and noise."""
    side = max(max(size) for size in _IMAGES)
    noise = calibration_images(len(_IMAGES), side).numpy()
    images = []
    for picture, (height, width) in zip(noise, _IMAGES, strict=True):
        part = picture[:, :height, :width].transpose(1, 2, 0)
        images.append((part * 60 + 128).clip(0, 255).astype(np.uint8))
    return images


@dataclass(frozen=True)
class Told:
    """What was said of one image."""

    caption: tuple[int, ...]
    answers: tuple[str, ...]
    match: tuple[float, ...]


def tell(model: VisionLanguage, seen: Seen) -> Told:
    """All that the bundle's tasks can say of what was seen, on texts of every length."""
    tasks, sizes = model.settings.tasks, model.settings.lengths
    words = list(range(len(SPECIAL), min(model.vocabulary.size, 60)))
    texts = [(words * size)[: size - 2] for size in sizes]
    caption = tuple(model.caption_tokens(seen)) if CAPTION in tasks else ()
    fused = [model.fuse(seen, model.vocabulary.question(text)) for text in texts if
             {VQA, MATCH} & {*tasks}]  # fmt: skip
    answers = tuple(str(out["answers"][0].argmax()) for out in fused if "answers" in out)
    return Told(caption, answers, tuple(float(out["match"][0, 1]) for out in fused))


def _write_whole(folder: Path, whole: _Whole, order: Order) -> None:
    """The shared files; then the whole is opened with each runtime and compared."""
    files = _shared_files(whole)
    runtimes = [name for name in order.target.runtimes if name not in order.skip]
    draft = _assembly(whole, order, {})
    finish_assembly(folder, draft, files)
    agreement = {}
    for runtime in runtimes:
        with open_assembly(folder) as bundle:
            if bundle.parts[DETECTOR].manifest.artifacts[0].parity is None:
                continue  # of a runtime that only a board has
            order.progress(f"{runtime}: compare the whole with torch")
            agreement[runtime] = _compare(
                runtime, whole, LoadedVlm(bundle, runtime, 1), order.precision
            )
    files["README.md"] = _card(whole, agreement).encode()
    finish_assembly(folder, replace(draft, agreement=agreement), files)


def _compare(runtime: str, whole: _Whole, model: LoadedVlm, precision: str) -> Agreement:
    with model:
        found = [model.look(image) for image in whole.images]
        told = [tell(model, seen) for seen in found]
    pairs = list(zip(found, whole.seen, strict=True))
    boxes = max(
        _distance(a, b) / max(image.shape)
        for (a, b), image in zip(pairs, whole.images, strict=True)
    )
    features = max(relative_error(a.visual, b.visual) for a, b in pairs)
    same = [
        sum(getattr(a, name) == getattr(b, name) for a, b in zip(told, whole.told, strict=True))
        for name in ("caption", "answers")
    ]
    tasks = whole.settings.tasks
    agreement = Agreement(
        "torch", len(found), boxes, features,
        same[0] if CAPTION in tasks else None,
        same[1] if VQA in tasks else None,
    )  # fmt: skip
    _check_agreement(runtime, agreement, _TOLERANCE[precision])
    return agreement


def _distance(a: Seen, b: Seen) -> float:
    """Largest difference of a corner, in pixels; infinite if not as many were found."""
    if a.count != b.count:
        return float("inf")
    return float(np.abs(a.boxes - b.boxes).max()) if a.count else 0.0


def _check_agreement(runtime: str, found: Agreement, bound: float) -> None:
    wrong = {
        f"regions differ by {found.boxes:.3g} of the image's side": not found.boxes <= bound,
        f"features differ by {found.features:.3g}": not found.features <= bound,
        "captions differ": found.captions not in (None, found.images),
        "answers differ": found.answers not in (None, found.images),
    }
    problems = [text for text, is_so in wrong.items() if is_so]
    if problems:
        raise ParityError(
            f"the whole is not the same function in {runtime} as in torch: {', '.join(problems)}; "
            "no bundle was written"
        )


def _shared_files(whole: _Whole) -> dict[str, bytes]:
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


def _assembly(whole: _Whole, order: Order, agreement: Mapping[str, Agreement]) -> Assembly:
    return Assembly(
        VISION_LANGUAGE, _model_facts(whole), whole.weights, order.target.name, order.precision,
        whole.settings, agreement, {}, {},
    )  # fmt: skip


def _model_facts(whole: _Whole) -> ModelFacts:
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


def _card(whole: _Whole, agreement: Mapping[str, Agreement]) -> str:
    """README.md of the bundle."""
    settings, facts = whole.settings, _model_facts(whole)
    tasks = ", ".join(settings.tasks) or "none"
    lines = [
        f"# {facts.id}: a vision-language model in {len(whole.parts)} graphs",
        "",
        f"Weights: {whole.weights.source}" + (
            ". **Random: fit for latency work, not for predictions.**" if whole.weights.random
            else f". Trained for: {tasks}."
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
        f"| {runtime} | {a.boxes:.2g} | {a.features:.2g} | "
        + " | ".join("-" if n is None else f"{n} of {a.images}" for n in (a.captions, a.answers))
        + " |"
        for runtime, a in agreement.items()
    ]
    return [
        "The whole against torch, on drawn images:",
        "",
        "| runtime | regions, of the side | features, relative | same captions | same answers |",
        "|-|-:|-:|-:|-:|",
        *shown,
    ]


def _weights_facts(created: CreatedVlm) -> WeightsFacts:
    info = created.weights
    return WeightsFacts(info.source, info.sha256, info.random, note=info.note)
