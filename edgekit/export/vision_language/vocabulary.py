"""The vocabulary of a bundle, and one for weights that know no words."""

from __future__ import annotations

import string
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.models.minivlm.network import CreatedVlm, check_vocabulary
from edgekit.runtimes.vision_language.loaded import VOCABULARY
from edgekit.runtimes.vision_language.text import SPECIAL, Vocabulary


def vocabulary_of(created: CreatedVlm, weights: str, given: str | Path | None) -> Vocabulary:
    """The file that is given, or the one beside the weights; letters for random weights.

    Raises:
        UsageError: none is found, or it is of another size than the network's.
    """
    spec = created.spec.fusion
    beside = Path(weights).parent / VOCABULARY
    if given is None and created.weights.random:
        return placeholder_vocabulary(spec.vocabulary)
    if not created.facts.speaks and not created.weights.random and given is None:
        raise UsageError(
            f"the weights were not trained to read: edgekit train {created.spec.id} --stage "
            f"vqa+caption+retrieval --weights {weights} --data DATA makes some that are"
        )
    if given is None and not beside.is_file():
        raise UsageError(
            "the weights need the vocabulary that they were trained with: give its vocab.txt "
            "(--vocab)"
        )
    path = Path(given) if given is not None else beside
    vocabulary = Vocabulary.read(path)
    check_vocabulary(spec, vocabulary.size, path.name)
    if created.facts.vocabulary not in ("", vocabulary.fingerprint):
        raise UsageError(
            f"{path.name} has other tokens, or in another order, than the weights were trained "
            "with: give the vocab.txt of their run (--vocab)"
        )
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
