"""Frames: what is written is read, in any pieces; everything else is a protocol error."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.api.tunnel import DialHeader, UserDial
from pkgs.common.errors import ProtocolError, UnavailableError
from pkgs.common.net.framing import decode_frame, encode_frame, read_frame
from pkgs.common.net.stream import Stream, adopt
from tests.harness.examples import examples

DIAL = UserDial(target="node-1", login="root")


def frames_of(pieces: list[bytes], count: int) -> list[UserDial]:
    """What a reader gets that is fed these pieces, one after the other, and then the end."""

    async def body() -> list[UserDial]:
        here, there = socket.socketpair()
        with there:
            stream = await adopt(here)
            try:
                async with asyncio.timeout(5):
                    reading = asyncio.ensure_future(read_all(stream, count))
                    for piece in pieces:
                        there.sendall(piece)
                        await asyncio.sleep(0)
                    there.shutdown(socket.SHUT_WR)
                    return await reading
            finally:
                stream.abort()

    async def read_all(stream: Stream, count: int) -> list[UserDial]:
        return [await read_frame(stream, UserDial) for _ in range(count)]

    return asyncio.run(body())


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(st.integers(1, 9), max_size=40))
def test_any_pieces_give_the_same_frames(sizes: list[int]) -> None:
    raw, pieces = encode_frame(DIAL) * 3, []
    for size in sizes:
        pieces.append(raw[:size])
        raw = raw[size:]
    assert frames_of([*pieces, raw], 3) == [DIAL] * 3


@pytest.mark.parametrize("raw", [b"\0\0", b"\xff\xff", b"\x40\x01"])
def test_impossible_lengths_are_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        frames_of([raw], 1)


def test_an_end_inside_a_frame_is_no_frame() -> None:
    with pytest.raises(UnavailableError):
        frames_of([encode_frame(DIAL)[:-1]], 1)


@pytest.mark.fuzz
@settings(max_examples=examples(100))
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


def test_too_long_a_frame_is_not_written() -> None:
    with pytest.raises(ProtocolError):
        encode_frame(UserDial(target="x" * 20_000))
