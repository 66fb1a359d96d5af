"""Networks of the zoo as training wants them: with a projection, without a head, as a teacher."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit.errors import CheckpointError, NoHeadError, UsageError
from edgekit.models.building import CreatedModel, create_variant
from edgekit.models.checkpoint import build_network, read_recorded, variant_shapes
from edgekit.models.naming import tables
from edgekit.models.zoo import Variant, get_teacher
from edgekit.training.run_folder import weights_of


def head_of(variant: Variant) -> str:
    """Name of the submodule that is the head."""
    return tables(variant.family, variant_shapes(variant))[0].own_head


def without_head(network: nn.Module, variant: Variant) -> nn.Module:
    """A copy that answers what its head would be given, (B, D)."""
    body = copy.deepcopy(network)
    body.set_submodule(head_of(variant), nn.Identity())
    return body


def fresh(
    variant: Variant, outputs: int, size: int, seed: int, *, head: str | None = None
) -> nn.Module:
    """As its authors begin to train it.

    Raises:
        UsageError: it cannot have such a head.
    """
    if head not in (None, *variant.heads):
        raise UsageError(f"{variant.id} has no {head} head: {', '.join(variant.heads)} only")
    torch.manual_seed(seed)
    return build_network(variant, outputs, size, head)


class Renormalised(nn.Module):
    """A network that is fed images which were prepared for another one.

    Args:
        network: which was trained on images normalised as ``to`` wants it.
        of: whose mean and standard deviation the images have.
        to: its own row.
    """

    def __init__(self, network: nn.Module, *, of: Variant, to: Variant) -> None:
        super().__init__()
        self.network = network
        mean, std, own_mean, own_std = (
            torch.tensor(each).view(1, 3, 1, 1) for each in (of.mean, of.std, to.mean, to.std)
        )
        self.register_buffer("scale", std / own_std)
        self.register_buffer("offset", (mean - own_mean) / own_std)

    scale: Tensor
    offset: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> what the network answers."""
        answer: Tensor = self.network(images * self.scale + self.offset)
        return answer


@dataclass(frozen=True)
class Teacher:
    """A trained network that will not be trained on.

    Attributes:
        embedding: (B, 3, S, S) -> (B, width).
        width: numbers of an embedding.
        variant: its row.
        sha256: of its weights.
        what: the embedding is, for progress.
    """

    embedding: nn.Module
    width: int
    variant: Variant
    sha256: str
    what: str


def load_teacher(spec: str, model_id: str, size: int) -> Teacher:
    """The embedding of a projection head, else the features before the head, whatever that is.

    Args:
        spec: weights, see `edgekit.models.weights`; ``FILE#PART`` for a part, or a run.
        model_id: the network, of the zoo or a teacher's; "" where the file says it itself.
        size: pixels of the images.

    Raises:
        UsageError: a file that does not say of which network it is, and no ``model_id``.
        CheckpointError: the weights do not fit, or are random.
    """
    spec = str(weights_of(Path(spec))) if "://" not in spec else spec
    if not model_id:
        file = Path(spec.rpartition("#")[0] or spec)
        if not file.exists() and "://" not in spec:
            raise CheckpointError(f"--teacher {spec}: no such file")
        model_id = read_recorded(file).variant if file.is_file() else ""
    if not model_id:
        raise UsageError(
            f"--teacher {spec} does not say of which network it is: add --teacher-model ID"
        )
    row = get_teacher(model_id)
    try:
        created = create_variant(row, spec, image_size=size, any_width=True)
    except NoHeadError:
        return _teacher(create_variant(row, spec, image_size=size, drop_head=True), projects=False)
    except CheckpointError as error:
        # Whoever reads a file takes it for the weights of what is to be exported.
        said = str(error).replace("--weights ", "--teacher ").partition(": use --drop-head")[0]
        raise CheckpointError(said) from error
    if created.weights.random:
        raise CheckpointError(f"--teacher {spec}: {created.weights.why or created.weights.note}.")
    return _teacher(created, projects=created.task == "embedding")


def _teacher(created: CreatedModel, *, projects: bool) -> Teacher:
    body = created.module if projects else without_head(created.module, created.variant).eval()
    size = created.image_size
    with torch.no_grad():
        width = body(torch.zeros(1, 3, size, size)).shape[1]
    kind = "projection" if projects else "features before its head"
    what = f"{created.variant.id}'s {kind}, {width} numbers"
    return Teacher(body, width, created.variant, created.weights.sha256, what)
