"""What a profile by stage says: the dataclasses are the schema of ``*.stages.json``.

Apart from what measures, so that a result is read where no runtime is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.profiling.result import STAGES_KIND, Environment, Machine, State

LOOK, ASK, WRITE = WHOLE = ("look", "ask", "caption")  # rows that hold other stages


@dataclass(frozen=True)
class StageRun:
    """One stage in one runtime, over all processes.

    Attributes:
        stage: its name; ``step`` is one token.
        runtime: key of ``RUNTIMES``; what is computed by numpy depends on it too, by caches.
        threads: the graphs computed with.
        samples_ms: by process.
        p10_ms: of all samples, as are ``p50_ms`` and ``p90_ms``.
        spread: between the processes' medians, see ``statistics``; None of one process.
        verdict: by the rules of ``verdict.py``; what disturbed a process disturbed all its stages.
        reasons: why it is not ``stable``.
    """

    stage: str
    runtime: str
    threads: int
    samples_ms: tuple[tuple[float, ...], ...]
    p10_ms: float
    p50_ms: float
    p90_ms: float
    spread: float | None
    verdict: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class StagesResult:
    """What ``edgekit profile`` says of a vision-language bundle.

    Attributes:
        model: id; ``params`` and ``macs`` as the bundle has them.
        random: whether its weights are.
        image: what was looked at, in words.
        tokens: of the caption, by runtime; with random weights it says nothing, but costs the same.
        machine: where it ran; ``before`` and ``after``: in which state.
        runs: a row a stage, runtime and number of threads.
    """

    model: str
    params: int
    macs: int
    random: bool
    image: str
    tokens: Mapping[str, int]
    machine: Machine
    before: State
    after: State
    runs: tuple[StageRun, ...]
    kind: str = STAGES_KIND

    @property
    def environment(self) -> Environment:
        """As results of other bundles have it; to which CPUs it was pinned is not kept."""
        return Environment(self.machine, self.before, self.after, (), (), ())

    def median_ms(self, stage: str, runtime: str, threads: int = 1) -> float:
        """Of one row."""
        (found,) = (
            run.p50_ms
            for run in self.runs
            if (run.stage, run.runtime, run.threads) == (stage, runtime, threads)
        )
        return found
