"""Remote forwardings as a client asks for them, and channels that this side opens."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.ssh.forwarding import (
    Opening,
    RemoteForward,
    UnixForward,
    Waiting,
    forwarded_tcp,
    forwarded_unix,
    read_remote_forward,
    read_unix_forward,
)
from pkgs.common.ssh.limits import MAX_BIND_HOST, MAX_PENDING_OPENS
from pkgs.common.ssh.requests import X11Request, read_direct_unix, read_request
from pkgs.common.ssh.wire import Reader, WireError, boolean, string, uint32

KINDS = ("tcpip-forward", "cancel-tcpip-forward")
UNIX_KINDS = ("streamlocal-forward@openssh.com", "cancel-streamlocal-forward@openssh.com")


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


@pytest.mark.fuzz
@given(kind=st.sampled_from(UNIX_KINDS), body=st.binary(max_size=80))
def test_any_body_about_a_socket_is_read_or_refused(kind: str, body: bytes) -> None:
    for read in (lambda reader: read_unix_forward(kind, reader), read_direct_unix):
        with contextlib.suppress(WireError):
            read(Reader(body))


@given(kind=st.sampled_from(UNIX_KINDS), path=st.binary(max_size=200))
def test_a_socket_is_called_what_the_client_called_it(kind: str, path: bytes) -> None:
    asked = read_unix_forward(kind, Reader(string(path)))
    assert asked == UnixForward(path, kind != UNIX_KINDS[0])
    assert read_unix_forward("tcpip-forward", Reader(string(path))) is None
    body = Reader(forwarded_unix(asked))
    assert (body.string(), body.string(), body.at_end()) == (path, b"", True)
    assert read_direct_unix(Reader(string(path) + string("") + uint32(0))) == path


@pytest.mark.fuzz
@given(body=st.binary(max_size=80))
def test_any_body_of_an_x11_request_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(WireError):
        read_request("x11-req", Reader(body))


@given(single=st.booleans(), protocol=st.binary(max_size=40), cookie=st.binary(max_size=40))
def test_an_x11_request_is_read_and_never_shows_its_cookie(single, protocol: bytes, cookie: bytes) -> None:
    body = boolean(single) + string(protocol) + string(b"00" + cookie) + uint32(7)
    asked = read_request("x11-req", Reader(body))
    assert isinstance(asked, X11Request)
    assert (asked.single, asked.screen, len(asked.cookie)) == (single, 7, len(cookie) + 2)
    assert "cookie" not in repr(asked)


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


def test_whoever_waits_is_told_when_the_connection_is_over() -> None:
    opening, told = Opening(), []
    for number in (1, 2, 3):
        waiting = Waiting(lambda *_: None, lambda number=number: told.append(number))
        assert opening.ask("x11", number, b"", waiting)
    opening.take(2)
    opening.end()
    assert told == [1, 3]
    assert opening.ask("x11", 4, b"", nobody()) == b""
