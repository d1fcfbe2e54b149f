"""Remote forwardings as a client asks for them, and channels that this side opens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.ssh.forwarding import (
    Opening,
    RemoteForward,
    Waiting,
    forwarded_tcp,
    read_remote_forward,
)
from pkgs.common.ssh.limits import MAX_BIND_HOST, MAX_PENDING_OPENS
from pkgs.common.ssh.wire import Reader, WireError, string, uint32

KINDS = ("tcpip-forward", "cancel-tcpip-forward")


def nobody() -> Waiting:
    return Waiting(lambda remote, window, packet: None, lambda: None)


@pytest.mark.fuzz
@given(kind=st.sampled_from(KINDS), body=st.binary(max_size=80))
def test_any_body_is_read_or_refused(kind: str, body: bytes) -> None:
    try:
        found = read_remote_forward(kind, Reader(body))
    except WireError:
        return
    assert found is not None
    assert 0 <= found.port <= 0xFFFF


@given(
    kind=st.sampled_from(KINDS),
    host=st.text(st.characters(codec="utf-8"), max_size=50),
    port=st.integers(0, 0xFFFF),
)
def test_what_is_written_is_read(kind: str, host: str, port: int) -> None:
    body = string(host) + uint32(port)
    assert read_remote_forward(kind, Reader(body)) == RemoteForward(host, port, kind != KINDS[0])


def test_bounds() -> None:
    with pytest.raises(WireError, match="port"):
        read_remote_forward(KINDS[0], Reader(string("") + uint32(0x10000)))
    with pytest.raises(WireError, match="long"):
        read_remote_forward(KINDS[0], Reader(string("x" * (MAX_BIND_HOST + 1)) + uint32(1)))
    assert read_remote_forward("streamlocal-forward@openssh.com", Reader(string("/x"))) is None


def test_the_client_is_told_the_address_it_wrote() -> None:
    body = Reader(forwarded_tcp(RemoteForward("localhost", 0), 4000, ("127.0.0.1", 5)))
    assert (body.text(), body.uint32(), body.text(), body.uint32()) == ("localhost", 4000, "127.0.0.1", 5)


def test_a66_an_answer_nobody_waits_for() -> None:
    opening = Opening()
    with pytest.raises(WireError):
        opening.take(3)
    assert opening.ask("x11", 3, b"", nobody())
    opening.take(3)
    with pytest.raises(WireError):
        opening.take(3)


def test_a66_a_peer_that_never_answers_holds_a_bounded_number() -> None:
    opening = Opening()
    asked = [opening.ask("forwarded-tcpip", number, b"", nobody()) for number in range(MAX_PENDING_OPENS + 1)]
    assert all(asked[:-1])
    assert asked[-1] == b""
    opening.take(0)
    assert opening.ask("forwarded-tcpip", MAX_PENDING_OPENS, b"", nobody())
