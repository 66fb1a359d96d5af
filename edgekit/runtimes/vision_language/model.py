"""A vision-language model in an app: look at an image, then ask, caption or match.

    with edgekit.load("out/minivlm") as vlm:
        vlm.ask("photo.jpg", "what colour is the bus?")     # "red"
        vlm.caption("photo.jpg")                            # "a red bus on a street"
        vlm.match("photo.jpg", ["a bus", "two dogs"])       # [0.93, 0.02]
        vlm.judge("left.jpg", "right.jpg", "both show a bus")   # 0.88

    image -> detector -> proposals -> RoIAlign -> box head -> regions     `look`
    text, regions -> fusion -> answers, match                             `ask`, `match`
    tags, regions -> context -> step, step, step ..                       `caption`
    text, regions of two images -> fusion, fusion -> judge                `judge`

``look`` is most of the work, and its result can be given in the place of an image. Each stage is a
function from arrays to arrays: of a runtime's session in a bundle, of torch where an export
compares the two. All between them is this file and ``regions.py``, for every runtime.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bundle.assembly import VlmSettings
from edgekit.errors import InputError, UsageError
from edgekit.runtimes.preprocess import fit_into, load_image
from edgekit.runtimes.vision_language import regions as geometry
from edgekit.runtimes.vision_language.regions import Floats, Regions
from edgekit.runtimes.vision_language.text import Tokens, Vocabulary

Arrays = Mapping[str, NDArray[Any]]
Stage = Callable[[Arrays], Arrays]

DETECTOR, BOX_HEAD, CONTEXT, STEP = "detector", "box-head", "context", "step"
JUDGE = "judge"
CAPTION, VQA, MATCH, NLVR2 = "caption", "vqa", "match", "nlvr2"
FUSED = frozenset({VQA, MATCH, NLVR2})  # tasks that a fusion graph is for


def fusion_name(length: int) -> str:
    """Of the stage for texts of up to ``length`` tokens."""
    return f"fusion-{length}"


@dataclass(frozen=True)
class Tables:
    """Embeddings, which are looked up and not computed: (tokens, W), (positions, W), (2, W)."""

    words: Floats
    positions: Floats
    types: Floats

    def embed(self, tokens: Tokens, length: int) -> Floats:
        """The sums of the three (1, length, W); zeros behind the tokens."""
        found = self.words[list(tokens.tokens)]
        found = found + self.positions[list(tokens.positions)] + self.types[list(tokens.types)]
        out = np.zeros((1, length, self.words.shape[1]), np.float32)
        out[0, : len(found)] = found
        return out


@dataclass(frozen=True)
class Names:
    """What outputs are called: answers by number, objects by class; possibly none."""

    answers: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What was found in an image.

    Attributes:
        boxes: (R, 4), x1, y1, x2, y2 in pixels of the image as it came.
        scores: of each region's class (R,).
        objects: names of the classes, or ``"object 17"``.
        visual: what the transformer is told (regions, F + 6), zeros behind the first R.
        tags: distinct names, the best first; none where classes have no names.
    """

    boxes: Floats
    scores: Floats
    objects: tuple[str, ...]
    visual: Floats
    tags: tuple[str, ...]

    @property
    def count(self) -> int:
        """Regions that were found; possibly none."""
        return len(self.boxes)


