"""The training loop: one objective, one plan of batches, and a state after every step.

accelerate brings the model to its device, wraps it for several processes and scales gradients in
mixed precision. Everything that is drawn is seeded by the step (``seeding.py``), so that a run that
is killed at any moment and resumed ends with the same bits as one that was not.
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edgekit.errors import CheckpointError, EdgekitError, InputError, UsageError
from edgekit.optional import require
from edgekit.training.data.loading import Plan
from edgekit.training.metrics import Metrics
from edgekit.training.recipe import Recipe
from edgekit.training.run_folder import BEST, LAST, STATE, write_corrupt
from edgekit.training.schedule import rate
from edgekit.training.seeding import seed_step
from edgekit.training.state import (
    State,
    optimizer_tensors,
    read_state,
    restore_optimizer,
    write_state,
)

# (network, epoch) -> the figures of that epoch; the first of them decides which is best
Evaluate = Callable[[nn.Module], Mapping[str, float]]
Save = Callable[[nn.Module, Path], None]


class AnyBatch(Protocol):
    """What a step takes: images with classes, or whatever else an objective is fed."""

    @property
    def size(self) -> int:
        """Items in it."""

    @property
    def corrupt(self) -> tuple[str, ...]:
        """Name and reason of what could not be read."""

    def first(self, count: int) -> AnyBatch:
        """The first ``count`` of its items."""

    def inputs(self, on_batch: Sequence[Any], device: torch.device) -> tuple[Any, ...]:
        """Arguments of the objective, on ``device``."""


class Batches(Protocol):
    """Batches of this process for the steps ``first`` to ``last``, which is not among them."""

    def __call__(self, *, first: int, last: int) -> Iterator[AnyBatch]:
        """From wherever a run is."""


@dataclass(frozen=True)
class Job:
    """What a run does, whatever its objective.

    Attributes:
        recipe: of it.
        out: folder of the run.
        plan: which images a step takes.
        batches: from one step to another.
        on_batch: modules that turn what a batch holds into what the network is fed: for each kind
            of views, from uint8 to float.
        evaluate: figures of the network after an epoch.
        save: the network's weights into a file.
        progress: told how far it is.
        data: facts of the images that must not change while a run is resumed.
        name_of: an image, by its number.
        choose: whether the first figure decides which epoch is the best; else it is the last.
    """

    recipe: Recipe
    out: Path
    plan: Plan
    batches: Batches
    on_batch: Sequence[nn.Module]
    evaluate: Evaluate
    save: Save
    progress: Callable[[str], None]
    data: Mapping[str, Any] = field(default_factory=dict)
    name_of: Callable[[int], str] = str
    choose: bool = True


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        steps: that are done.
        best: the best figure, on held-out images; None where none chooses.
        figures: of the last epoch.
        corrupt: images that could not be read.
        interrupted: whether it was stopped before its end.
        is_main: whether this process is the one of several that speaks and writes.
    """

    steps: int
    best: float | None
    figures: Mapping[str, float] = field(default_factory=dict)
    corrupt: set[str] = field(default_factory=set)
    interrupted: bool = False
    is_main: bool = True


class Diverged(EdgekitError):  # noqa: N818  # what happened, in the field's word
    """A loss that is no number."""


def _forget_precision(state: Any, precision: str) -> None:
    """Of an earlier run in this process: accelerate has one for all of them."""
    kept = state.AcceleratorState._shared_state
    if kept and kept.get("_mixed_precision") != precision:
        state.AcceleratorState._reset_state()


_SHARDING = ("FSDP", "DEEPSPEED", "MEGATRON_LM")


def make_accelerator(recipe: Recipe) -> Any:
    """Accelerate's view of this process: its device, its rank, its precision.

    Raises:
        MissingDependencyError: accelerate is not installed.
        UsageError: no such precision here, or a way to distribute that a run cannot be saved with.
    """
    accelerate = require("accelerate", "training")
    _forget_precision(require("accelerate.state", "training"), recipe.precision)
    try:
        accelerator = accelerate.Accelerator(
            mixed_precision=recipe.precision, step_scheduler_with_optimizer=False
        )
    except ValueError as error:  # fp16 on a CPU
        raise UsageError(f"--precision {recipe.precision}: {error}") from error
    how = accelerator.distributed_type.value
    if how in _SHARDING:
        raise UsageError(
            f"accelerate is configured for {how}, which cuts a network into parts; those of the "
            "zoo fit whole, and a run saves them whole: use DDP (accelerate config)"
        )
    if accelerator.num_processes > 1:
        atexit.unregister(_leave_group)
        atexit.register(_leave_group)
    return accelerator


