"""The transformer of MiniVLM: BERT's encoder over tokens of a text and regions of an image.

    tokens   word + position + type embedding, LayerNorm       (B, T, width)
    regions  linear, LayerNorm: no position, no type           (B, R, width)
    12 x     attention over both, feed-forward                 (B, T + R, width)
    heads    masked words (B, T, vocabulary); matching (B, 2) and answers on the pooled [CLS]

State-dict keys are those of OSCAR (github.com/microsoft/Oscar, MIT), and of BERT. Li et al.,
"Oscar: Object-Semantics Aligned Pre-training for Vision-Language Tasks", ECCV 2020.

A caption is written from left to right: each of its tokens sees those before it, the tags and the
regions, and these see only each other. Their keys and values are therefore the same at every step,
`Fusion.context` computes them once, and `Fusion.step` adds one token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.models.minivlm.specs import FusionSpec

DROPOUT = 0.1
_TEXT_EPS, _IMAGE_EPS = 1e-12, 1e-5
_HIDDEN_LOGIT = -1e4  # added where attention may not look: lower needs more than half precision

KeysValues = tuple[Tensor, Tensor]


def dense(width_in: int, width_out: int) -> nn.ModuleDict:
    """Of BERT: a linear layer under this name."""
    return nn.ModuleDict({"dense": nn.Linear(width_in, width_out)})


class Embeddings(nn.Module):
    """(B, T) tokens, their positions and types -> (B, T, width)."""

    def __init__(self, spec: FusionSpec) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(spec.vocabulary, spec.width)
        self.position_embeddings = nn.Embedding(spec.positions, spec.width)
        self.token_type_embeddings = nn.Embedding(2, spec.width)
        self.LayerNorm = nn.LayerNorm(spec.width, _TEXT_EPS)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, tokens: Tensor, positions: Tensor, types: Tensor) -> Tensor:
        """See the class."""
        return self.normalise(
            self.word_embeddings(tokens)
            + self.position_embeddings(positions)
            + self.token_type_embeddings(types)
        )

    def normalise(self, summed: Tensor) -> Tensor:
        """The sum of the three embeddings -> what enters the encoder."""
        normalised: Tensor = self.dropout(self.LayerNorm(summed))
        return normalised


class SelfAttention(nn.Module):
    """(B, S, width) -> (B, S, width)."""

    def __init__(self, spec: FusionSpec) -> None:
        super().__init__()
        self.heads, self.size = spec.heads, spec.width // spec.heads
        self.query = nn.Linear(spec.width, spec.width)
        self.key = nn.Linear(spec.width, spec.width)
        self.value = nn.Linear(spec.width, spec.width)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(
        self, x: Tensor, mask: Tensor, past: KeysValues | None = None
    ) -> tuple[Tensor, KeysValues]:
        """Attention of ``x`` over what is past and itself.

        Args:
            x: (B, S, width).
            mask: what is added to the logits, to be broadcast to (B, heads, S, P + S).
            past: keys and values (B, heads, P, size) of what came before.

        Returns:
            (B, S, width), and the keys and values of ``x`` itself.
        """
        query, key, value = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        logits = query @ key.transpose(2, 3)
        if past is not None:
            logits = torch.cat([query @ past[0].transpose(2, 3), logits], 3)
        shares = self.dropout((logits / math.sqrt(self.size) + mask).softmax(-1))
        if past is None:
            mixed = shares @ value  # (B, heads, S, size)
        else:
            # In two products: joining a long past with two tokens would copy it in every layer.
            before, own = torch.split(shares, [past[1].shape[2], value.shape[2]], 3)
            mixed = before @ past[1] + own @ value
        return mixed.transpose(1, 2).flatten(2), (key, value)

    def _split(self, x: Tensor) -> Tensor:
        """(B, S, width) -> (B, heads, S, size)."""
        batch, length, _ = x.shape
        return x.reshape(batch, length, self.heads, self.size).transpose(1, 2)


class AddNorm(nn.Module):
    """Linear, dropout, residual, LayerNorm."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width_in, width)
        self.LayerNorm = nn.LayerNorm(width, _TEXT_EPS)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """What was computed and what it is added to."""
        out: Tensor = self.LayerNorm(self.dropout(self.dense(y)) + x)
        return out


