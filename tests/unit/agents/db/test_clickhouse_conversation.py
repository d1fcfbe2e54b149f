"""Conversations of a ClickHouse session: requests go on as one user, statements are told, bodies pass."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass, field

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.db.clickhouse import limits, requests
from pkgs.agents.db.clickhouse.conversation import ClickhouseConversation
from pkgs.agents.db.engine import Failed, Outcome, Statement
from pkgs.common.errors import DeniedError, ProtocolError
from tests.unit.agents.db.play_kit import Played


def ask(target: str = "/", *headers: str, body: bytes = b"") -> bytes:
    method = "POST" if body else "GET"
    lines = [f"{method} {target} HTTP/1.1", "Host: db", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode() + body


def answer(body: bytes = b"1\n", status: int = 200, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass
class Play(Played[ClickhouseConversation]):
    conversation: ClickhouseConversation = field(default_factory=lambda: ClickhouseConversation("alice"))


def basic(user: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:s3cret".encode()).decode()


def test_a_statement_in_address_and_body_is_one() -> None:
    asked = ask("/?query=INSERT%20INTO%20t%20FORMAT%20CSV&database=shop&param_n=5", body=b"1,2\n")
    play = Play().client(asked).server(answer(b"", 200, 'X-ClickHouse-Summary: {"written_rows":"2"}'))
    assert play.facts == [Statement("INSERT INTO t FORMAT CSV\n1,2\n", ("n=5",)), Outcome(2)]
    assert b"\r\nX-ClickHouse-User: alice\r\nX-ClickHouse-SSL-Certificate-Auth: on\r\n" in play.to_server
    assert play.to_server.startswith(
        b"POST /?query=INSERT%20INTO%20t%20FORMAT%20CSV&database=shop&param_n=5 "
    )
    assert play.to_server.endswith(b"1,2\n")


NAMES = [
    ("/?user={}&password=s3cret",),
    ("/?USER={}&Password=s3cret",),
    ("/?%75ser={}",),
    ("/", "X-ClickHouse-User: {}", "X-ClickHouse-Key: s3cret"),
    ("/", "x-clickhouse-user: {}"),
]


@pytest.mark.parametrize("parts", [*NAMES, ("/", "basic")], ids=str)
def test_a_request_is_of_the_sessions_user_or_refused(parts: tuple[str, ...]) -> None:
    def named(user: str) -> bytes:
        target, *headers = (basic(user) if part == "basic" else part.format(user) for part in parts)
        return ask(target, *headers, body=b"select 1")

    play = Play().client(named("alice"))
    assert play.to_server.count(b"alice") == 1
    assert b"s3cret" not in base64.b64encode(play.to_server) + play.to_server
    assert b"uthorization" not in play.to_server
    play = Play().client(named("default"))
    assert (play.to_server, play.over) == (b"", True)
    assert play.to_client.startswith(b"HTTP/1.1 403 ")
    assert b"Code: 516. DB::Exception: this session is for" in play.to_client


@pytest.mark.parametrize(
    "asked",
    [
        ask("/", "Content-Encoding: gzip", body=b"x"),
        ask("/?decompress=1", body=b"x"),
        ask("/", "Authorization: Bearer abc"),
        b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        ask("/?query=%ff"),
        ask("/", "Transfer-Encoding: chunked", body=b"8\r\nselect 1\r\n0\r\n\r\n"),
    ],
)
def test_what_cannot_be_audited_is_refused(asked: bytes) -> None:
    play = Play().client(asked)
    assert (play.to_server, play.over) == (b"", True)
    assert play.to_client.startswith(b"HTTP/1.1 400 ")
    assert isinstance(play.facts[-1], Failed)


@pytest.mark.parametrize("header", ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: none"])
def test_a_web_page_that_found_the_port_is_refused(header: str) -> None:
    """Browsers send a page's request to any port of the machine, and `tsh proxy db` adds who its user is."""
    play = Play().client(ask("/?query=DROP%20TABLE%20t", header))
    assert (play.to_server, play.over) == (b"", True)
    assert play.to_client.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    ("host", "served"),
    [
        *((b"127.0.0.1:8123", True), (b"[::1]:8123", True), (b"localhost:8123", True)),
        *((b"Orders.db.example.com", True), (b"orders.db.example.com:443", True), (b"", True)),
        *((b"evil.example:8123", False), (b"localhost.evil.example", False), (b"orders.example", False)),
    ],
)
def test_a_page_of_another_name_is_refused(host: bytes, served: bool) -> None:
    request = h11.Request(method="GET", target="/", headers=[("Host", host)])
    with contextlib.nullcontext() if served else pytest.raises(DeniedError):
        requests.check_host(request, "Orders")