def _leave_group() -> None:
    """While Python still stands: gloo's threads abort a process that ends around them."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


_OPTIMIZERS: Mapping[str, Callable[[Any, Recipe], torch.optim.Optimizer]] = {
    "sgd": lambda parameters, recipe: torch.optim.SGD(
        parameters, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay
    ),
    "adamw": lambda parameters, recipe: torch.optim.AdamW(
        parameters, recipe.lr, weight_decay=recipe.weight_decay
    ),
}


def run_job(objective: nn.Module, network: nn.Module, job: Job, accelerator: Any) -> Outcome:
    """Train ``objective``, of which ``network`` is the part that is kept, from where ``job`` is.

    Args:
        objective: what a batch's ``inputs`` are -> loss; all that is trained, and all that it
            remembers.
        network: a part of it.
        job: see there; if its folder has a state, the run goes on from that.
        accelerator: of `make_accelerator`.

    Raises:
        Diverged: a loss or weights that are no numbers; names the step.
        UsageError: out of memory, or the state cannot be written.
    """
    return _Run(objective, network, job, accelerator).run()


class _Run:
    def __init__(
        self, objective: nn.Module, network: nn.Module, job: Job, accelerator: Any
    ) -> None:
        self.job, self.recipe, self.accelerator = job, job.recipe, accelerator
        self.steps = self.recipe.epochs * job.plan.steps
        trained = [p for p in objective.parameters() if p.requires_grad]
        optimizer = _OPTIMIZERS[self.recipe.optimizer](trained, self.recipe)
        self.network, self.bare = network, objective
        self.step, self.best, self.losses = 0, -1.0, (0.0, 0)
        self.objective, self.optimizer = accelerator.prepare(objective, optimizer)
        self.on_batch = [each.to(accelerator.device) for each in job.on_batch]
        self.average = _average(network, self.recipe.ema)
        if self.average is not None:
            self.average.to(accelerator.device)
        self.outcome = Outcome(0, -1.0, is_main=accelerator.is_main_process)
        job.progress(
            f"{len(trained)} tensors on {accelerator.device}, "
            f"{accelerator.num_processes} process{'es' * (accelerator.num_processes > 1)}"
        )
        self._restore()

    # -- state ---------------------------------------------------------------

    def _restore(self) -> None:
        path = self.job.out / STATE
        if not self._is_there(path):
            return
        state = read_state(path, self.recipe, self.job.data)
        try:
            self.bare.load_state_dict(state.group("objective"))
            restore_optimizer(self.optimizer, state.group("optimizer"))
            if self.average is not None:
                self.average.load_state_dict(state.group("average"))
        except (RuntimeError, ValueError, KeyError) as error:
            first = str(error).strip().partition("\n")[0]
            raise CheckpointError(f"{path} is not of this run: {first}") from error
        if state.scale is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(
                {**self.accelerator.scaler.state_dict(), "scale": state.scale}
            )
        self.step, self.best, self.losses = state.step, state.best, state.losses
        done = ": it is at its end" * (self.step == self.steps)
        self.job.progress(f"resume at step {self.step} of {self.steps}{done}")

    def _is_there(self, path: Path) -> bool:
        """Whether the run has a state; all processes must see the same."""
        seen = self._count(path.exists())
        if 0 < seen < self.accelerator.num_processes:
            raise UsageError(
                f"{path} is seen by {seen} of {self.accelerator.num_processes} processes: a run's "
                "folder must be on a disk that all machines share"
            )
        return bool(seen)

    def _count(self, flag: bool) -> int:
        """Of how many processes it is true."""
        if self.accelerator.num_processes == 1:
            return int(flag)
        each = torch.tensor([float(flag)], device=self.accelerator.device)
        return int(self.accelerator.reduce(each, "sum").item())

    def _tensors(self) -> dict[str, Tensor]:
        """All that a state holds.

        Raises:
            Diverged: values that are no numbers.
        """
        groups = {
            "objective": self.bare.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
            "average": self.average.state_dict() if self.average is not None else {},
        }
        tensors = {
            f"{group}.{key}": tensor
            for group, found in groups.items()
            for key, tensor in found.items()
        }
        lost = [key for key, tensor in tensors.items() if not bool(tensor.isfinite().all())]
        if lost:
            raise Diverged(
                f"{lost[0]} has values that are no numbers after step {self.step}: "
                f"{self._start_anew()}"
            )
        return tensors

    def _write(self) -> None:
        if not self.accelerator.is_main_process:
            return
        tensors = self._tensors()
        scaler = self.accelerator.scaler
        scale = float(scaler.get_scale()) if scaler is not None else None
        state = State(
            self.step, self.best, asdict(self.recipe), tensors, scale, self.job.data, self.losses
        )
        write_state(state, self.job.out / STATE)
        write_corrupt(self.job.out, self.outcome.corrupt)

    # -- loop ----------------------------------------------------------------

    def run(self) -> Outcome:
        """To the end, or to an interruption."""
        per_epoch = self.job.plan.steps
        metrics = Metrics(self.job.out, self.accelerator.is_main_process, self.step)
        saved = time.monotonic()
        with _exact(self.recipe.deterministic), _interruptible() as interrupted, closing(metrics):
            batches = self.job.batches(first=self.step, last=self.steps)
            clock = _Clock()
            for batch in batches:
                self._check_readable(batch)
                loss = self._one(batch)
                self.step += 1
                self.outcome.corrupt.update(batch.corrupt)
                clock.count(batch.size * self.accelerator.num_processes)
                self.losses = self.losses[0] + loss, self.losses[1] + 1
                ends = self.step % per_epoch == 0
                if ends:
                    self._end_of_epoch(metrics, clock)
                stop = self._any(interrupted)
                due = time.monotonic() - saved > self.recipe.save_minutes * 60
                if ends or stop or due:
                    self._write()
                    saved = time.monotonic()
                if clock.due() and not ends:
                    self.job.progress(self._line(clock))
                if stop and self.step < self.steps:
                    self.outcome.interrupted = True
                    break
        self.outcome.steps = self.step
        self.outcome.best = self.best if self.job.choose and self.best >= 0 else None
        return self.outcome

    def _one(self, batch: AnyBatch) -> float:
        """One step of the optimizer; the loss before it."""
        recipe, accelerator = self.recipe, self.accelerator
        seed_step(recipe.seed, self.step, accelerator.process_index)
        epoch = self.job.plan.steps
        share = rate(
            recipe.schedule,
            self.step,
            steps=self.steps,
            epoch=epoch,
            warmup=round(recipe.warmup_epochs * epoch),
            start=min(1.0, recipe.warmup_lr / recipe.lr),
        )
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * share
        self.objective.train()
        value = self._if_it_fits(batch)
        if value is None:
            raise UsageError(self._too_large(batch))
        if recipe.clip_norm:
            accelerator.clip_grad_norm_(self.objective.parameters(), recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.network)
        return value

    def _gradients(self, batch: AnyBatch) -> float:
        """Forward and backward; the loss."""
        inputs = batch.inputs(self.on_batch, self.accelerator.device)
        with self.accelerator.autocast():
            loss: Tensor = self.objective(*inputs)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Diverged(self._diverged(value))
        self.accelerator.backward(loss)
        return value

    def _check_readable(self, batch: AnyBatch) -> None:
        if batch.corrupt and self.recipe.on_corrupt == "fail":
            raise InputError(f"{batch.corrupt[0]} (--on-corrupt skip trains without it)")

    def _if_it_fits(self, batch: AnyBatch) -> float | None:
        """The loss, or None where memory is too small; its contents are let go of by then."""
        try:
            return self._gradients(batch)
        except RuntimeError as error:  # of torch, out of memory among others
            if not _out_of_memory(error):
                raise
            return None

    def _too_large(self, batch: AnyBatch) -> str:
        """Which batch would fit, found by trying halves of this one."""
        device, share = self.accelerator.device, batch.size // 2
        if self.accelerator.num_processes > 1:  # the others wait for gradients of the whole batch
            return f"a batch of {self.recipe.batch_size} needs more memory than {device} has"
        queue = getattr(self.recipe, "queue", 0)
        while share >= 2:
            self.optimizer.zero_grad(set_to_none=True)
            if queue % share == 0 and self._if_it_fits(batch.first(share)) is not None:
                return self._use(share)
            share //= 2
        return (
            f"not even two images fit into the memory of {device}: use a smaller --imgsz or network"
        )

    def _use(self, size: int) -> str:
        recipe = self.recipe
        lr = recipe.lr * size / recipe.batch_size
        return (
            f"a batch of {recipe.batch_size} needs more memory than {self.accelerator.device} has; "
            f"{size} fits: use --batch-size {size}, with --lr {lr:g}"
        )

    def _diverged(self, value: float) -> str:
        plan = self.job.plan
        ((index, _), *_) = next(plan.from_step(self.step, self.step + 1))
        return (
            f"the loss of step {self.step + 1} (epoch {self.step // plan.steps + 1}, batch "
            f"{self.step % plan.steps + 1}, whose first image is {self.job.name_of(index)}) is "
            f"{value}: {self._start_anew()}"
        )

    def _start_anew(self) -> str:
        return "start anew with --force and a lower --lr, --warmup-epochs or --clip-norm"

    def _any(self, interrupted: Callable[[], bool]) -> bool:
        """Whether any process is to stop: all stop together, or one would wait for ever."""
        return self._count(interrupted()) > 0

    # -- epochs --------------------------------------------------------------

    def _end_of_epoch(self, metrics: Metrics, clock: _Clock) -> None:
        kept = self.average.module if self.average is not None else self.network
        figures: dict[str, float] = {}
        loss, images_per_s = self._over_processes()["loss"], clock.images_per_s()
        if self.accelerator.is_main_process:
            self._tensors()  # weights that are no numbers must not replace good ones
            figures = dict(self.job.evaluate(kept))
            epoch = self.step // self.job.plan.steps
            seen = {"loss": loss, "images_per_s": images_per_s}
            metrics.write(self.step, {"epoch": epoch, **seen, **figures})
            self.job.save(kept, self.job.out / LAST)
            first = next(iter(figures.values()), 0.0)
            if first > self.best or not self.job.choose:
                self.best = first
                self.job.save(kept, self.job.out / BEST)
            shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
            self.job.progress(
                f"epoch {epoch} of {self.recipe.epochs}: loss {loss:.4f}, {shown}, "
                f"{images_per_s:.0f} images/s, {clock.left(self.step, self.steps)} left"
            )
        self.outcome.figures = figures
        clock.new_epoch()
        self.losses = 0.0, 0
        self.accelerator.wait_for_everyone()

    def _over_processes(self) -> dict[str, float]:
        """The mean loss of all, and in the outcome the corrupt images of all."""
        loss, corrupt = self._mean_loss(), sorted(self.outcome.corrupt)
        if self.accelerator.num_processes == 1:
            return {"loss": loss}
        gather = require("accelerate.utils", "training").gather_object
        found = gather([(loss, corrupt)])
        self.outcome.corrupt.update(name for _, names in found for name in names)
        return {"loss": sum(each for each, _ in found) / len(found)}

    def _line(self, clock: _Clock) -> str:
        return (
            f"step {self.step} of {self.steps}: loss {self._mean_loss():.4f}, "
            f"{clock.images_per_s():.0f} images/s, {clock.left(self.step, self.steps)} left"
        )

    def _mean_loss(self) -> float:
        """Of this epoch."""
        return self.losses[0] / max(1, self.losses[1])


def _out_of_memory(error: RuntimeError) -> bool:
    """Of a GPU, which has a type for it, or of a CPU, which has not."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _average(network: nn.Module, decay: float) -> AveragedModel | None:
    if not decay:
        return None
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)


class _Clock:
    """Images a second of an epoch, and when to say so again."""

    _EVERY_S = 10.0

    def __init__(self) -> None:
        self.start = self.said = time.monotonic()
        self.done = 0
        self.new_epoch()

    def new_epoch(self) -> None:
        self.epoch_start, self.images = time.monotonic(), 0

    def count(self, images: int) -> None:
        self.images += images
        self.done += 1

    def images_per_s(self) -> float:
        return self.images / max(1e-9, time.monotonic() - self.epoch_start)

    def left(self, step: int, steps: int) -> str:
        seconds = (time.monotonic() - self.start) / max(1, self.done) * (steps - step)
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes}:{rest:02d}"

    def due(self) -> bool:
        if time.monotonic() - self.said < self._EVERY_S:
            return False
        self.said = time.monotonic()
        return True


@contextmanager
def _exact(deterministic: bool) -> Iterator[None]:
    """Only operators that give the same bits each time, while it lasts."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM are noticed between steps, where the state is whole; twice is at once."""
    caught: list[int] = []

    def note(number: int, _frame: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, which has the signals
        before = {}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
