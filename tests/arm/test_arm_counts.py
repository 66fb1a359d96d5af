"""Instruction counts of an emulated core: exact, repeatable, of the core they name."""

import json
import subprocess
from pathlib import Path

import pytest

from edgekit.profiling.emulation import count, count_instructions
from edgekit.profiling.emulation import emulator as qemu
from edgekit.profiling.emulation.cores import CORES
from edgekit.profiling.emulation.sysroot import open_sysroot

pytestmark = pytest.mark.arm

REPEATABLE = 1e-4  # the promise: 0.01 %

# A loop of known length between two marks, in machine code: x0 times "subs x0, x0, #1; b.ne".
LOOP = """
import ctypes, mmap, struct
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(struct.pack("<3I", 0xF1000400, 0x54FFFFE1, 0xD65F03C0))
loop = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
mark = lambda n, call=ctypes.CDLL(None).syscall: call(155, 0x7E570000 + n)
mark(0), loop(7), mark(1)
for n, times in enumerate((1000, 501000)):
    mark(2 * n), loop(times), mark(2 * n + 1)
"""

FACTS = """
import ctypes, json
from edgekit.profiling.emulation.guest import read_midr
auxiliary = ctypes.CDLL(None).getauxval
auxiliary.restype = ctypes.c_ulong
print(json.dumps({"midr": read_midr(), "hwcap": auxiliary(16), "hwcap2": auxiliary(26)}))
"""

# Bits of AT_HWCAP, in the order of Linux's arch/arm64/include/uapi/asm/hwcap.h.
_HWCAP = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma "
    "lrcpc dcpop sha3 sm3 sm4 asimddp sha512 sve asimdfhm"
)
HWCAP = _HWCAP.split()


@pytest.fixture
def run_inside(sysroot, emulator, tmp_path):
    """Run a Python text in an emulated core; what it printed, and the marks."""

    def run(text, core="cortex-a72"):
        guest = count.prepare(tmp_path, CORES[core], open_sysroot(sysroot), emulator)
        marks = tmp_path / "marks"
        done = subprocess.run(
            [*guest.words, *count.plugin_words(guest.plugin, marks), guest.python, "-c", text],
            env=count.environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, marks.read_text()

    return run


def test_a_loop_is_counted_to_the_instruction(run_inside):
    _, marks = run_inside(LOOP)
    rows = [tuple(map(int, line.split())) for line in marks.splitlines()][-4:]
    short, long = rows[1][1] - rows[0][1], rows[3][1] - rows[2][1]
    # The loop runs 500 000 times more. CPython executes the line twice and not always alike.
    assert abs(long - short - 1_000_000) < 1000


@pytest.mark.parametrize("core", CORES)
def test_the_core_is_the_one_that_its_files_say(core, run_inside):
    facts = json.loads(run_inside(FACTS, core)[0])
    assert facts["midr"] == CORES[core].midr
    names = [name for bit, name in enumerate(HWCAP) if facts["hwcap"] >> bit & 1]
    assert names == CORES[core].features.split() and facts["hwcap2"] == 0


def count_once(*words, **options):
    """With one process: its time is what these tests take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(count, "PROCESSES", 1)
        return count_instructions(*words, **options)


@pytest.fixture(scope="module")
def counted(arm_bundle, sysroot):
    """Counts of every runtime of the bundle, made twice."""
    first = count_instructions(arm_bundle, "cortex-a72", sysroot=sysroot)
    second = count_once(arm_bundle, "cortex-a72", sysroot=sysroot)
    return {row.runtime: (row, other) for row, other in zip(first, second, strict=True)}


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_counts_repeat(runtime, counted):
    first, second = counted[runtime]
    assert len(first.counts) == count.PROCESSES * count.ROUNDS
    assert first.spread <= REPEATABLE
    assert abs(first.per_inference / second.per_inference - 1) <= REPEATABLE


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_counts_are_of_this_network(runtime, counted):
    """MicroNet-M0 has 3.97 million multiply-accumulates, and an instruction does at most four."""
    assert 1e6 < counted[runtime][0].per_inference < 40e6


def test_a_runtime_takes_the_kernels_of_the_core(arm_bundle, sysroot, counted):
    """XNNPACK has other kernels for a Cortex-A53, and knows it by its files and MIDR alone."""
    (other,) = count_once(arm_bundle, "cortex-a53", ["litert"], sysroot=sysroot)
    assert other.per_inference > 1.02 * counted["litert"][0].per_inference


def test_the_plugin_is_compiled_once(emulator, tmp_path):
    cache = tmp_path / "cache"
    first = qemu.build_plugin(emulator, cache, tmp_path)
    age = first.stat().st_mtime_ns
    assert qemu.build_plugin(emulator, cache, tmp_path) == first
    assert first.stat().st_mtime_ns == age and [*cache.iterdir()] == [first]


def test_a_sysroot_without_the_runtime_is_named(arm_bundle, sysroot, edgekit, tmp_path):
    """The same system without its packages: what is missing, and the command that adds it."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("bin", "lib", "etc"):
        (bare / name).symlink_to(sysroot / name)
    (bare / "usr").mkdir()
    for place in (sysroot / "usr").iterdir():
        if place.name != "local":
            (bare / "usr" / place.name).symlink_to(place)
    words = ("profile", arm_bundle, "--emulate", "cortex-a72", "--sysroot", bare)
    status, _, said = edgekit(*words)
    assert status == 7 and "ai_edge_litert" in said
    assert f"-m edgekit.profiling.emulation.sysroot {Path(bare)}" in said
