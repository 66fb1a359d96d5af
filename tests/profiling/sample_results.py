"""Profile results made by hand for the tests of whatever reads them: valid, and hostile on request.

result(model=..., runs=(run(...),), ...)   any part can be given; the rest is a calm machine
HOSTILE                                     a name that tries to leave every format
everything(), one_sample(), huge(), incomplete(), hostile()   the cases worth a look
"""

import dataclasses
import math
import random
from statistics import median

from edgekit.profiling.result import (
    ColdStart,
    Cost,
    Environment,
    Instructions,
    LayerRun,
    LayerTime,
    Machine,
    Memory,
    Model,
    Process,
    ProfileResult,
    Reference,
    Run,
    State,
    Sustained,
    WarmUp,
)

HOSTILE = (
    "=1+1</title></style></script><script>alert(1)</script><img src=x onerror=alert(2)>"
    "\"'`|[x](javascript:alert(3))&amp;{{7*7}}, \\ @everyone ${PATH} %s"
)
LONG = "a-network-with-a-name-that-nobody-would-type-but-some-script-makes_" * 3


def samples(*, count=1200, ms=0.48, seed=0, spikes=0.01, drift=0.0):
    """Nanoseconds with a narrow body, a tail, and now and then a spike of several times."""
    rng = random.Random(seed)
    body = (ms * (1 + drift * i / count) * (1 + abs(rng.gauss(0, 0.02))) for i in range(count))
    spike = (1 + 5 * rng.random() if rng.random() < spikes else 1.0 for _ in range(count))
    return tuple(int(1e6 * b * s) for b, s in zip(body, spike, strict=True))


def processes(*, count=3, each=400, ms=0.48, seed=0, **options):
    return tuple(
        Process(
            start_ms=1500.0 + 4000.0 * i,
            warm_up=WarmUp(runs=40, seconds=1.1, settled=True),
            samples_ns=samples(count=each, ms=ms * (1 + 0.01 * i), seed=seed * 100 + i, **options),
            cpu_share=0.998,
            preempted=2 * i,
        )
        for i in range(count)
    )


def run(
    *,
    runtime="litert",
    threads=1,
    scope="engine",
    pace_hz=0.0,
    ms=0.48,
    verdict="stable",
    reasons=(),
    complete=True,
    made=None,
    **options,
):
    """A run whose figures are those of its samples."""
    made = processes(ms=ms, seed=threads, **options) if made is None else made
    flat = sorted(ns / 1e6 for process in made for ns in process.samples_ns)
    p50 = median(flat)
    middles = [median(process.samples_ns) / 1e6 for process in made]
    return Run(
        runtime=runtime,
        threads=threads,
        scope=scope,
        pace_hz=pace_hz,
        p50_ms=p50,
        p90_ms=at(flat, 0.9),
        p95_ms=at(flat, 0.95),
        p99_ms=at(flat, 0.99) if len(flat) >= 1000 else None,
        min_ms=flat[0],
        max_ms=flat[-1],
        mean_ms=sum(flat) / len(flat),
        mad_ms=median(abs(value - p50) for value in flat),
        p50_interval_ms=(p50 * 0.99, p50 * 1.01),
        p90_interval_ms=(at(flat, 0.88), at(flat, 0.92)),
        samples=len(flat),
        spread=(max(middles) - min(middles)) / p50 if len(middles) > 1 else None,
        verdict=verdict,
        reasons=tuple(reasons),
        complete=complete,
        processes=made,
    )


def at(ordered, share):
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine(**changes):
    base = Machine(
        architecture="aarch64",
        board="Raspberry Pi 4 Model B Rev 1.1",
        cpu="Cortex-A72",
        cores=4,
        clusters={"0xd08": 4},
        features=("asimd", "crc32"),
        memory_bytes=4 << 30,
        virtual="",
        system="Debian GNU/Linux 12 (bookworm)",
        kernel="6.6.31+rpt-rpi-v8",
        python="3.11.2",
        l4t="",
        jetpack="",
        gpu="",
        packages={"edgekit": "0.1.0", "litert": "2.1.0", "numpy": "2.1.3"},
    )
    return dataclasses.replace(base, **changes)


