"""What a run leaves in its folder, and what may be removed from there.

OUT/recipe.toml         everything the run depends on
OUT/best.safetensors    weights of the best epoch, with their classes and image size
OUT/last.safetensors    of the last
OUT/metrics.jsonl       a line an epoch; the same in events/
OUT/state.safetensors   what --resume goes on from
OUT/corrupt.txt         images that could not be read, if there were any
OUT/vocab.txt           tokens of a network that reads texts
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.models.whole_file import replacing
from edgekit.training.recipe import Recipe, write_recipe

RECIPE, STATE, METRICS, CORRUPT = (
    "recipe.toml", "state.safetensors", "metrics.jsonl", "corrupt.txt",
)  # fmt: skip
BEST, LAST, EVENTS = "best.safetensors", "last.safetensors", "events"
VOCABULARY = "vocab.txt"
# Never a file of somebody else's.
_OF_A_RUN = (RECIPE, STATE, METRICS, CORRUPT, BEST, LAST)


def check_folder(out: Path, *, resume: bool, force: bool) -> None:
    """Refuse to mix two runs.

    Raises:
        UsageError: there is a run and neither resume nor force, or it is no folder.
    """
    if resume and force:
        raise UsageError("--resume goes on and --force begins again: choose one")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; a run is a folder")
    if resume and (out / LAST).exists() and not (out / STATE).exists():
        raise UsageError(
            f"{out} has weights and no {STATE} to go on from: train from them, with --weights "
            f"{out / LAST} and another -o, or begin again with --force"
        )
    there = (out / STATE).exists() or (out / RECIPE).exists()
    if there and not (resume or force):
        raise UsageError(f"{out} holds a run: --resume goes on with it, --force starts anew")


def weights_of(path: Path) -> Path:
    """The best weights of a run, if ``path`` is one; else as it is."""
    return path / BEST if (path / BEST).is_file() else path


def prepare(out: Path, recipe: Recipe, *, anew: bool) -> None:
    """The folder with the recipe in it, and with ``anew`` nothing of another run.

    Raises:
        UsageError: the system refuses.
    """
    try:
        if anew:
            _remove_run(out)
        out.mkdir(parents=True, exist_ok=True)
        # A run that goes on keeps the recipe that it began with; without a state it begins anew.
        if not ((out / STATE).exists() and (out / RECIPE).exists()):
            with written(out / RECIPE) as temporary:
                write_recipe(recipe, temporary)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}") from error


def _remove_run(out: Path) -> None:
    for name in _OF_A_RUN:
        (out / name).unlink(missing_ok=True)
    if (out / EVENTS).is_dir() and not (out / EVENTS).is_symlink():
        shutil.rmtree(out / EVENTS)


def write_corrupt(out: Path, lines: Iterable[str]) -> None:
    """Names and reasons, one a line, those of before too; nothing if there are none."""
    path = out / CORRUPT
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = sorted({*before, *lines})
    if found:
        path.write_text("".join(f"{line}\n" for line in found), encoding="utf-8")


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """As `replacing`, with one line that says what is left where it fails.

    Raises:
        UsageError: the system refuses, e.g. because the disk is full.
    """
    try:
        with replacing(path) as temporary:
            yield temporary
    # safetensors reports a full disk with an exception of its own.
    except Exception as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot write {path}: {why}; what was there before is still there"
        ) from error
