"""The machine: recognised on every board, and nothing of its owner."""

import json
import platform

import pytest

from edgekit.bundle import schema
from edgekit.errors import EdgekitError
from edgekit.profiling import environment
from edgekit.profiling.environment import jetson, machine, read_machine, read_state
from edgekit.profiling.result import Machine, State
from tests.profiling.board_trees import NAMES, put, tree

# board -> (board, cpu, cores, l4t, jetpack, gpu)
EXPECTED = {
    "rpi4": ("Raspberry Pi 4 Model B Rev 1.1", "Cortex-A72 (bcm2711)", 4, "", "", ""),
    "rpi5": ("Raspberry Pi 5 Model B Rev 1.0", "Cortex-A76 (bcm2712)", 4, "", "", ""),
    "jetson-nano": (
        "NVIDIA Jetson Nano Developer Kit",
        "Cortex-A57 (tegra210)",
        4,
        "32.7.1",
        "4.6.1",
        "tegra210, compute capability 5.3",
    ),
    "jetson-tx2": (
        "NVIDIA Jetson TX2 Developer Kit",
        "Cortex-A57 + Denver 2 (tegra186)",
        6,
        "32.7.6",
        "4.6.6",
        "tegra186, compute capability 6.2",
    ),
    "orin-nano": (
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "Cortex-A78AE (tegra234)",
        6,
        "36.4.3",
        "6.2",
        "tegra234, compute capability 8.7",
    ),
    "agx-orin": (  # somebody else's carrier board, four cores switched off by nvpmodel
        "Lanner EAI-I233",
        "Cortex-A78AE (tegra234)",
        8,
        "35.4.1",
        "5.1.2",
        "tegra234, compute capability 8.7",
    ),
    "thor": (
        "NVIDIA Jetson AGX Thor Developer Kit",
        "Neoverse-V3AE (tegra264)",
        14,
        "38.2.1",
        "7.0",
        "tegra264, compute capability 11.0",
    ),
    "big-little": ("Radxa ROCK 5B", "Cortex-A55 + Cortex-A76 (rk3588)", 4, "", "", ""),
    "x86-laptop": ("LENOVO 21CB000GUS", "12th Gen Intel(R) Core(TM) i7-1260P", 4, "", "", ""),
    "x86-guest": (
        "QEMU Standard PC (Q35 + ICH9, 2009)",
        "AMD EPYC-Milan Processor",
        8,
        "",
        "",
        "NVIDIA L4",
    ),
}
SECRETS = (
    "secret",
    "10000000abcdef01",
    "1420000000001",
    "dc:a6:32",
    "PF3",
    "4c4c4544",
    "GCID",
)


def on(monkeypatch, architecture):
    monkeypatch.setattr(platform, "machine", lambda: architecture)


def test_every_board_has_an_expectation():
    assert set(NAMES) == set(EXPECTED) | {"cgroup-v1", "garbage"}
    assert len(NAMES) == 12


@pytest.mark.parametrize("name", EXPECTED)
def test_a_board_is_recognised(tmp_path, name):
    found = read_machine(tree(tmp_path, name))
    facts = (found.board, found.cpu, found.cores, found.l4t, found.jetpack, found.gpu)
    assert facts == EXPECTED[name]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_owner_is_in_the_result(tmp_path, name):
    root = tree(tmp_path, name)
    text = json.dumps(schema.encode([read_machine(root), read_state(root)]))
    for secret in SECRETS:
        assert secret not in text


def test_the_trees_do_hold_secrets(tmp_path):
    """Else the test above would pass on anything."""
    root = tree(tmp_path, "rpi4")
    assert "secret" in (root / "proc/version").read_text()
    assert "10000000abcdef01" in (root / "proc/device-tree/serial-number").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_fits_the_schema(tmp_path, name):
    root = tree(tmp_path, name)
    for kind, value in ((Machine, read_machine(root)), (State, read_state(root))):
        assert schema.decode(kind, json.loads(json.dumps(schema.encode(value)))) == value


def test_a_machine_without_any_of_it(tmp_path):
    found = read_machine(tmp_path)
    assert (found.board, found.cpu, found.memory_bytes, found.virtual) == ("", "", 0, "")
    assert found.cores >= 1
    assert found.features == ()


