"""Both ends of a resumable stream, connections lost at any byte, and hostile peers."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.errors import ProtocolError
from pkgs.common.net.resume import limits
from pkgs.common.net.resume.state import Resumable
from pkgs.common.net.resume.wire import (
    CLOSE,
    CLOSE_VALUE,
    NumberReader,
    TicketReader,
    encode_number,
    encode_ticket,
)

U64 = st.integers(0, CLOSE_VALUE)


def number_of(data: bytes) -> int | None:
    reader = NumberReader()
    found = [value for byte in data if (value := reader.take(byte)) is not None]
    return found[0] if found else None


class Wire:
    """One direction of a connection: bytes on their way."""

    def __init__(self) -> None:
        self.data = bytearray()


class End:
    """A state with what its side wrote, and what it was given."""

    def __init__(self) -> None:
        self.state = Resumable()
        self.wrote = bytearray()
        self.read = bytearray()
        self.unread = 0

    def push(self, wire: Wire) -> None:
        while out := self.state.pull():
            wire.data += out

    def take(self, wire: Wire, count: int) -> None:
        data = bytes(wire.data[:count])
        del wire.data[:count]
        received = self.state.receive(memoryview(data))
        self.read += received
        self.unread += len(received)


@pytest.mark.fuzz
@given(st.data())
def test_nothing_is_lost_or_repeated_whatever_is_cut(data: st.DataObject) -> None:
    ends, wires = (End(), End()), (Wire(), Wire())
    draw_random = random.Random(data.draw(st.integers(0, 2**32)))
    for step in data.draw(st.lists(st.sampled_from("wwWWpptttTccxe"), max_size=60)):
        side = draw_random.randrange(2)
        one, wire = ends[side], wires[side]
        if step in "wW":
            most = 40 if step == "w" else 700_000
            chunk = draw_random.randbytes(min(draw_random.randrange(1, most), one.state.room))
            one.state.put(chunk)
            one.wrote += chunk
        elif step == "p":
            one.push(wire)
        elif step in "tT":
            other = wires[1 - side]
            size = len(other.data)
            one.take(other, draw_random.randrange(size + 1) if step == "t" else size)
        elif step == "c":
            count = draw_random.randrange(one.unread + 1)
            one.state.consumed(count)
            one.unread -= count
        elif step == "e" and draw_random.random() < 0.2:
            one.state.end()
        elif step == "x":
            # What is on its way is gone; either side may have seen more of it or less.
            for this, gone in zip(ends, wires, strict=True):
                gone.data.clear()
                this.state.lost()
                this.state.attach()
        assert one.state.held <= limits.SEND_MAX
        for this, that in ((ends[0], ends[1]), (ends[1], ends[0])):
            assert that.wrote.startswith(bytes(this.read)), "lost, repeated or out of order"
    _settle(ends, wires)
    assert (ends[0].read, ends[1].read) == (ends[1].wrote, ends[0].wrote)
    for one in ends:
        assert one.state.over
        assert one.state.pull() == b""


def _settle(ends: tuple[End, End], wires: tuple[Wire, Wire]) -> None:
    """Let the connection stay, and both sides say all."""
    for one in ends:
        one.state.end()
    for _ in range(8):
        for side, one in enumerate(ends):
            one.push(wires[side])
            one.take(wires[1 - side], len(wires[1 - side].data))
            one.state.consumed(one.unread)
            one.unread = 0


def test_a_cut_at_every_byte_of_a_conversation() -> None:
    """Each way, within every number and payload, and within what the ends say when they meet again."""
    for sent, met in itertools.product(range(40), (0, 1, 2, 5, 1000)):
        ends, wires = (End(), End()), (Wire(), Wire())
        for one, text in zip(ends, (b"all that one says", b"and the other"), strict=True):
            one.wrote += text
            one.state.put(text[:5])
            one.state.put(text[5:])
        for amount in (sent, met):
            for side, one in enumerate(ends):
                one.push(wires[side])
            for side, one in enumerate(ends):
                one.take(wires[1 - side], amount)
            for one, wire in zip(ends, wires, strict=True):
                wire.data.clear()
                one.state.lost()
                one.state.attach()
        _settle(ends, wires)
        assert (ends[0].read, ends[1].read) == (ends[1].wrote, ends[0].wrote), (sent, met)


@given(U64)
def test_a_number_is_read_as_it_was_written(value: int) -> None:
    assert number_of(encode_number(value)) == value
    assert len(encode_number(value)) <= limits.VARINT_MAX


@pytest.mark.parametrize("data", [b"\xff" * 10, b"\x80" * 9 + b"\x02", b"\xff" * 9 + b"\x7f"])
def test_a66_a_number_of_more_than_64_bits_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        number_of(data)


def test_the_bytes_are_those_of_version_0() -> None:
    one = Resumable()
    one.put(b"abc")
    assert one.pull() == b"\x00\x03abc"
    one.receive(memoryview(b"\x03\x02hi"))
    one.consumed(2)
    one.put(b"x" * 200)
    assert one.pull() == b"\x02\xc8\x01" + b"x" * 200
    one.end()
    assert one.pull() == CLOSE == b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    one.lost()
    one.attach()
    assert one.pull() == b"\x02" + b"\x80\x80\x80\x08"
    assert one.pull() == b"", "the peer's numbers come first"
    assert one.receive(memoryview(b"\xc9\x01" + encode_number(limits.WINDOW))) == b""
    assert one.pull() == b"\x00\x02xx", "what the peer does not have, and nothing else"


@pytest.mark.fuzz
@given(st.binary(max_size=200), st.booleans(), st.integers(0, 300))
def test_a66_any_bytes_are_payload_within_bounds_or_refused(data: bytes, again: bool, put: int) -> None:
    one = Resumable()
    one.put(b"y" * put)
    one.pull()
    if again:
        one.lost()
        one.attach()
        one.pull()
    try:
        received = one.receive(memoryview(data))
    except ProtocolError:
        return
    assert len(received) <= len(data)
    assert 0 <= one.held <= put
    one.pull()


def _after_greeting(received: int, left: int) -> Callable[[], None]:
    def hostile() -> None:
        one = Resumable()
        one.put(b"z" * 100)
        one.pull()
        one.lost()
        one.attach()
        one.pull()
        one.receive(memoryview(encode_number(received) + encode_number(left)))

    return hostile


@pytest.mark.parametrize(
    ("received", "left"),
    [
        (101, limits.WINDOW),
        (2**63, limits.WINDOW),
        (100, limits.WINDOW + 1),
        (0, limits.WINDOW + 1),
        (50, 0),
        (0, CLOSE_VALUE),
    ],
)
def test_a66_positions_that_cannot_be_are_refused(received: int, left: int) -> None:
    with pytest.raises(ProtocolError):
        _after_greeting(received, left)()


def test_a66_what_was_acknowledged_cannot_be_asked_for_again() -> None:
    one = Resumable()
    one.put(b"z" * 100)
    one.pull()
    one.receive(memoryview(b"\x64\x00"))
    assert one.held == 0
    one.lost()
    one.attach()
    one.pull()
    with pytest.raises(ProtocolError):
        one.receive(memoryview(encode_number(50) + encode_number(limits.WINDOW)))


def test_a66_what_was_sent_twice_counts_once() -> None:
    one = Resumable()
    one.put(b"z" * 100)
    one.pull()
    for _ in range(2):
        one.lost()
        one.attach()
        one.pull()
        one.receive(memoryview(encode_number(40) + encode_number(limits.WINDOW)))
        assert one.pull() == b"\x00\x3c" + b"z" * 60
    one.lost()
    one.attach()
    one.pull()
    with pytest.raises(ProtocolError):
        one.receive(memoryview(encode_number(101) + encode_number(limits.WINDOW)))


def test_a66_windows_and_payloads_that_cannot_be_are_refused() -> None:
    for data in (b"\x01\x00", b"\x00" + encode_number(limits.WINDOW + 1), CLOSE + b"\x00\x01x"):
        with pytest.raises(ProtocolError):
            Resumable().receive(memoryview(data))
    Resumable().receive(memoryview(b"\x00" + encode_number(limits.WINDOW)))


def test_a66_frames_of_nothing_have_an_end() -> None:
    one = Resumable()
    one.receive(memoryview(b"\x00\x00" * limits.EMPTY_MAX))
    with pytest.raises(ProtocolError):
        one.receive(memoryview(b"\x00\x00"))
    other = Resumable()
    with pytest.raises(ProtocolError):
        other.receive(memoryview(CLOSE * (limits.EMPTY_MAX + 1)))


def test_a_peer_that_takes_nothing_bounds_what_is_kept() -> None:
    one = Resumable()
    while one.room:
        one.put(b"k" * min(one.room, limits.CHUNK))
        one.pull()
    assert one.held == limits.SEND_MAX
    with pytest.raises(ValueError, match="room"):
        one.put(b"k")


def test_acknowledgements_come_by_themselves_when_there_is_nothing_else_to_say() -> None:
    one = Resumable()
    one.receive(memoryview(b"\x00" + encode_number(limits.ACK_STEP) + b"p" * limits.ACK_STEP))
    one.consumed(limits.ACK_STEP - 1)
    assert one.pull() == b""
    one.consumed(1)
    assert one.pull() == encode_number(limits.ACK_STEP) + b"\x00"
    assert one.pull() == b""


@given(st.binary(min_size=16, max_size=16), st.uuids(), st.binary(max_size=5), st.integers(1, 60))
def test_a_ticket_is_read_as_it_was_written(token: bytes, host: object, tail: bytes, step: int) -> None:
    token = bytes([token[0] | 0x80]) + token[1:]
    data = encode_ticket(token, str(host))
    reader = TicketReader()
    for at in range(0, len(data) - 1, step):
        piece = data[: len(data) - 1][at : at + step]
        assert reader.feed(piece) is None
    assert reader.feed(data[-1:] + tail) == tail
    assert (reader.token, reader.host_id) == (token, str(host))


@pytest.mark.parametrize(
    "data",
    [
        b"\x01",
        b"\x80" * 16 + b"\x00",
        b"\x80" * 16 + b"\x80",
        b"\x80" * 16 + b"\x03a\nb",
        b"\x80" * 16 + b"\x03../",
        b"\x80" * 16 + b"\x02\xc3\xa9",
    ],
)
def test_a66_a_ticket_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        TicketReader().feed(data)
