"""``count_instructions``: emulated processes, the marks they leave, and the figure.

    processes x rounds   each round:  many inferences between two marks - one between two marks
                                      ---------------------------------------------------------
                                                    many - one inferences

What can change a count from run to run is fixed: addresses (``setarch -R``), random bytes
(``-seed``), hashes, threads, the environment. Without root: the guest sees the sysroot and a
machine of its core by QEMU's ``-L``, from a folder of links.

    scratch/prefix/{usr,lib,bin,etc,opt} -> the sysroot's
    scratch/prefix/{proc/cpuinfo,sys/...}   cores.write_machine
    scratch/site/edgekit -> this package    nothing else of this machine's Python is visible
    scratch/bundle*      -> the bundle
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgekit
from edgekit.bundle import open_bundle
from edgekit.bundle.agreement import PARITY_TOLERANCE
from edgekit.errors import (
    BundleError,
    DeviceError,
    EdgekitError,
    MeasurementError,
    MissingDependencyError,
    ParityError,
    UsageError,
)
from edgekit.profiling.emulation import emulator as qemu
from edgekit.profiling.emulation.cores import Core, get_core, write_machine
from edgekit.profiling.emulation.emulator import Emulator
from edgekit.profiling.emulation.sysroot import Sysroot, cache_folder, how_to_make, open_sysroot
from edgekit.profiling.result import Instructions
from edgekit.runtimes import RUNTIMES, get_runtime

PROCESSES, ROUNDS = 2, 3
FEW, MANY = 1, 11  # inferences of the two regions of a round
HEAVY_MACS = 100_000_000  # above: fewer of them, an emulated core does 10^8 MACs in seconds
MANY_OF_HEAVY = 3
# Above this share of the instructions, other threads did part of the work.
OTHERS_SHARE = 0.001

_LINKS = ("bin", "sbin", "lib", "lib64", "usr", "etc", "opt")
_MODULE = "edgekit.profiling.emulation.guest"
_BASE_LIMIT_S, _S_PER_MAC = 240.0, 1e-7  # ten times what a slow host takes
_MAX_OUTPUT = 1 << 20
_EMULATED = ("litert", "onnxruntime", "openvino", "tensorrt")


@dataclass(frozen=True)
class _Work:
    """What one emulated process does."""

    core: Core
    runtime: str
    precision: str
    bundle: Path
    many: int
    limit_s: float


def count_instructions(
    bundle: str | os.PathLike[str],
    core: str,
    runtimes: Sequence[str] = (),
    *,
    sysroot: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[Instructions, ...]:
    """Count the AArch64 instructions that one inference takes, on one thread. Never a time.

    Args:
        bundle: folder or ``.edgekit`` file.
        core: row of ``CORES``.
        runtimes: of the bundle; empty: all of the bundle's that the sysroot has.
        sysroot: the AArch64 system; by default ``EDGEKIT_SYSROOT``, or the cache's.
        progress: told what is being done, a line each.

    Raises:
        UsageError: no such core or runtime.
        MissingDependencyError: QEMU, a compiler, the sysroot, or a runtime in it.
        DeviceError: the emulated process crashed or hung.
        ParityError: it computed something else than the bundle's golden output.
        MeasurementError: the counts are not of one thread.
    """
    row = get_core(core)
    system = open_sysroot(sysroot)
    machine = qemu.find_emulator()
    qemu.check_core(machine, row.name)
    where = Path(bundle).absolute()
    with open_bundle(where) as opened:
        manifest = opened.manifest
    macs = {artifact.runtime: artifact.macs for artifact in manifest.artifacts}
    names = choose_runtimes(str(bundle), tuple(macs), runtimes, system)
    with tempfile.TemporaryDirectory(prefix="edgekit-emulated-") as scratch:
        guest = prepare(Path(scratch), row, system, machine)
        results = []
        for name in names:
            progress(f"counting the instructions of {name} on an emulated {row.name}")
            work = _work(row, name, manifest.precision, where, macs[name] or 0)
            results.append(_count(work, guest))
        return tuple(results)


def choose_runtimes(
    bundle: str, offered: Sequence[str], wanted: Sequence[str], system: Sysroot
) -> tuple[str, ...]:
    """``wanted``, or all of the bundle's that are installed in the sysroot.

    Raises:
        UsageError: the bundle does not have one, or it needs more than a CPU.
        MissingDependencyError: the sysroot does not have one.
    """
    for name in wanted:
        get_runtime(name)
        if name not in offered:
            raise UsageError(
                f"{bundle!r} has no artifact for runtime {name!r}; it has: {', '.join(offered)}"
            )
        if name == "tensorrt":
            raise UsageError("runtime 'tensorrt' computes on a GPU: there is no core to emulate")
    candidates = wanted or [name for name in offered if name in RUNTIMES and name != "tensorrt"]
    installed = [name for name in candidates if any(map(system.has, RUNTIMES[name].imports))]
    missing = [name for name in candidates if name not in installed]
    if missing and (wanted or not installed):
        raise MissingDependencyError(
            f"counting the instructions of {missing[0]}",
            f"{' or '.join(RUNTIMES[missing[0]].imports)} in {str(system.folder)!r}",
            how_to_make(system.folder),
        )
    return tuple(installed)


def _work(core: Core, runtime: str, precision: str, bundle: Path, macs: int) -> _Work:
    many = MANY if macs <= HEAVY_MACS else MANY_OF_HEAVY
    inferences = 16 + ROUNDS * (many + FEW)
    return _Work(
        core, runtime, precision, bundle, many, _BASE_LIMIT_S + _S_PER_MAC * macs * inferences
    )


# ---- the guest's world -----------------------------------------------------------------------


@dataclass(frozen=True)
class Guest:
    """How a process is started in the emulated core, and what is written down about it.

    Attributes:
        words: to which the plugin's output file is appended by ``run``.
    """

    scratch: Path
    words: tuple[str, ...]
    plugin: Path
    python: Path
    emulator: str


def prepare(scratch: Path, core: Core, system: Sysroot, machine: Emulator) -> Guest:
    """Write into ``scratch`` all that the guest sees, and build the plugin.

    Raises:
        MissingDependencyError: there is no C compiler.
    """
    prefix = scratch / "prefix"
    prefix.mkdir()
    for name in _LINKS:
        if (system.folder / name).is_dir():
            (prefix / name).symlink_to(_real(system.folder / name, system.folder))
    write_machine(core, prefix)
    (scratch / "site").mkdir()
    (scratch / "site" / "edgekit").symlink_to(Path(edgekit.__file__).absolute().parent)
    plugin = qemu.build_plugin(machine, (cache_folder() / "emulation").absolute(), scratch)
    fixed = qemu.fixed_addresses()
    words = (*fixed, str(machine.program), "-L", str(prefix), "-seed", "1", "-cpu", core.name)
    note = "" if fixed else ", random addresses: setarch -R is not allowed here"
    python = prefix / system.python.relative_to(system.folder)
    return Guest(scratch, words, plugin, python, f"qemu-aarch64 {machine.version}{note}")


def _real(path: Path, root: Path) -> Path:
    """Where ``path`` is: a link such as ``lib -> /usr/lib`` is one inside of ``root``."""
    if not path.is_symlink():
        return path
    target = path.readlink()
    return root / target.relative_to("/") if target.is_absolute() else path.parent / target


def environment(scratch: Path) -> dict[str, str]:
    """All of it: nothing of the user's may change a count."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "PYTHONPATH": str(scratch / "site"),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "LC_ALL": "C.UTF-8",
    }