def test_this_machine_can_be_read():
    found = read_machine(packages={"onnxruntime": "1.32.0"})
    assert found.cores >= 1
    assert found.memory_bytes > 0
    assert found.packages == {"onnxruntime": "1.32.0"}
    assert environment.read_state().load is not None


def test_features_are_those_that_every_core_has(tmp_path):
    assert read_machine(tree(tmp_path, "rpi4")).features == ("asimd",)
    assert read_machine(tree(tmp_path, "rpi5")).features == ("asimd", "fphp", "asimdhp", "asimddp")
    assert "i8mm" in read_machine(tree(tmp_path, "thor")).features
    assert "avx_vnni" in read_machine(tree(tmp_path, "x86-laptop")).features
    root = tree(tmp_path, "big-little")
    text = (root / "proc/cpuinfo").read_text().replace("asimddp", "", 1)
    put(root, "proc/cpuinfo", text)
    assert "asimddp" not in read_machine(root).features


def test_kinds_of_cores(tmp_path):
    assert read_machine(tree(tmp_path, "big-little")).clusters == {"0xd05": 2, "0xd0b": 2}
    assert read_machine(tree(tmp_path, "jetson-tx2")).clusters == {"0x003": 2, "0xd07": 4}
    assert read_machine(tree(tmp_path, "x86-laptop")).clusters == {"cpu_core": 2, "cpu_atom": 2}
    assert read_machine(tree(tmp_path, "x86-guest")).clusters == {"family 25 model 1": 8}


def test_an_unknown_core_keeps_its_numbers():
    assert machine.core_name({"CPU implementer": "0x41", "CPU part": "0xfff"}) == "0x41/0xfff"


@pytest.mark.parametrize(
    ("vendor", "product", "name"),
    [
        ("QEMU", "Standard PC", "KVM or QEMU"),
        ("Amazon EC2", "c7i.large", "Amazon EC2"),
        ("Amazon EC2", "c7g.metal", ""),
        ("Google", "Google Compute Engine", "Google Compute Engine"),
        ("Microsoft Corporation", "Virtual Machine", "Hyper-V"),
        ("VMware, Inc.", "VMware20,1", "VMware"),
        ("innotek GmbH", "VirtualBox", "VirtualBox"),
        ("Dell Inc.", "OptiPlex 7090", ""),
    ],
)
def test_hypervisors_by_dmi(tmp_path, vendor, product, name):
    put(tmp_path, "sys/class/dmi/id/sys_vendor", f"{vendor}\n")
    put(tmp_path, "sys/class/dmi/id/product_name", f"{product}\n")
    assert read_machine(tmp_path).virtual == name


def test_a_processor_that_knows_of_no_hypervisor_has_none(tmp_path):
    put(tmp_path, "sys/class/dmi/id/sys_vendor", "Xen\n")
    put(tmp_path, "proc/cpuinfo", "processor\t: 0\nflags\t: fpu avx2\n")
    assert read_machine(tmp_path).virtual == ""


def test_a_hypervisor_that_hides_its_name(tmp_path):
    put(tmp_path, "proc/cpuinfo", "processor\t: 0\nflags\t: fpu hypervisor\n")
    assert read_machine(tmp_path).virtual == "an unnamed hypervisor"


def test_emulation_shows_by_the_kernel_being_another(tmp_path, monkeypatch):
    on(monkeypatch, "aarch64")
    root = tree(tmp_path, "rpi4")
    assert read_machine(root).virtual == ""
    put(root, "proc/sys/kernel/arch", "x86_64\n")
    assert read_machine(root).virtual == "user-mode emulation on x86_64"
    on(monkeypatch, "armv7l")  # a 32-bit system on a 64-bit kernel is none
    put(root, "proc/sys/kernel/arch", "aarch64\n")
    assert read_machine(root).virtual == ""


def test_makers_who_fill_in_nothing(tmp_path):
    put(tmp_path, "sys/class/dmi/id/sys_vendor", "To Be Filled By O.E.M.\n")
    put(tmp_path, "sys/class/dmi/id/product_name", "System Product Name\n")
    assert read_machine(tmp_path).board == ""


