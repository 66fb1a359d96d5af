"""Where weights come from: ``--weights auto|FILE|URL|hf://owner/repo/file|official|random``.

Behind a FILE, a URL or an hf:// address ``#PART`` takes one part of the file, e.g. the student out
of a file that holds student and teacher. A file that is really called so is taken first.

    auto      the released weights from the cache or the network; failing that, random ones,
              and the note says why
    official  the released weights from the cache or the network; failing that, an error
    random    seeded and calibrated, see `edgekit.models.random_init`
    FILE      a checkpoint on this machine
    URL       http or https, kept in the cache
    hf://...  a file of a Hugging Face repository, kept in the cache

The cache is ``EDGEKIT_CACHE/weights``, by default ``~/.cache/edgekit/weights``. Beside each file
lies a ``.json`` with the address, the sha256 and the size: a cached file that no longer has that
hash is fetched again. With ``EDGEKIT_OFFLINE=1`` the network is never used. ``HF_ENDPOINT``
replaces https://huggingface.co.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.errors import CheckpointError, DownloadError, UsageError
from edgekit.models.checkpoint import check_content, check_file, load_strict, read_checkpoint
from edgekit.models.download import Limits, cache_name, fetch, public_url
from edgekit.models.zoo import Variant, Weights

__all__ = ["Located", "NoneFound", "load_strict", "read_checkpoint", "resolve"]

_SPECS = "auto, official, random, a file, a URL or hf://owner/repo/file"
_WORDS = ("auto", "official", "random")
_OWN_URL_BYTES = 2 << 30
_OWN_URL_SECONDS = 600.0
_RELEASED_SECONDS = 60.0  # and, for large files,
_SLOWEST = 1 << 20  # bytes a second


@dataclass(frozen=True)
class Located:
    """A checkpoint on this machine.

    Attributes:
        path: of the file.
        source: where it came from, fit for a manifest: no secrets, no folders of this machine.
        sha256: of the file.
        note: what could not be verified about it, or "".
        part: dotted prefix inside the file, or "" for all of it.
        spec: what a user types for it, with the part; no secrets.
    """

    path: Path
    source: str
    sha256: str
    note: str = ""
    part: str = ""
    spec: str = ""


@dataclass(frozen=True)
class NoneFound:
    """Random weights are to be used; ``why`` is "" when they were asked for."""

    why: str = ""


def resolve(spec: str, variant: Variant) -> Located | NoneFound:
    """Find the weights that ``spec`` names for ``variant``.

    Raises:
        UsageError: a spec that is none of the forms.
        CheckpointError: no such file, or no released weights are known.
        DownloadError: the network or the cache failed.
    """
    if spec == "random":
        return NoneFound()
    if spec == "official":
        return _released(variant)
    if spec == "auto":
        return _auto(variant)
    return locate(spec)


def locate(spec: str) -> Located:
    """The file that ``spec`` names: a path, a URL or ``hf://owner/repo/file``; see `resolve`."""
    address, part = _split(spec)
    if "://" in spec:
        return _of_part(_remote(address), public_url(address), part)
    return _of_part(_local(address, spec), address, part)


def _split(spec: str) -> tuple[str, str]:
    """Address and part of ``address#part``."""
    if "#" not in spec or ("://" not in spec and _exists(spec)):
        return spec, ""
    # An address has one #, and the name of a file may have more.
    address, _, part = spec.partition("#") if "://" in spec else spec.rpartition("#")
    shown = public_url(address) if "://" in spec else address
    if not part:
        raise UsageError(f"--weights {shown}#: name a part behind the #, or leave the # out.")
    if address in _WORDS:
        raise UsageError(f"--weights {spec}: only a file, a URL or hf:// has parts.")
    return address, part


def _of_part(found: Located, spec: str, part: str) -> Located:
    if not part:
        return replace(found, spec=spec)
    return replace(found, source=f"{found.source}#{part}", part=part, spec=f"{spec}#{part}")


def _exists(spec: str) -> bool:
    try:
        return Path(spec).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # no name of a file, or ~nobody
        return False


def _auto(variant: Variant) -> Located | NoneFound:
    try:
        return _released(variant)
    except (CheckpointError, DownloadError) as error:
        return NoneFound(str(error))


def _released(variant: Variant) -> Located:
    released = variant.weights
    if released is None:
        raise CheckpointError(
            f"edgekit knows no released weights for {variant.id}: use --weights random, or a file."
        )
    if not released.url:
        raise CheckpointError(
            f"the released weights of {variant.id} have no address that edgekit can fetch "
            f"({released.where}): get the file and pass it, --weights FILE."
        )
    limits = Limits(released.bytes_cap, _RELEASED_SECONDS + released.bytes_cap / _SLOWEST)
    found = _cached_or_fetched(
        released.url, released.url, limits, released.sha256, released.sha256_prefix
    )
    return Located(found.path, found.source, found.sha256, _trust(released))