class Layer(nn.Module):
    """One layer of the encoder."""

    def __init__(self, spec: FusionSpec) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": SelfAttention(spec), "output": AddNorm(spec.width, spec.width)}
        )
        self.intermediate = dense(spec.width, spec.inner)
        self.output = AddNorm(spec.inner, spec.width)

    def forward(
        self, x: Tensor, mask: Tensor, past: KeysValues | None = None
    ) -> tuple[Tensor, KeysValues]:
        """See `SelfAttention.forward`."""
        mixed, own = self.attention["self"](x, mask, past)
        y = self.attention["output"](mixed, x)
        inner = functional.gelu(self.intermediate["dense"](y))
        return self.output(inner, y), own


class Bert(nn.Module):
    """Embeddings of both kinds and the encoder."""

    def __init__(self, spec: FusionSpec) -> None:
        super().__init__()
        self.embeddings = Embeddings(spec)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(map(Layer, [spec] * spec.layers))})
        self.pooler = dense(spec.width, spec.width)
        self.img_embedding = nn.Linear(spec.visual, spec.width)
        if spec.image_norm:
            self.LayerNorm = nn.LayerNorm(spec.width, _IMAGE_EPS)
        self.dropout = nn.Dropout(DROPOUT)
        self.image_norm = spec.image_norm

    def regions(self, visual: Tensor) -> Tensor:
        """(B, R, visual) -> (B, R, width)."""
        projected: Tensor = self.img_embedding(visual)
        if self.image_norm:
            projected = self.LayerNorm(projected)
        dropped: Tensor = self.dropout(projected)
        return dropped

    def encode(
        self, x: Tensor, mask: Tensor, past: list[KeysValues] | None = None
    ) -> tuple[Tensor, list[KeysValues]]:
        """All layers: see `SelfAttention.forward`; keys and values are those of each layer."""
        owns: list[KeysValues] = []
        for number, layer in enumerate(cast("nn.ModuleList", self.encoder["layer"])):
            x, own = layer(x, mask, past[number] if past else None)
            owns.append(own)
        return x, owns

    def pool(self, hidden: Tensor) -> Tensor:
        """(B, S, width) -> (B, width), of the first token."""
        y: Tensor = torch.tanh(self.pooler["dense"](hidden[:, 0]))
        return y


class Predictions(nn.Module):
    """(B, T, width) -> logits of words (B, T, vocabulary); the last layer is the embedding's."""

    def __init__(self, spec: FusionSpec, words: nn.Embedding) -> None:
        super().__init__()
        self.transform = nn.ModuleDict(
            {
                "dense": nn.Linear(spec.width, spec.width),
                "LayerNorm": nn.LayerNorm(spec.width, _TEXT_EPS),
            }
        )
        self.decoder = nn.Linear(spec.width, spec.vocabulary, bias=False)
        self.decoder.weight = words.weight
        self.bias = nn.Parameter(torch.zeros(spec.vocabulary))

    def forward(self, hidden: Tensor) -> Tensor:
        """See the class."""
        y = functional.gelu(self.transform["dense"](hidden))
        logits: Tensor = self.decoder(self.transform["LayerNorm"](y))
        return logits + self.bias