def state(**changes):
    base = State(
        governors={"policy0": "performance"},
        mhz={"policy0": 1500.0},
        min_mhz={"policy0": 600.0},
        max_mhz={"policy0": 1500.0},
        gpu_mhz=None,
        turbo="",
        smt="off",
        power_mode="",
        clocks_locked=False,
        celsius={"cpu-thermal": 48.2},
        load=0.12,
        others_running=0,
        quota_cpus=None,
        quota_throttled=None,
        steal_ticks=0,
        busy_ticks=120000,
        throttle_flags=(),
        throttle_history=(),
        on_battery=None,
        memory_available=3 << 30,
    )
    return dataclasses.replace(base, **changes)


def environment(**changes):
    base = Environment(
        machine=machine(),
        before=state(),
        after=state(celsius={"cpu-thermal": 55.9}, load=0.98, busy_ticks=128000),
        cpus=(3,),
        allowed_cpus=(0, 1, 2, 3),
        notes=(),
    )
    return dataclasses.replace(base, **changes)


def model(**changes):
    base = Model(
        id="micronet-m1",
        target="rpi4",
        precision="fp32",
        inputs={"image": (1, 3, 224, 224)},
        random_weights=False,
        weights="https://example.org/micronet-m1.pth",
        params=1_777_587,
        macs=5_310_000,
        elementwise_multiplies=810_000,
        madds=6_120_000,
        flops=11_430_000,
        published={"top-1": "51.4 %", "MAdds": "6 M"},
        bundle_sha256="ab" * 32,
        artifacts={"litert": "cd" * 32, "onnxruntime": "ef" * 32},
    )
    return dataclasses.replace(base, **changes)


def result(**changes):
    """A small complete profile; ``model`` may be given as a name."""
    name = changes.pop("model", "micronet-m1")
    facts = changes.pop("facts", model(id=name))
    base = ProfileResult(
        bundle="out/m1-rpi4",
        model=name,
        facts=facts,
        command=("edgekit", "profile", "out/m1-rpi4"),
        device="local",
        started="2026-11-23T08:00:00Z",
        seconds=41.5,
        preset="default",
        image="drawn",
        complete=True,
        runs=(run(),),
        starts=(),
        layers=(),
        memory=(),
        references=(),
        sustained=(),
        instructions=(),
        cost=Cost(clock_ns=71.0, call_ns=160.0),
        environment=environment(),
        warnings=(),
    )
    return dataclasses.replace(base, **changes)


_KINDS = ("CONV_2D", "DEPTHWISE_CONV_2D", "GATHER", "MUL", "ADD")


def layer_run(*, runtime="onnxruntime", threads=1, count=40, total_ms=0.77):
    """Kernels of which gathers take time and no MACs."""
    rng = random.Random(count)
    layers = []
    for i in range(count):
        kind = _KINDS[i % len(_KINDS)]
        macs = int(rng.uniform(2e4, 3e5)) if "CONV" in kind else 0
        layers.append(
            LayerTime(
                kernel=f"{kind.lower()}_{i}_kernel",
                kind=kind,
                layers=(f"node_{i}",),
                scope=f"features.{i // 5}.{'conv' if macs else 'act'}",
                ms=rng.uniform(0.004, 0.04),
                macs=macs if kind != "ADD" else None,
                bytes_moved=int(rng.uniform(4e4, 9e5)),
            )
        )
    total = math.fsum(layer.ms for layer in layers)
    return LayerRun(
        runtime=runtime,
        threads=threads,
        source="onnxruntime's profile",
        note="",
        inferences=200,
        sum_ms=total,
        total_ms=total_ms,
        layers=tuple(layers),
    )


