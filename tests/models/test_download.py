"""Downloads from servers that lie, stall, redirect and fail."""

from __future__ import annotations

import hashlib
import os
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.errors import CheckpointError, DownloadError
from edgekit.models import download
from edgekit.models.download import Limits, cache_name, fetch, public_url
from tests.models.web_server import BODY, serving

LIMITS = Limits(bytes=1 << 20, total_s=5, connect_s=1, answer_s=2)
HASTE = Limits(bytes=1 << 30, total_s=0.3, connect_s=0.5, answer_s=0.3)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as (address, _):
        yield address


@pytest.mark.parametrize("path", ["good/file.bin", "no-length", "moved"])
def test_a_file_arrives_whole(server: str, path: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.bin"
    digest = fetch(f"{server}/{path}", target, LIMITS)
    assert target.read_bytes() == BODY
    assert digest == hashlib.sha256(BODY).hexdigest()
    assert names(target.parent) == ["file.bin"]


@pytest.mark.parametrize(
    ("path", "limits", "words"),
    [
        ("nothing", LIMITS, "answers 404"),
        ("short", LIMITS, "announced 16,385 bytes and sent 16,384"),
        ("chunked-short", LIMITS, "cannot fetch .*IncompleteRead"),
        (
            "announces-too-much",
            LIMITS,
            "announces 1,099,511,627,776 bytes, more than the 1,048,576",
        ),
        ("digits", LIMITS, "sends more than 1,048,576 bytes"),
        ("endless", LIMITS, "sends more than 1,048,576 bytes"),
        ("endless", HASTE, "is not complete after 0.3 s"),
        ("dripping", HASTE, "is not complete after 0.3 s"),
        ("stalling", HASTE, "cannot fetch .*timed out"),
        ("silent", HASTE, "has not answered within 0.3 s"),
        ("empty", LIMITS, "is empty"),
        ("broken", LIMITS, "cannot fetch"),
        ("circle", LIMITS, "redirect error that would lead to an infinite loop"),
        ("to?file:///etc/passwd", LIMITS, "Redirection to url 'file:///etc/passwd' is not"),
        ("to?ftp://127.0.0.1/x", LIMITS, "redirects to ftp://127.0.0.1/x: only http and https"),
        ("to?data:,x", LIMITS, "Redirection to url 'data:,x' is not"),
    ],
)
def test_what_goes_wrong_is_named_and_nothing_is_kept(
    server: str, path: str, limits: Limits, words: str, tmp_path: Path
) -> None:
    started = time.monotonic()
    with pytest.raises(DownloadError, match=words):
        fetch(f"{server}/{path}", tmp_path / "file.bin", limits)
    assert names(tmp_path) == []
    assert time.monotonic() - started < 3


def test_https_is_not_left_for_http() -> None:
    request = urllib.request.Request("https://host/a")
    with pytest.raises(DownloadError, match="redirects to http://host/b: only http and https"):
        download._Redirects().redirect_request(request, None, 302, "", {}, "http://host/b")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_only_http_is_spoken(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="unknown url type"):
        fetch(url, tmp_path / "file.bin", LIMITS)


@pytest.mark.parametrize("url", ["http://", "http://[x/y", "http://a b/c", "no address"])
def test_an_address_that_is_none_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="cannot fetch"):
        fetch(url, tmp_path / "file.bin", LIMITS)


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file.bin"
    with pytest.raises(DownloadError, match=r"cannot fetch http://127\.0\.0\.1.*refused.*by hand"):
        fetch(url, tmp_path / "file.bin", LIMITS)


def test_another_hash_is_refused(server: str, tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    with pytest.raises(DownloadError, match=f"sha256 [0-9a-f]{{64}}, expected {'0' * 64}"):
        fetch(f"{server}/good", target, LIMITS, sha256="0" * 64)
    assert names(tmp_path) == []
    fetch(f"{server}/good", target, LIMITS, sha256=hashlib.sha256(BODY).hexdigest())
    assert target.exists()


def test_a_failed_check_keeps_the_old_file(server: str, tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")

    def check(path: Path) -> None:
        assert path.read_bytes() == BODY
        raise CheckpointError("no")

    with pytest.raises(CheckpointError):
        fetch(f"{server}/good", target, LIMITS, check=check)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


def test_a_folder_that_cannot_be_is_named(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="cannot write to the cache .*EDGEKIT_CACHE"):
        fetch(f"{server}/good", tmp_path / "file" / "file.bin", LIMITS)


def test_leftovers_of_killed_runs_are_removed_and_those_of_running_ones_are_not(
    server: str, tmp_path: Path
) -> None:
    old, new = tmp_path / ".part-old", tmp_path / ".part-new"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (0, 0))
    fetch(f"{server}/good", tmp_path / "file.bin", LIMITS)
    assert (old.exists(), new.exists()) == (False, True)


def test_secrets_in_an_address_are_not_shown(server: str, tmp_path: Path) -> None:
    assert public_url("https://me:pw@host:8/a/b.pth?token=t#f") == "https://host:8/a/b.pth"
    with pytest.raises(DownloadError) as caught:
        fetch(f"{server}/nothing?token=secret", tmp_path / "file.bin", LIMITS)
    assert "secret" not in str(caught.value)


def test_cache_names_are_safe_unique_and_speak() -> None:
    name = cache_name("https://host/a%2F..%2Fb/m%201.pth?x=1")
    assert name.endswith("-m_1.pth")
    assert name != cache_name("https://host/a%2F..%2Fb/m%201.pth?x=2")
    assert cache_name("https://host/..").count("/") == 0
    assert cache_name("https://host/").endswith("-file")
    assert len(cache_name(f"https://host/{'x' * 500}")) < 120
