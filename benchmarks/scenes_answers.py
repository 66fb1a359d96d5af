"""How well does minivlm-tiny answer about drawn scenes, from the photo to the answer?

    python benchmarks/scenes_answers.py
    python benchmarks/scenes_answers.py --speaks runs/speaks --words runs/words

Without runs, half an hour of training: a detector on 2000 scenes, then one network for questions,
captions and matching on its regions, and another one for questions with the regions hidden: what
the words alone tell. The first is exported and asked in each runtime that is here, as an app would:
an image in, an answer out. The scenes are numbered from 2,000,000, held out from the choice of the
best epoch too, and one question in eight, by its words, was in no training.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from edgekit.export.vision_language import export_vlm
from edgekit.runtimes.vision_language.loaded import load_vlm
from edgekit.training.data.scenes import draw_scene, scene
from edgekit.training.vision_language.talk import Question, caption, questions

MODEL = "minivlm-tiny"
FIRST, SCENES, ASKED = 2_000_000, 400, 8  # the best epoch was chosen by scenes from 1,000,000
TARGETS = {"x86": ("openvino", "onnxruntime"), "arm": ("litert",)}


@dataclass(frozen=True)
class Score:
    """Of one runtime: shares that are right, and what was said."""

    asked: float
    new: float
    captions: float
    said: tuple[str, ...]


def main() -> int:
    """Train what is missing, export, ask and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--speaks", type=Path, help="run of vqa+caption+retrieval")
    parser.add_argument("--words", type=Path, help="run of vqa with --hide-regions")
    parser.add_argument("--scenes", type=int, default=SCENES)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        speaks, words = arguments.speaks, arguments.words
        if speaks is None or words is None:
            speaks, words = _train(folder)
        asked = [
            (number, each)
            for number in range(FIRST, FIRST + arguments.scenes)
            for each in questions(scene(number), ASKED, held_out=True)
        ]
        scores = {}
        for target, runtimes in TARGETS.items():
            bundle = folder / target
            export_vlm(MODEL, target, weights=str(speaks / "best.safetensors"), out=bundle)
            for runtime in runtimes:
                scores[runtime] = _ask(bundle, runtime, asked, arguments.scenes)
    _print(scores, asked, words)
    return 0


def _train(folder: Path) -> tuple[Path, Path]:
    from edgekit.training.detection.recipe import DetectRecipe
    from edgekit.training.detection.runs import train_detector
    from edgekit.training.vision_language.recipe import VlmRecipe
    from edgekit.training.vision_language.runs import train_vlm

    detector = folder / "detector"
    train_detector(DetectRecipe(MODEL, "scenes"), detector, progress=print)
    for name, stage, hidden in (
        ("speaks", "vqa+caption+retrieval", False),
        ("words", "vqa", True),
    ):
        recipe = VlmRecipe(MODEL, "scenes", stage=stage, weights=str(detector), hide_regions=hidden)
        train_vlm(recipe, folder / name, progress=print)
    return folder / "speaks", folder / "words"


def _ask(bundle: Path, runtime: str, asked: list[tuple[int, Question]], scenes: int) -> Score:
    said, written = [], 0
    with load_vlm(bundle, runtime) as model:
        looked = {}
        for number in range(FIRST, FIRST + scenes):
            looked[number] = model.look(draw_scene(scene(number)))
            written += model.caption(looked[number]) == caption(scene(number))
        for number, each in asked:
            said.append(model.ask(looked[number], each.text))
    right = [text == each.answer for text, (_, each) in zip(said, asked, strict=True)]
    new = [ok for ok, (_, each) in zip(right, asked, strict=True) if each.is_held_out]
    return Score(sum(right) / len(right), sum(new) / len(new), written / scenes, tuple(said))


def _print(scores: dict[str, Score], asked: list[tuple[int, Question]], words: Path) -> None:
    answers = Counter(each.answer for _, each in asked)
    chance = answers.most_common(1)[0][1] / len(asked)
    print(f"\n{len(asked)} questions about {len({number for number, _ in asked})} scenes\n")
    print("| | answers | of new questions | captions, exact | same answers as the first |")
    print("|-|-:|-:|-:|-:|")
    print(f"| the most frequent answer | {chance:.1%} | | | |")
    print(f"| words alone | {_of_words(words)} | | | |")
    first = next(iter(scores.values()))
    for runtime, score in scores.items():
        same = sum(a == b for a, b in zip(score.said, first.said, strict=True)) / len(asked)
        shares = (score.asked, score.new, score.captions, same)
        print(f"| {runtime} | {' | '.join(f'{share:.1%}' for share in shares)} |")


def _of_words(run: Path) -> str:
    """The best figure of its run, from its metrics."""
    import json

    lines = (run / "metrics.jsonl").read_text().splitlines()
    figures = [json.loads(line) for line in lines]
    return f"{max(each['vqa'] for each in figures if 'vqa' in each):.1%}"


if __name__ == "__main__":
    sys.exit(main())
