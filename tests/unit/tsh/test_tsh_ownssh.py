"""The parsers of tsh's own SSH client: ports, SOCKS, escape sequences, options, known_hosts."""

from __future__ import annotations

import ipaddress
import os
import socket
from string import ascii_lowercase
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.clients.tsh.ownssh.escapes import END, Escapes
from pkgs.clients.tsh.ownssh.forwards import DYNAMIC, LOCAL, REMOTE, Forward, parse_forward
from pkgs.clients.tsh.ownssh.incoming import Incoming
from pkgs.clients.tsh.ownssh.loop import Loop
from pkgs.clients.tsh.ownssh.session import Session
from pkgs.clients.tsh.ownssh.settings import QUIET, VERBOSE, Settings, of_args
from pkgs.clients.tsh.ownssh.sockets import LocalPorts
from pkgs.clients.tsh.ownssh.socks import Socks
from pkgs.clients.tsh.verbs.ssh import SPEC
from pkgs.common.errors import InputError, UnavailableError
from pkgs.common.output.argv import Parser
from pkgs.common.ssh.client.connection import Connection
from pkgs.common.ssh.forwarding import RemoteForward
from pkgs.common.ssh.wire import Reader, string, uint32


@pytest.mark.parametrize(
    ("kind", "text", "forward"),
    [
        (LOCAL, "80:db:5432", Forward(LOCAL, None, 80, "db", 5432)),
        (LOCAL, "127.0.0.1:80:[::1]:22", Forward(LOCAL, "127.0.0.1", 80, "::1", 22)),
        (LOCAL, "[::]:80:db:22", Forward(LOCAL, "::", 80, "db", 22)),
        (LOCAL, "*:80 db:22", Forward(LOCAL, "", 80, "db", 22)),
        (REMOTE, ":0:db:22", Forward(REMOTE, "", 0, "db", 22)),
        (DYNAMIC, "1080", Forward(DYNAMIC, None, 1080)),
        (DYNAMIC, "localhost:1080", Forward(DYNAMIC, "localhost", 1080)),
    ],
)
def test_a_forwarded_port(kind: str, text: str, forward: Forward) -> None:
    assert parse_forward(kind, text) == forward


@pytest.mark.parametrize(
    "text",
    [
        "",
        "80",
        "80:db",
        "0:db:22",
        "80:db:0",
        "80:db:65536",
        "80::22",
        "/a:b:1",
        "x:y:z",
        "[::1:8:d:2",
        "..:80:db:22",
        f"80:{'a' * 64}:22",
    ],
)
def test_what_is_no_local_port(text: str) -> None:
    with pytest.raises(InputError):
        parse_forward(LOCAL, text)


@pytest.mark.fuzz
@given(st.sampled_from([LOCAL, REMOTE, DYNAMIC]), st.text())
def test_any_text_is_a_port_or_refused(kind: str, text: str) -> None:
    try:
        forward = parse_forward(kind, text)
    except InputError:
        return
    assert 0 <= forward.port < 65_536 and (forward.host_port > 0) == (kind != DYNAMIC)


def _request(host: str, port: int) -> bytes:
    try:
        packed = ipaddress.ip_address(host).packed
        address = (b"\1" if len(packed) == 4 else b"\4") + packed
    except ValueError:
        address = b"\3" + bytes([len(host)]) + host.encode()
    return b"\5\1\0" + b"\5\1\0" + address + port.to_bytes(2, "big")


HOSTS = st.one_of(st.ip_addresses().map(str), st.text(ascii_lowercase + ".-", min_size=1, max_size=255))


@pytest.mark.fuzz
@given(HOSTS, st.integers(0, 65_535), st.binary(max_size=50), st.lists(st.integers(0, 400), max_size=5))
def test_socks_however_it_is_cut(host: str, port: int, rest: bytes, cuts: list[int]) -> None:
    whole = _request(host, port)
    data, socks, answer, last = whole + rest, Socks(), b"", 0
    for cut in [*sorted(min(c, len(data)) for c in cuts), len(data)]:
        if socks.target is None:
            answer += socks.feed(data[last:cut])
            last = cut
    assert socks.target == (host, port) and not socks.failed
    assert answer == b"\5\0"
    assert socks.rest == data[len(whole) : last]


