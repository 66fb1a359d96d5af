"""Texts and regions as arrays of one length: what a batch of any task is made of.

The sequences are those of `edgekit.runtimes.vision_language.text`, which a board builds, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from edgekit.models.minivlm.specs import Lengths
from edgekit.runtimes.vision_language.text import Tokens, Vocabulary
from edgekit.training.vision_language.source import Images

Part = dict[str, Tensor]  # of a batch: what one task is fed
_REMEMBERED = 1 << 18  # texts; a tokeniser is slower than a small network


class Texts:
    """Texts of a data set as tokens, cut to the lengths of the exported graphs."""

    def __init__(self, vocabulary: Vocabulary, lengths: Lengths) -> None:
        self.vocabulary, self.lengths = vocabulary, lengths
        self.encode = lru_cache(_REMEMBERED)(lambda text: tuple(vocabulary.encode(text)))
        self._fitting = lru_cache(_REMEMBERED)(
            lambda names, most: tuple(vocabulary.fitting(names, most))
        )

    def question(self, text: str) -> Tokens:
        """[CLS] question [SEP]."""
        return self.vocabulary.question(self.encode(text)[: self.lengths.long - 2])

    def pair(self, text: str, names: tuple[str, ...]) -> Tokens:
        """[CLS] text [SEP] tags [SEP]; as many tags as a board has room for."""
        words = self.encode(text)[: self.lengths.long - 2]
        room = min(self.lengths.long - len(words) - 3, self.lengths.tags)
        return self.vocabulary.pair(words, self._fitting(names, max(0, room)))

    def tags(self, names: tuple[str, ...]) -> tuple[int, ...]:
        """As many tags as fit beside a caption."""
        return self._fitting(names, self.lengths.tags - 1)

    def caption(self, text: str) -> tuple[int, ...]:
        """[CLS] caption [SEP]."""
        vocabulary = self.vocabulary
        words = self.encode(text)[: self.lengths.caption - 2]
        return (vocabulary.cls, *words, vocabulary.sep)

    def tagged(self, tags: Sequence[int]) -> Tokens:
        """Tags [SEP], behind the longest caption."""
        return self.vocabulary.tags(tags, self.lengths.caption)

    # -- batches -------------------------------------------------------------

    def stack(self, rows: Sequence[Tokens]) -> Part:
        """Tokens, types, positions and presence (B, T) of as many texts."""
        part = {
            "tokens": _padded([row.tokens for row in rows], self.vocabulary.pad),
            "types": _padded([row.types for row in rows], 0),
            "positions": _padded([row.positions for row in rows], 0),
        }
        lengths = torch.tensor([len(row.tokens) for row in rows])
        part["present"] = _up_to(lengths, part["tokens"].shape[1])
        return part

    def stack_captions(
        self, captions: Sequence[Sequence[int]], tags: Sequence[Sequence[int]]
    ) -> tuple[Part, int]:
        """As `stack`, with the tags behind as many places as the longest of the captions takes.

        Positions are as if all were as long as can be. The number of places is given, too.
        """
        words = self.stack([_words(each) for each in captions])
        behind = self.stack([self.tagged(each) for each in tags])
        part = {key: torch.cat([words[key], behind[key]], 1) for key in words}
        return part, words["tokens"].shape[1]


def _words(tokens: Sequence[int]) -> Tokens:
    return Tokens(tuple(tokens), (0,) * len(tokens), tuple(range(len(tokens))))


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    out = np.full((len(rows), max(map(len, rows))), filler, np.int64)
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = values
    return torch.from_numpy(out)


def _up_to(lengths: Tensor, size: int) -> Tensor:
    """(B,) -> (B, size): 1 in the first places."""
    return (torch.arange(size)[None] < lengths[:, None]).float()


def stack_regions(images: Images, which: Sequence[int], most: int, *, hidden: bool) -> Part:
    """Regions and their presence: (B, R, visual) and (B, R).

    Args:
        images: of the data.
        which: of them.
        most: regions of an image; the first are the surest.
        hidden: present none, as if nobody had looked: what the words alone tell.

    Raises:
        InputError: an image cannot be read.
    """
    found = [images.regions(index)[:most] for index in which]
    longest = max(1, *map(len, found)) if found else 1
    width = found[0].shape[1]
    visual = np.zeros((len(found), longest, width), np.float32)
    for row, rows in zip(visual, found, strict=True):
        row[: len(rows)] = rows
    lengths = torch.tensor([0 if hidden else len(rows) for rows in found])
    return {"visual": torch.from_numpy(visual), "regions": _up_to(lengths, longest)}
