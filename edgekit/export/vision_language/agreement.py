"""Does the whole compute the same: the regions, the tokens, the answers?

Each graph is proven by itself, within the tolerance of its precision. What stands between them
sorts: of two scores that differ by less than that the order is open, and with it which of two
overlapping boxes stays. So regions are matched one by one and their share is recorded, and captions
and answers are compared twice: from the same regions, where they must be equal, and from each
runtime's own, where it is said how many are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.bundle.agreement import relative_error
from edgekit.bundle.assembly import Agreement
from edgekit.errors import ParityError
from edgekit.models.random_init import calibration_images
from edgekit.runtimes.vision_language.model import CAPTION, MATCH, VQA, Seen, VisionLanguage
from edgekit.runtimes.vision_language.text import SPECIAL

# Images that the graphs and the whole are compared on: (height, width), of other shapes than the
# canvas, so that fitting and clipping take part.
_IMAGES = ((480, 640), (640, 480), (300, 300), (97, 203), (768, 1024))
_SAME_PLACE = 1e-3  # of the image's longer side: a region's corners, to be called the same
_LEAST_SHARED = 0.9  # of the regions: a wrong graph shares next to none


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
    """What was said of one image."""

    caption: tuple[int, ...]
    answers: tuple[str, ...]
    match: tuple[float, ...]


def tell(model: VisionLanguage, seen: Seen) -> Told:
    """All that the bundle's tasks can say of what was seen, on texts of every length."""
    tasks, sizes = model.settings.tasks, model.settings.lengths
    words = list(range(len(SPECIAL), min(model.vocabulary.size, 60)))
    texts = [(words * size)[: size - 2] for size in sizes]
    caption = tuple(model.caption_tokens(seen)) if CAPTION in tasks else ()
    fused = [model.fuse(seen, model.vocabulary.question(text)) for text in texts if
             {VQA, MATCH} & {*tasks}]  # fmt: skip
    answers = tuple(str(out["answers"][0].argmax()) for out in fused if "answers" in out)
    return Told(caption, answers, tuple(float(out["match"][0, 1]) for out in fused))


def compare(
    runtime: str,
    model: VisionLanguage,
    images: list[NDArray[np.uint8]],
    wanted: list[Seen],
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
        told: what torch said of that.
        tolerance: of the features of the same region, relative.

    Raises:
        ParityError: other words for the same regions, or other regions.
    """
    found = [model.look(image) for image in images]
    matched = [
        _matched(a, b, max(image.shape) * _SAME_PLACE)
        for a, b, image in zip(found, wanted, images, strict=True)
    ]
    given = [tell(model, seen) for seen in wanted]
    own = [tell(model, seen) for seen in found]
    tasks = model.settings.tasks
    agreement = Agreement(
        "torch",
        len(images),
        min((len(pairs) / max(b.count, 1) for pairs, b in zip(matched, wanted, strict=True))),
        max(_features(*each) for each in zip(matched, found, wanted, strict=True)),
        _equal("caption", own, told) if CAPTION in tasks else None,
        _equal("answers", own, told) if VQA in tasks else None,
    )
    problems = [
        f"{name} differ for the same regions"
        for name in ("caption", "answers")
        if _equal(name, given, told) < len(images)
    ]
    if agreement.regions < _LEAST_SHARED:
        problems.append(f"only {agreement.regions:.0%} of an image's regions are the same")
    if not agreement.features <= tolerance:
        problems.append(f"features of a region differ by {agreement.features:.3g} relative")
    if problems:
        raise ParityError(
            f"the whole is not the same function in {runtime} as in torch: {', '.join(problems)}; "
            "no bundle was written"
        )
    return agreement


def _equal(name: str, a: list[Told], b: list[Told]) -> int:
    return sum(getattr(x, name) == getattr(y, name) for x, y in zip(a, b, strict=True))


def _matched(found: Seen, wanted: Seen, most: float) -> list[tuple[int, int]]:
    """Pairs of regions (in ``found``, in ``wanted``) at the same place."""
    if not found.count or not wanted.count:
        return [(-1, -1)] if found.count == wanted.count else []
    apart = np.abs(found.boxes[:, None] - wanted.boxes[None]).max(2)
    nearest = apart.argmin(0)
    return [(int(a), b) for b, a in enumerate(nearest) if apart[a, b] <= most]


def _features(pairs: list[tuple[int, int]], found: Seen, wanted: Seen) -> float:
    """Largest relative error of the features of the same regions."""
    kept = [(a, b) for a, b in pairs if a >= 0]
    if not kept:
        return 0.0
    a, b = (list(each) for each in zip(*kept, strict=True))
    return relative_error(found.visual[a], wanted.visual[b])
