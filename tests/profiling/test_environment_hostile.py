"""Whatever the files of a board say, reading them raises nothing and fits the schema."""

import json
import random
import shutil

import pytest

from edgekit.bundle import schema
from edgekit.profiling.environment import big_cpus, choose_cpus, notes, read_machine, read_state
from edgekit.profiling.power import power_reader
from edgekit.profiling.result import Machine, State
from edgekit.profiling.sensors import clock_reader, heat_reader
from tests.profiling.board_trees import NAMES, tree


def garbled(data, rng):
    """What a broken driver, or somebody unkind, may put there instead."""
    kinds = (
        lambda: b"",
        lambda: data[: rng.randrange(len(data) + 1)],
        lambda: rng.randbytes(200),
        lambda: data.replace(b"0", str(10 ** rng.randrange(400)).encode()),
        lambda: data * 200,
        lambda: b"-" + data,
        lambda: data.replace(b"\n", b"\r\x1b[2J\n"),
        lambda: b"nan inf 1e999 0x7f " + "٣４²".encode(),
    )
    return rng.choice(kinds)()


def garble(root, seed):
    rng = random.Random(seed)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for path in files:
        if rng.random() < 0.5:
            path.write_bytes(garbled(path.read_bytes(), rng))
        elif rng.random() < 0.05:
            path.unlink()
            path.mkdir()  # cannot be read, even by root
    folders = sorted(path for path in root.rglob("*") if path.is_dir())
    for path in folders:
        if path.exists() and rng.random() < 0.02:
            shutil.rmtree(path)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_any_board_with_anything_in_its_files(tmp_path, name, seed):
    root = tree(tmp_path, name)
    garble(root, f"{name} {seed}")
    machine, state = read_machine(root), read_state(root)
    for kind, value in ((Machine, machine), (State, state)):
        assert schema.decode(kind, json.loads(json.dumps(schema.encode(value)))) == value
    for sentence in notes(machine, state, read_state(root)):
        assert sentence.isprintable()
    assert choose_cpus("auto", 1, root)
    assert big_cpus(root)
    for reader in (power_reader(root), clock_reader((0,), root), heat_reader(root)):
        figure = reader()
        assert figure is None or figure < 1e15
