"""Look at a folder of images with a trained detector of MiniVLM, once, for `--data tsv:FOLDER`.

    python examples/extract_regions.py runs/detector photos data/photos

writes data/photos/features.tsv: of each image its path below the folder, its regions and, as tags,
what they are. What is said of the images is train.jsonl and val.jsonl beside it, and is your own.
"""

from __future__ import annotations

import argparse
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgekit.errors import EdgekitError, InputError, UsageError
from edgekit.models.minivlm.network import canvas_of, read_facts
from edgekit.models.minivlm.specs import get_vlm
from edgekit.models.variant import IMAGENET_MEAN, IMAGENET_STD
from edgekit.runtimes.preprocess import fit_into, load_image
from edgekit.training.run_folder import weights_of
from edgekit.training.vision_language.drawn import Seen
from edgekit.training.vision_language.features import see
from edgekit.training.vision_language.source import Floats, Told
from edgekit.training.vision_language.start import Detector, find
from edgekit.training.vision_language.tsv import FEATURES, write_tsv

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class Folder:
    """Images of a folder, each looked at when it is asked for: `source.Images`."""

    def __init__(self, folder: Path, detector: Detector, min_score: float) -> None:
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _ENDINGS)
        self.folder, self.detector, self.min_score = folder, detector, min_score
        self.names = tuple(file.relative_to(folder).as_posix() for file in files)
        if not self.names:
            raise UsageError(f"{folder} has no images: {', '.join(_ENDINGS)}")
        for name in self.names:
            if not name.isprintable():
                raise UsageError(f"{name!r} in {folder} is not printable: give it another name")
        self.unreadable = 0
        self.look = lru_cache(1)(self._look)

    def __len__(self) -> int:
        """How many images."""
        return len(self.names)

    def _look(self, index: int) -> Seen:
        facts = self.detector.facts
        canvas = canvas_of(get_vlm(facts.variant), facts)
        try:
            image = load_image(self.folder / self.names[index])
        except InputError as error:
            print(f"without regions: {error}", file=sys.stderr)
            self.unreadable += 1
            return Seen(np.zeros((0, self.detector.tee.spec.visual), np.float32), ())
        pixels, size = fit_into(image, canvas, IMAGENET_MEAN, IMAGENET_STD)
        objects = self.detector.facts.objects
        return see(self.detector.tee, pixels, [size], objects, self.min_score)[0]

    def name(self, index: int) -> str:
        """Its path below the folder."""
        return self.names[index]

    def regions(self, index: int) -> Floats:
        """What the transformer sees of it."""
        return self.look(index).regions

    def tags(self, index: int) -> tuple[str, ...]:
        """What the detector named, the surest first."""
        return self.look(index).tags

    def fingerprint(self) -> str:
        """Of no run."""
        return ""


def main() -> int:
    """Look and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", type=Path, help="run or file of edgekit train --stage detect")
    parser.add_argument("images", type=Path, help="folder of images")
    parser.add_argument("out", type=Path, help="folder to write into")
    parser.add_argument(
        "--min-score", type=float, help="of a region to be kept (default: as the weights say)"
    )
    arguments = parser.parse_args()
    try:
        detector = _detector(weights_of(arguments.weights))
        given = arguments.min_score
        if given is not None and not 0 <= given <= 1:
            raise UsageError(f"--min-score {given:g}: 0 to 1 are possible")
        images = Folder(
            arguments.images, detector, detector.facts.min_score if given is None else given
        )
        write_tsv(arguments.out, Told(images))
    except (EdgekitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(images)} images, regions of {detector.tee.spec.visual} numbers: "
          f"{arguments.out / FEATURES}")  # fmt: skip
    if images.unreadable:
        print(f"{images.unreadable} of them could not be read and have no regions")
    if given is not None:
        print(f"train on them with --min-score {given:g}, which the bundle is then told")
    return 0


def _detector(path: Path) -> Detector:
    found = find(read_facts(path).variant, "random", str(path)).detector
    if found is None:
        raise UsageError(f"{path} has no detector")
    found.tee.eval()
    return found


if __name__ == "__main__":
    sys.exit(main())
