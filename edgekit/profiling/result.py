"""What a profile says: the dataclasses are the schema, and this is their JSON.

ProfileResult
|-- runs         one a (runtime, threads, scope, pace): figures, verdict, every raw sample
|-- starts       cold starts: fresh process -> import -> load -> first inference
|-- layers       per-layer times, from a separate instrumented run
|-- memory       resident set of a separate process
|-- references   known networks timed in turns with the model: ratios
|-- sustained    a long run as a time series
|-- instructions executed by an emulated core: counts, never times
`-- environment  the machine, and its state before and after

Times are milliseconds where the name ends in ``_ms``; raw samples are whole nanoseconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.bundle import schema
from edgekit.bundle.schema import SchemaError
from edgekit.errors import InputError

KIND = "edgekit-profile"
SCHEMA_VERSION = 1
STAGES_KIND = "edgekit-stages"
_OTHER_KINDS = {STAGES_KIND: "a result by stage, which edgekit report reads as *.stages.json"}
MAX_RESULT_BYTES = 256 << 20

ENGINE, COPIES, PIPELINE = SCOPES = ("engine", "copies", "pipeline")
STABLE, NOISY, THROTTLED, CONTENDED = VERDICTS = ("stable", "noisy", "throttled", "contended")
PRESETS = ("quick", "default", "thorough")


@dataclass(frozen=True)
class WarmUp:
    """Inferences before the timed ones. ``settled``: their median had stopped moving."""

    runs: int
    seconds: float
    settled: bool


@dataclass(frozen=True)
class Process:
    """What one fresh process measured of one run. Nothing is left out of ``samples_ns``.

    Attributes:
        start_ms: of the first sample, after the start of the profile.
        samples_ns: duration of each inference, in order.
        cpu_share: of the time its threads could run, the share they did; below 1 others had
            the core.
        preempted: involuntary context switches while timing.
        missed: starts at a fixed rate that passed while an inference still ran.
        held_back: periods in which the cgroup's CPU quota was used up, while timing.
        mhz: of the CPUs it was pinned to, before and after timing; empty: not known.
    """

    start_ms: float
    warm_up: WarmUp
    samples_ns: tuple[int, ...]
    cpu_share: float
    preempted: int
    missed: int = 0
    held_back: int = 0
    mhz: tuple[float, ...] = ()


@dataclass(frozen=True)
class Run:
    """One figure: a runtime, its threads, what is timed and at which pace.

    Attributes:
        runtime: key of ``edgekit.runtimes.RUNTIMES``.
        threads: the engine computes with.
        scope: ``engine`` (the engine's own call on tensors in place), ``copies`` (the app's
            ``run``: arrays in, arrays out) or ``pipeline`` (an image in, classes out).
        pace_hz: inferences started per second; 0 is back-to-back.
        p99_ms: None below 1000 samples.
        mad_ms: median absolute deviation from the median.
        p50_interval_ms: 95 % confidence interval, by bootstrap over blocks of samples.
        samples: how many, over all processes.
        spread: (largest - smallest) / median of the processes' medians; None of one process.
        verdict: one of ``VERDICTS``.
        reasons: why it is not ``stable``, with the figures.
        complete: whether everything asked for was measured.
    """

    runtime: str
    threads: int
    scope: str
    pace_hz: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float | None
    min_ms: float
    max_ms: float
    mean_ms: float
    mad_ms: float
    p50_interval_ms: tuple[float, float]
    p90_interval_ms: tuple[float, float]
    samples: int
    spread: float | None
    verdict: str
    reasons: tuple[str, ...]
    complete: bool
    processes: tuple[Process, ...]


@dataclass(frozen=True)
class ColdStart:
    """One fresh process: interpreter and imports, opening the artifact, the first inference."""

    runtime: str
    threads: int
    import_ms: float
    load_ms: float
    first_ms: float

    @property
    def total_ms(self) -> float:
        """From the start of the process to the first result."""
        return self.import_ms + self.load_ms + self.first_ms


@dataclass(frozen=True)
class LayerTime:
    """One kernel of the engine and the layers of the model that it computes.

    Attributes:
        kernel: the engine's own name.
        kind: the engine's own type.
        layers: names of the graph's nodes it stands for; empty where the engine added it.
        scope: where in the model the first of them comes from.
        ms: typical per inference, instrumented: see ``LayerRun.source``.
        macs: of those layers; None where they are not known.
        bytes_moved: weights, inputs and outputs of those layers, each once: what the roofline
            divides by; None where they are not known.
    """

    kernel: str
    kind: str
    layers: tuple[str, ...]
    scope: str
    ms: float
    macs: int | None
    bytes_moved: int | None = None


@dataclass(frozen=True)
class LayerRun:
    """Per-layer times of one runtime, or in ``note`` why there are none.

    Attributes:
        source: where the times come from and how exact they are; "" without any.
        sum_ms: of the kernels, instrumented.
        total_ms: p50 of the engine scope, not instrumented, same threads; None if not measured.
    """

    runtime: str
    threads: int
    source: str
    note: str
    inferences: int
    sum_ms: float | None
    total_ms: float | None
    layers: tuple[LayerTime, ...]


@dataclass(frozen=True)
class Memory:
    """Resident set of one separate process, in bytes.

    Attributes:
        imported: after importing the runtime, before the model.
        loaded: after opening the artifact.
        peak_load: highest until then.
        peak_use: highest until the end of the inferences.
        device: memory of the accelerator, or None.
        note: how it was read, or why not.
    """

    runtime: str
    threads: int
    imported: int
    loaded: int
    peak_load: int
    peak_use: int
    device: int | None
    note: str


@dataclass(frozen=True)
class Reference:
    """A known network timed in turns with the model, in one process after the other.

    Attributes:
        name: e.g. ``"MobileNetV2-0.5 @ 96"``.
        accuracy: published, with its source beside it; "" where none is.
        p50_ms: of the reference; ``model_p50_ms`` of the model in the same turns.
        ratio: model / reference, the median over the turns.
        ratio_interval: 95 % confidence interval of it.
    """

    runtime: str
    threads: int
    name: str
    accuracy: str
    source: str
    macs: int
    p50_ms: float
    model_p50_ms: float
    ratio: float
    ratio_interval: tuple[float, float]
    turns: int


@dataclass(frozen=True)
class Sustained:
    """A long back-to-back run, as one point a window.

    Attributes:
        window_s: length of a window, in seconds.
        p50_ms: per window; ``p90_ms``, ``mhz``, ``celsius``, ``watts`` likewise (None: no sensor).
        throttled_at_s: when the clock or the latency fell off for good, or None.
        joules_per_inference: None without a sensor.
        power_source: which rail or counter ``watts`` is of, or "".
    """

    runtime: str
    threads: int
    window_s: float
    p50_ms: tuple[float, ...]
    p90_ms: tuple[float, ...]
    inferences: tuple[int, ...]
    mhz: tuple[float | None, ...]
    celsius: tuple[float | None, ...]
    watts: tuple[float | None, ...]
    throttled_at_s: float | None
    joules_per_inference: float | None
    power_source: str


@dataclass(frozen=True)
class Instructions:
    """Instructions that an emulated core executes: a count, not a time.

    Attributes:
        core: of the emulator, e.g. ``cortex-a72``.
        per_inference: median of ``counts``.
        counts: per inference, one a repetition.
        spread: (largest - smallest) / median of ``counts``.
    """

    core: str
    runtime: str
    threads: int
    per_inference: float
    counts: tuple[float, ...]
    spread: float
    emulator: str


@dataclass(frozen=True)
class Machine:
    """What must be equal before two results may be compared. "" and 0: not found.

    Attributes:
        board: e.g. ``Raspberry Pi 4 Model B Rev 1.1``.
        cpu: name of the processor.
        cores: CPUs the system has online.
        clusters: CPUs of each kind, e.g. ``{"0xd05": 4, "0xd0a": 4}`` by part number.
        features: instruction sets that bear on speed.
        virtual: name of the hypervisor, "" on bare metal.
        l4t: Jetson's release; ``jetpack`` where it is known.
        packages: versions of edgekit and of what computes.
    """

    architecture: str
    board: str
    cpu: str
    cores: int
    clusters: Mapping[str, int]
    features: tuple[str, ...]
    memory_bytes: int
    virtual: str
    system: str
    kernel: str
    python: str
    l4t: str
    jetpack: str
    gpu: str
    packages: Mapping[str, str]


@dataclass(frozen=True)
class State:
    """What can change while measuring, as it was read; None and empty: not found.

    Attributes:
        governors: per cpufreq policy; ``mhz``, ``min_mhz``, ``max_mhz`` likewise.
        turbo: ``on``, ``off`` or "".
        smt: ``on``, ``off`` or "".
        power_mode: of nvpmodel, ``name (id)``.
        clocks_locked: min and max frequency are equal everywhere.
        celsius: per thermal zone.
        load: average of one minute.
        others_running: runnable tasks beside this one.
        quota_cpus: of the cgroup, in CPUs; None is unlimited.
        quota_throttled: how often the cgroup was held back, so far.
        steal_ticks: CPU time since boot that the hypervisor gave to others; ``busy_ticks`` that
            this machine used.
        throttle_flags: e.g. ``under-voltage``; those that hold now.
        throttle_history: those that have held since boot.
        on_battery: None where there is none.
        memory_available: bytes.
    """

    governors: Mapping[str, str]
    mhz: Mapping[str, float]
    min_mhz: Mapping[str, float]
    max_mhz: Mapping[str, float]
    gpu_mhz: float | None
    turbo: str
    smt: str
    power_mode: str
    clocks_locked: bool | None
    celsius: Mapping[str, float]
    load: float | None
    others_running: int | None
    quota_cpus: float | None
    quota_throttled: int | None
    steal_ticks: int | None
    busy_ticks: int | None
    throttle_flags: tuple[str, ...]
    throttle_history: tuple[str, ...]
    on_battery: bool | None
    memory_available: int | None


@dataclass(frozen=True)
class Environment:
    """The machine, its state before and after, and where the measurement ran.

    Attributes:
        cpus: the measuring processes were pinned to; empty: not pinned.
        allowed_cpus: what the process may use at all.
        notes: what to know, or to change before measuring again.
    """

    machine: Machine
    before: State
    after: State | None
    cpus: tuple[int, ...]
    allowed_cpus: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """What measuring costs, measured: it is inside every sample and is not subtracted.

    Attributes:
        clock_ns: of the two clock readings around a sample.
        call_ns: of calling a function that does nothing the way a sample is called.
    """

    clock_ns: float
    call_ns: float


@dataclass(frozen=True)
class Model:
    """What was measured.

    Attributes:
        bundle_sha256: of the manifest, which has the sha256 of every file.
        artifacts: per runtime, sha256 of the file that it opens.
    """

    id: str
    target: str
    precision: str
    inputs: Mapping[str, tuple[int, ...]]
    random_weights: bool
    weights: str
    params: int
    macs: int
    elementwise_multiplies: int
    madds: int
    flops: int
    published: Mapping[str, str]
    bundle_sha256: str
    artifacts: Mapping[str, str]


@dataclass(frozen=True)
class ProfileResult:
    """All of one profile.

    Attributes:
        bundle: path as typed.
        model: id, as in ``facts``.
        command: the words typed.
        device: ``local``, or the host it was measured on.
        started: UTC, ISO 8601.
        preset: of ``PRESETS``.
        image: what the pipeline scope was fed.
        complete: False after Ctrl-C or a lost device: what was finished is there.
        warnings: what must be said beside the figures.
    """

    bundle: str
    model: str
    facts: Model
    command: tuple[str, ...]
    device: str
    started: str
    seconds: float
    preset: str
    image: str
    complete: bool
    runs: tuple[Run, ...]
    starts: tuple[ColdStart, ...]
    layers: tuple[LayerRun, ...]
    memory: tuple[Memory, ...]
    references: tuple[Reference, ...]
    sustained: tuple[Sustained, ...]
    instructions: tuple[Instructions, ...]
    cost: Cost | None
    environment: Environment
    warnings: tuple[str, ...]
    kind: str = KIND
    schema_version: int = SCHEMA_VERSION

    @property
    def verdict(self) -> str:
        """The worst of the runs'; ``stable`` when there are none."""
        return max((run.verdict for run in self.runs), key=severity, default=STABLE)