def plugin_words(plugin: Path, out: Path) -> tuple[str, str]:
    """What loads ``plugin`` and has it write to ``out``; QEMU wants a comma in a path doubled."""
    plugin_path, out_path = (str(path).replace(",", ",,") for path in (plugin, out))
    return "-plugin", f"{plugin_path},out={out_path}"


# ---- counting --------------------------------------------------------------------------------


def _count(work: _Work, guest: Guest) -> Instructions:
    """All processes at once: what they count does not depend on who else computes."""
    link = guest.scratch / f"bundle{work.bundle.suffix}"
    if not link.is_symlink():
        link.symlink_to(work.bundle)
    request = {"bundle": str(link), "runtime": work.runtime, "rounds": ROUNDS, "many": work.many}
    counts: list[float] = []
    marks = [guest.scratch / f"marks-{number}" for number in range(PROCESSES)]
    commands = [
        (*guest.words, *plugin_words(guest.plugin, path), str(guest.python), "-m", _MODULE)
        for path in marks
    ]
    who = f"{work.runtime} on an emulated {work.core.name}"
    for answer, path in zip(
        run_all(commands, json.dumps(request), environment(guest.scratch), work.limit_s, who),
        marks,
        strict=True,
    ):
        check_answer(answer, work.core, work.precision, who)
        counts += counts_of_marks(path.read_text(encoding="ascii"), ROUNDS, work.many, who)
    median = statistics.median(counts)
    spread = (max(counts) - min(counts)) / median
    return Instructions(
        work.core.name, work.runtime, 1, median, tuple(counts), spread, guest.emulator
    )


