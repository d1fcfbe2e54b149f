"""The hand-made frames are what the message types encode to."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.clients.tsh.connections.wire import decode_strings, encode_strings
from pkgs.common.api.tunnel import UserDial, UserDialReply
from pkgs.common.errors import ProtocolError
from tests.harness.examples import examples

TEXT = st.text(max_size=400)


@given(TEXT, TEXT, TEXT)
@settings(max_examples=examples(100))
def test_a_dial_is_equal_byte_for_byte(target: str, cluster: str, login: str) -> None:
    message = UserDial(service="ssh", target=target, cluster=cluster, login=login)
    fields = {"service": "ssh", "target": target, "cluster": cluster, "login": login}
    assert encode_strings(fields) == msgspec.msgpack.encode(message)


@given(TEXT, TEXT)
@settings(max_examples=examples(100))
def test_a_reply_is_understood(error: str, hint: str) -> None:
    reply = UserDialReply(error=error, hint=hint, host_id="id", hostname="web")
    assert decode_strings(msgspec.msgpack.encode(reply)) == msgspec.to_builtins(reply)


@pytest.mark.fuzz
@given(st.binary(max_size=200))
@settings(max_examples=examples(100))
def test_anything_else_is_a_protocol_error_or_a_map(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert isinstance(decode_strings(data), dict)


@pytest.mark.parametrize(
    "data", [b"", b"\x81", b"\x81\xa1k", b"\x81\xa1k\x01", b"\x80x", b"\x81\xa1k\xd9\xff", b"\x90"]
)
def test_broken_replies(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_strings(data)
