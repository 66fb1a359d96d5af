"""Which tokens are hidden, and who sees whom.

Devlin et al., "BERT", NAACL 2019 (which tokens, and what stands in their place); the mask of a
caption that is written from left to right is that of `edgekit.models.minivlm.fusion`:

                caption i   tags, regions
    caption i   up to i     all
    tags        none        all             so they are the same at every step of writing
    regions     none        all
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IGNORED = -100  # target of a token that is not predicted: torch's own number
_MASKED, _RANDOM = 0.8, 0.1  # of the chosen tokens; the rest stay as they are

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Hiding:
    """How many tokens are hidden: ``share`` of them, at least one, at most ``most``."""

    share: float
    most: int
    mask: int
    vocabulary: int


def hide_tokens(
    tokens: Ints, open_: Sequence[int], rule: Hiding, draw: np.random.Generator
) -> tuple[Ints, Ints]:
    """Hide some tokens of one text.

    Args:
        tokens: (T,).
        open_: places that may be hidden; where there are none, nothing is.
        rule: see there.
        draw: what is drawn from.

    Returns:
        Tokens and targets (T,): what the network is fed, and what it is to say of each, `IGNORED`
        of all others.
    """
    fed, targets = tokens.copy(), np.full_like(tokens, IGNORED)
    if not len(open_):
        return fed, targets
    count = min(rule.most, max(1, round(rule.share * len(open_))))
    chosen = draw.permutation(np.asarray(open_))[:count]
    kind = draw.random(count)
    other = draw.integers(rule.vocabulary, size=count)
    targets[chosen] = tokens[chosen]
    fed[chosen[kind < _MASKED]] = rule.mask
    random = (kind >= _MASKED) & (kind < _MASKED + _RANDOM)
    fed[chosen[random]] = other[random]
    return fed, targets


def left_to_right(present: Tensor, caption: int) -> Tensor:
    """See the module.

    Args:
        present: 1 where there is a token or region (B, S).
        caption: how many of the first places are the caption's.

    Returns:
        (B, S, S): whether each place, along the second axis, sees each, along the third.
    """
    places = torch.arange(present.shape[1], device=present.device)
    is_caption = places < caption
    earlier = places[None, :] <= places[:, None]
    allowed = torch.where(is_caption[None, :], is_caption[:, None] & earlier, True)
    return present[:, None, :] * allowed.to(present.dtype)


def every_word(present: Tensor, caption: int) -> Tensor:
    """Who sees whom where all words of a caption are predicted at once.

    The places are the caption, then as many [MASK] at the same positions, then tags and regions. A
    [MASK] sees what `edgekit.models.minivlm.fusion.Fusion.step` shows it: all words before its
    own, itself, tags and regions.

    Args:
        present: 1 where there is something (B, S), S of all four.
        caption: how many of the first places are the caption's.

    Returns:
        (B, S, S), as `left_to_right`.
    """
    size = present.shape[1]
    places = torch.arange(size, device=present.device)
    kind = (places >= caption).int() + (places >= 2 * caption).int()  # 0 word, 1 [MASK], 2 rest
    word = torch.where(kind == 1, places - caption, places)
    row, column = word[:, None], word[None, :]
    of_row, of_column = kind[:, None], kind[None, :]
    words = (of_column == 0) & ((of_row == 0) & (column <= row) | (of_row == 1) & (column < row))
    itself = (of_column == 1) & (places[:, None] == places[None, :])
    allowed = words | itself | (of_column == 2)
    return present[:, None, :] * allowed.to(present.dtype)
