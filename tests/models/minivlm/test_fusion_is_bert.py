"""The transformer against BERT, written once more from its definition, in double precision.

Devlin et al., "BERT", NAACL 2019: each layer is attention over queries, keys and values, divided
by the root of a head's size, and two linear layers with GELU between; each of both is added to what
entered it, and normalised after that.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from edgekit.models.minivlm.fusion import Fusion
from edgekit.models.minivlm.specs import FusionSpec

SPEC = FusionSpec(layers=2, width=24, heads=3, inner=48, vocabulary=40, positions=16, visual=11)
BATCH, TOKENS, REGIONS = 3, 6, 4
State = dict[str, Tensor]


def network(spec: FusionSpec) -> Fusion:
    """Nothing in it is 0, 1 or so small that it could be left out."""
    module = Fusion(spec).double().eval()
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64) * 0.4)
            if name.endswith("LayerNorm.weight"):
                parameter.add_(1)
            if name.startswith("bert.img_embedding"):
                parameter.mul_(0.05)  # so small that the eps of its LayerNorm shows
    return module


def given() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens, types, regions, and which of both are there."""
    draw = torch.Generator().manual_seed(8)
    tokens = torch.randint(SPEC.vocabulary, (BATCH, TOKENS), generator=draw)
    types = torch.tensor([[0, 0, 0, 1, 1, 1]]).expand(BATCH, -1)
    visual = torch.randn(BATCH, REGIONS, SPEC.visual, generator=draw, dtype=torch.float64)
    seen = torch.ones(BATCH, TOKENS + REGIONS, dtype=torch.float64)
    seen[0, 4:6] = seen[1, 8:] = seen[2, 5:8] = 0
    return tokens, types, visual, seen


# ---- BERT --------------------------------------------------------------------------------------


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state: State, name: str, x: Tensor, eps: float = 1e-12) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return centred / deviation * state[f"{name}.weight"] + state[f"{name}.bias"]


def attention(state: State, name: str, x: Tensor, seen: Tensor) -> Tensor:
    """Head by head; a place that is not there has no share at all."""
    size = SPEC.width // SPEC.heads
    query, key, value = (linear(state, f"{name}.{each}", x) for each in ("query", "key", "value"))
    heads = []
    for head in range(SPEC.heads):
        part = slice(head * size, (head + 1) * size)
        scores = query[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(size)
        shares = scores.exp() * seen[:, None]
        heads.append(shares / shares.sum(2, keepdim=True) @ value[..., part])
    return torch.cat(heads, 2)


def layer(state: State, name: str, x: Tensor, seen: Tensor) -> Tensor:
    mixed = attention(state, f"{name}.attention.self", x, seen)
    added = linear(state, f"{name}.attention.output.dense", mixed) + x
    y = norm(state, f"{name}.attention.output.LayerNorm", added)
    inner = gelu(linear(state, f"{name}.intermediate.dense", y))
    return norm(state, f"{name}.output.LayerNorm", linear(state, f"{name}.output.dense", inner) + y)


def bert(spec: FusionSpec, state: State) -> dict[str, Tensor]:
    tokens, types, visual, seen = given()
    table = "bert.embeddings.{}_embeddings.weight"
    text = state[table.format("word")][tokens] + state[table.format("token_type")][types]
    text = text + state[table.format("position")][:TOKENS]
    image = linear(state, "bert.img_embedding", visual)
    if spec.image_norm:
        image = norm(state, "bert.LayerNorm", image, eps=1e-5)
    x = torch.cat([norm(state, "bert.embeddings.LayerNorm", text), image], 1)
    for number in range(spec.layers):
        x = layer(state, f"bert.encoder.layer.{number}", x, seen)
    pooled = linear(state, "bert.pooler.dense", x[:, 0]).tanh()
    head = "cls.predictions"
    words = gelu(linear(state, f"{head}.transform.dense", x))
    words = norm(state, f"{head}.transform.LayerNorm", words)
    return {
        "hidden": x,
        "pooled": pooled,
        "words": words @ state["bert.embeddings.word_embeddings.weight"].T + state[f"{head}.bias"],
        "match": linear(state, "cls.seq_relationship", pooled),
    }


def said(module: Fusion) -> dict[str, Tensor]:
    tokens, types, visual, seen = given()
    hidden = module(module.embed(tokens, types), visual, seen)
    pooled = module.bert.pool(hidden)
    return {
        "hidden": hidden,
        "pooled": pooled,
        "words": module.words(hidden),
        "match": module.match(pooled),
    }


@torch.no_grad()
@pytest.mark.parametrize("image_norm", [True, False], ids=["minivlm", "oscar"])
def test_it_is_bert(image_norm: bool) -> None:
    spec = replace(SPEC, image_norm=image_norm)
    module = network(spec)
    found, wanted = said(module), bert(spec, dict(module.state_dict()))
    for name, each in wanted.items():
        assert each.std() > 0.1, f"{name} would hide an error"
        assert float((found[name] - each).abs().max() / each.abs().max()) < 1e-9, name


@torch.no_grad()
def test_a_small_difference_is_seen() -> None:
    """Of what is hardest to see: eps, of the text 1e-5 for 1e-12, of the image 2e-5 for 1e-5."""
    module = network(SPEC)
    wanted = said(module)["hidden"]
    for each, eps in ((module.bert.embeddings.LayerNorm, 1e-5), (module.bert.LayerNorm, 2e-5)):
        before, each.eps = each.eps, eps
        other = said(module)["hidden"]
        each.eps = before
        assert float((other - wanted).abs().max() / wanted.abs().max()) > 1e-8