@pytest.mark.fuzz
@given(st.lists(st.binary(max_size=300), max_size=8))
def test_socks_of_anything_holds_one_message_and_answers_little(pieces: list[bytes]) -> None:
    socks, answer = Socks(), b""
    for piece in pieces:
        if socks.target is None and not socks.failed:
            answer += socks.feed(piece)
            assert socks.target is not None or len(socks.rest) <= 262 + len(piece)
    assert len(answer) <= 12


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"GET / HTTP/1.1\r\n", b""),
        (b"\4\1\0\x50\1\2\3\4", b""),
        (b"\5\1\2", b"\5\xff"),
        (b"\5\1\0\5\2\0\1\1\2\3\4\0\x50", b"\5\0\5\7\0\1\0\0\0\0\0\0"),
        (b"\5\1\0\5\1\0\2\1\2\3\4\0\x50", b"\5\0\5\x08\0\1\0\0\0\0\0\0"),
        (b"\5\1\0\5\1\0\3\0\0\x50", b"\5\0\5\x08\0\1\0\0\0\0\0\0"),
        (b"\5\1\0\5\1\0\3\1\n\0\x50", b"\5\0\5\x08\0\1\0\0\0\0\0\0"),
    ],
)
def test_what_socks_refuses(data: bytes, answer: bytes) -> None:
    socks = Socks()
    assert socks.feed(data) == answer
    assert socks.failed and socks.target is None


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        (b"ls ~/x\r~/y\r", b"ls ~/x\r~/y\r"),
        (b"~~\r", b"~\r"),
        (b"a~.\r", b"a~.\r"),
        (b"\r~x~.\r", b"\r~x~.\r"),
    ],
)
def test_what_is_no_escape_is_sent(typed: bytes, sent: bytes) -> None:
    assert Escapes(b"~").feed(typed) == (sent, [])


@pytest.mark.fuzz
@given(st.lists(st.sampled_from([b"~", b".", b"?", b"\r", b"a", b"xyz"]), max_size=30), st.integers(1, 5))
def test_escapes_are_the_same_however_they_are_cut(words: list[bytes], size: int) -> None:
    data = b"".join(words)
    whole, parts, sent, asked = Escapes(b"~"), Escapes(b"~"), b"", []
    for at in range(0, len(data), size):
        out, more = parts.feed(data[at : at + size])
        sent, asked = sent + out, asked + more
        if END in more:
            break
    assert whole.feed(data) == (sent, asked)


def settings(*words: str) -> Settings:
    args = Parser(SPEC.flags, (), {}).all(SPEC, [*words, "host", "ls", "-l"])
    return of_args(args, args.texts("option"))


def test_options_beside_flags() -> None:
    made = settings(
        "-o", "RequestTTY force", "-o", "LogLevel=DEBUG", "-o", "EscapeChar=^E", "-o", "ConnectTimeout=7",
        "-o", "LocalForward=80 db:5432", "-o", "ServerAliveInterval=0", "-o", "SetEnv=A=1 B='two words'",
        "-o", "Compression=yes", "-o", "GatewayPorts=yes",
    )  # fmt: skip
    assert made.command == b"ls -l"
    assert (made.tty, made.talk, made.escape, made.connect_s) == ("force", VERBOSE, b"\x05", 7)
    assert made.forwards == [Forward(LOCAL, None, 80, "db", 5432)] and made.everywhere
    assert made.environment == {"A": "1", "B": "two words"}
    assert settings("-q").talk == QUIET
    assert settings("-L", "80:db:22", "-o", "ClearAllForwardings=yes").forwards == []


@pytest.mark.parametrize(
    "option",
    ["Ciphers=none", "ControlPath=/x", "ForwardX11=yes", "ConnectTimeout=x", "SetEnv='A=1", "EscapeChar=^é"],
)
def test_an_option_it_does_not_know_is_refused_by_name(option: str) -> None:
    with pytest.raises(InputError, match=option.partition("=")[0]):
        settings("-o", option)