def test_one_request_after_another_also_when_sent_ahead() -> None:
    asked = [ask(f"/?query=select%20{number}") for number in range(3)]
    play = Play().client(asked[0] + asked[1], asked[2])
    assert play.to_server.count(b"GET ") == 1
    play.server(answer(b"0\n")).server(answer(b"1\n")).server(answer(b"2\n"))
    assert play.to_server.count(b"GET ") == 3
    assert play.to_client == answer(b"0\n").replace(b"200 x", b"200 x") + answer(b"1\n") + answer(b"2\n")
    assert [fact.text for fact in play.facts if isinstance(fact, Statement)] == [
        f"select {number}" for number in range(3)
    ]
    with pytest.raises(ProtocolError, match="without waiting"):
        Play().client(asked[0], b"x" * (limits.AHEAD_MAX + 1))


def test_a_long_statement_goes_through_and_is_told_with_a_mark() -> None:
    body = b"select '" + b"x" * 1_000_000 + b"'"
    asked = ask("/", body=body)
    play = Play().client(asked[:200_000])
    (told,) = play.facts
    assert isinstance(told, Statement)
    assert (told.cut, len(told.text)) == (True, limits.STATEMENT_KEPT)
    play.client(asked[200_000:])
    assert play.to_server.endswith(body)
    assert len(play.facts) == 1


def test_errors_are_told_without_secrets() -> None:
    said = answer(b"Code: 62. DB::Exception: Syntax error: s3cret", 400, "X-ClickHouse-Exception-Code: 62")
    play = Play().client(ask(body=b"CREATE USER a IDENTIFIED BY 's3cret' FOO")).server(said[:70], said[70:])
    assert play.facts == [
        Statement("CREATE USER a IDENTIFIED BY '***' FOO"),
        Failed("Code: 62: '***'", "62"),
    ]
    play = Play().client(ask(body=b"selec")).server(answer(b"Code: 62, e.displayText() = x", 400))
    assert play.facts[-1] == Failed("Code: 62, e.displayText() = x", "62")


def test_a_connection_that_is_to_close_closes() -> None:
    assert Play().client(ask("/ping", "Connection: close")).server(answer()).over
    assert Play().client(ask("/ping")).server(answer(b"", 200, "Connection: close")).over
    assert not Play().client(ask("/ping")).server(answer()).over


def test_the_end_is_said_only_to_who_waits_for_a_response() -> None:
    play = Play()
    assert play.conversation.refusal("locked") == b""
    play.client(ask("/?query=select%201"))
    assert b"locked" in play.conversation.refusal("locked")
    play.server(answer(b"xxxx")[:-2])
    assert play.conversation.refusal("locked") == b""


@pytest.mark.fuzz
@given(st.data())
def test_bytes_cut_anywhere_come_to_the_same(data: st.DataObject) -> None:
    def cut(raw: bytes) -> list[bytes]:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
        pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
        return [piece for piece in pieces if piece]

    chunked = b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n1\n\r\n0\r\n\r\n"
    play = Play()
    for _ in range(2):
        play.client(*cut(ask("/?query=insert", body=b"some values"))).server(*cut(chunked))
    assert play.to_server.count(b"some values") == 2
    assert play.facts == [Statement("insert\nsome values")] * 2


@pytest.mark.fuzz
@pytest.mark.fuzz
@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=60)), max_size=8), st.booleans())
def test_any_bytes_end_in_nothing_worse_than_a_protocol_error(
    said: list[tuple[bool, bytes]], asked: bool
) -> None:
    play = Play()
    with contextlib.suppress(ProtocolError):
        if asked:
            play.client(ask(body=b"select 1"))
        for by_client, raw in said:
            play.client(raw) if by_client else play.server(raw)
    play.conversation.refusal("x")


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nX-ClickHouse-Key : hunter2\r\n\r\n",
        b"GET /?password=hunter2 HTTP/9\r\n\r\n",
    ],
)
def test_a_broken_line_is_not_repeated_with_its_password(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as raised:
        Play().client(raw)
    assert "hunter2" not in f"{raised.value!r} {raised.value.detail} {raised.value.__cause__!r}"
