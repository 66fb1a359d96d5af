"""Captions written word by word, as a board writes them: `Fusion.context`, then `Fusion.step`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.models.minivlm.fusion import Fusion
from edgekit.runtimes.vision_language.text import Vocabulary
from edgekit.training.vision_language.texts import Part


@dataclass(frozen=True)
class Special:
    """Tokens that are no words; ``most`` is how many words and end a caption has at most."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int
    most: int

    @classmethod
    def of(cls, vocabulary: Vocabulary, caption: int) -> Special:
        """Of a vocabulary; ``caption`` counts [CLS], too."""
        v = vocabulary
        return cls(v.pad, v.unk, v.cls, v.sep, v.mask, caption - 1)

    def say_no(self, logits: Tensor) -> Tensor:
        """Logits (.., vocabulary) of which none of these but the end is said."""
        never = torch.tensor([self.pad, self.unk, self.cls, self.mask], device=logits.device)
        return logits.index_fill(-1, never, float("-inf"))


Choose = Callable[[Tensor], Tensor]  # logits (B, vocabulary) -> tokens (B,)


def likeliest(logits: Tensor) -> Tensor:
    """Greedily."""
    return logits.argmax(-1)


def sampled(logits: Tensor) -> Tensor:
    """As likely as the network says."""
    return torch.multinomial(logits.softmax(-1), 1)[:, 0]


@torch.no_grad()
def write(fusion: Fusion, part: Part, special: Special, choose: Choose) -> Tensor:
    """Captions of images.

    Args:
        fusion: in eval mode.
        part: tags (B, G) and regions (B, R), see `edgekit.training.vision_language.texts`.
        special: see there.
        choose: the next word.

    Returns:
        (B, most) tokens up to [SEP], and [PAD] behind it.
    """
    tags = fusion.embed(part["tokens"], part["types"], part["positions"])
    context_seen = torch.cat([part["present"], part["regions"]], 1)
    context = fusion.context(tags, part["visual"], context_seen)
    batch, device = len(context_seen), context_seen.device
    past = (context[0][:, :, :0], context[1][:, :, :0])
    known = torch.full((batch,), special.cls, device=device)
    done = torch.zeros(batch, dtype=torch.bool, device=device)
    written = []
    for place in range(special.most):
        pair = torch.stack([known, torch.full_like(known, special.mask)], 1)
        positions = torch.tensor([[place, place + 1]], device=device)
        embedded = fusion.embed(pair, torch.zeros_like(pair), positions)
        logits, own = fusion.step(embedded, _pair_sees(context_seen, place), past, context)
        known = choose(special.say_no(logits)).masked_fill(done, special.pad)
        written.append(known)
        past = (torch.cat([past[0], own[0]], 2), torch.cat([past[1], own[1]], 2))
        done = done | (known == special.sep)
        if bool(done.all()):
            break
    said = torch.stack(written, 1)
    return torch.nn.functional.pad(said, (0, special.most - said.shape[1]), value=special.pad)


def _pair_sees(context: Tensor, past: int) -> Tensor:
    """(B, 2, P + C + 2): [MASK] is seen by itself only."""
    before = torch.cat([context.new_ones(len(context), past), context], 1)
    pair = context.new_tensor([[1.0, 0.0], [1.0, 1.0]]).expand(len(context), 2, 2)
    return torch.cat([before[:, None].expand(-1, 2, -1), pair], 2)


def words(tokens: Tensor, special: Special) -> list[list[int]]:
    """Each row of tokens up to its end, which is kept: it is to be said, too."""
    rows = []
    for row in tokens.tolist():
        kept = [token for token in row if token != special.pad and token >= 0]
        end = kept.index(special.sep) + 1 if special.sep in kept else len(kept)
        rows.append(kept[:end])
    return rows
