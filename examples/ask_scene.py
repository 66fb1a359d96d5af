"""Ask a bundle of `minivlm-tiny` about a drawn scene that its training never saw.

    edgekit export minivlm-tiny --weights examples/scenes-vlm --target x86 -o out/scenes
    python examples/ask_scene.py out/scenes             # a scene, and some questions
    python examples/ask_scene.py out/scenes 1000007     # another one

The scene is written to scene.png in the working folder's out/, for a look.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import edgekit
from edgekit.training.data.scenes import HELD_OUT_FROM, draw_scene, scene
from edgekit.training.vision_language.talk import questions

_COUNT = 5


def main() -> None:
    """Draw, look, ask."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("number", type=int, nargs="?", default=HELD_OUT_FROM)
    arguments = parser.parse_args()
    try:
        model = edgekit.load(arguments.bundle)
    except edgekit.EdgekitError as error:
        raise SystemExit(f"ask_scene: {error}") from None
    if not hasattr(model, "look"):
        raise SystemExit(f"ask_scene: {arguments.bundle} is no vision-language bundle")
    drawn = scene(arguments.number)
    file = Path("out") / "scene.png"
    file.parent.mkdir(exist_ok=True)
    draw_scene(drawn).save(file)
    print(f"{file}:", ", ".join(f"{t.size} {t.colour} {t.shape}" for t in drawn.things))
    with model:
        for warning in model.warnings:
            print("warning:", warning)
        seen = model.look(file)
        print("regions:", ", ".join(seen.objects) or "none")
        print("caption:", model.caption(seen))
        for each in questions(drawn, _COUNT, held_out=True):
            print(f"{each.text} {model.ask(seen, each.text)} (it is {each.answer})")


if __name__ == "__main__":
    main()
