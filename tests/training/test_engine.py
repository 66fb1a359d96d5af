"""The loop: what is learnt, what is kept, and what a killed run loses: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgekit.errors import CheckpointError, UsageError
from edgekit.training import engine
from edgekit.training.engine import Diverged
from edgekit.training.run_folder import BEST, LAST, METRICS, STATE, check_folder
from edgekit.training.state import read_state, write_state
from tests.training.small import RECIPE, bits, run

STEPS = 2 * (1437 // 256)
EVERY_STEP = replace(RECIPE, save_minutes=0.0)


Whole = tuple[Path, dict[str, object]]


def kept(out: Path) -> dict[str, object]:
    """What a run leaves: averaged weights, that is, which nothing is trained with."""
    return {
        f"{name} {key}": value.numpy().tobytes()
        for name in (BEST, LAST)
        for key, value in load_file(out / name).items()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    network, outcome = run(out)
    assert (outcome.steps, outcome.interrupted) == (STEPS, False)
    assert kept(out)["last.safetensors head.weight"] != bits(network)["head.weight"]
    return out, bits(network) | kept(out)


def test_a_run_leaves_its_figures_and_its_weights(whole: Whole) -> None:
    out, _ = whole
    lines = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
    assert [(line["step"], line["epoch"]) for line in lines] == [(5, 1), (10, 2)]
    assert all(line["loss"] > 0 and line["images_per_s"] > 0 for line in lines)
    assert {"best.safetensors", "last.safetensors", STATE, "events"} <= set(os.listdir(out))
    assert lines[1]["loss"] < lines[0]["loss"]


def test_the_same_recipe_gives_the_same_bits(whole: Whole, tmp_path: Path) -> None:
    torch.manual_seed(99)
    network, _ = run(tmp_path)
    assert bits(network) | kept(tmp_path) == whole[1]
    other, _ = run(tmp_path / "other", replace(RECIPE, seed=1))
    assert bits(other)["head.weight"] != whole[1]["head.weight"]


class Killed(BaseException):
    """In the place of a SIGKILL, which no code sees."""


@pytest.mark.parametrize("step", range(1, STEPS))
def test_stopped_at_any_step_and_resumed_gives_the_same_bits(
    whole: Whole, tmp_path: Path, step: int
) -> None:
    def stop(done: int) -> None:
        if done == step:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, EVERY_STEP, after_step=stop)
    network, outcome = run(tmp_path, EVERY_STEP)
    assert bits(network) | kept(tmp_path) == whole[1]
    assert outcome.steps == STEPS
    assert losses(tmp_path) == losses(whole[0]), "an epoch's loss is of all of it"


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / METRICS).read_text().splitlines()]


@pytest.mark.parametrize("seen", [1, 3])
def test_a_state_that_some_machines_do_not_see(
    tmp_path: Path, seen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, replace(RECIPE, epochs=1))
    monkeypatch.setattr(engine._Run, "_count", lambda self, flag: seen)
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 4)
    with pytest.raises(UsageError, match=f"is seen by {seen} of 4 processes: a run"):
        run(tmp_path, replace(RECIPE, epochs=1))


def test_killed_by_the_system_and_resumed_gives_the_same_bits(whole: Whole, tmp_path: Path) -> None:
    """After the first epoch, in its second: the work since the last state is done again."""
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.training.small", str(tmp_path), "all"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "8":
            break
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert read_state(tmp_path / STATE, RECIPE, {}).step == 5
    assert bits(run(tmp_path)[0]) | kept(tmp_path) == whole[1]
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_saves_and_says_so(
    whole: Whole, tmp_path: Path, number: signal.Signals
) -> None:
    def interrupt(done: int) -> None:
        if done == 3:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    _, outcome = run(tmp_path, after_step=interrupt)
    assert (outcome.interrupted, outcome.steps) == (True, 4)
    assert signal.getsignal(number) == before
    assert bits(run(tmp_path)[0]) | kept(tmp_path) == whole[1]


class Poisoned(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.calls = network, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y: Tensor = self.network(x)
        return y * float("nan") if self.calls == 7 else y


def test_a_loss_that_is_no_number_names_the_step_and_the_batch(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"step 7 \(epoch 2, batch 2, .* image is \d+\) is nan"):
        run(tmp_path, wrap=Poisoned)
    assert read_state(tmp_path / STATE, RECIPE, {}).step == 5


class Large(nn.Module):
    """Has room for so many images."""

    def __init__(self, network: nn.Module, room: int, error: RuntimeError) -> None:
        super().__init__()
        self.network, self.room, self.error = network, room, error

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            raise self.error
        y: Tensor = self.network(x)
        return y


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
@pytest.mark.parametrize(
    ("room", "says"), [(70, "64 fits: use --batch-size 64, with --lr 0.0125"), (1, "not even two")]
)
def test_out_of_memory_says_what_would_fit(
    tmp_path: Path, error: RuntimeError, room: int, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        run(tmp_path, wrap=lambda network: Large(network, room, error))


def test_other_errors_of_torch_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        run(tmp_path, wrap=lambda network: Large(network, 0, RuntimeError("shapes")))


def test_progress_says_what_is_left(tmp_path: Path) -> None:
    said: list[str] = []
    run(tmp_path, said=said)
    assert any("epoch 1 of 2: loss" in line and "images/s" in line for line in said)
    assert said[-1].endswith("0:00 left")


@pytest.mark.parametrize(
    ("change", "says"), [({"lr": 0.1}, "lr 0.05"), ({"batch_size": 128}, "batch_size 256")]
)
def test_another_recipe_does_not_go_on(tmp_path: Path, change: dict[str, float], says: str) -> None:
    run(tmp_path, replace(RECIPE, epochs=1))
    with pytest.raises(UsageError, match=f"was trained with {says}, and now it is"):
        run(tmp_path, replace(RECIPE, epochs=1, **change))  # type: ignore[arg-type]
    run(tmp_path, replace(RECIPE, epochs=1, workers=3, save_minutes=1.0))


@pytest.mark.parametrize(
    "facts",
    [None, {}, {"edgekit.training": "{"}, {"edgekit.training": "{}"}, {"edgekit.training": "[1]"},
     {"edgekit.training": '{"version": 2}'}],
)  # fmt: skip
def test_a_damaged_state_is_refused(tmp_path: Path, facts: dict[str, str] | None) -> None:
    (tmp_path / STATE).write_bytes(b"nothing")
    if facts is not None:
        save_file({"a": torch.zeros(1)}, tmp_path / STATE, metadata=facts)
    with pytest.raises(CheckpointError, match=r"is not the state of a run"):
        run(tmp_path)


def test_a_state_of_another_network_is_refused(tmp_path: Path) -> None:
    run(tmp_path, replace(RECIPE, epochs=1))
    state = read_state(tmp_path / STATE, replace(RECIPE, epochs=1), {})
    for change in ({"objective.more": torch.zeros(1)}, {"optimizer.x.y": torch.zeros(1)}):
        write_state(replace(state, tensors={**state.tensors, **change}), tmp_path / STATE)
        with pytest.raises(CheckpointError, match="is not of this run"):
            run(tmp_path, replace(RECIPE, epochs=1))


def test_other_images_do_not_go_on(tmp_path: Path) -> None:
    run(tmp_path, replace(RECIPE, epochs=1))
    state = read_state(tmp_path / STATE, replace(RECIPE, epochs=1), {})
    write_state(replace(state, data={"images": 7, "labels": ["a"]}), tmp_path / STATE)
    with pytest.raises(UsageError, match="trained on other images, images 7 and now 8"):
        read_state(tmp_path / STATE, replace(RECIPE, epochs=1), {"images": 8, "labels": ["a"]})
    read_state(tmp_path / STATE, replace(RECIPE, epochs=1), {"images": 7, "labels": ["a"]})


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    def poison(network: nn.Module) -> nn.Module:
        next(network.parameters()).register_hook(lambda grad: grad * float("nan"))
        return network

    with pytest.raises(Diverged, match="has values that are no numbers after step"):
        run(tmp_path, EVERY_STEP, wrap=poison)
    assert not (tmp_path / STATE).exists()


def test_weights_that_are_no_numbers_replace_no_good_ones(tmp_path: Path) -> None:
    run(tmp_path, replace(RECIPE, epochs=1))
    before = (tmp_path / LAST).read_bytes()
    network: list[nn.Module] = []

    def keep(one: nn.Module) -> nn.Module:
        network.append(one)
        return one

    def spoil(done: int) -> None:
        if done == STEPS // 2 - 1:  # before the last step of the epoch
            hook = next(network[0].parameters()).register_hook(lambda g: g * float("nan"))
            hooks.append(hook)

    hooks: list[Any] = []
    (tmp_path / STATE).unlink()  # so that it begins again
    with pytest.raises(engine.Diverged, match="no numbers"):
        run(tmp_path, replace(RECIPE, epochs=1), after_step=spoil, wrap=keep)
    assert hooks
    assert (tmp_path / LAST).read_bytes() == before


def test_another_precision_in_the_same_process() -> None:
    for precision in ("bf16", "no", "bf16"):
        found = engine.make_accelerator(replace(RECIPE, precision=precision))
        assert found.mixed_precision == precision


def test_a_full_disk_keeps_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, replace(RECIPE, epochs=1))
    before = (tmp_path / STATE).read_bytes()
    state = read_state(tmp_path / STATE, replace(RECIPE, epochs=1), {})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(UsageError, match="No space left on device; what was there before"):
        write_state(state, tmp_path / STATE)
    assert (tmp_path / STATE).read_bytes() == before
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_two_runs_are_not_mixed(tmp_path: Path) -> None:
    check_folder(tmp_path / "new", resume=False, force=False)
    (tmp_path / "recipe.toml").touch()
    with pytest.raises(UsageError, match=r"holds a run: --resume .* --force"):
        check_folder(tmp_path, resume=False, force=False)
    check_folder(tmp_path, resume=True, force=False)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file; a run is a folder"):
        check_folder(tmp_path / "file", resume=False, force=False)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_optimizer_resumes(tmp_path: Path, optimizer: str) -> None:
    recipe = replace(EVERY_STEP, optimizer=optimizer, epochs=1, ema=0.0)
    wanted = bits(run(tmp_path / "whole", recipe)[0])

    def stop(done: int) -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "cut", recipe, after_step=stop)
    assert bits(run(tmp_path / "cut", recipe)[0]) == wanted


def test_a_network_is_not_cut_into_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerate = pytest.importorskip("accelerate")
    fsdp = accelerate.DistributedType.FSDP
    monkeypatch.setattr("accelerate.Accelerator.distributed_type", fsdp)
    with pytest.raises(UsageError, match="configured for FSDP, which cuts .*: use DDP"):
        engine.make_accelerator(RECIPE)


def test_the_clock_counts_from_the_first_step() -> None:
    clock = engine._Clock()
    clock.count(10)
    clock.count(10)
    assert (clock.images, clock.done) == (20, 2)
    assert clock.images_per_s() > 0
    assert clock.left(2, 2) == "0:00"