def sustained(*, windows=60):
    """A run that throttles at half time."""
    hot = [i >= windows // 2 for i in range(windows)]
    return Sustained(
        runtime="litert",
        threads=4,
        window_s=1.0,
        p50_ms=tuple(0.75 if h else 0.49 + 0.001 * (i % 5) for i, h in enumerate(hot)),
        p90_ms=tuple(0.83 if h else 0.53 + 0.002 * (i % 7) for i, h in enumerate(hot)),
        inferences=tuple(1300 if h else 2000 for h in hot),
        mhz=tuple(1000.0 if h else 1500.0 for h in hot),
        celsius=tuple(50 + 32 * min(1, 2 * i / windows) for i in range(windows)),
        watts=tuple(None if i == 3 else 5.1 for i in range(windows)),
        throttled_at_s=windows / 2,
        joules_per_inference=0.0031,
        power_source="hwmon0/power1",
    )


def memory(runtime="litert"):
    return Memory(
        runtime=runtime,
        threads=1,
        imported=38 << 20,
        loaded=47 << 20,
        peak_load=52 << 20,
        peak_use=55 << 20,
        device=None,
        note="VmHWM of /proc/self/status",
    )


def reference(**changes):
    base = Reference(
        runtime="litert",
        threads=1,
        name="MobileNetV2-0.5 @ 96",
        accuracy="51.2 %",
        source="tensorflow/models: research/slim/nets/mobilenet/README.md",
        macs=18_900_000,
        p50_ms=0.39,
        model_p50_ms=0.48,
        ratio=1.23,
        ratio_interval=(1.21, 1.25),
        turns=24,
    )
    return dataclasses.replace(base, **changes)


def instructions():
    return Instructions(
        core="cortex-a72",
        runtime="litert",
        threads=1,
        per_inference=11_482_113.0,
        counts=(11_482_113.0, 11_482_201.0, 11_482_040.0),
        spread=0.00001,
        emulator="qemu-aarch64 7.2",
    )


def everything(**changes):
    """Every part is there, on four configurations."""
    parts = {
        "runs": (
            run(),
            run(threads=4, ms=0.31),
            run(scope="copies", ms=0.51),
            run(scope="pipeline", ms=3.1),
            run(pace_hz=30.0, ms=0.92, verdict="noisy", reasons=("medians spread by 8 %",)),
            run(runtime="onnxruntime", ms=0.77),
        ),
        "starts": tuple(
            ColdStart(runtime, 1, 210.0 + i, 8.5, 3.2 + 0.1 * i)
            for runtime in ("litert", "onnxruntime")
            for i in range(3)
        ),
        "layers": (
            layer_run(),
            LayerRun("litert", 1, "", "LiteRT gives no per-operator time", 0, None, None, ()),
        ),
        "memory": (memory(), memory("onnxruntime")),
        "references": (
            reference(),
            reference(name="MobileNetV3-small", accuracy="67.5 %", macs=56_500_000, p50_ms=1.2,
                      ratio=0.40, ratio_interval=(0.39, 0.42)),
        ),
        "sustained": (sustained(),),
        "instructions": (instructions(),),
        "preset": "thorough",
    }  # fmt: skip
    return result(**{**parts, **changes})


def one_sample():
    """The least that can be measured."""
    lonely = (Process(0.0, WarmUp(0, 0.0, False), (480_000,), 1.0, 0),)
    return result(runs=(run(made=lonely),), preset="quick", cost=None)


def huge(count=100_000):
    """As many samples as a long run keeps, with one spike among them."""
    flat = list(samples(count=count, spikes=0.0))
    flat[count // 3] = 50_000_000
    many = (Process(0.0, WarmUp(10, 1.0, True), tuple(flat), 1.0, 0),)
    return result(runs=(run(made=many),))


def incomplete():
    """Ctrl-C after the first of three processes, before anything else."""
    begun = run(made=processes(count=1), complete=False, verdict="noisy", reasons=("one process",))
    return result(runs=(begun,), complete=False, environment=environment(after=None), cost=None)


def hostile(text=HOSTILE):
    """Every text of a full result is ``text``: names, keys, notes, verdict's reasons."""
    return _poison(everything(), text)


_KEPT = {"kind", "verdict", "scope", "preset", "device"}  # words whose values have a meaning


def _poison(value, text, name=""):
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (f.name for f in dataclasses.fields(value))
        kept = _KEPT if isinstance(value, (Run, ProfileResult)) else set()
        changed = {
            f: getattr(value, f) if f in kept else _poison(getattr(value, f), text) for f in fields
        }
        return dataclasses.replace(value, **changed)
    if isinstance(value, dict):
        return dict.fromkeys([text], _poison(next(iter(value.values()), text), text))
    if isinstance(value, tuple):
        return tuple(_poison(item, text) for item in value)
    return text if isinstance(value, str) else value
