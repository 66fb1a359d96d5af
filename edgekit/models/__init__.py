"""The zoo: networks, where their weights come from, and published facts about them.

    variant.py      what a row of the zoo is
    rows/           the rows, torch-free, one family a file
    zoo.py          VARIANTS, all of them
    labels.py       class names of a row
    building.py     a row -> a network in eval mode, with weights
    weights.py      auto | FILE | URL | hf://owner/repo/file | official | random -> a local file
    download.py     one file over http, with limits on everything
    checkpoint.py   a file -> tensors -> a network, strictly
    naming.py       what torchvision, timm and SEED call the same tensors
    fitting.py      which names, flavour and head a file has, and whether they are the row's
    random_init.py  seeded weights that keep every layer alive, for latency work
    sizes.py        what the networks below share: possible sizes, widths
    padding.py      TensorFlow's "same" padding
    heads.py        last layers: linear, projection
    micronet.py  dcd.py  mobilenetv2.py  mobilenetv3.py  efficientnet.py  resnet.py

Importing this package imports neither torch nor any network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.models.building import CreatedModel, create
    from edgekit.models.zoo import VARIANTS, Variant, get_variant, list_models

__all__ = ["VARIANTS", "CreatedModel", "Variant", "create", "get_variant", "list_models"]

_ROOMS = {"create": "building", "CreatedModel": "building"}


def __getattr__(name: str) -> object:
    """Import a name when it is first asked for: a row costs nothing, a network costs torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_ROOMS.get(name, 'zoo')}"), name)