def run_all(
    commands: Sequence[Sequence[str]],
    text: str,
    environment: Mapping[str, str],
    limit_s: float,
    who: str,
) -> Iterator[Mapping[str, Any]]:
    """Start every command with ``text`` as its input; what each prints, as JSON, in order.

    Raises:
        DeviceError: one crashed, hung, or printed something else. The others are ended.
    """
    with _started(commands, environment) as processes:
        for process in processes:
            assert process.stdin is not None
            try:
                process.stdin.write(text.encode())
                process.stdin.close()
            except BrokenPipeError:
                pass  # it has ended already: its status says how
            process.stdin = None
        for process in processes:
            try:
                out, err = process.communicate(timeout=limit_s)
            except subprocess.TimeoutExpired:
                raise DeviceError(f"{who} did not end within {limit_s:.0f} s: it hangs") from None
            yield _read_answer(process.returncode, out, err, who)


@contextmanager
def _started(
    commands: Sequence[Sequence[str]], environment: Mapping[str, str]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    pipe = subprocess.PIPE
    try:
        for words in commands:
            processes.append(
                subprocess.Popen(
                    words, stdin=pipe, stdout=pipe, stderr=pipe, env=dict(environment), cwd="/"
                )
            )
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _read_answer(status: int, out: bytes, err: bytes, who: str) -> Mapping[str, Any]:
    said = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
    if status:
        # QEMU dies of the guest's signal, and says so after whatever the guest had said.
        ended = f"signal {_signal(-status)}" if status < 0 else f"status {status}"
        last = f": {said[-1][:300]}" if said else ""
        raise DeviceError(f"{who} crashed with {ended}{last}")
    try:
        answer = json.loads(out[-_MAX_OUTPUT:].splitlines()[-1])
    except (ValueError, IndexError):
        answer = None
    if not isinstance(answer, dict) or not (
        {"errors", "midr"} <= answer.keys() or "error" in answer
    ):
        raise DeviceError(f"{who} printed {out[:80]!r} instead of an answer")
    return answer


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def check_answer(answer: Mapping[str, Any], core: Core, precision: str, who: str) -> None:
    """Raise what the guest raised; refuse a wrong result and another core than was asked for."""
    if "error" in answer:
        raise _error(int(answer.get("exit_code", 1)), f"{who}: {answer['error']}")
    if answer["midr"] != core.midr:
        raise MeasurementError(
            f"{who}: the core calls itself {answer['midr']:#x}, not {core.midr:#x}: "
            "this QEMU emulates another revision, whose counts are not comparable"
        )
    allowed = PARITY_TOLERANCE[precision]
    for name, error in answer["errors"].items():
        if not error <= allowed:
            raise ParityError(
                f"{who}: output {name!r} differs from the bundle's golden one by {error:.1e} "
                f"(allowed: {allowed:.0e}): what is emulated there is not this model"
            )


def _error(exit_code: int, text: str) -> EdgekitError:
    kinds: dict[int, type[EdgekitError]] = {2: UsageError, 3: ParityError, 6: DeviceError}
    if exit_code == MissingDependencyError.exit_code:
        return MissingDependencyError("emulation", "a package", "", detail=text)
    return kinds.get(exit_code, BundleError)(text)


def counts_of_marks(text: str, rounds: int, many: int, who: str) -> list[float]:
    """Instructions per inference, one a round, of what the plugin wrote.

    Raises:
        DeviceError: not the lines that were to be written.
        MeasurementError: other threads worked as well.
    """
    try:
        rows = [tuple(map(int, line.split())) for line in text.splitlines()]
        marks = {number: (own, everyone) for number, own, everyone in rows}
        regions = [
            [marks[2 * k + 1][who_] - marks[2 * k][who_] for who_ in (0, 1)]
            for k in range(2 * rounds)
        ]
    except (ValueError, KeyError):
        raise DeviceError(f"{who} ended, but the plugin's marks are not whole") from None
    return [
        _per_inference(few, most, many, who)
        for few, most in zip(regions[::2], regions[1::2], strict=True)
    ]


def _per_inference(few: Sequence[int], most: Sequence[int], many: int, who: str) -> float:
    own, everyone = most[0] - few[0], most[1] - few[1]
    if own <= 0:
        raise DeviceError(f"{who}: {many} inferences took no more instructions than {FEW}")
    if everyone - own > OTHERS_SHARE * own:
        raise MeasurementError(
            f"{who}: {(everyone - own) / everyone:.1%} of the instructions are of other threads, "
            "which wait as well as work: only one thread can be counted"
        )
    return own / (many - FEW)
