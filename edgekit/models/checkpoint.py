"""From a checkpoint file to tensors, and from tensors into a network: strictly.

    .pth .pt .pth.tar   ``torch.load(weights_only=True)``: tensors are read, code is not run
    .safetensors        ``safetensors``

The format is recognised by content, not by name. Nesting in ``state_dict`` or ``model`` and the
prefix ``module.``, however often, are unwrapped, and one part is taken if asked for; after that
keys and shapes must be exactly the network's, and every value finite. Averaged weights
(``model_ema``, ``state_dict_ema``) are a part like others, and never taken unasked. Everything
that is wrong is one `CheckpointError` that names the file.

In whose names the keys are, and for whose function, is decided in `edgekit.models.fitting`.
"""

from __future__ import annotations

import argparse
import codecs
import json
import re
import stat
import textwrap
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.bundle.reading import parse_labels
from edgekit.errors import BundleError, CheckpointError
from edgekit.models.fitting import (
    build_network,
    list_parts,
    match,
    offer,
    problems,
    shapes_of,
    some,
    suggestion,
    variant_shapes,
)
from edgekit.models.naming import COUNTER, Shapes
from edgekit.models.whole_file import replacing
from edgekit.models.zoo import get_variant
from edgekit.optional import require

__all__ = [
    "MAX_BYTES",
    "Recorded",
    "build_network",
    "check_content",
    "check_file",
    "load_strict",
    "read_checkpoint",
    "read_recorded",
    "save_checkpoint",
    "variant_shapes",
]

MAX_BYTES = 4 << 30  # far above any network for an edge device

# Where training scripts put a state dict. Averaged weights stand beside it under other names, and
# are other weights than those whose accuracy a log shows.
_NESTS = ("state_dict", "model")
# Key of a .safetensors file's metadata. One, with JSON behind it: the library writes several in an
# order of its own each time, and the same weights are to be the same bytes.
_FACTS = "edgekit"

# ---------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------


def read_checkpoint(path: Path, part: str = "", spec: str = "") -> dict[str, Tensor]:
    """Tensors of a checkpoint by state-dict key, unwrapped, on the CPU.

    Args:
        path: of the file.
        part: dotted prefix inside the file; only keys under it are taken, without it.
        spec: what a user types for the file, for what a message offers; its path by default.

    Raises:
        CheckpointError: missing, not a file, empty, huge, damaged, no checkpoint at all, a
            pickle with code, not a state dict, or without such a part.
    """
    nest, rest = _nest(check_content(path), part, path, spec or str(path))
    return _tensors(_under(nest, rest, path), path)


def check_content(path: Path) -> Mapping[Any, Any]:
    """What a checkpoint holds, as it is in the file.

    Raises:
        CheckpointError: as `read_checkpoint`, but for what is inside.
    """
    check_file(path)
    content = _reader(path)(path)
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{path.name} holds a {type(content).__name__}, not the tensors of a state dict."
        )
    return content


@dataclass(frozen=True)
class Recorded:
    """What `save_checkpoint` wrote beside the tensors; nothing in a file of others.

    Attributes:
        variant: the id of the network.
        labels: names of the classes that it was trained for.
        image_size: pixels of the images that it was trained for.
    """

    variant: str = ""
    labels: tuple[str, ...] = ()
    image_size: int | None = None


def read_recorded(path: Path) -> Recorded:
    """What a file says of itself.

    Raises:
        CheckpointError: unreadable, or facts that nobody could have written.
    """
    if _reader(path) is not _read_safetensors:
        return Recorded()
    safetensors = require("safetensors", "reading .safetensors")
    try:
        with safetensors.safe_open(path, "pt") as file:
            written = (file.metadata() or {}).get(_FACTS, "{}")
    # Its errors are of a compiled type that is no public class.
    except Exception as error:
        raise _unreadable(path, str(error)) from error
    try:
        return _recorded(path.name, **json.loads(written))
    except (BundleError, ValueError, TypeError, RecursionError, UnicodeError) as error:
        raise CheckpointError(f"{path.name} says of itself what cannot be: {error}.") from error


