"""Headers, strict bodies and errors on the wire."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.errors import BY_CODE, DeniedError, InputError, InternalError, ProtocolError
from pkgs.common.rpc import envelope
from pkgs.common.rpc.calls import Request
from tests.harness.examples import examples


class Thing(Request[int], frozen=True, kw_only=True):
    name: str
    labels: dict[str, str] = {}
    any: Any = None


decoder = msgspec.msgpack.Decoder(Thing)
pack = msgspec.msgpack.encode


def test_a_request_survives() -> None:
    thing = Thing(name="a", labels={"x": "y"}, any=[1, {"z": None}])
    assert envelope.decode_body(decoder, pack(thing)) == thing


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("duplicate key", b"\x82\xa4name\xa1a\xa4name\xa1b"),
        ("duplicate key inside", b"\x82\xa4name\xa1a\xa6labels\x82\xa1x\xa1y\xa1x\xa1z"),
        ("duplicate key in anything", b"\x82\xa4name\xa1a\xa3any\x82\xa1x\xa1y\xa1x\xa1z"),
        ("trailing bytes", pack({"name": "a"}) + b"\xc0"),
        ("unknown field", pack({"name": "a", "nam": "b"})),
        ("missing field", b"\x80"),
        ("wrong type", pack({"name": 7})),
        ("not a map", pack(["a"])),
        ("longer form than needed", b"\x81\xd9\x04name\xa1a"),
        ("empty", b""),
        ("cut short", pack({"name": "abc"})[:-1]),
        ("deep arrays", b"\x91" * 10_000 + b"\xc0"),
        ("deep arrays in a field", b"\x82\xa4name\xa1a\xa3any" + b"\x91" * 10_000 + b"\xc0"),
        ("deep maps in a field", b"\x82\xa4name\xa1a\xa3any" + b"\x81\xa1x" * 10_000 + b"\xc0"),
        ("bad UTF-8", b"\x81\xa4name\xa1\xff"),
        ("pickle", pickle.dumps({"name": "a"})),
        ("huge announced array", b"\x82\xa4name\xa1a\xa3any\xdd\xff\xff\xff\xff"),
        ("map key that cannot be hashed", b"\x82\xa4name\xa1a\xa3any\x81\x91\x80\xc0"),
    ],
)
def test_a43_bodies_that_are_refused(name: str, raw: bytes) -> None:
    with pytest.raises(InputError):
        envelope.decode_body(decoder, raw)


@pytest.mark.fuzz
@given(st.binary(max_size=200))
@settings(max_examples=examples(100))
def test_fuzz_bodies(raw: bytes) -> None:
    try:
        envelope.decode_body(decoder, raw)
    except InputError:
        return


@pytest.mark.fuzz
@given(st.binary(max_size=60))
@settings(max_examples=examples(100))
def test_fuzz_headers(raw: bytes) -> None:
    try:
        header = envelope.parse_header(raw)
    except ProtocolError:
        return
    assert 0 < header.call_id < 2**32


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        pack((1,)),
        pack((1, 0)),
        pack((1, -1)),
        pack((1, 2**32)),
        pack((1, 2**70 % 2**64)),
        pack(("1", 1)),
        pack((1, 1, -1)),
        pack((1, 1, 2**32)),
        pack((1, 1, 1, "x" * 129)),
        pack((1, 1, 1, "x", "k" * 129)),
        pack((1, 1, 1, "x")) + b"\0",
        pack({"kind": 1, "call_id": 1}),
        b"\x91" * 10_000,
    ],
)
def test_headers_that_end_the_connection(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        envelope.parse_header(raw)


def test_errors_cross_by_code_without_what_is_for_the_log() -> None:
    error = DeniedError("no", detail="secret detail", hint="ask", reasons=("secret reason",))
    raw = envelope.encode_error(error)
    assert b"secret" not in raw
    got = envelope.decode_error(raw)
    assert type(got) is DeniedError
    assert (got.message, got.hint, got.detail, got.reasons) == ("no", "ask", "", ())


def test_every_code_comes_back_as_its_class() -> None:
    for cls in BY_CODE.values():
        assert type(envelope.decode_error(envelope.encode_error(cls("m")))) is cls


def test_an_unknown_code_is_internal() -> None:
    assert type(envelope.decode_error(pack(("new-code", "m", "")))) is InternalError


def test_a_malformed_error_is_a_protocol_error() -> None:
    for raw in (b"", b"\xff", pack(1), pack(("denied",))):
        with pytest.raises(ProtocolError):
            envelope.decode_error(raw)


def test_credit_is_bounded() -> None:
    assert envelope.parse_credit(8) == 8
    for number in (0, -1, 1025, 2**32):
        with pytest.raises(ProtocolError):
            envelope.parse_credit(number)