class VisionLanguage:
    """See the module.

    Args:
        stages: functions by name.
        settings: what stands between them.
        vocabulary: of the texts.
        tables: embeddings.
        names: of answers and objects.

    Attributes:
        times: milliseconds that each stage took in the last call, once or several times.
        anchors: of the canvas.
    """

    def __init__(
        self,
        stages: Mapping[str, Stage],
        settings: VlmSettings,
        vocabulary: Vocabulary,
        tables: Tables,
        names: Names,
    ) -> None:
        self.settings, self.vocabulary = settings, vocabulary
        self.times: dict[str, list[float]] = {}
        self._stages, self._tables, self._names = stages, tables, names
        self._canvas = settings.height, settings.width
        self.anchors = geometry.anchor_boxes(*self._canvas, settings.anchors)

    # -- what an app calls -------------------------------------------------------------------

    def look(self, image: Any) -> Seen:
        """Regions of an image: see ``load_image`` for what an image can be.

        Raises:
            InputError: the image cannot be read.
        """
        self.times = {}
        with self._timed("image"):
            picture = load_image(image)
            pixels, size = fit_into(picture, self._canvas, self.settings.mean, self.settings.std)
        with self._timed(DETECTOR):
            first = _finite(self._stages[DETECTOR]({"image": pixels}), DETECTOR)
        with self._timed("proposals"):
            boxes = geometry.propose(
                first["logits"][0], first["deltas"][0], self.anchors, size, self.settings,
                self._canvas,
            )  # fmt: skip
        with self._timed("roi-align"):
            pooled = self._pool(first["cells"][0], boxes)
        with self._timed(BOX_HEAD):
            second = _finite(self._stages[BOX_HEAD]({"pooled": pooled}), BOX_HEAD)
        with self._timed("regions"):
            return self._seen(boxes, second, size, picture.size)

    def ask(self, image: Any, question: str) -> str:
        """The likeliest answer to a question about an image.

        Raises:
            UsageError: the bundle has no graphs for it.
            InputError: the image cannot be read; the question is empty, too long, or has no word
                that the model knows.
        """
        return self.answers(image, question, 1)[0][0]

    def answers(self, image: Any, question: str, top: int = 5) -> list[tuple[str, float]]:
        """As `ask`, the ``top`` likeliest with their scores on 0..1, each by itself."""
        self._needs(VQA)
        words = self.vocabulary.words(question, "question", self.settings.lengths[-1] - 2)
        logits = self.fuse(self._looked(image), self.vocabulary.question(words))["answers"][0]
        order = np.argsort(-logits, kind="stable")[:top]
        return [(self._answer(int(n)), _share(logits[n])) for n in order]

    def match(self, image: Any, texts: str | Sequence[str]) -> list[float]:
        """How likely each text is about the image, on 0..1.

        Raises:
            UsageError: the bundle has no graphs for it, or there is no text.
            InputError: as `ask`.
        """
        self._needs(MATCH)
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise UsageError("match needs at least one text")
        most = self.settings.lengths[-1] - 2
        words = [self.vocabulary.words(text, "text", most) for text in texts]
        seen = self._looked(image)
        return [self._matched(seen, each) for each in words]

    def judge(self, first: Any, second: Any, statement: str) -> float:
        """How likely a statement on two images is true, on 0..1.

        Raises:
            UsageError: the bundle has no graphs for it (``nlvr2``).
            InputError: as `ask`.
        """
        self._needs(NLVR2)
        most = self.settings.lengths[-1] - 2
        words = self.vocabulary.words(statement, "statement", most)
        seen = [self._looked(image) for image in (first, second)]
        logits = self.judge_words(seen[0], seen[1], words)
        return _share(logits[1] - logits[0])

    def judge_words(self, first: Seen, second: Seen, words: Sequence[int]) -> Floats:
        """Logits of false and true (2,)."""
        pooled = np.concatenate(
            [self._paired(seen, words)["pooled"] for seen in (first, second)], 1
        )
        with self._timed(JUDGE):
            outputs = self._stages[JUDGE]({"pooled": pooled})
        judged: Floats = _finite(outputs, JUDGE)["judged"][0]
        return judged

    def caption(self, image: Any) -> str:
        """A sentence about an image, each word the likeliest.

        Raises:
            UsageError: the bundle has no graphs for it.
            InputError: the image cannot be read.
        """
        return self.vocabulary.decode(self.caption_tokens(image))

    def caption_tokens(self, image: Any) -> list[int]:
        """As `caption`, in tokens; without special ones."""
        self._needs(CAPTION)
        return list(self._write(self._looked(image)))

    # -- regions -----------------------------------------------------------------------------

    def _looked(self, image: Any) -> Seen:
        if isinstance(image, Seen):
            self.times = {}
            return image
        return self.look(image)

    def _pool(self, cells: Floats, boxes: Floats) -> Floats:
        """(proposals, pooled * pooled, C): zeros behind the boxes that there are."""
        s = self.settings
        out = np.zeros((s.proposals, s.pooled**2, cells.shape[1]), np.float32)
        if len(boxes):
            out[: len(boxes)] = geometry.roi_align(cells, self._canvas, boxes, s.pooled, s.samples)
        return out

    def _seen(
        self, boxes: Floats, second: Arrays, size: tuple[int, int], original: tuple[int, int]
    ) -> Seen:
        s, count = self.settings, len(boxes)
        found = geometry.select(
            boxes, second["scores"][:count], second["deltas"][:count], size, s, s.min_score
        )
        features = second["features"]
        visual = np.zeros((s.regions, features.shape[1] + geometry.BOX_NUMBERS), np.float32)
        visual[: len(found.boxes)] = np.concatenate(
            [features[found.index], geometry.box_numbers(found.boxes, size)], 1
        )
        back = np.array([original[0] / size[1], original[1] / size[0]] * 2, np.float32)
        objects = tuple(self._object(int(n)) for n in found.classes)
        return Seen(found.boxes * back, found.scores, objects, visual, self._tags(found))

    def _tags(self, found: Regions) -> tuple[str, ...]:
        if not self._names.objects:
            return ()
        return tuple(dict.fromkeys(self._object(int(n)) for n in found.classes))

    def _object(self, number: int) -> str:
        known = self._names.objects
        return known[number] if number < len(known) else f"object {number}"

    # -- fusion ------------------------------------------------------------------------------

    def _needs(self, task: str) -> None:
        tasks = self.settings.tasks
        if task not in tasks:
            known = ", ".join(tasks) or "nothing"
            raise UsageError(
                f"this bundle has no graphs for {task}: it is for {known}; others are exported "
                "where the weights were trained for them"
            )

    def fuse(self, seen: Seen, text: Tokens) -> Arrays:
        """Outputs of the shortest fusion graph that takes ``text``."""
        count = len(text.tokens)
        length = next(each for each in self.settings.lengths if each >= count)
        with self._timed(fusion_name(length)):
            outputs = self._stages[fusion_name(length)](
                {
                    "text": self._tables.embed(text, length),
                    "visual": seen.visual[None],
                    "seen": _flags((count, length), (seen.count, len(seen.visual)))[None],
                }
            )
        return _finite(outputs, fusion_name(length))

    def _answer(self, number: int) -> str:
        known = self._names.answers
        return known[number] if number < len(known) else f"answer {number}"

    def _paired(self, seen: Seen, words: Sequence[int]) -> Arrays:
        """Of a text beside what is there."""
        room = min(self.settings.lengths[-1] - len(words) - 3, self.settings.tags)
        tags = self.vocabulary.fitting(seen.tags, room)
        return self.fuse(seen, self.vocabulary.pair(words, tags))

    def _matched(self, seen: Seen, words: Sequence[int]) -> float:
        logits = self._paired(seen, words)["match"][0]
        return _share(logits[1] - logits[0])

    # -- captions ----------------------------------------------------------------------------

    def _write(self, seen: Seen) -> Iterator[int]:
        """Tokens one after another, until the last is there or no more fit."""
        s, vocabulary = self.settings, self.vocabulary
        cache, about = self._context(seen)
        barred = [vocabulary.pad, vocabulary.unk, vocabulary.cls, vocabulary.mask]
        token = vocabulary.cls
        for place in range(s.caption - 1):
            pair = Tokens((token, vocabulary.mask), (0, 0), (place, place + 1))
            inputs = {
                "pair": self._tables.embed(pair, 2),
                "seen": _pair_flags(place, s.caption, about),
                **{f"cached_{name}": each for name, each in cache.items()},
            }
            with self._timed(STEP):
                outputs = _finite(self._stages[STEP](inputs), STEP)
            for name, each in cache.items():
                each[:, place] = outputs[name][:, 0]
            words = np.array(outputs["words"][0])
            words[barred] = -np.inf  # no words that anybody could say
            token = int(words.argmax())
            if token == vocabulary.sep:
                return
            yield token

    def _context(self, seen: Seen) -> tuple[dict[str, NDArray[Any]], Floats]:
        """Keys and values, the caption's room first; and which tags and regions there are."""
        s = self.settings
        tags = self.vocabulary.fitting(seen.tags, s.tags - 1)
        tokens = self.vocabulary.tags(tags, s.caption)
        about = _flags((len(tokens.tokens), s.tags), (seen.count, s.regions))
        with self._timed(CONTEXT):
            outputs = self._stages[CONTEXT](
                {
                    "tags": self._tables.embed(tokens, s.tags),
                    "visual": seen.visual[None],
                    "seen": about[None],
                }
            )
        shape = (s.layers * s.heads, s.caption, s.head_size)
        room = np.zeros(shape, np.float32)
        cache = {name: np.concatenate([room, outputs[name]], 1) for name in ("keys", "values")}
        return cache, about

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.times.setdefault(stage, []).append((time.perf_counter() - begun) * 1e3)


def _flags(*parts: tuple[int, int]) -> Floats:
    """For each (count, length): ones, then zeros."""
    out = [np.arange(length) < count for count, length in parts]
    return np.concatenate(out).astype(np.float32)


def _pair_flags(place: int, caption: int, about: Floats) -> Floats:
    """What the known token and [MASK] may look at (2, caption + context + 2)."""
    before = _flags((place, caption))
    shared = np.concatenate([before, about])
    return np.stack([np.append(shared, (1, 0)), np.append(shared, (1, 1))]).astype(np.float32)


def _finite(outputs: Arrays, stage: str) -> Arrays:
    if not all(np.isfinite(value).all() for value in outputs.values()):
        raise InputError(f"the output of {stage} has NaN or Inf: its weights or input are broken")
    return outputs


def _share(logit: float) -> float:
    """The sigmoid, without overflow; in float64, where far fewer are 1 and so equal."""
    small = math.exp(-abs(float(logit)))
    return (1.0 if logit >= 0 else small) / (1 + small)
