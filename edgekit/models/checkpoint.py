"""From a checkpoint file to tensors, and from tensors into a network: strictly.

    .pth .pt .pth.tar   ``torch.load(weights_only=True)``: tensors are read, code is not run
    .safetensors        ``safetensors``

The format is recognised by content, not by name. Nesting in ``state_dict`` and the prefix
``module.`` are unwrapped; after that keys and shapes must be exactly the network's, and every
value finite. Everything that is wrong is one `CheckpointError` that names the file.
"""

from __future__ import annotations

import argparse
import codecs
import importlib
import re
import stat
import textwrap
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.errors import CheckpointError
from edgekit.models.zoo import VARIANTS, Variant
from edgekit.optional import require

MAX_BYTES = 4 << 30  # far above any network for an edge device

Shapes = Mapping[str, tuple[int, ...]]

# ---------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint by state-dict key, unwrapped, on the CPU.

    Raises:
        CheckpointError: missing, not a file, empty, huge, damaged, no checkpoint at all, a
            pickle with code, or not a state dict.
    """
    check_file(path)
    content = _reader(path)(path)
    return _unwrap(content, path)


def check_file(path: Path) -> None:
    """Refuse what cannot be a checkpoint before a byte of it is read.

    Raises:
        CheckpointError: missing, a folder or a device, empty, or huge.
    """
    with _readable(path):
        kind = path.stat().st_mode
        size = path.stat().st_size
    if not stat.S_ISREG(kind):
        what = "a folder" if stat.S_ISDIR(kind) else "no regular file"
        raise CheckpointError(f"{path} is {what}; a checkpoint file is needed.")
    if size == 0:
        raise CheckpointError(f"{path.name} is empty.")
    if size > MAX_BYTES:
        raise CheckpointError(
            f"{path.name} has {size:,} bytes; checkpoints of at most {MAX_BYTES:,} are read."
        )


def _reader(path: Path) -> Callable[[Path], object]:
    """By the first bytes: a zip, a pickle, or a safetensors header."""
    with _readable(path), path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"PK\x03\x04") or re.match(rb"\x80[\x02-\x05]", head):
        return _read_torch
    if len(head) > 8 and head[8:9] == b"{":
        return _read_safetensors
    raise CheckpointError(
        f"{path.name} is not a checkpoint: it starts with {head[:12]!r}. Expected is a file "
        "written by torch.save (.pth, .pt) or a .safetensors file."
    )


def _read_torch(path: Path) -> object:
    if zipfile.is_zipfile(path):
        _check_zip(path)
    try:
        with torch.serialization.safe_globals(_harmless()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on formats that lead to an error of ours, or work
            return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged pickle raises anything, from EOFError to AttributeError.
    except Exception as error:
        raise _unreadable(path, str(error)) from error


def _check_zip(path: Path) -> None:
    """Stored tensors are not compressed, so a zip much larger inside is a bomb.

    Checksums are compared here because torch does not: a flipped bit would be a silent weight.
    """
    with _readable(path), zipfile.ZipFile(path) as archive:
        inside = sum(item.file_size for item in archive.infolist())
        if inside > MAX_BYTES:
            raise CheckpointError(
                f"{path.name} unpacks to {inside:,} bytes; at most {MAX_BYTES:,} are read."
            )
        broken = archive.testzip()
    if broken is not None:
        raise CheckpointError(
            f"{path.name} is damaged: the checksum of {broken!r} in it differs. Fetch it again."
        )


def _unreadable(path: Path, message: str) -> CheckpointError:
    blocked = re.search(r"GLOBAL ([\w.]+)", message)
    if blocked:
        return CheckpointError(
            f"{path.name} contains code ({blocked.group(1)}) and was not executed. Ask for a file "
            "with tensors only, or for .safetensors."
        )
    if "TorchScript" in message:
        return CheckpointError(
            f"{path.name} is a TorchScript program, not a checkpoint; a state dict is needed."
        )
    if "Weights only load failed" in message:
        return CheckpointError(
            f"{path.name} is damaged, or holds something other than tensors; nothing in it was "
            "executed. Ask for a file with tensors only, or for .safetensors."
        )
    first = textwrap.shorten(message.strip().split("\n")[0], 120, placeholder=" ...")
    return CheckpointError(
        f"{path.name} is damaged, cut short or no checkpoint ({first}): fetch it again."
    )


def _harmless() -> list[Any]:
    """What training scripts leave beside the tensors and what runs no code of the file's."""
    scalar = np.float64(0).__reduce__()[0]  # numpy's own, by another path in numpy 1 and 2
    return [
        argparse.Namespace,
        np.dtype,
        *(type(np.dtype(code)) for code in "efdilqb?"),
        *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
        (codecs.encode, "_codecs.encode"),
    ]


def _read_safetensors(path: Path) -> object:
    safetensors = require("safetensors.torch", "reading .safetensors")
    try:
        return safetensors.load_file(path)
    # Its errors are of a compiled type that is no public class.
    except Exception as error:
        raise _unreadable(path, str(error)) from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """OSError and BadZipFile as CheckpointError."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}.") from error
    except zipfile.BadZipFile as error:
        raise _unreadable(path, str(error)) from error


def _unwrap(content: object, path: Path) -> dict[str, Tensor]:
    """State dict out of ``{"state_dict": ...}`` and out of DataParallel's ``module.``."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{path.name} holds a {type(content).__name__}, not the tensors of a state dict."
        )
    odd = [str(key) for key, value in content.items() if not _is_plain(key, value)]
    if odd:
        raise CheckpointError(
            f"{path.name} is not a state dict: {_some(odd)} hold no dense tensor. A state dict, "
            "bare or under the key 'state_dict', is needed."
        )
    prefix = "module." if all(key.startswith("module.") for key in content) else ""
    return {key[len(prefix) :]: value.detach() for key, value in content.items()}


