"""Stages as people say them: what each computes, where it belongs, and what a bar is made of.

    look     image, detector, proposals, roi-align, box-head, regions
    ask      look, the shortest fusion
    caption  look, context, step, step, step ..

A file may have other names: they have rows in the tables, and no meaning and no piece of a bar.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from edgekit.profiling.report import words
from edgekit.profiling.result import STABLE, severity
from edgekit.profiling.stages_result import ASK, LOOK, WHOLE, WRITE, StageRun, StagesResult

FUSION, JUDGE, CONTEXT, STEP = "fusion-", "judge", "context", "step"
GRAPH, NUMPY, PILLOW, BOTH = "a graph", "numpy", "Pillow and numpy", ""
OF_LOOK, OF_TEXT, OF_CALLS = "from the image to its regions", "with a text", "whole calls"
OTHERS = "others"
REST = "the rest"  # of a call: what stands between its stages


@dataclass(frozen=True)
class Stage:
    """One row of ``STAGES``. ``part``: the colour it is drawn in; ``by``: what computes it."""

    name: str
    group: str
    part: str
    by: str
    meaning: str


# In the order in which they run; a name that ends in a dash is followed by a number of tokens.
STAGES = (
    Stage("image", OF_LOOK, "part4", PILLOW, "the image is fitted into the canvas and normalised"),
    Stage("detector", OF_LOOK, "part0", GRAPH, "features of the whole canvas, and for each anchor "
          "a score and a box"),
    Stage("proposals", OF_LOOK, "part2", NUMPY, "the best of these boxes, without those that "
          "overlap (non-maximum suppression)"),
    Stage("roi-align", OF_LOOK, "part3", NUMPY, "the features under each proposed box, at one "
          "size"),
    Stage("box-head", OF_LOOK, "part1", GRAPH, "class, box and features of each proposal"),
    Stage("regions", OF_LOOK, "part5", NUMPY, "one suppression over all classes, and the regions "
          "that stay"),
    Stage(FUSION, OF_TEXT, "part1", GRAPH, "a text of up to so many tokens is read together with "
          "the regions: answers and match"),
    Stage(JUDGE, OF_TEXT, "part2", GRAPH, "whether a statement on two images is true"),
    Stage(CONTEXT, OF_TEXT, "part2", GRAPH, "keys and values of tags and regions, once a caption"),
    Stage(STEP, OF_TEXT, "part3", GRAPH, "one token of a caption"),
    Stage(LOOK, OF_CALLS, "part0", BOTH, "from an image to its regions: all of the first six"),
    Stage(ASK, OF_CALLS, "part0", BOTH, "look, and a question that fills the shortest fusion"),
    Stage(WRITE, OF_CALLS, "part0", BOTH, "look, context, and a step for each token"),
)  # fmt: skip

_FIRST_CALL = next(i for i, row in enumerate(STAGES) if row.group == OF_CALLS)
CALLS = {LOOK: "look at an image", ASK: "answer a question", WRITE: "write a caption"}


@dataclass(frozen=True)
class Setting:
    """A runtime and its threads, with its rows by stage.

    Attributes:
        runs: in the order of ``STAGES``; what is not in it comes before the whole calls.
    """

    runtime: str
    threads: int
    runs: dict[str, StageRun]

    @property
    def name(self) -> str:
        """``openvino, 1 thread``."""
        return f"{words.short(self.runtime)}, {words.plural(self.threads, 'thread')}"

    @property
    def calls(self) -> tuple[StageRun, ...]:
        """Those of ``look``, ``ask`` and ``caption`` that there are."""
        return tuple(self.runs[name] for name in WHOLE if name in self.runs)

    @property
    def verdict(self) -> str:
        """The worst of the calls'; of all rows where there is no call."""
        runs = self.calls or tuple(self.runs.values())
        return max((run.verdict for run in runs), key=severity, default=STABLE)

    def of_look(self, run: StageRun) -> float | None:
        """A stage's median by that of ``look``; None of the calls themselves."""
        whole = self.runs.get(LOOK)
        if run.stage in WHOLE or whole is None or whole.p50_ms <= 0:
            return None
        return run.p50_ms / whole.p50_ms


@dataclass(frozen=True)
class Part:
    """A piece of a bar. ``times``: how often it runs in one call."""

    name: str
    colour: str
    ms: float
    times: int = 1

    @property
    def label(self) -> str:
        """``step, 12 times``."""
        return f"{self.name}, {self.times:,} times" if self.times != 1 else self.name


def stage(name: str) -> Stage:
    """The row of ``STAGES`` that ``name`` is of; one of no meaning where it is of none."""
    for row in STAGES:
        if row.name == name or (row.name == FUSION and _tokens(name) is not None):
            return row
    return Stage(name, OTHERS, "rest", BOTH, "")


def _tokens(name: str) -> int | None:
    """Of ``fusion-35``: 35."""
    number = name.removeprefix(FUSION)
    known = name.startswith(FUSION) and number.isascii() and number.isdigit()
    return int(number) if known and len(number) < 7 else None


def settings(result: StagesResult) -> list[Setting]:
    """Runtimes and thread counts in the order in which they were measured."""
    found: dict[tuple[str, int], dict[str, StageRun]] = {}
    for run in sorted(result.runs, key=_place):
        found.setdefault((run.runtime, run.threads), {})[run.stage] = run
    order = dict.fromkeys((run.runtime, run.threads) for run in result.runs)
    return [Setting(*key, found[key]) for key in order]