class Fusion(nn.Module):
    """The transformer with its heads.

    Args:
        spec: see `FusionSpec`.
        heads: further classifiers on the pooled [CLS]: name -> outputs. ``vqa`` is a linear layer
            on one, ``nlvr2`` takes two pooled vectors side by side.
    """

    def __init__(self, spec: FusionSpec, heads: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.bert = Bert(spec)
        predictions = Predictions(spec, self.bert.embeddings.word_embeddings)
        self.cls = nn.ModuleDict(
            {"predictions": predictions, "seq_relationship": nn.Linear(spec.width, 2)}
        )
        self.heads = nn.ModuleDict(
            {name: _head(name, spec.width, outputs) for name, outputs in (heads or {}).items()}
        )
        self.apply(partial(_draw, deviation=spec.initial))

    def embed(self, tokens: Tensor, types: Tensor, positions: Tensor | None = None) -> Tensor:
        """(B, T) -> (B, T, width), at positions 0, 1 .. unless others are given."""
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        y: Tensor = self.bert.embeddings(tokens, positions, types)
        return y

    def forward(self, text: Tensor, visual: Tensor, seen: Tensor) -> Tensor:
        """Hidden states of a text and an image.

        Args:
            text: embedded tokens (B, T, width).
            visual: regions (B, R, visual).
            seen: 1 where attention may look and 0 elsewhere, (B, T + R) for all, or (B, T + R,
                T + R) for each of them.

        Returns:
            (B, T + R, width).
        """
        x = torch.cat([text, self.bert.regions(visual)], 1)
        hidden, _ = self.bert.encode(x, hide(seen))
        return hidden

    def words(self, hidden: Tensor) -> Tensor:
        """(.., width) -> logits (.., vocabulary)."""
        y: Tensor = self.cls["predictions"](hidden)
        return y

    def match(self, pooled: Tensor) -> Tensor:
        """(B, width) -> logits (B, 2); the second is that text and image belong together."""
        y: Tensor = self.cls["seq_relationship"](pooled)
        return y

    def context(self, tags: Tensor, visual: Tensor, seen: Tensor) -> KeysValues:
        """Keys and values of what a caption is about.

        Args:
            tags: embedded (B, G, width).
            visual: regions (B, R, visual).
            seen: (B, G + R), 1 where there is a tag or region.

        Returns:
            (B, layers * heads, G + R, size) each.
        """
        x = torch.cat([tags, self.bert.regions(visual)], 1)
        _, owns = self.bert.encode(x, hide(seen))
        return torch.cat([k for k, _ in owns], 1), torch.cat([v for _, v in owns], 1)

    def step(
        self, pair: Tensor, seen: Tensor, past: KeysValues, context: KeysValues
    ) -> tuple[Tensor, KeysValues]:
        """One token more: the last that is known, and [MASK] behind it.

        Args:
            pair: both, embedded (B, 2, width).
            seen: (B, 2, P + C + 2): what each of them may look at.
            past: keys and values (B, layers * heads, P, size) of the caption so far.
            context: those of `context` (B, layers * heads, C, size).

        Returns:
            Logits of the next token (B, vocabulary), and the keys and values of the known one,
            (B, layers * heads, 1, size).
        """
        heads = self.spec.heads
        both = [torch.cat([a, b], 2) for a, b in zip(past, context, strict=True)]
        split = [torch.split(each, heads, 1) for each in both]
        hidden, owns = self.bert.encode(pair, hide(seen), list(zip(*split, strict=True)))
        keys = torch.cat([k[:, :, :1] for k, _ in owns], 1)
        values = torch.cat([v[:, :, :1] for _, v in owns], 1)
        return self.words(hidden[:, 1]), (keys, values)


def hide(seen: Tensor) -> Tensor:
    """(B, S) or (B, Q, S) of ones and zeros -> what is added to logits (B, heads, Q, S)."""
    seen = seen[:, None, None] if seen.dim() == 2 else seen[:, None]
    return (1 - seen) * _HIDDEN_LOGIT


def _head(name: str, width: int, outputs: int) -> nn.Module:
    if name == "nlvr2":  # OSCAR's: three layers on the pair
        return nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, outputs),
        )  # fmt: skip
    return nn.Linear(width, outputs)


def _draw(module: nn.Module, deviation: float) -> None:
    """As BERT draws its parameters."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=deviation)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
