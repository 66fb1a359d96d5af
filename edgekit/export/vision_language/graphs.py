"""The graphs that MiniVLM is cut into, each a module of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.bundle.assembly import VlmSettings
from edgekit.models.minivlm.fusion import hide
from edgekit.models.minivlm.network import MiniVlm
from edgekit.runtimes.vision_language.model import (
    BOX_HEAD,
    CAPTION,
    CONTEXT,
    DETECTOR,
    FUSED,
    JUDGE,
    NLVR2,
    STEP,
    Tables,
    fusion_name,
)


class _BoxHead(nn.Module):
    """(P, cells, C), as RoIAlign in numpy gives them -> features, class scores, deltas."""

    def __init__(self, network: MiniVlm) -> None:
        super().__init__()
        self.head = network.tee.box_head

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features, logits, deltas = self.head(pooled.transpose(1, 2))
        return features, logits.softmax(1), deltas


class _Fusion(nn.Module):
    """Embedded text, regions, and which of both there are -> match, answers, pooled.

    The last two only where a head is there that needs them.
    """

    def __init__(self, network: MiniVlm) -> None:
        super().__init__()
        self.bert = network.fusion.bert
        self.matching = network.fusion.cls["seq_relationship"]
        heads = dict(network.fusion.heads.items())
        self.answers, self.judged = heads.get("vqa"), "nlvr2" in heads

    def forward(self, text: Tensor, visual: Tensor, seen: Tensor) -> tuple[Tensor, ...]:
        x = torch.cat([self.bert.embeddings.normalise(text), self.bert.regions(visual)], 1)
        hidden, _ = self.bert.encode(x, hide(seen))
        pooled = self.bert.pool(hidden)
        outputs = [self.matching(pooled)]
        if self.answers is not None:
            outputs.append(self.answers(pooled))
        return (*outputs, pooled) if self.judged else tuple(outputs)


class _Judge(nn.Module):
    """Two pooled vectors side by side (1, 2 W) -> false and true."""

    def __init__(self, network: MiniVlm) -> None:
        super().__init__()
        self.head = network.fusion.heads["nlvr2"]

    def forward(self, pooled: Tensor) -> tuple[Tensor, ...]:
        return (self.head(pooled),)


class _Context(nn.Module):
    """Tags and regions -> their keys and values in all layers (layers * heads, C, size)."""

    def __init__(self, network: MiniVlm) -> None:
        super().__init__()
        self.bert = network.fusion.bert

    def forward(self, tags: Tensor, visual: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([self.bert.embeddings.normalise(tags), self.bert.regions(visual)], 1)
        _, owns = self.bert.encode(x, hide(seen))
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
        cached_keys: Tensor,
        cached_values: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        cached = (cached_keys[None], cached_values[None])
        split = zip(*(torch.split(each, self.heads, 1) for each in cached), strict=True)
        mask = hide(seen[None])
        x = self.bert.embeddings.normalise(pair)
        hidden, owns = self.bert.encode(x, mask, list(split))
        new_keys = torch.cat([k[0, :, :1] for k, _ in owns])
        new_values = torch.cat([v[0, :, :1] for _, v in owns])
        return self.predictions(hidden[:, 1]), new_keys, new_values


_OF_HEADS = (("vqa", "answers"), ("nlvr2", "pooled"))  # head -> output of a fusion graph


def graphs_of(
    network: MiniVlm, settings: VlmSettings
) -> tuple[dict[str, nn.Module], dict[str, tuple[str, ...]]]:
    """Graphs by name, and the names of their outputs; only those that a task needs."""
    heads = network.fusion.heads
    fused = ("match", *(name for head, name in _OF_HEADS if head in heads))
    rows: list[tuple[str, nn.Module, tuple[str, ...]]] = [
        (DETECTOR, network.tee, ("cells", "logits", "deltas")),
        (BOX_HEAD, _BoxHead(network), ("features", "scores", "deltas")),
    ]
    if FUSED & {*settings.tasks}:
        rows += [(fusion_name(length), _Fusion(network), fused) for length in settings.lengths]
    if NLVR2 in settings.tasks:
        rows.append((JUDGE, _Judge(network), ("judged",)))
    if CAPTION in settings.tasks:
        rows += [
            (CONTEXT, _Context(network), ("keys", "values")),
            (STEP, _Step(network), ("words", "keys", "values")),
        ]
    return {name: each for name, each, _ in rows}, {name: outs for name, _, outs in rows}


def tables_of(network: MiniVlm) -> Tables:
    """Embeddings, which are in no graph."""
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
