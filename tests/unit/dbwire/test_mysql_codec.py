"""MySQL's messages: what is built is parsed again, real bytes are read right, and any bytes end well."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.dbwire.mysql import answers, handshake, opening
from pkgs.common.dbwire.mysql.binary import parse_execute
from pkgs.common.dbwire.mysql.flags import Capability
from pkgs.common.dbwire.mysql.handshake import Greeting, Response
from pkgs.common.dbwire.mysql.limits import LOGIN_PACKET_MAX, PACKET_MAX
from pkgs.common.dbwire.mysql.packets import HEADER, Packets, frame
from pkgs.common.dbwire.mysql.values import Reader, counted, lenenc
from pkgs.common.errors import ProtocolError

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
FLAGS = st.integers(0, (1 << 25) - 1).map(Capability)


@pytest.mark.fuzz
@given(st.integers(0, (1 << 64) - 1))
def test_a_counted_integer_comes_back(number: int) -> None:
    reader = Reader(lenenc(number))
    assert reader.lenenc() == number
    assert not reader.left


@pytest.mark.fuzz
@given(st.binary(max_size=400))
def test_a_counted_string_comes_back(text: bytes) -> None:
    assert Reader(counted(text)).counted() == text


@pytest.mark.fuzz
@given(NAMES, st.integers(0, 2**32 - 1), FLAGS, NAMES)
def test_a_greeting_comes_back(version: str, thread: int, flags: Capability, plugin: str) -> None:
    flags |= Capability.SECURE_CONNECTION | Capability.PLUGIN_AUTH
    said = Greeting(version, thread, b"12345678901234567890", flags, plugin=plugin)
    assert handshake.parse_greeting(handshake.greeting(said)) == said


@pytest.mark.fuzz
@given(NAMES, st.binary(max_size=200), NAMES, NAMES, st.dictionaries(NAMES, NAMES, max_size=4), FLAGS)
def test_a_response_comes_back(
    user: str, auth: bytes, database: str, plugin: str, told: dict[str, str], flags: Capability
) -> None:
    flags |= Capability.PROTOCOL_41 | Capability.SECURE_CONNECTION
    raw = b"".join(counted(name.encode()) + counted(value.encode()) for name, value in told.items())
    said = Response(flags, user, auth, database, plugin, raw)
    back = handshake.parse_response(handshake.response(said))
    assert (back.user, back.auth, back.capabilities) == (user, auth, flags)
    assert back.database == (database if flags & Capability.CONNECT_WITH_DB else "")
    assert back.plugin == (plugin if flags & Capability.PLUGIN_AUTH else "")
    if flags & Capability.CONNECT_ATTRS:
        assert handshake.parse_attributes(back.attributes) == told


@given(st.binary(min_size=opening.RANDOM_SIZE, max_size=opening.RANDOM_SIZE))
def test_a_greeting_of_our_own(random: bytes) -> None:
    said = opening.own_greeting(random)
    assert handshake.parse_greeting(handshake.greeting(said)) == said
    assert said.thread in opening.NUMBERS and len(said.scramble) == 20 and 0 not in said.scramble


@pytest.mark.fuzz
@given(st.binary(min_size=HEADER, max_size=100), st.integers(0, 255))
def test_any_first_packet_ends_well(raw: bytes, sequence: int) -> None:
    try:
        size = opening.packet_size(raw[:HEADER], sequence)
    except ProtocolError:
        return
    assert HEADER < size <= HEADER + LOGIN_PACKET_MAX and raw[3] == sequence
    if opening.asks_for_tls(raw[:size]):
        assert min(size, len(raw)) == HEADER + 32


def test_a_request_for_tls_is_not_a_login() -> None:
    assert handshake.is_ssl_request(handshake.ssl_request(Capability.PROTOCOL_41, 1 << 24, 45))
    assert not handshake.is_ssl_request(b"\0" * 32)
    assert not handshake.is_ssl_request(handshake.response(Response(Capability.PROTOCOL_41, "alice")))


PARSERS = (
    handshake.parse_greeting,
    handshake.parse_response,
    handshake.parse_attributes,
    handshake.parse_switch,
    answers.parse_ok,
    answers.parse_eof,
    answers.parse_error,
)


@pytest.mark.fuzz
@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@pytest.mark.fuzz
@given(raw=st.binary(min_size=1, max_size=300))
def test_any_bytes_give_a_value_or_a_protocol_error(parse, raw: bytes) -> None:  # type: ignore[no-untyped-def]
    with contextlib.suppress(ProtocolError):
        parse(raw)


@pytest.mark.fuzz
@pytest.mark.fuzz
@given(st.binary(max_size=300), st.integers(0, 300), st.lists(st.integers(0, 0xFFFF), max_size=20))
def test_any_execution_gives_the_parameters_that_can_be_read(
    raw: bytes, count: int, types: list[int]
) -> None:
    found = parse_execute(raw, count, tuple(types))
    assert len(found.values) <= count


def test_parameters_of_every_type_are_read() -> None:
    kinds_values = [
        (0x01, b"\xff", "-1"),
        (0x8001, b"\xff", "255"),
        (0x02, b"\x00\x80", "-32768"),
        (0x03, b"\x01\0\0\0", "1"),
        (0x8008, b"\xff" * 8, str(2**64 - 1)),
        (0x04, struct.pack("<f", 1.5), "1.5"),
        (0x05, struct.pack("<d", -0.25), "-0.25"),
        (0x0A, bytes((4, 0xEA, 7, 11, 28)), "2026-11-28"),
        (0x0C, bytes((11, 0xEA, 7, 11, 28, 9, 8, 7)) + struct.pack("<I", 5), "2026-11-28 09:08:07.000005"),
        (0x07, b"\0", "0000-00-00"),
        (0x0B, bytes((8, 1, 2, 0, 0, 0, 3, 4, 5)), "-2 03:04:05"),
        (0x0B, b"\0", "00:00:00"),
        (0xF6, counted(b"3.25"), b"3.25"),
        (0xFD, counted("zwölf".encode()), "zwölf".encode()),
    ]
    count = len(kinds_values)
    payload = b"\x17" + bytes(9) + bytes((count + 7) // 8) + b"\1"
    payload += b"".join(struct.pack("<H", kind) for kind, _, _ in kinds_values)
    payload += b"".join(raw for _, raw, _ in kinds_values)
    assert parse_execute(payload, count, ()).values == tuple(value for _, _, value in kinds_values)


def test_types_of_an_earlier_execution_nulls_and_parts_are_heeded() -> None:
    payload = b"\x17" + bytes(9) + b"\x02" + b"\0" + counted(b"x")
    found = parse_execute(payload, 3, (0xFD, 0xFD, 0xFD), frozenset((0,)))
    assert found.values == (None, "NULL", b"x")


# --- packets


def follow(packets: Packets, pieces: list[bytes]) -> list[tuple[bytes, int]]:
    """Messages seen in bytes cut like this: what was kept of each, and its size."""
    seen = []
    tail = b""
    for piece in pieces:
        data, pos = memoryview(tail + piece), 0
        tail = b""
        while pos < len(data):
            if not packets.inside:
                if not packets.open(data, pos):
                    tail = bytes(data[pos:])
                    break
                pos += HEADER
            pos = packets.take(data, pos)
            if packets.between:
                seen.append((bytes(packets.kept), packets.size))
    assert not tail or not packets.inside
    return seen


@pytest.mark.fuzz
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=8), st.data())
def test_packets_cut_anywhere_are_the_same_messages(payloads: list[bytes], data: st.DataObject) -> None:
    raw = b"".join(frame(0, payload) for payload in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=10)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert follow(Packets(40), pieces) == [(payload[:40], len(payload)) for payload in payloads]


@pytest.mark.parametrize("size", [PACKET_MAX - 1, PACKET_MAX, PACKET_MAX + 1, 2 * PACKET_MAX])
def test_a_message_of_16_mib_goes_on_in_the_next_packet(size: int) -> None:
    raw = frame(3, bytes(size))
    assert len(raw) == size + HEADER * (size // PACKET_MAX + 1)
    packets = Packets(10)
    assert follow(packets, [raw[:100], raw[100:]]) == [(bytes(10), size)]
    assert packets.sequence == 3 + size // PACKET_MAX


def test_the_fast_way_stops_before_what_may_be_no_row() -> None:
    row, end = frame(5, b"\x03abc"), frame(6, b"\xfe\0\0\x02\0")
    packets = Packets(10)
    data = memoryview(row + row + end)
    assert packets.rows(data, 0) == (2, 2 * len(row))
    assert packets.sequence == 5
    assert packets.rows(memoryview(row + row[:-1]), 0) == (1, len(row))
    assert packets.rows(memoryview(frame(1, bytes(PACKET_MAX))), 0) == (0, 0)