def test_garbage_is_shown_harmlessly(tmp_path):
    found = read_machine(tree(tmp_path, "garbage"))
    assert found.board == "?]0;owned? a board"
    assert "\x1b" not in found.cpu + "".join(found.clusters)
    assert found.l4t == ""
    assert found.cores == 1


def test_a_huge_file_is_read_up_to_a_limit(tmp_path):
    put(tmp_path, "proc/cpuinfo", "processor\t: 0\n\n" * 500_000)
    put(tmp_path, "etc/os-release", "x" * (64 << 20))
    found = read_machine(tmp_path)
    assert found.system == ""
    assert 0 < found.cores < 100_000


# ---- Jetson ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "release", "pack"),
    [
        ("# R32 (release), REVISION: 6.1, GCID: 1", "32.6.1", "4.6"),
        ("# R35 (release), REVISION: 6.4, GCID: 1", "35.6.4", "5.1.6"),
        ("# R36 (release), REVISION: 2.0, GCID: 1", "36.2.0", "6.0 DP"),
        ("# R36 (release), REVISION: 4.0, GCID: ..., BOARD: generic", "36.4.0", "6.1"),
        ("# R36 (release), REVISION: 4.7, GCID: 1", "36.4.7", "6.2.1"),
        ("# R36 (release), REVISION: 9.9, GCID: 1", "36.9.9", ""),
        ("# R38 (release), REVISION: 2.2, GCID: 1", "38.2.2", "7.0"),
        ("# R39 (release), REVISION: 2, GCID: 1", "39.2.0", "7.2"),
        ("# R (release), REVISION: 2, GCID: 1", "", ""),
        ("", "", ""),
    ],
)
def test_l4t_and_jetpack(tmp_path, line, release, pack):
    put(tmp_path, "etc/nv_tegra_release", line + "\nmore\n")
    assert jetson.l4t(tmp_path) == release
    assert jetson.jetpack(release) == pack


def test_l4t_from_the_package_where_the_file_is_missing(tmp_path):
    put(tmp_path, "proc/device-tree/compatible", "nvidia,p3767-0005\0nvidia,tegra234\0")
    put(tmp_path, "usr/bin/dpkg-query", "39.2.1-20260901120000", "$")
    assert jetson.l4t(tmp_path) == "39.2.1"


def test_a_pc_is_not_asked_for_its_jetson_package(tmp_path):
    put(tmp_path, "usr/bin/dpkg-query", "39.2.1-20260901120000", "$")
    assert jetson.l4t(tmp_path) == ""


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", "MAXN (0)"),
        ("NV Fan Mode:quiet\nNV Power Mode: 15W\n0\n", "15W (0)"),
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN_SUPER\n2\n", "MAXN_SUPER (2)"),
        ("NVPM VERB: Current mode: NV Power Mode: MODE_15W_6CORE\n2\n", "MODE_15W_6CORE (2)"),
        (
            "NV Power Mode: MAXN\n0\nNVPM ERROR: Error opening .../emc_iso_cap: 13\n",
            "MAXN (0)",
        ),
        ("NV Power Mode: 30W\nNVPM ERROR: 13\n", "30W"),
        ("NVPM ERROR: no mode set\n", ""),
        ("", ""),
    ],
)
def test_the_power_mode_among_the_noise(text, mode):
    assert jetson.parse_power_mode(text) == mode


def test_nvpmodel_is_asked_on_a_jetson_only(tmp_path):
    assert jetson.power_mode(tree(tmp_path, "orin-nano")) == "15W (0)"
    assert jetson.power_mode(tree(tmp_path, "agx-orin")) == "MODE_30W (2)"
    put(tmp_path, "usr/sbin/nvpmodel", "NV Power Mode: MAXN\n0", "$")
    assert jetson.power_mode(tmp_path) == ""


def test_every_jetpack_of_the_table_is_of_its_line():
    lines = {"32": "4", "35": "5", "36": "6", "38": "7", "39": "7"}
    for release, pack in jetson.JETPACKS.items():
        assert pack.startswith(lines[release.partition(".")[0]]), release


def test_choosing_cpus_says_what_is_possible(tmp_path):
    root = tree(tmp_path, "big-little")
    with pytest.raises(EdgekitError, match="CPU 2-3 is not for this process: .* 0-1,4-5"):
        environment.choose_cpus("0-5", 1, root)