def _is_plain(key: object, value: object) -> bool:
    return (
        isinstance(key, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


# ---------------------------------------------------------------------------
# Loading
# ---------------------------------------------------------------------------


def load_strict(module: nn.Module, state: Mapping[str, Tensor], source: str) -> tuple[str, ...]:
    """Copy ``state`` into ``module``; returns what the user should know about it.

    Args:
        module: any network.
        state: as `read_checkpoint` returns it.
        source: named in errors, e.g. the file's name.

    Raises:
        CheckpointError: keys or shapes are not exactly the network's (suggests the network of
            the zoo that they are of), a type that cannot be converted, NaN or infinity.
    """
    own = module.state_dict()
    _check_fit(_shapes(own), _shapes(state), source)
    converted = {key: _converted(state[key], own[key], key, source) for key in own}
    _check_values(converted, source)
    module.load_state_dict(converted, strict=True)
    kinds = sorted({str(state[key].dtype) for key in own if state[key].dtype != own[key].dtype})
    return tuple(f"{source}: {kind} converted to the network's own type" for kind in kinds)


def _check_fit(expected: Shapes, got: Shapes, source: str) -> None:
    """Same keys, same shapes."""
    missing = [key for key in expected if key not in got]
    left_over = [key for key in got if key not in expected]
    differ = [key for key in expected if key in got and got[key] != expected[key]]
    problems = [
        f"{len(missing)} keys missing ({_some(missing)})" if missing else "",
        f"{len(left_over)} left over ({_some(left_over)})" if left_over else "",
        f"{len(differ)} of another shape ({_some_shapes(differ, expected, got)})" if differ else "",
    ]
    if any(problems):
        what = ", ".join(problem for problem in problems if problem)
        raise CheckpointError(f"{source} does not fit this network: {what}. {_suggestion(got)}")


def _converted(tensor: Tensor, like: Tensor, key: str, source: str) -> Tensor:
    kinds = (_kind(tensor.dtype), _kind(like.dtype))
    if kinds[0] != kinds[1]:
        raise CheckpointError(
            f"{source}: {key} is {tensor.dtype}, the network needs {like.dtype}; quantised or "
            "packed weights cannot be loaded."
        )
    return tensor.to(like.dtype)


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_complex or dtype == torch.bool:
        return str(dtype)
    return "floating" if dtype.is_floating_point else "integer"


def _check_values(state: Mapping[str, Tensor], source: str) -> None:
    broken = [key for key, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise CheckpointError(
            f"{source} has NaN or infinity in {len(broken)} tensors ({_some(broken)}): the "
            "training diverged or the file is damaged."
        )
    negative = [
        key
        for key, tensor in state.items()
        if key.endswith("running_var") and bool((tensor < 0).any())
    ]
    if negative:
        raise CheckpointError(
            f"{source} has a negative variance in {len(negative)} tensors ({_some(negative)}): "
            "the file is damaged."
        )


# ---------------------------------------------------------------------------
# Suggestions
# ---------------------------------------------------------------------------


def _suggestion(got: Shapes) -> str:
    """What of the zoo the checkpoint would fit."""
    fits = [(row.id, classes) for row in VARIANTS.values() if (classes := _classes(row, got))]
    if not fits:
        return "It fits no network of the zoo."
    # Exact fits first: a head of another width is the less likely explanation.
    fits.sort(key=lambda fit: fit[1] != VARIANTS[fit[0]].num_classes)
    classes = fits[0][1]
    names = " or ".join(model_id for model_id, own in fits if own == classes)
    if classes == VARIANTS[fits[0][0]].num_classes:
        return f"It fits {names} with {classes} classes, which needs no --num-classes."
    return f"It fits {names} with another head: use --num-classes {classes}."


def _classes(variant: Variant, got: Shapes) -> int:
    """Classes of the head with which ``got`` is of ``variant``, or 0 if it is not.

    Tensors of the head are those that are as long as there are classes, whatever their name.
    """
    expected = variant_shapes(variant)
    if expected.keys() != got.keys():
        return 0
    heads = set()
    for key, shape in expected.items():
        if shape != got[key]:
            if shape[:1] != (variant.num_classes,) or got[key][1:] != shape[1:]:
                return 0
            heads.add(got[key][:1])
    if not heads:
        return variant.num_classes
    return int(heads.pop()[0]) if len(heads) == 1 else 0


def variant_shapes(variant: Variant) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a network of the zoo, which is built without memory for it."""
    with torch.device("meta"):
        return _shapes(build_network(variant).state_dict())


def build_network(
    variant: Variant, num_classes: int | None = None, image_size: int | None = None
) -> nn.Module:
    """The network of a row, by the builder the row names, with the builder's own parameters."""
    module, _, function = variant.build.partition(":")
    build: Callable[..., nn.Module] = getattr(importlib.import_module(module), function)
    return build(
        variant.config,
        num_classes=variant.num_classes if num_classes is None else num_classes,
        image_size=variant.image_size if image_size is None else image_size,
    )


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def _some(names: Iterable[str], most: int = 3) -> str:
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(name[:80] for name in listed[:most]) + more


def _some_shapes(keys: Iterable[str], expected: Shapes, got: Shapes) -> str:
    return _some(f"{key}: got {list(got[key])}, expected {list(expected[key])}" for key in keys)
