"""The ClientHello parser: real hellos, cut and crafted ones, and any bytes at all."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.errors import ProtocolError
from pkgs.common.net.clienthello import ClientHello, bytes_needed, parse_client_hello
from pkgs.common.net.limits import HELLO_MAX
from tests.harness.examples import examples


def real_hello(sni: str | None, alpn: list[str]) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=sni)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


HELLO = real_hello("Proxy.Example.com", ["teleport-dial", "h2"])


def resplit(hello: bytes, size: int) -> bytes:
    """The same handshake message in TLS records of `size` bytes."""
    message = hello[5:]
    return b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
        for part in (message[at : at + size] for at in range(0, len(message), size))
    )


def test_reads_name_and_protocols_of_a_real_client() -> None:
    assert parse_client_hello(HELLO) == ClientHello("proxy.example.com", ("teleport-dial", "h2"))
    assert parse_client_hello(HELLO + b"more") == parse_client_hello(HELLO)


def test_a_client_may_name_nothing() -> None:
    assert parse_client_hello(real_hello(None, [])) == ClientHello()


@pytest.mark.parametrize("size", [1, 3, 4, 5, 100, 511])
def test_a_hello_split_over_records_reads_the_same(size: int) -> None:
    assert parse_client_hello(resplit(HELLO, size)) == parse_client_hello(HELLO)


@pytest.mark.parametrize("records", [HELLO, resplit(HELLO, 50)])
def test_every_cut_asks_for_more_bytes_than_there_are(records: bytes) -> None:
    for cut in range(len(records)):
        assert parse_client_hello(records[:cut]) is None
        assert cut < bytes_needed(records[:cut]) <= len(records)


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x02\x00\x00\x05hello",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x15\x03\x01\x00\x02\x01\x00",
        b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03",
    ],
)
def test_anything_else_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_client_hello(raw)


def extension(number: int, content: bytes) -> bytes:
    return number.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content


def hello_with(extensions: bytes) -> bytes:
    message = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0"
    message += len(extensions).to_bytes(2, "big") + extensions
    handshake = b"\x01" + len(message).to_bytes(3, "big") + message
    return b"\x16\x03\x01" + len(handshake).to_bytes(2, "big") + handshake


@pytest.mark.parametrize(
    "extensions",
    [
        extension(0, b"\0\x07\0\0\x04a\nb."),
        extension(0, b"\0\x05\0\0\x02\xc3\xa4"),
        extension(0, b"\0\x03\0\0\0"),
        extension(16, b"\0\x01\0"),
        extension(16, b"\0\x09\x02h2"),
        extension(16, b"\0\x03\x02h2") * 2,
    ],
)
def test_crafted_extensions_are_refused(extensions: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_client_hello(hello_with(extensions))


def test_a_hello_that_never_ends_is_refused_at_the_limit() -> None:
    raw = b"\x16\x03\x01\x00\x01\x01" + b"\x16\x03\x01\x00\x01\x00" * HELLO_MAX
    with pytest.raises(ProtocolError):
        parse_client_hello(raw)


@pytest.mark.fuzz
@settings(max_examples=examples(100), deadline=None)
@given(cut=st.integers(0, len(HELLO)), tail=st.binary(max_size=64), at=st.integers(0, len(HELLO) - 1))
def test_no_bytes_break_the_parser(cut: int, tail: bytes, at: int) -> None:
    flipped = bytearray(HELLO)
    flipped[at] ^= 0xFF
    for raw in (tail, HELLO[:cut] + tail, bytes(flipped)):
        try:
            found = parse_client_hello(raw)
        except ProtocolError:
            continue
        assert found is None or isinstance(found, ClientHello)
