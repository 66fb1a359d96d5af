"""Addresses of boards: what is accepted is harmless as an argument, and the rest is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import UsageError
from edgekit.profiling.remote import DeviceUrl, parse_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("ssh://rpi4", DeviceUrl("rpi4")),
        ("ssh://pi@rpi4.local", DeviceUrl("rpi4.local", "pi")),
        ("ssh://pi@rpi4:2222", DeviceUrl("rpi4", "pi", 2222)),
        ("ssh://127.0.0.1:22", DeviceUrl("127.0.0.1", "", 22)),
        ("ssh://[::1]", DeviceUrl("::1")),
        ("ssh://j.doe@[FE80::1]:22", DeviceUrl("fe80::1", "j.doe", 22)),
    ],
)
def test_addresses(text, url):
    assert parse_url(text) == url


def test_an_address_is_named_as_it_was_typed():
    assert parse_url("ssh://pi@[::1]:2222").name == "pi@[::1]:2222"
    assert parse_url("ssh://pi@rpi4:2222").login == "-p 2222 pi@rpi4"


@pytest.mark.parametrize(
    "text",
    [
        *("", "rpi4", "pi@rpi4", "http://rpi4", "ssh:rpi4", "SSH://rpi4", "ssh://", "ssh://@"),
        *("ssh://@rpi4", "ssh://pi@", "ssh://-oProxyCommand=x", "ssh://-l@rpi4", "ssh://pi@-x"),
        *("ssh://pi@rpi4/", "ssh://rpi4/path", "ssh://rpi4?python=x", "ssh://rpi4#x"),
        *("ssh://rpi4 ", "ssh://rpi4\n", "ssh://rp\ti4", "ssh://rpi4\0", "ssh://rpi4\x1b[2J"),
        *("ssh://rpi4;id", "ssh://$(id)", "ssh://`id`", "ssh://rpi4|id", "ssh://'rpi4'"),
        *("ssh://pi@evil@rpi4", "ssh://pi%20x@rpi4", "ssh://rpi%34", "ssh://[fe80::1%25eth0]"),
        *("ssh://rpi4:", "ssh://rpi4:0", "ssh://rpi4:65536", "ssh://rpi4:22x", "ssh://rpi4:-1"),
        *("ssh://rpi4:１２", "ssh://rpi4:22:22", "ssh://[::1", "ssh://[::1]x", "ssh://[1.2.3]"),
        *("ssh://::1", "ssh://rüpi", "ssh://" + "a" * 300, "ssh://.x", "ssh://~user@rpi4"),
    ],
)
def test_what_is_refused(text):
    with pytest.raises(UsageError) as caught:
        parse_url(text)
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()


def test_a_password_is_refused_and_not_repeated():
    with pytest.raises(UsageError, match="no password") as caught:
        parse_url("ssh://pi:raspberry@rpi4")
    assert "raspberry" not in str(caught.value)


@given(st.text(max_size=40))
def test_whatever_passes_is_plain(text):
    try:
        url = parse_url("ssh://" + text)
    except UsageError:
        return
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*|[0-9a-f:.]+", url.host)
    assert re.fullmatch(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)?", url.user)
    assert 0 <= url.port <= 65535
