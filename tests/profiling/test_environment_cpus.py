"""Which CPUs to measure on."""

import pytest

from edgekit.errors import UsageError
from edgekit.profiling.environment import allowed_cpus, big_cpus, choose_cpus, online_cpus
from edgekit.profiling.environment.files import list_text, parse_list
from tests.profiling.board_trees import put, tree


@pytest.mark.parametrize(
    ("board", "threads", "chosen"),
    [
        ("rpi4", 1, (1,)),  # CPU 0 takes the interrupts
        ("rpi4", 3, (1, 2, 3)),
        ("rpi4", 4, (0, 1, 2, 3)),
        ("rpi4", 9, (0, 1, 2, 3)),
        ("big-little", 1, (4,)),
        ("big-little", 2, (4, 5)),
        ("big-little", 3, (1, 4, 5)),
        ("agx-orin", 1, (1,)),
        ("x86-laptop", 1, (0,)),  # the only big core, though it has CPU 0
        ("x86-laptop", 2, (0, 2)),  # one hardware thread a core
        ("x86-laptop", 4, (0, 1, 2, 3)),
    ],
)
def test_auto_takes_the_fast_ones(tmp_path, board, threads, chosen):
    assert choose_cpus("auto", threads, tree(tmp_path, board)) == chosen


@pytest.mark.parametrize(
    ("board", "big"),
    [
        ("rpi4", (0, 1, 2, 3)),
        ("big-little", (4, 5)),
        ("x86-laptop", (0,)),
        ("thor", tuple(range(14))),
    ],
)
def test_big_cores(tmp_path, board, big):
    assert big_cpus(tree(tmp_path, board)) == big


def test_a_clock_tells_big_from_little_where_no_capacity_does(tmp_path):
    for cpu, kilohertz in enumerate((1800000, 1800000, 2400000)):
        put(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq", f"{kilohertz}\n")
    put(tmp_path, "sys/devices/system/cpu/online", "0-2\n")
    put(tmp_path, "proc/self/status", "Cpus_allowed_list:\t0-2\n")
    assert choose_cpus("auto", 1, tmp_path) == (2,)
    assert big_cpus(tmp_path) == (2,)


def test_a_cpu_that_is_off_is_not_chosen(tmp_path):
    root = tree(tmp_path, "agx-orin")  # allowed 0-11, of which 0-7 are on
    assert allowed_cpus(root) == big_cpus(root) == tuple(range(8))
    assert choose_cpus("auto", 12, root) == tuple(range(8))
    with pytest.raises(UsageError, match="CPU 8 is not for this process: it may use 0-7"):
        choose_cpus("8", 1, root)


def test_a_list_is_taken_as_it_is(tmp_path):
    root = tree(tmp_path, "rpi4")
    assert choose_cpus("3,1", 1, root) == (1, 3)
    assert choose_cpus("0-2", 1, root) == (0, 1, 2)
    assert choose_cpus("none", 4, root) == ()


@pytest.mark.parametrize(
    "text",
    ["", "fast", "0-", "-1", "3-1", "1;2", "0-99999999", "1,,2", "٣", "0x1", "1.5", "0-4095,"],
)
def test_what_is_no_list_is_refused(tmp_path, text):
    with pytest.raises(UsageError, match="give auto, none or a list such as 0-3,6"):
        choose_cpus(text, 1, tree(tmp_path, "rpi4"))


def test_lists_go_back_and_forth():
    assert parse_list(" 0-3,6\n") == (0, 1, 2, 3, 6)
    assert list_text((0, 1, 2, 3, 6)) == "0-3,6"
    assert list_text((5,)) == "5"
    assert list_text(()) == ""


def test_without_any_file_there_is_at_least_one(tmp_path):
    assert online_cpus(tmp_path)
    assert allowed_cpus(tmp_path) == online_cpus(tmp_path)
    assert len(choose_cpus("auto", 1, tmp_path)) == 1


def test_a_hostile_list_of_allowed_cpus_is_ignored(tmp_path):
    root = tree(tmp_path, "garbage")
    assert allowed_cpus(root) == online_cpus(root) == (0,)