def _recorded(
    name: str, variant: str = "", labels: object = None, image_size: int | None = None
) -> Recorded:
    labels = [] if labels is None else labels
    if not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise ValueError("its labels are no list of names")
    lines = "".join(f"{label}\n" for label in labels)
    kept = parse_labels(name, lines.encode()) if lines else ()
    if list(kept) != labels or not isinstance(variant, str):
        raise ValueError("a label has a line break in it, or the network no name")
    if image_size is not None and type(image_size) is not int:
        raise ValueError(f"image_size is {image_size!r}")
    return Recorded(variant, kept, image_size)


def save_checkpoint(
    module: nn.Module,
    variant_id: str,
    path: Path,
    *,
    labels: Sequence[str] = (),
    image_size: int | None = None,
) -> None:
    """Write the weights of a network of the zoo, with its id, as a .safetensors file.

    The id tells a flavour from others of the same shapes; `edgekit export ID --weights FILE` takes
    the file for that id and for no other, with the classes and the size that it was trained for.

    Args:
        module: any head may stand on the network of ``variant_id``.
        variant_id: a row of the zoo.
        path: replaced if it is there; never half a file.
        labels: names of its classes.
        image_size: pixels of the images that it was trained for.

    Raises:
        UnknownNameError: no such model.
        CheckpointError: the module is another network, or the file cannot be written.
    """
    variant = get_variant(variant_id)
    state = {key: tensor.detach().contiguous() for key, tensor in module.state_dict().items()}
    found = match(variant, shapes_of(state))
    if found.distance or found.head not in variant.heads:
        what = problems(found.missing, found.left_over, found.differ) or "another head"
        raise CheckpointError(f"what is to be saved is no {variant_id}: {what}.")
    save_file = require("safetensors.torch", "writing .safetensors").save_file
    facts = _facts(variant_id, labels, image_size)
    try:
        with replacing(path) as temporary:
            save_file(state, temporary, metadata=facts)
    # safetensors reports a full disk with an exception of its own.
    except Exception as error:
        why = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"cannot write {path}: {why}; what was there before is still there."
        ) from error


def _facts(variant_id: str, labels: Sequence[str], image_size: int | None) -> dict[str, str]:
    facts: dict[str, object] = {"variant": variant_id}
    if labels:
        facts["labels"] = list(labels)
    if image_size is not None:
        facts["image_size"] = image_size
    try:
        _recorded("the class names", **facts)  # type: ignore[arg-type]
    except (BundleError, ValueError) as error:
        raise CheckpointError(f"what is to be saved cannot be: {error}.") from error
    return {_FACTS: json.dumps(facts)}


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
def _readable(path: Path, verb: str = "read") -> Iterator[None]:
    """OSError and BadZipFile as CheckpointError."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"cannot {verb} {path}: {error.strerror}.") from error
    except zipfile.BadZipFile as error:
        raise _unreadable(path, str(error)) from error


# ---------------------------------------------------------------------------
# Unwrapping
# ---------------------------------------------------------------------------


_MOST_NESTS = 8  # a dict may hold itself


def _nest(
    content: Mapping[Any, Any], part: str, path: Path, spec: str
) -> tuple[Mapping[Any, Any], str]:
    """The innermost dict with tensors, and what of ``part`` did not name one on the way."""
    for _ in range(_MOST_NESTS):
        first, _, rest = part.partition(".")
        asked = [first] if first and isinstance(content.get(first), Mapping) else []
        nests = [*asked, *(name for name in _NESTS if isinstance(content.get(name), Mapping))]
        if not nests:
            break
        if len(nests) > 1 and not asked and all(_has_tensors(content[name]) for name in nests):
            offers = " or ".join(offer(f"{spec}#{name}") for name in nests)
            raise CheckpointError(
                f"{path.name} has tensors under {' and under '.join(map(repr, nests))}: choose "
                f"with {offers}."
            )
        content, part = content[nests[0]], rest if asked else part
    else:
        raise CheckpointError(
            f"{path.name} is nested more than {_MOST_NESTS} deep: it is no checkpoint."
        )
    others = [str(name) for name, value in content.items() if _has_tensors(value)]
    if others and not any(isinstance(value, Tensor) for value in content.values()):
        offers = " or ".join(offer(f"{spec}#{name[:80]}") for name in others[:4])
        raise CheckpointError(
            f"{path.name} has no {' or '.join(map(repr, _NESTS))}, but tensors under "
            f"{some(map(repr, others))}, which may be averaged or of several networks: choose with "
            f"{offers}."
        )
    return content, part


def _has_tensors(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(v, Tensor) for v in value.values())


def _under(content: Mapping[Any, Any], part: str, path: Path) -> Mapping[Any, Any]:
    """What is under ``part``, which may be written with DataParallel's ``module.`` or without."""
    plain = _without_wrappers(content)
    if not part:
        return plain
    for keys in (plain, content):
        found = {
            key[len(part) + 1 :]: value
            for key, value in keys.items()
            if isinstance(key, str) and key.startswith(f"{part}.")
        }
        if found:
            return _without_wrappers(found)
    raise CheckpointError(
        f"{path.name} has no part {part[:80]!r}; it has {list_parts(map(str, plain))}."
    )


