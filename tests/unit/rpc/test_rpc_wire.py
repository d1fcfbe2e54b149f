"""The ZMTP codec: golden bytes of libzmq 4.3.5, every refusal, and cuts anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.errors import ProtocolError
from pkgs.common.rpc.limits import WireLimits
from pkgs.common.rpc.wire import (
    GREETING,
    Event,
    Ping,
    Pong,
    Ready,
    Refused,
    ZmtpReader,
    encode_command,
    encode_message,
    encode_ping,
    encode_pong,
    encode_ready,
    encode_refusal,
)
from tests.harness.examples import examples

LIMITS = WireLimits(frame_bytes=1000, message_bytes=1500, parts=3, command_bytes=64)
HELLO = GREETING + encode_ready("DEALER")

# What libzmq 4.3.5 sends as a ROUTER, captured.
LIBZMQ_ROUTER = (
    bytes.fromhex("ff00000000000000017f0301")
    + b"NULL"
    + b"\0" * 48
    + bytes.fromhex("0429")
    + b"\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER\x08Identity\x00\x00\x00\x00"
)


def reader(accept: str = "DEALER") -> ZmtpReader:
    return ZmtpReader(LIMITS, accept=accept)


def feed_in_pieces(data: bytes, cuts: list[int]) -> list[Event]:
    found: list[Event] = []
    into = reader()
    at = 0
    for cut in [*sorted(cuts), len(data)]:
        found += into.feed(data[at:cut])
        at = cut
    return found


def test_the_handshake_of_libzmq_is_understood() -> None:
    assert reader("ROUTER").feed(LIBZMQ_ROUTER) == [Ready("ROUTER")]


def test_our_greeting_is_that_of_libzmq() -> None:
    assert LIBZMQ_ROUTER.startswith(GREETING)


def test_messages_and_commands_come_in_order() -> None:
    data = (
        HELLO
        + encode_message([b"a", b"b" * 300])
        + encode_ping(b"ctx")
        + encode_message([b""])
        + encode_pong(b"")
    )
    assert reader().feed(data) == [Ready("DEALER"), [b"a", b"b" * 300], Ping(b"ctx"), [b""], Pong(b"")]


@given(
    messages=st.lists(st.lists(st.binary(max_size=400), min_size=1, max_size=3), max_size=5),
    cuts=st.lists(st.integers(0, 2000), max_size=12),
)
@settings(max_examples=examples(100))
def test_cuts_change_nothing(messages: list[list[bytes]], cuts: list[int]) -> None:
    data = HELLO + b"".join(encode_message(parts) for parts in messages)
    cuts = [min(cut, len(data)) for cut in cuts]
    assert feed_in_pieces(data, cuts) == [Ready("DEALER"), *messages]


def test_byte_by_byte() -> None:
    data = HELLO + encode_message([b"x" * 300, b"y"])
    assert feed_in_pieces(data, list(range(len(data)))) == [Ready("DEALER"), [b"x" * 300, b"y"]]


@pytest.mark.fuzz
@given(
    tail=st.binary(max_size=200),
    keep=st.integers(0, 200),
    cuts=st.lists(st.integers(0, 400), max_size=5),
    body=st.binary(max_size=100),
)
@settings(max_examples=examples(100))
def test_fuzz_only_events_or_protocol_error(tail: bytes, keep: int, cuts: list[int], body: bytes) -> None:
    """A valid conversation cut at a random point, then random bytes."""
    valid = HELLO + encode_message([body, body]) + encode_ping(b"abc")
    data = valid[:keep] + tail
    try:
        found = feed_in_pieces(data, [min(cut, len(data)) for cut in cuts])
    except ProtocolError:
        return
    for event in found:
        assert isinstance(event, list | Ready | Ping | Pong)


@pytest.mark.fuzz
@given(st.binary(max_size=300))
@settings(max_examples=examples(100))
def test_fuzz_after_the_handshake_memory_is_bounded(tail: bytes) -> None:
    into = reader()
    into.feed(HELLO)
    try:
        into.feed(tail)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            into.feed(b"more")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("not ZMTP at all", b"GET / HTTP/1.1\r\n"),
        ("ZMTP 1.0 anonymous greeting", b"\x01\x00" + b"\x02\x00a"),
        ("ZMTP 1.0 with identity", b"\x05\x00abcd"),
        ("ZMTP 2.0", b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x05\x00\x00"),
        ("ZMTP 4", GREETING[:10] + b"\x04\x00" + GREETING[12:]),
        ("bad signature", GREETING[:9] + b"\x00"),
        ("CURVE", GREETING[:12] + b"CURVE".ljust(20, b"\0")),
        ("PLAIN", GREETING[:12] + b"PLAIN".ljust(20, b"\0")),
        ("NULL with a tail", GREETING[:12] + b"NULLX".ljust(20, b"\0")),
        ("as-server out of range", GREETING[:32] + b"\x02"),
        ("identity", GREETING + encode_ready("DEALER", b"chosen")),
        ("identity led by NUL", GREETING + encode_ready("DEALER", b"\0\x80\0\0\x29")),
        (
            "identity in other letters",
            GREETING + encode_command(b"READY", b"\x0bSocket-Type\0\0\0\x06DEALER\x08iDENTITY\0\0\0\x01x"),
        ),
        (
            "identity twice",
            GREETING
            + encode_command(
                b"READY", b"\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0\x08Identity\0\0\0\x01x"
            ),
        ),
        ("another socket type", GREETING + encode_ready("ROUTER")),
        ("no socket type", GREETING + encode_command(b"READY", b"")),
        ("property cut short", GREETING + encode_command(b"READY", b"\x0bSocket-Type\0\0\0\xffDEALER")),
        ("property without value", GREETING + encode_command(b"READY", b"\x0bSocket-Type\0")),
        ("property without name", GREETING + encode_command(b"READY", b"\0\0\0\0\0")),
        ("message before READY", GREETING + encode_message([b"x"])),
        ("other command first", GREETING + encode_ping()),
        ("HELLO of PLAIN", GREETING + encode_command(b"HELLO", b"\x01a\x01b")),
        ("READY again", HELLO + encode_ready("DEALER")),
        ("whole handshake again", HELLO + HELLO),
        ("SUBSCRIBE", HELLO + encode_command(b"SUBSCRIBE", b"")),
        ("ERROR", HELLO + encode_command(b"ERROR", b"\x03bad")),
        ("command without name", HELLO + b"\x04\x00"),
        ("command name cut short", HELLO + b"\x04\x02\x05a"),
        ("command with more", HELLO + b"\x05\x05\x04PING"),
        ("command too long", HELLO + b"\x06" + (65).to_bytes(8, "big")),
        ("command inside a message", HELLO + b"\x01\x01a" + encode_ping()),
        ("PING without TTL", HELLO + encode_command(b"PING", b"\0")),
        ("PING with long context", HELLO + encode_ping(b"x" * 17)),
        ("PONG with long context", HELLO + encode_pong(b"x" * 17)),
        ("reserved bits", HELLO + b"\x08\x01a"),
        ("frame too long", HELLO + b"\x02" + (1001).to_bytes(8, "big")),
        ("1 GB frame header", HELLO + b"\x02" + (10**9).to_bytes(8, "big")),
        ("2^63 frame header", HELLO + b"\x02" + (2**63).to_bytes(8, "big")),
        (
            "message too long",
            HELLO + b"\x03" + (800).to_bytes(8, "big") + b"x" * 800 + b"\x02" + (701).to_bytes(8, "big"),
        ),
        ("too many parts", HELLO + b"\x01\x00" * 3 + b"\x00\x00"),
    ],
)
def test_refused(name: str, data: bytes) -> None:
    """Whole or byte by byte, and for good."""
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        into = reader()
        with pytest.raises(ProtocolError):
            for piece in pieces:
                into.feed(piece)
        with pytest.raises(ProtocolError):
            into.feed(b"")


def test_sizes_at_the_limit_pass() -> None:
    into = reader()
    into.feed(HELLO)
    assert into.feed(encode_message([b"x" * 1000, b"y" * 499, b"z"])) == [[b"x" * 1000, b"y" * 499, b"z"]]


def test_a_refused_frame_is_refused_on_its_header() -> None:
    """Nothing is buffered for it."""
    into = reader()
    into.feed(HELLO)
    with pytest.raises(ProtocolError):
        into.feed(b"\x02" + (1001).to_bytes(8, "big"))


def test_a_refusal_by_the_server_says_why() -> None:
    data = GREETING + encode_refusal("denied not you")
    (refused,) = reader("ROUTER").feed(data + b"whatever follows")
    assert isinstance(refused, Refused)
    assert refused.reason == "denied not you"
    with pytest.raises(ProtocolError):
        reader().feed(data)


def test_mid_message_is_known() -> None:
    into = reader()
    into.feed(HELLO)
    assert not into.mid_message
    into.feed(b"\x01\x01a")
    assert into.mid_message
    into.feed(b"\x00")
    assert into.mid_message
    into.feed(b"\x00")
    assert not into.mid_message
