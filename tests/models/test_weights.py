"""Finding weights: forms of the specification, the cache, and falling back."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgekit.errors import CheckpointError, DownloadError, UsageError
from edgekit.models.weights import Located, NoneFound, cache_folder, is_offline, resolve
from edgekit.models.zoo import VARIANTS, Variant, Weights, get_variant
from tests.models.web_server import serving

M0 = get_variant("micronet-m0")
UNRELEASED = get_variant("micronet-v1-m1")


def checkpoint_bytes(value: float = 1.0) -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.full((3,), value)}, buffer)
    return buffer.getvalue()


CONTENT = checkpoint_bytes()
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(online: None) -> Iterator[tuple[str, list[str]]]:
    with serving(CONTENT) as served:
        yield served


def released_at(url: str, sha256: str | None = None, cap: int = 1 << 20) -> Variant:
    return replace(M0, weights=Weights(url, sha256, cap, "MIT", "a test"))


def located(spec: str, variant: Variant = M0) -> Located:
    found = resolve(spec, variant)
    assert isinstance(found, Located)
    return found


# ---------------------------------------------------------------------------
# Forms
# ---------------------------------------------------------------------------


def test_random_is_random() -> None:
    assert resolve("random", M0) == NoneFound()


def test_a_file_is_named_without_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(CONTENT)
    assert located(str(path)) == Located(path, "file mine.pth", DIGEST, spec=str(path))


def test_the_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.pth").write_bytes(CONTENT)
    assert located("~/mine.pth").path == tmp_path / "mine.pth"


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nope\.pth: no such file\. Possible are auto"):
        resolve(str(tmp_path / "nope.pth"), M0)
    for spec in ("x" * 5000, "~nobody-of-that-name/w.pth"):
        with pytest.raises(CheckpointError, match="no such file"):
            resolve(spec, M0)
    with pytest.raises(CheckpointError, match="did you mean official"):
        resolve("oficial", M0)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        resolve(str(tmp_path), M0)


def test_a_device_is_not_read() -> None:
    with pytest.raises(CheckpointError, match="/dev/zero is no regular file"):
        resolve("/dev/zero", M0)


@pytest.mark.parametrize("spec", ["file:///etc/passwd", "ftp://host/w.pth", "s3://bucket/w.pth"])
def test_other_schemes_are_refused(spec: str) -> None:
    with pytest.raises(UsageError, match=":// is not supported; possible are auto"):
        resolve(spec, M0)


@pytest.mark.parametrize(
    "spec",
    ["hf://", "hf://owner", "hf://owner/repo", "hf://owner/repo/", "hf://o/r/../x", "hf:///r/x"],
)
def test_a_hugging_face_name_has_three_parts(spec: str) -> None:
    with pytest.raises(UsageError, match="expected hf://owner/repo/file"):
        resolve(spec, M0)


# ---------------------------------------------------------------------------
# Parts
# ---------------------------------------------------------------------------


def test_a_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "both.pth"
    path.write_bytes(CONTENT)
    spec = f"{path}#net.student"
    assert located(spec) == Located(
        path, "file both.pth#net.student", DIGEST, part="net.student", spec=spec
    )


@pytest.mark.parametrize("name", ["a#b.pth", "#", "a#", "random#student"])
def test_a_file_that_is_really_called_so_is_taken_first(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(CONTENT)
    Path("a").write_bytes(checkpoint_bytes(2))
    found = located(name)
    assert (found.path, found.part, found.source) == (Path(name), "", f"file {name}")
    last = located(f"{name}#x")
    assert (last.path, last.part) == (Path(name), "x")


def test_a_part_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(CONTENT)
    with pytest.raises(UsageError, match=r"w\.pth#: name a part behind the #, or leave the # out"):
        resolve(f"{path}#", M0)
    with pytest.raises(CheckpointError, match=r"none\.pth#student: no such file"):
        resolve(f"{tmp_path / 'none.pth'}#student", M0)
    for word in ("auto", "official", "random"):
        with pytest.raises(UsageError, match=f"{word}#x: only a file, a URL or hf:// has parts"):
            resolve(f"{word}#x", M0)


def test_a_part_of_an_address_is_not_asked_of_the_server(server: tuple[str, list[str]]) -> None:
    url = f"{server[0]}/good/w.pth"
    found = located(f"{url}?token=secret#student")
    assert server[1] == ["/good/w.pth?token=secret"]
    assert (found.source, found.part) == (f"{url}#student", "student")
    assert found.spec == f"{url}#student"
    again = located(f"{url}?token=secret#teacher")
    assert again.path == found.path
    assert len(server[1]) == 1, "the file is in the cache, whichever part is taken"


def test_a_part_of_a_hugging_face_file(
    server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server[0])
    found = located("hf://owner/repo/w.pth#student")
    assert server[1] == ["/owner/repo/resolve/main/w.pth"]
    assert (found.source, found.part) == ("hf://owner/repo/w.pth#student", "student")


def test_a_part_does_not_show_a_password() -> None:
    for spec in ("https://me:secret@h/a.pth#", "https://me:secret@h/a.pth#x"):
        with pytest.raises(UsageError) as caught:
            resolve(spec, M0)
        assert "secret" not in str(caught.value)


# ---------------------------------------------------------------------------
# Network and cache
# ---------------------------------------------------------------------------


def test_a_url_is_fetched_once(server: tuple[str, list[str]], cache: Path) -> None:
    url, requests = f"{server[0]}/good/w.pth", server[1]
    first, second = located(f"{url}?token=secret"), located(f"{url}?token=secret")
    assert len(requests) == 1
    assert first.path.parent == cache == cache_folder()
    assert (first.source, first.sha256, first.note) == (url, DIGEST, "")
    assert second == first
    record = json.loads(first.path.with_name(f"{first.path.name}.json").read_text())
    assert record == {"url": url, "sha256": DIGEST, "bytes": len(CONTENT)}
    assert len(list(cache.iterdir())) == 2


def test_hugging_face_honours_its_endpoint(
    server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{server[0]}/")
    found = located("hf://owner/repo/sub/w.safetensors")
    assert server[1] == ["/owner/repo/resolve/main/sub/w.safetensors"]
    assert found.source == "hf://owner/repo/sub/w.safetensors"


def test_a_damaged_cache_is_fetched_again(server: tuple[str, list[str]]) -> None:
    url = f"{server[0]}/good/w.pth"
    path = located(url).path
    path.write_bytes(CONTENT[:-10])
    assert located(url).sha256 == DIGEST
    path.with_name(f"{path.name}.json").write_text("not json")
    assert located(url).path.read_bytes() == CONTENT
    assert len(server[1]) == 3


def test_what_is_no_checkpoint_does_not_get_into_the_cache(
    server: tuple[str, list[str]], cache: Path
) -> None:
    with pytest.raises(DownloadError, match="of no use: the file is not a checkpoint.*<html"):
        resolve(f"{server[0]}/html/w.pth", M0)
    assert list(cache.iterdir()) == []


def test_offline_never_asks(server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{server[0]}/good/w.pth"
    monkeypatch.setenv("EDGEKIT_OFFLINE", "1")
    assert is_offline()
    with pytest.raises(DownloadError, match="not in the cache and EDGEKIT_OFFLINE is set"):
        resolve(url, M0)
    assert server[1] == []
    monkeypatch.setenv("EDGEKIT_OFFLINE", "0")
    resolve(url, M0)
    monkeypatch.setenv("EDGEKIT_OFFLINE", "1")
    assert located(url).sha256 == DIGEST
    assert len(server[1]) == 1


def test_a_cache_that_cannot_be_written_is_named(
    server: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="cannot write to the cache"):
        resolve(f"{server[0]}/good/w.pth", M0)


def test_the_default_cache_is_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_CACHE")
    monkeypatch.setenv("HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/.cache/edgekit/weights")


def test_without_a_home_folder_the_variable_is_asked_for(
    online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", "~nobody-of-that-name")
    with pytest.raises(DownloadError, match="no home folder .* set EDGEKIT_CACHE"):
        resolve("http://127.0.0.1:9/w.pth", M0)


# ---------------------------------------------------------------------------
# Released weights
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["auto", "official"])
def test_released_weights_without_a_checksum_say_so(
    spec: str, server: tuple[str, list[str]]
) -> None:
    url = f"{server[0]}/good/w.pth"
    for _ in ("fetched", "from the cache"):
        found = located(spec, released_at(url))
        assert (found.source, found.sha256) == (url, DIGEST)
        assert "no published checksum and came over plain http: its content could not" in found.note


@pytest.mark.parametrize("spec", ["auto", "official"])
def test_released_weights_with_their_checksum_are_trusted(
    spec: str, server: tuple[str, list[str]]
) -> None:
    assert located(spec, released_at(f"{server[0]}/good/w.pth", DIGEST)).note == ""


FAILURES = {
    "nothing/w.pth": "answers 404",
    "html/w.pth": "of no use",
    "short/w.pth": "the connection was cut",
    "endless/w.pth": "more than 1,048,576 bytes",
    "to?file:///etc/passwd": "is not allowed",
}


@pytest.mark.parametrize(("path", "words"), FAILURES.items())
def test_official_fails_where_auto_falls_back(
    path: str, words: str, server: tuple[str, list[str]]
) -> None:
    variant = released_at(f"{server[0]}/{path}")
    with pytest.raises(DownloadError, match=words):
        resolve("official", variant)
    found = resolve("auto", variant)
    assert isinstance(found, NoneFound)
    assert words in found.why


def test_a_wrong_checksum_is_a_failure(server: tuple[str, list[str]], cache: Path) -> None:
    variant = released_at(f"{server[0]}/good/w.pth", "0" * 64)
    with pytest.raises(DownloadError, match="damaged or was replaced"):
        resolve("official", variant)
    assert list(cache.iterdir()) == []


def test_a_cached_file_of_another_checksum_is_not_used(server: tuple[str, list[str]]) -> None:
    url = f"{server[0]}/good/w.pth"
    located("official", released_at(url))
    with pytest.raises(DownloadError, match="expected 00000000"):
        resolve("official", released_at(url, "0" * 64))


def test_what_was_never_released(cache: Path) -> None:
    with pytest.raises(CheckpointError, match=r"knows no released weights for micronet-v1-m1"):
        resolve("official", UNRELEASED)
    found = resolve("auto", UNRELEASED)
    assert isinstance(found, NoneFound)
    assert "no released weights" in found.why
    assert not cache.exists()


def test_auto_offline_falls_back_at_once() -> None:
    found = resolve("auto", M0)
    assert isinstance(found, NoneFound)
    assert "EDGEKIT_OFFLINE is set" in found.why
    assert M0.weights is not None
    assert M0.weights.url in found.why


def test_the_first_digits_of_a_checksum_are_held_against_the_file(
    server: tuple[str, list[str]], cache: Path
) -> None:
    url = f"{server[0]}/good/w.pth"
    wrong = replace(
        M0, weights=Weights(url, None, 1 << 20, "BSD", "a test", sha256_prefix="00c0ffee")
    )
    with pytest.raises(
        DownloadError, match=f"has sha256 {DIGEST}, expected one that begins with 00c0"
    ):
        resolve("official", wrong)
    assert list(cache.iterdir()) == []
    right = replace(
        M0, weights=Weights(url, None, 1 << 20, "BSD", "a test", sha256_prefix=DIGEST[:8])
    )
    assert located("official", right).note == ""
    with pytest.raises(DownloadError, match="begins with 00c0ffee"):
        resolve("official", wrong)  # from the cache neither


def test_released_weights_without_an_address_say_where_they_are(cache: Path) -> None:
    nowhere = Weights("", None, 1 << 20, "some", "a test", where="net.pth, in the authors' drive")
    variant = replace(M0, weights=nowhere)
    with pytest.raises(CheckpointError) as caught:
        resolve("official", variant)
    assert str(caught.value) == (
        "the released weights of micronet-m0 have no address that edgekit can fetch (net.pth, in "
        "the authors' drive): get the file and pass it, --weights FILE."
    )
    found = resolve("auto", variant)
    assert isinstance(found, NoneFound)
    assert "net.pth" in found.why
    assert not cache.exists()


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_every_release_can_be_had_or_says_where_it_is(variant: Variant) -> None:
    released = variant.weights
    if released is None:
        return
    assert bool(released.url) != bool(released.where)
    assert released.licence
    assert set(released.sha256_prefix) <= set("0123456789abcdef")


def test_some_networks_are_released() -> None:
    assert sum(row.weights is not None for row in VARIANTS.values()) >= 20
