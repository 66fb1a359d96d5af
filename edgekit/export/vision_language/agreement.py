"""Does the whole compute the same: the regions, the tokens, the answers?

Each graph is proven by itself, within the tolerance of its precision. What stands between them
sorts: of two scores that differ by less than that the order is open, and with it which of two
overlapping boxes stays. So the network is shaken: both stages are made wrong by the tolerance, at
random, several times. The regions that stay are those that no rounding error moves, and every
runtime must find them. Captions and answers are compared twice: from the same regions, where they
must be equal, and from each runtime's own, where it is said how many are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.bundle.agreement import relative_error
from edgekit.bundle.assembly import Agreement
from edgekit.errors import ParityError
from edgekit.models.random_init import calibration_images
from edgekit.runtimes.vision_language.model import CAPTION, FUSED, NLVR2, VQA, Seen, VisionLanguage
from edgekit.runtimes.vision_language.text import SPECIAL

# Images that the graphs and the whole are compared on: (height, width), of other shapes than the
# canvas, so that fitting and clipping take part.
_IMAGES = ((480, 640), (640, 480), (300, 300), (97, 203), (768, 1024))
_SAME_PLACE = 1e-3  # of the image's longer side: a region's corners, to be called the same
_SHAKES = 5
_LEAST_SHARED = 0.95  # of steady regions, of which few draws keep some that are not; a wrong graph
# shares next to none


def drawn_images() -> list[NDArray[np.uint8]]:
    """RGB images of several sizes, the same each time: blobs and noise."""
    side = max(max(size) for size in _IMAGES)
    noise = calibration_images(len(_IMAGES), side).numpy()
    images = []
    for picture, (height, width) in zip(noise, _IMAGES, strict=True):
        part = picture[:, :height, :width].transpose(1, 2, 0)
        images.append((part * 60 + 128).clip(0, 255).astype(np.uint8))
    return images


@dataclass(frozen=True)
class Told:
    """What was said of one image.

    Attributes:
        caption: its tokens.
        answers: number of the likeliest answer to each text.
        match: both logits of each text, and of statements on this image and less of it.
    """

    caption: tuple[int, ...]
    answers: tuple[int, ...]
    match: tuple[float, ...]


def tell_all(model: VisionLanguage, found: Sequence[Seen]) -> list[Told]:
    """All that the bundle's tasks can say of each image.

    Of texts of every length, with and without tags, and of all regions, some, one and none: what
    can be masked is masked somewhere.
    """
    return [_tell(model, _partly(model, seen, number)) for number, seen in enumerate(found)]


def _partly(model: VisionLanguage, seen: Seen, number: int) -> Seen:
    """What was seen of image ``number``, as if less had been, with tags for every other one."""
    kept = (seen.count, max(1, seen.count // 2), 1, 0, seen.count)[number % 5]
    visual = seen.visual.copy()
    visual[kept:] = 0
    words = model.vocabulary.decode(_words(model)[:2]).split()
    return Seen(
        seen.boxes[:kept], seen.scores[:kept], seen.objects[:kept], visual,
        tuple(words) if number % 2 else (),
    )  # fmt: skip


def _words(model: VisionLanguage) -> list[int]:
    return list(range(len(SPECIAL), min(model.vocabulary.size, 60)))


def _tell(model: VisionLanguage, seen: Seen) -> Told:
    tasks, vocabulary = model.settings.tasks, model.vocabulary
    caption = tuple(model.caption_tokens(seen)) if CAPTION in tasks else ()
    if not FUSED & {*tasks}:
        return Told(caption, (), ())
    words = _words(model)
    tags = vocabulary.fitting(seen.tags, 2)
    fused = []
    for count in _counts(model.settings.lengths):
        text = (words * count)[:count]
        fused.append(model.fuse(seen, vocabulary.question(text)))
        if len(text) > len(tags) + 2:
            fused.append(model.fuse(seen, vocabulary.pair(text[: -len(tags) - 1], tags)))
    answers = tuple(int(out["answers"][0].argmax()) for out in fused if "answers" in out)
    match = [float(x) for out in fused for x in out["match"][0]]
    if NLVR2 in tasks:
        less = _partly(model, seen, 1)
        for count in _counts(model.settings.lengths):
            said = (words * count)[:count]
            match += [float(x) for x in model.judge_words(seen, less, said)]
    return Told(caption, answers, tuple(match))


def _counts(lengths: Sequence[int]) -> list[int]:
    """Tokens of texts that fill each graph hardly, half and wholly; two are special."""
    counts, shorter = [], 2
    for length in lengths:
        least = shorter - 1
        counts += [least, (least + length - 2) // 2, length - 2]
        shorter = length
    return counts


def steady_regions(
    shaken: VisionLanguage, images: Sequence[NDArray[np.uint8]], seen: Sequence[Seen]
) -> list[NDArray[np.bool_]]:
    """Which regions of each image stay.

    Args:
        shaken: the network, whose first two stages are wrong by another small error each time.
        images: looked at.
        seen: what the network finds in each if nothing is wrong.
    """
    kept = [np.ones(one.count, bool) for one in seen]
    for _ in range(_SHAKES):
        for image, wanted, stays in zip(images, seen, kept, strict=True):
            pairs = _matched(shaken.look(image), wanted, max(image.shape) * _SAME_PLACE)
            stays &= np.isin(np.arange(wanted.count), [b for _, b in pairs])
    return kept


def compare(
    runtime: str,
    model: VisionLanguage,
    images: list[NDArray[np.uint8]],
    wanted: list[Seen],
    steady: list[NDArray[np.bool_]],
    told: list[Told],
    *,
    tolerance: float,
) -> Agreement:
    """How ``model`` compares with torch, which found ``wanted`` and ``told`` that of it.

    Args:
        runtime: named in errors.
        model: the bundle, run with it.
        images: tried.
        wanted: what torch found in each.
        steady: which of that must be found, by `steady_regions`.
        told: what torch said of that, by `tell_all`.
        tolerance: of the features of the same region and of what matches, relative.

    Raises:
        ParityError: other words for the same regions, or other regions where they are steady.
    """
    found = [model.look(image) for image in images]
    matched = [
        _matched(a, b, max(image.shape) * _SAME_PLACE)
        for a, b, image in zip(found, wanted, images, strict=True)
    ]
    given, own = tell_all(model, wanted), tell_all(model, found)
    tasks = model.settings.tasks
    agreement = Agreement(
        "torch",
        len(images),
        sum(each.count for each in wanted),
        _share_of([np.ones(len(each), bool) for each in steady], matched),
        float(np.concatenate(steady).mean()) if any(map(len, steady)) else 1.0,
        max(_features(*each) for each in zip(matched, found, wanted, strict=True)),
        _equal("caption", own, told) if CAPTION in tasks else None,
        _equal("answers", own, told) if VQA in tasks else None,
    )
    problems = [
        f"{name} differ for the same regions"
        for name in ("caption", "answers")
        if _equal(name, given, told) < len(images)
    ]
    matches = [np.array([x for each in told_of for x in each.match]) for told_of in (given, told)]
    apart = relative_error(*matches) if matches[1].size else 0.0
    if not apart <= tolerance:
        problems.append(f"match differs by {apart:.3g} relative for the same regions")
    shared = _share_of(steady, matched)
    if shared < _LEAST_SHARED:
        problems.append(f"only {shared:.0%} of the regions that no rounding moves are the same")
    if not agreement.features <= tolerance:
        problems.append(f"features of a region differ by {agreement.features:.3g} relative")
    if problems:
        raise ParityError(
            f"the whole is not the same function in {runtime} as in torch: {', '.join(problems)}; "
            "no bundle was written"
        )
    return agreement


def _share_of(wanted: list[NDArray[np.bool_]], matched: list[list[tuple[int, int]]]) -> float:
    """Share of the wanted regions of all images that were found; 1 of none."""
    found = [
        np.isin(np.arange(len(each)), [b for _, b in pairs])
        for each, pairs in zip(wanted, matched, strict=True)
    ]
    chosen = np.concatenate([a[b] for a, b in zip(found, wanted, strict=True)])
    return float(chosen.mean()) if len(chosen) else 1.0


def _equal(name: str, a: list[Told], b: list[Told]) -> int:
    return sum(getattr(x, name) == getattr(y, name) for x, y in zip(a, b, strict=True))


def _matched(found: Seen, wanted: Seen, most: float) -> list[tuple[int, int]]:
    """Pairs of regions (in ``found``, in ``wanted``) of one class at the same place."""
    if not found.count or not wanted.count:
        return []
    apart = np.abs(found.boxes[:, None] - wanted.boxes[None]).max(2)
    nearest = apart.argmin(0)
    return [
        (int(a), b)
        for b, a in enumerate(nearest)
        if apart[a, b] <= most and found.objects[a] == wanted.objects[b]
    ]


def _features(pairs: list[tuple[int, int]], found: Seen, wanted: Seen) -> float:
    """Largest relative error of the features of the same regions."""
    if not pairs:
        return 0.0
    a, b = (list(each) for each in zip(*pairs, strict=True))
    return relative_error(found.visual[a], wanted.visual[b])