@pytest.mark.parametrize(
    ("words", "at_terminal", "wanted"),
    [
        (("-t",), True, True),
        (("-t",), False, False),
        (("-tt",), False, True),
        (("-t", "--tty"), False, True),
        ((), True, False),
        (("-t", "-n"), True, False),
        (("-o", "RequestTTY=force"), False, True),
        (("-T",), True, False),
    ],
)
def test_when_a_command_has_a_terminal(words: tuple[str, ...], at_terminal: bool, wanted: bool) -> None:
    assert settings(*words).wants_tty(at_terminal=at_terminal) is wanted


class Server:
    """A server's side of what is asked before it opens anything."""

    def __init__(self, *, listens: bool) -> None:
        self.listens = listens
        self.decide: Any = None

    def expect(self, incoming: Any) -> None:
        self.decide = incoming

    def forward_remote(self, asked: RemoteForward, answered: Any) -> None:
        answered(self.listens, Reader(uint32(4444)))


def opened(server: Server, kind: str, host: str = "", port: int = 0) -> bool:
    body = string(host) + uint32(port) + string("127.0.0.1") + uint32(1)
    relay = server.decide(kind, Reader(body))
    if relay is not None:
        relay._sock.close()
    return relay is not None


def test_a66_a_server_opens_only_what_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nowhere")
    server, loop = Server(listens=True), Loop()
    incoming = Incoming(loop, cast(Connection, server), agent=False)
    for kind in ("auth-agent@openssh.com", "x11", "session", "direct-tcpip", "forwarded-tcpip"):
        assert not opened(server, kind, "localhost", 8022), kind
    assert incoming.listen(Forward(REMOTE, None, 8022, "127.0.0.1", 22), everywhere=False) == 8022
    assert incoming.listen(Forward(REMOTE, "", 0, "127.0.0.1", 22), everywhere=False) == 4444
    assert opened(server, "forwarded-tcpip", "localhost", 8022)
    assert opened(server, "forwarded-tcpip", "", 4444)
    assert not opened(server, "forwarded-tcpip", "localhost", 4444)
    Incoming(loop, cast(Connection, server), agent=True)
    assert opened(server, "auth-agent@openssh.com")
    refusing = Incoming(loop, cast(Connection, Server(listens=False)), agent=False)
    with pytest.raises(UnavailableError):
        refusing.listen(Forward(REMOTE, None, 8022, "127.0.0.1", 22), everywhere=False)
    loop.close()


def test_a_remote_port_leads_to_the_address_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` is often two addresses, with a program behind one of them."""
    with socket.create_server(("127.0.0.1", 0)) as there:
        port = there.getsockname()[1]
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        server, loop = Server(listens=True), Loop()
        incoming = Incoming(loop, cast(Connection, server), agent=False)
        incoming.listen(Forward(REMOTE, None, 8022, "both", port), everywhere=False)
        relay = server.decide(
            "forwarded-tcpip", Reader(string("localhost") + uint32(8022) + string("127.0.0.1") + uint32(1))
        )
        relay.on_opened()
        loop.run(until=lambda: relay.finished or not relay._connecting)
        assert not relay.finished
        there.accept()[0].close()
        relay.hang_up()
        loop.close()


@pytest.mark.parametrize("taken", ["127.0.0.1", "::1"])
def test_a_port_that_somebody_else_has_in_one_family_is_not_ours(taken: str) -> None:
    family = socket.AF_INET6 if ":" in taken else socket.AF_INET
    try:
        other = socket.create_server((taken, 0), family=family)
    except OSError:
        pytest.skip("this host has no such address")
    loop = Loop()
    ports = LocalPorts(loop, cast(Connection, None), lambda text: None)
    with other:
        port = other.getsockname()[1]
        with pytest.raises(UnavailableError, match="in use"):
            ports.listen(Forward(LOCAL, None, port, "db", 22), everywhere=False)
        assert not ports._listeners and not loop._parts
    loop.close()


def test_the_escape_is_heard_though_the_server_takes_no_keys() -> None:
    loop = Loop()
    reader, writer = os.pipe()
    session = Session(loop, settings("-t"), tty=True, tell=lambda text: None)
    session._source = reader
    loop.add(session)
    try:
        os.write(writer, b"ls\r")
        loop.run(until=lambda: session._unsent == b"ls\r")  # it never opens
        os.write(writer, b"~.")
        loop.run(until=lambda: session.finished)
    finally:
        loop.close()
        os.close(reader)
        os.close(writer)
