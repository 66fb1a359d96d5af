"""All that a run needs to go on, in one .safetensors file: tensors, and facts as JSON beside them.

Nothing in it is code, and a file is replaced as a whole: after a crash at any moment there is the
state before or the state after, never a mixture. Learning rates, orders and draws are functions of
the step and are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekit.errors import CheckpointError, UsageError
from edgekit.optional import require
from edgekit.training.recipe import Recipe
from edgekit.training.run_folder import written

_FACTS = "edgekit.training"
_VERSION = 2
_GROUPS = ("objective", "average", "optimizer")


@dataclass(frozen=True)
class State:
    """Where a run is.

    Attributes:
        step: steps that are done.
        best: best figure so far, and -1 before the first.
        recipe: of the run.
        tensors: of the groups objective, average and optimizer, ``GROUP.key``.
        scale: of the gradients in fp16.
        data: facts of the images.
        losses: of the steps of this epoch that are done, summed, and how many they are.
    """

    step: int
    best: float
    recipe: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    scale: float | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    losses: tuple[float, int] = (0.0, 0)

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors of one group, by their own keys."""
        prefix = f"{name}."
        return {
            key.removeprefix(prefix): tensor
            for key, tensor in self.tensors.items()
            if key.startswith(prefix)
        }


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimizer remembers, ``NUMBER.name``; numbers become tensors."""
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, facts in optimizer.state_dict()["state"].items()
        for name, value in facts.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer what another one of the same kind remembered."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def write_state(state: State, path: Path) -> None:
    """Replace ``path`` at once.

    Raises:
        UsageError: it cannot be written; what was there is still there.
    """
    save_file = require("safetensors.torch", "writing the state of a run").save_file
    facts = {
        "version": _VERSION,
        "step": state.step,
        "best": state.best,
        "scale": state.scale,
        "recipe": dict(state.recipe),
        "data": dict(state.data),
        "losses": list(state.losses),
    }
    # One memory may be under two names, and a file holds each once.
    tensors = {key: tensor.detach().cpu().clone() for key, tensor in state.tensors.items()}
    with written(path) as temporary:
        save_file(tensors, temporary, metadata={_FACTS: json.dumps(facts)})


def read_state(path: Path, recipe: Recipe, data: Mapping[str, Any]) -> State:
    """The state of a run of the same recipe.

    Raises:
        CheckpointError: damaged, or no state.
        UsageError: of another recipe, or of other images.
    """
    safetensors = require("safetensors", "reading the state of a run")
    try:
        with safetensors.safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})[_FACTS])
            if facts["version"] != _VERSION:
                raise ValueError(f"it is of version {facts['version']}, this is {_VERSION}")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        state = State(
            int(facts["step"]),
            float(facts["best"]),
            dict(facts["recipe"]),
            tensors,
            facts["scale"],
            dict(facts["data"]),
            (float(facts["losses"][0]), int(facts["losses"][1])),
        )
    # safetensors' errors are of a compiled type that is no public class.
    except Exception as error:
        raise CheckpointError(f"{path} is not the state of a run: {error}") from error
    wanted = asdict(recipe)
    differ = [name for name in wanted if wanted[name] != state.recipe.get(name, wanted[name])]
    differ = [name for name in differ if name not in _FREE]
    if differ:
        name = differ[0]
        raise UsageError(
            f"{path.parent} was trained with {name} {state.recipe[name]!r}, and now it is "
            f"{wanted[name]!r}: resume with the same recipe, or train into another folder"
        )
    for name, value in data.items():
        if state.data.get(name) != value:
            what = _OF_WHAT.get(name, "on other images")
            raise UsageError(
                f"{path.parent} was trained {what}, {name} {_short(state.data.get(name))} and now "
                f"{_short(value)}: bring back what there was, or train into another folder"
            )
    return state


def _short(value: object) -> str:
    return str(value)[:60]


_OF_WHAT = {"teacher": "by another teacher"}
# What does not change the weights.
_FREE = frozenset({"workers", "save_minutes", "on_corrupt"})
