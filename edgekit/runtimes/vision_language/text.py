"""Texts as the transformer takes them: BERT's vocabulary, and sequences with their types.

question   [CLS] question [SEP]                       type 0
pair       [CLS] caption [SEP] tags [SEP]             types 0 and 1
caption    [CLS] words ...          tags [SEP]        types 0 and 1; tags have fixed positions
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import InputError, UsageError
from edgekit.optional import require

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_BYTES = 16 << 20
_UNSEEN = ("Cc", "Cs")  # Unicode categories: control, half a character
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
MAX_CHARACTERS = 10_000  # of a text: far above what fits, and a bound on the tokeniser's work


@dataclass(frozen=True)
class Tokens:
    """Tokens with their types and positions, all of one length."""

    tokens: tuple[int, ...]
    types: tuple[int, ...]
    positions: tuple[int, ...]


class Vocabulary:
    """The tokens of a ``vocab.txt``, one a line, and BERT's way to cut texts into them.

    Lower case, accents removed, split at punctuation, then the longest known pieces. `tokenizers`
    does it: transformers' own class would bring its whole package to the board.
    """

    def __init__(self, lines: Sequence[str], name: str = "the vocabulary") -> None:
        self.tokens = tuple(lines)
        table = {token: number for number, token in enumerate(self.tokens)}
        missing = [token for token in SPECIAL if token not in table]
        if missing:
            raise UsageError(
                f"{name} has no {', '.join(missing)}: it is no vocab.txt of BERT, one token a line"
            )
        if len(table) != len(self.tokens):
            raise UsageError(f"{name} has a token twice")
        unseen = next((token for token in self.tokens if not _is_printable(token)), None)
        if unseen is not None:  # captions are printed to terminals
            raise UsageError(f"{name} has a token with a control character: {unseen!r}")
        self.pad, self.unk, self.cls, self.sep, self.mask = (table[token] for token in SPECIAL)
        self._tokenizer = _tokenizer(table)

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """From a file.

        Raises:
            UsageError: missing, no text, too large, or without BERT's special tokens.
            MissingDependencyError: `tokenizers` is not installed.
        """
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise UsageError(f"vocabulary {str(path)!r}: {error.strerror or error}") from error
        if len(data) > MAX_BYTES:
            raise UsageError(f"vocabulary {path.name} is larger than {MAX_BYTES} bytes")
        try:
            lines = data.decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise UsageError(f"vocabulary {path.name} is not UTF-8: {error}") from error
        if lines and not lines[-1]:
            lines.pop()
        return cls([line.rstrip("\r") for line in lines], f"vocabulary {path.name}")

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return len(self.tokens)

    @property
    def fingerprint(self) -> str:
        """Of the tokens in their order: two vocabularies of one size are rarely the same."""
        return hashlib.sha256("\n".join(self.tokens).encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Tokens of ``text``, without special ones."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of ``tokens``, special ones left out."""
        special = {self.pad, self.cls, self.sep, self.mask}
        kept = [token for token in tokens if token not in special]
        text: str = self._tokenizer.decode(kept, skip_special_tokens=False)
        return text

    def words(self, text: object, what: str, most: int) -> list[int]:
        """Tokens of what a user wrote.

        Args:
            text: of the user.
            what: it is, for messages.
            most: tokens that fit.

        Raises:
            InputError: empty, no word of it known, or too long.
        """
        if not (isinstance(text, str) and _is_text(text)):
            raise InputError(f"the {what} is no text in Unicode: {text!a:.60}")
        if not text.strip():
            raise InputError(f"the {what} is empty: write one in words")
        if len(text) > MAX_CHARACTERS:
            raise InputError(
                f"the {what} has {len(text):,} characters: at most {MAX_CHARACTERS:,} are read"
            )
        tokens = self.encode(text)
        if not any(self._is_word(token) for token in tokens):
            raise InputError(
                f"no word of the {what} {_short(text)!r} is in the model's vocabulary: it may be "
                "in another language than the model was trained on"
            )
        if len(tokens) > most:
            raise InputError(
                f"the {what} has {len(tokens)} tokens, and {most} fit: make it shorter"
            )
        return tokens

    def _is_word(self, token: int) -> bool:
        """Known, and no punctuation: that is in every vocabulary."""
        return token != self.unk and any(map(str.isalnum, self.tokens[token]))

    def question(self, tokens: Sequence[int]) -> Tokens:
        """[CLS] question [SEP]."""
        whole = (self.cls, *tokens, self.sep)
        return Tokens(whole, (0,) * len(whole), tuple(range(len(whole))))

    def pair(self, caption: Sequence[int], tags: Sequence[int]) -> Tokens:
        """[CLS] caption [SEP] tags [SEP]; without tags only the first of the two."""
        first = (self.cls, *caption, self.sep)
        second = (*tags, self.sep) if tags else ()
        types = (0,) * len(first) + (1,) * len(second)
        return Tokens(first + second, types, tuple(range(len(types))))

    def tags(self, tags: Sequence[int], start: int) -> Tokens:
        """Tags [SEP] of a captioned image, at positions ``start`` and on; nothing without tags."""
        whole = (*tags, self.sep) if tags else ()
        positions = tuple(range(start, start + len(whole)))
        return Tokens(whole, (1,) * len(whole), positions)

    def fitting(self, names: Sequence[str], most: int) -> list[int]:
        """Tokens of as many of the tags ``names``, in their order, as fit."""
        tokens: list[int] = []
        for name in dict.fromkeys(names):
            more = self.encode(name)
            if len(tokens) + len(more) > most:
                break
            tokens += more
        return tokens


def _tokenizer(table: dict[str, int]) -> Any:
    tokenizers = require("tokenizers", "texts of a vision-language model")
    # Put together here and not by the library's BertWordPieceTokenizer, in which a user's own
    # "[MASK]" or "[SEP]" would become the special token.
    bert = tokenizers.Tokenizer(tokenizers.models.WordPiece(table, unk_token=SPECIAL[1]))
    bert.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    bert.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    bert.decoder = tokenizers.decoders.WordPiece()
    return bert


def _is_printable(token: str) -> bool:
    """No control character, and none that turns the direction of a terminal's line.

    Others of category Cf are in BERT's multilingual vocabularies.
    """
    unseen = any(unicodedata.category(c) in _UNSEEN or c in _TURNING for c in token)
    return token.isprintable() or not unseen


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a character, as of arguments that are not UTF-8
        return False
    return True


def _short(text: str, most: int = 40) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= most else shown[: most - 3] + "..."
