"""CIDEr-D: how much a caption says what several people said of an image.

    CIDEr_n  = 10 mean_refs [ min(g_c, g_r) . g_r / (|g_c| |g_r|) exp(-(l_c - l_r)^2 / 2 s^2) ]
    CIDEr-D  = mean of n = 1 .. 4,  s = 6,  g: TF-IDF of n-grams

Vedantam, Zitnick, Parikh, "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015,
section 3 and 6. A document of the inverse frequencies is all that is said of one image.

Published figures are a hundred times these, and cannot be compared with those of edgekit's runs: a
word is here a piece of BERT's vocabulary and not of the PTB tokeniser, and references are cut to
the length of the longest caption that is written.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

_LONGEST = 4  # n-grams
_DEVIATION = 6.0  # of lengths, in words
_SCALE = 10.0

Words = Sequence[Hashable]
_Grams = list[dict[tuple[Hashable, ...], float]]  # of each n: n-gram -> weight


class Cider:
    """Scores against the inverse frequencies of a corpus.

    Args:
        corpus: of each image, its references; a reference is its words, or tokens.
    """

    def __init__(self, corpus: Sequence[Sequence[Words]]) -> None:
        self.images = len(corpus)
        self.found: Counter[tuple[Hashable, ...]] = Counter()
        for references in corpus:
            self.found.update({gram for words in references for gram in _grams(words)})

    def score(self, caption: Words, references: Sequence[Words]) -> float:
        """Of one caption, from 0 to 10."""
        own = self._weighted(caption)
        found = [self._similar(caption, own, reference) for reference in references]
        return _SCALE * sum(found) / max(1, len(found))

    def _similar(self, caption: Words, own: _Grams, reference: Words) -> float:
        theirs = self._weighted(reference)
        length = len(caption) - len(reference)
        close = math.exp(-(length**2) / (2 * _DEVIATION**2))
        return close * sum(map(_clipped_cosine, own, theirs)) / _LONGEST

    def _weighted(self, words: Words) -> _Grams:
        weighted: _Grams = [{} for _ in range(_LONGEST)]
        for gram, count in _grams(words).items():
            # What no reference has weighs as what one has.
            rare = math.log(self.images / max(1, self.found[gram]))
            weighted[len(gram) - 1][gram] = count * rare
        return weighted


def _grams(words: Words) -> Counter[tuple[Hashable, ...]]:
    return Counter(
        tuple(words[start : start + n])
        for n in range(1, _LONGEST + 1)
        for start in range(len(words) - n + 1)
    )


def _clipped_cosine(
    own: Mapping[tuple[Hashable, ...], float], theirs: Mapping[tuple[Hashable, ...], float]
) -> float:
    """A word that is repeated more often than in the reference gains nothing by it."""
    norm = math.hypot(*own.values()) * math.hypot(*theirs.values())
    shared = own.keys() & theirs.keys()
    common = math.fsum(min(own[gram], theirs[gram]) * theirs[gram] for gram in shared)
    return common / norm if norm else 0.0