def _trust(released: Weights) -> str:
    if released.sha256 is not None or released.sha256_prefix:
        return ""
    plain = " and came over plain http" if released.url.startswith("http:") else ""
    return f"the released file has no published checksum{plain}: its content could not be verified"


def _remote(spec: str) -> Located:
    limits = Limits(_OWN_URL_BYTES, _OWN_URL_SECONDS)
    scheme = spec.partition("://")[0].lower()
    if scheme == "hf":
        return _cached_or_fetched(_hugging_face(spec), spec, limits, None)
    if scheme in ("http", "https"):
        if "@" in spec.partition("://")[2].partition("/")[0]:
            raise UsageError(
                f"--weights {public_url(spec)}: the address has a user name or password, and "
                "edgekit sends none: download the file by hand and pass it."
            )
        return _cached_or_fetched(spec, public_url(spec), limits, None)
    raise UsageError(f"--weights {spec}: {scheme}:// is not supported; possible are {_SPECS}.")


def _hugging_face(spec: str) -> str:
    """Address of ``hf://owner/repo/path/in/repo`` on its main branch."""
    owner, _, rest = spec[len("hf://") :].partition("/")
    repo, _, file = rest.partition("/")
    parts = [owner, repo, *file.split("/")]
    if any(part in ("", ".", "..") or part != part.strip() for part in parts):
        raise UsageError(f"--weights {spec}: expected hf://owner/repo/file.")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    return f"{endpoint}/{owner}/{repo}/resolve/main/{file}"


def _local(name: str, spec: str) -> Located:
    if not _exists(name):
        close = difflib.get_close_matches(spec.lower(), _WORDS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise CheckpointError(f"--weights {spec}: no such file. {hint}Possible are {_SPECS}.")
    path = Path(name).expanduser()
    check_file(path)
    return Located(path, f"file {path.name}", _sha256(path))


# ---------------------------------------------------------------------------
# Cache
# ---------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where weights are kept; it may not exist yet.

    Raises:
        DownloadError: there is neither ``EDGEKIT_CACHE`` nor a home folder.
    """
    root = os.environ.get("EDGEKIT_CACHE") or "~/.cache/edgekit"
    try:
        return Path(root).expanduser() / "weights"
    except RuntimeError:
        raise DownloadError(
            "there is no home folder to cache weights in: set EDGEKIT_CACHE to a folder."
        ) from None


def is_offline() -> bool:
    """Whether ``EDGEKIT_OFFLINE`` forbids the network."""
    return os.environ.get("EDGEKIT_OFFLINE", "0") not in ("", "0")


def _cached_or_fetched(
    url: str, source: str, limits: Limits, sha256: str | None, prefix: str = ""
) -> Located:
    path = cache_folder() / cache_name(url)
    recorded = _recorded_sha256(path)
    if recorded is not None and sha256 in (None, recorded) and recorded.startswith(prefix):
        return Located(path, source, recorded)
    if is_offline():
        raise DownloadError(
            f"{public_url(url)} is not in the cache and EDGEKIT_OFFLINE is set: unset it, or "
            "download the file elsewhere and pass it."
        )

    def check(temporary: Path) -> None:
        _check_prefix(temporary, prefix, url)
        _check_readable(temporary)

    digest = fetch(url, path, limits, sha256=sha256, check=check)
    _record(path, url, digest)
    return Located(path, source, digest)


def _check_prefix(path: Path, prefix: str, url: str) -> None:
    digest = _sha256(path)
    if not digest.startswith(prefix):
        raise DownloadError(
            f"{public_url(url)} has sha256 {digest}, expected one that begins with {prefix}: it is "
            "damaged or was replaced. Nothing was kept."
        )


def _check_readable(path: Path) -> None:
    """What a captive portal or an error page answers must not get into the cache."""
    try:
        check_content(path)
    except CheckpointError as error:
        what = str(error).replace(path.name, "the file")
        raise DownloadError(f"what was downloaded is of no use: {what}") from error


def _recorded_sha256(path: Path) -> str | None:
    """The sha256 of the cached ``path`` if the file is whole, else None."""
    try:
        record = json.loads(_record_of(path).read_text(encoding="utf-8"))
        digest = _sha256(path)
    except (OSError, ValueError):
        return None
    return digest if isinstance(record, dict) and record.get("sha256") == digest else None


def _record(path: Path, url: str, sha256: str) -> None:
    record = {"url": public_url(url), "sha256": sha256, "bytes": path.stat().st_size}
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(record, file)
    Path(file.name).replace(_record_of(path))


def _record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}.") from error
    return digest.hexdigest()
