"""Results by stage made by hand: valid, and hostile on request.

stages(model=..., runs=...)   any part can be given; the rest is two runtimes on a calm machine
"""

import dataclasses

from edgekit.profiling.stages_result import StageRun, StagesResult
from tests.profiling import sample_results as samples

LOOK_MS = {"image": 5.0, "detector": 61.5, "proposals": 10.5, "roi-align": 8.0, "box-head": 18.0,
           "regions": 4.0}  # fmt: skip
TEXT_MS = {"fusion-35": 36.0, "fusion-128": 68.0, "context": 12.0, "step": 11.0}
TOKENS = 20


def run(stage="look", ms=108.0, *, runtime="openvino", threads=1, times=1, **changes):
    """Two processes of ten rounds around ``ms``, in which the stage ran ``times`` each."""
    each = tuple(ms * (1 + 0.002 * (i // times - 4.5)) for i in range(10 * times))
    base = StageRun(
        stage=stage,
        runtime=runtime,
        threads=threads,
        samples_ms=(each, each),
        p10_ms=ms * 0.98,
        p50_ms=ms,
        p90_ms=ms * 1.05,
        spread=0.01,
        verdict="stable",
        reasons=(),
    )
    return dataclasses.replace(base, **changes)


def runs(*, runtime="openvino", threads=1, factor=1.0, **changes):
    """All stages and calls of one runtime, in the order in which they are measured."""
    look = sum(LOOK_MS.values()) + 1.0  # a millisecond between the stages
    calls = {
        "look": look,
        "ask": look + TEXT_MS["fusion-35"] + 0.5,
        "caption": look + TEXT_MS["context"] + TOKENS * TEXT_MS["step"] + 2,
    }
    rows = {**LOOK_MS, "look": look, **TEXT_MS, "ask": calls["ask"], "caption": calls["caption"]}
    return tuple(
        run(stage, ms * factor, runtime=runtime, threads=threads,
            times=TOKENS if stage == "step" else 1, **changes)
        for stage, ms in rows.items()
    )  # fmt: skip


def stages(**changes):
    base = StagesResult(
        model="minivlm",
        params=41_440_777,
        macs=4_790_000_000,
        random=False,
        image="noise, 640 x 480 pixels",
        tokens={"openvino": TOKENS - 1, "litert": TOKENS - 1},
        machine=samples.machine(),
        before=samples.state(),
        after=samples.state(load=1.4),
        runs=(*runs(), *runs(runtime="litert", threads=2, factor=1.25)),
    )
    return dataclasses.replace(base, **changes)


def hostile(name=samples.HOSTILE):
    """The same text wherever a file may have one."""
    reasons = (f"noisy: {name}",)
    return stages(
        model=name,
        image=name,
        tokens={name: 3},
        machine=samples.machine(cpu=name, board=name, system=name, packages={name: name}),
        before=samples.state(governors={name: name}),
        random=True,
        runs=(
            run(name, 3.0, runtime=name, verdict="noisy", reasons=reasons),
            *(dataclasses.replace(one, runtime=name, verdict="noisy", reasons=reasons)
              for one in runs()),
        ),
    )  # fmt: skip