def _place(run: StageRun) -> tuple[float, int]:
    """What has no row comes before the calls."""
    row = stage(run.stage)
    return STAGES.index(row) if row in STAGES else _FIRST_CALL - 0.5, _tokens(run.stage) or 0


def known(results: Sequence[StagesResult]) -> list[Stage]:
    """Rows of ``STAGES`` that are in any of them."""
    there = {stage(run.stage) for result in results for run in result.runs}
    return [row for row in STAGES if row in there]


def samples(run: StageRun) -> int:
    """Over all processes."""
    return sum(map(len, run.samples_ms))


# ---- what a bar is made of -------------------------------------------------------------------


def parts(setting: Setting, call: str) -> list[Part]:
    """The pieces of ``look``, ``ask`` or ``caption``, each by its median; what is left is the rest.

    Medians need not add up: where they are more than the call's own there is no rest.
    """
    pieces = [piece for piece in _PIECES[call](setting.runs) if piece.ms > 0]
    left = setting.runs[call].p50_ms - sum(piece.ms for piece in pieces)
    return [*pieces, Part(REST, "rest", left)] if left > 0 else pieces


def _look_parts(runs: dict[str, StageRun]) -> Iterator[Part]:
    for row in STAGES:
        if row.group == OF_LOOK and row.name in runs:
            yield Part(row.name, row.part, runs[row.name].p50_ms)


def _ask_parts(runs: dict[str, StageRun]) -> Iterator[Part]:
    yield from _named(runs, LOOK)
    lengths = [name for name in runs if _tokens(name) is not None]
    yield from _named(runs, min(lengths, key=lambda name: _tokens(name) or 0, default=""))


def _caption_parts(runs: dict[str, StageRun]) -> Iterator[Part]:
    yield from _named(runs, LOOK)
    yield from _named(runs, CONTEXT)
    if STEP in runs and samples(runs[WRITE]):
        yield _steps(runs[STEP], samples(runs[WRITE]))


def _steps(run: StageRun, captions: int) -> Part:
    """All steps of a caption: the median of their sum, where all captions are equally long."""
    times = round(samples(run) / captions)  # as often as it was timed
    sums = [
        sum(process[first : first + times])
        for process in run.samples_ms
        for first in range(0, len(process), max(times, 1))
    ]
    ms = median(sums) if len(sums) == captions else times * run.p50_ms
    return Part(STEP, stage(STEP).part, ms, times)


def _named(runs: dict[str, StageRun], name: str) -> Iterator[Part]:
    if name in runs:
        yield Part(name, stage(name).part, runs[name].p50_ms)


_PIECES = {LOOK: _look_parts, ASK: _ask_parts, WRITE: _caption_parts}


# ---- sentences -------------------------------------------------------------------------------


def headline(result: StagesResult) -> Setting | None:
    """The setting that stands for the result.

    Fewest threads, and of the runtimes that are left the fastest that is trustworthy.
    """

    def rank(one: Setting) -> tuple[int, int, float]:
        return one.threads, severity(one.verdict), one.calls[0].p50_ms

    return min((one for one in settings(result) if one.calls), key=rank, default=None)


def verdict(result: StagesResult) -> str:
    """The worst of all settings'."""
    return max((one.verdict for one in settings(result)), key=severity, default=STABLE)


def place(result: StagesResult) -> str:
    """The machine by the name people call it."""
    return words.machine(result.machine)


def sentence(result: StagesResult, name: str = "") -> str:
    """The one sentence a person can repeat; ``name`` where the model's is not enough."""
    best, name = headline(result), name or words.short(result.model)
    if best is None:
        return f"{name}: no call was timed on {place(result)}."
    return f"{name} takes {calls(best)} {circumstances(result, best)} {best.verdict}."


def calls(setting: Setting) -> str:
    """``107 ms to look at an image and 143 ms to answer a question``."""
    return listed([call(run) for run in setting.calls])


def call(run: StageRun) -> str:
    """``107 ms to look at an image``."""
    return f"{words.ms(run.p50_ms)} ms to {CALLS[run.stage]}"


def listed(said: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(said[:-1]), said[-1])))


def circumstances(result: StagesResult, setting: Setting) -> str:
    """The rest of the sentence, but for the verdict."""
    return f"on {place(result)} with {setting.name} (medians); measurement:"


def names(results: Sequence[StagesResult], *, places: bool = True) -> list[str]:
    """What tells the results apart: the model, the machine if there are several, a number.

    Args:
        results: in the order to be shown.
        places: name the machine; without, the caller says it.
    """
    several = len(set(map(place, results))) > 1
    told = [(words.short(one.model), place(one) if several else "") for one in results]
    shown = [f"{name} on {at}" if at and places else name for name, at in told]
    before = [told[:index].count(key) for index, key in enumerate(told)]
    return [f"{name} ({n + 1})" if n else name for name, n in zip(shown, before, strict=True)]


def reasons(runs: Sequence[StageRun], most: int) -> dict[str, list[str]]:
    """Why rows are not trustworthy, the first ``most`` of each -> the stages that it is said of."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for reason in dict.fromkeys(run.reasons[:most]):
            found.setdefault(reason, []).append(run.stage)
    return found


def doubtful(result: StagesResult) -> tuple[int, int]:
    """Calls that are not trustworthy, of how many."""
    runs = [run for one in settings(result) for run in one.calls]
    return sum(run.verdict != STABLE for run in runs), len(runs)


def counts(result: StagesResult) -> str:
    """``41.4 M parameters; 4.79 G MACs for an image and a short question``."""
    return (
        f"{words.count(result.params)} parameters; {words.count(result.macs)} MACs for an image "
        "and a short question"
    )
