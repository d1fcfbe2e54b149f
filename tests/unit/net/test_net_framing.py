"""Frames: what is written is read, in any pieces; everything else is a protocol error."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.api.tunnel import DialHeader, UserDial
from pkgs.common.errors import ProtocolError, UnavailableError
from pkgs.common.net.dial_blocking import read_frame as read_frame_lean
from pkgs.common.net.dial_blocking import write_frame
from pkgs.common.net.framing import FrameDecoder, decode_frame, encode_frame, read_frame_blocking

DIAL = UserDial(target="node-1", login="root")


@settings(max_examples=50)
@given(st.lists(st.integers(1, 9)))
def test_any_pieces_give_the_same_frames(sizes: list[int]) -> None:
    raw = encode_frame(DIAL) * 3
    decoder = FrameDecoder(UserDial)
    found: list[UserDial] = []
    for size in sizes:
        piece, raw = raw[:size], raw[size:]
        found += decoder.feed(piece)
    found += decoder.feed(raw)
    assert found == [DIAL] * 3
    assert decoder.rest == b""


@pytest.mark.parametrize("raw", [b"\0\0", b"\xff\xff", b"\x40\x01"])
def test_impossible_lengths_are_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        FrameDecoder(UserDial).feed(raw)


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_decoder(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_frame(b"\xc1" + body, DialHeader)
    try:
        decode_frame(body, DialHeader)
    except ProtocolError:
        return


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode_frame(b"\x91" * 10_000, DialHeader)


def test_blocking_readers_take_exactly_one_frame() -> None:
    here, there = socket.socketpair()
    with here, there:
        write_frame(there, encode_frame(DIAL)[2:])
        there.sendall(encode_frame(DIAL) + b"rest")
        assert decode_frame(read_frame_lean(here), UserDial) == DIAL
        assert read_frame_blocking(here, UserDial) == DIAL
        assert here.recv(10) == b"rest"
        there.sendall(b"\x00")
        there.close()
        with pytest.raises(UnavailableError):
            read_frame_lean(here)


def test_too_long_a_frame_is_not_written() -> None:
    with pytest.raises(ProtocolError):
        encode_frame(UserDial(target="x" * 20_000))