def severity(verdict: str) -> int:
    """Place in ``VERDICTS``; after them all for a word that a file has and edgekit does not."""
    return VERDICTS.index(verdict) if verdict in VERDICTS else len(VERDICTS)


def result_to_json(result: ProfileResult) -> str:
    """JSON of ``result``: indented, with each list of numbers on one line."""
    return _compact(schema.encode(result), "") + "\n"


def result_from_json(text: str) -> ProfileResult:
    """Parse and validate a result file.

    Raises:
        InputError: truncated, not a result, of another schema version, or with the JSON path
            of what is wrong.
    """
    try:
        document = schema.loads(text)
        _check_kind(document)
        return schema.decode(ProfileResult, document)
    except SchemaError as error:
        raise InputError(f"not a usable profile result: {error}") from None


def _check_kind(document: object) -> None:
    """Tell a foreign file and another version apart before unknown keys are complained about."""
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(document, dict) or kind != KIND:
        other = _OTHER_KINDS.get(kind) if isinstance(kind, str) else None
        raise SchemaError("kind", f"expected {KIND!r}: this file is {other or 'something else'}")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise SchemaError(
            "schema_version", f"this edgekit reads {SCHEMA_VERSION}, the file has {version!r}"
        )


def _compact(value: Any, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        rows = [f"{inner}{json.dumps(k)}: {_compact(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        rows = [inner + _compact(item, inner) for item in value]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