def _without_wrappers(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Keys without ``module.``, as often as every one of them has it."""
    while content and all(isinstance(k, str) and k.startswith("module.") for k in content):
        content = {key[len("module.") :]: value for key, value in content.items()}
    return content


def _tensors(content: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """``content``, if it is a state dict."""
    if not content:
        raise CheckpointError(
            f"{path.name} holds a {type(content).__name__}, not the tensors of a state dict."
        )
    odd = [str(key) for key, value in content.items() if not _is_plain(key, value)]
    if odd:
        raise CheckpointError(
            f"{path.name} is not a state dict: {some(odd)} hold no dense tensor. A state dict, "
            "bare or under the key 'state_dict' or 'model', is needed."
        )
    return {key: value.detach() for key, value in content.items()}


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
        state: in the network's own names. BatchNorm's counts of batches may be missing if all
            are, as in files older than PyTorch 0.4.1.
        source: named in errors, e.g. the file's name.

    Raises:
        CheckpointError: keys or shapes are not exactly the network's (suggests the network of
            the zoo that they are of), a type that cannot be converted, NaN or infinity.
    """
    own = module.state_dict()
    if not any(key.endswith(COUNTER) for key in state):
        counts = {k: torch.zeros_like(v) for k, v in own.items() if k.endswith(COUNTER)}
        state = {**state, **counts}
    _check_fit(shapes_of(own), shapes_of(state), source)
    converted = {key: _converted(state[key], own[key], key, source) for key in own}
    _check_values(converted, source)
    module.load_state_dict(converted, strict=True)
    kinds = sorted({str(state[key].dtype) for key in own if state[key].dtype != own[key].dtype})
    return tuple(f"{source}: {kind} converted to the network's own type" for kind in kinds)


def _check_fit(expected: Shapes, got: Shapes, source: str) -> None:
    """Same keys, same shapes."""
    what = problems(
        missing=[key for key in expected if key not in got],
        left_over=[key for key in got if key not in expected],
        differ={
            key: (got[key], shape)
            for key, shape in expected.items()
            if key in got and got[key] != shape
        },
    )
    if what:
        raise CheckpointError(f"{source} does not fit this network: {what}. {suggestion(got)}")


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
            f"{source} has NaN or infinity in {len(broken)} tensors ({some(broken)}): the "
            "training diverged or the file is damaged."
        )
    negative = [
        key
        for key, tensor in state.items()
        if key.endswith("running_var") and bool((tensor < 0).any())
    ]
    if negative:
        raise CheckpointError(
            f"{source} has a negative variance in {len(negative)} tensors ({some(negative)}): "
            "the file is damaged."
        )
