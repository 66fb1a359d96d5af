"""The zoo: networks, where their weights come from, and published facts about them.

    zoo.py          VARIANTS, one torch-free row per network
    labels.py       class names of a row
    building.py     a row -> a network in eval mode, with weights
    weights.py      auto | FILE | URL | hf://owner/repo/file | official | random -> a local file
    download.py     one file over http, with limits on everything
    checkpoint.py   a file -> tensors -> a network, strictly
    random_init.py  seeded weights that keep every layer alive, for latency work
    sizes.py        what the networks below share: possible sizes, widths
    micronet.py     MicroNet
    mobilenetv2.py  MobileNetV2
    mobilenetv3.py  MobileNetV3

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
