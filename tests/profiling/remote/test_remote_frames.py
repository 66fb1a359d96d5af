"""Frames are found in whatever a board prints, whole, and within limits."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import DeviceError
from edgekit.profiling.remote import frames
from edgekit.profiling.remote.frames import FrameReader, printable

NONCE = "0123456789abcdef" * 2


def frame(data=b"", **fields):
    header = json.dumps({"kind": "reply", "bytes": len(data), **fields})
    return f"\n{NONCE} {header}\n".encode() + data


def read(reader, *chunks):
    return [found for chunk in chunks for found in reader.feed(chunk)]


@given(
    st.lists(st.binary(max_size=60), max_size=4),
    st.lists(st.binary(max_size=60), min_size=1, max_size=4),
    st.integers(1, 30),
)
def test_frames_come_through_noise_in_any_pieces(noises, contents, size):
    stream = b"".join(noises)
    for content in contents:
        stream += frame(content) + b"".join(noises)
    reader = FrameReader(NONCE)
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [found.data for found in read(reader, *chunks)] == contents


def test_fields_come_along():
    (found,) = read(FrameReader(NONCE), frame(kind="progress", lines_seen=3))
    assert found.kind == "progress" and found.fields["lines_seen"] == 3


def test_another_nonce_is_noise():
    reader = FrameReader(NONCE)
    assert read(reader, frame().replace(b"0123", b"3210"), b"x" * 100) == []
    assert reader.noise


def test_noise_is_limited():
    reader = FrameReader(NONCE)
    with pytest.raises(DeviceError, match="something else instead of an answer: 'xxx"):
        read(reader, *[b"x" * 65536] * 20)


def test_a_header_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(frames, "MAX_HEADER", 1000)
    with pytest.raises(DeviceError, match="without end"):
        read(FrameReader(NONCE), f"{NONCE} ".encode() + b"x" * 2000)


@pytest.mark.parametrize(
    "header",
    [
        *("", "{", "[]", "1", "null", '{"kind": "reply"}', '{"bytes": 1}', "[" * 100_000),
        *('{"kind": 1, "bytes": 1}', '{"kind": "x", "bytes": true}', '{"kind": "x", "bytes": -1}'),
        '{"kind": "x", "bytes": 1e3}',
        '{"kind": "x", "bytes": 99999999999999}',
    ],
)
def test_a_header_that_is_none(header):
    with pytest.raises(DeviceError, match="message"):
        read(FrameReader(NONCE), f"{NONCE} {header}\n".encode())


def test_a_boards_words_are_one_short_printable_line():
    assert printable(b"a\x1b[2J\n\xff b") == "a?[2J \ufffd b"
    assert len(printable("x" * 1000)) == 200
