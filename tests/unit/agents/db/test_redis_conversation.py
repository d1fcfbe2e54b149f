"""Conversations of a Redis session: what goes through, what is told, and that a client's word is no login."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.db.engine import Failed, Statement
from pkgs.agents.db.redis import limits
from pkgs.agents.db.redis.commands import statement
from pkgs.agents.db.redis.conversation import RedisConversation
from pkgs.common.dbwire.redis.build import request
from pkgs.common.errors import ProtocolError
from tests.unit.agents.db.play_kit import Played

LOGIN = request(b"AUTH", b"alice", b"x")


def ask(text: str) -> bytes:
    return request(*(word.encode() for word in text.split(" ")))


@dataclass
class Play(Played[RedisConversation]):
    """Its server answers the markers."""

    conversation: RedisConversation = field(default_factory=lambda: RedisConversation("alice", LOGIN))

    @property
    def markers(self) -> list[bytes]:
        return [marker.name for marker in self.conversation._markers]

    def unknown(self, name: bytes | None = None) -> Play:
        """The server answers a command that it has not."""
        name = name or self.markers[0]
        return self.server(b"-ERR unknown command '" + name + b"', with args beginning with: \r\n")

    @property
    def told(self) -> list[str]:
        return [fact.text for fact in self.facts if isinstance(fact, Statement)]


def test_commands_and_replies_go_through_and_are_told() -> None:
    asked = ask("SET a 1") + request(b"SET", b"b c", 'ö\n"'.encode(), b"\xff", b"")
    play = Play().client(asked).server(b"+OK\r\n-WRONGTYPE no\r\n")
    assert play.to_server == asked
    assert play.to_client == b"+OK\r\n-WRONGTYPE no\r\n"
    assert play.told == ["SET a 1", 'SET "b c" "ö\\n\\"" "\\xff" ""']
    assert play.facts[-1] == Failed("no", "WRONGTYPE")


COMMANDS = st.sampled_from(["GET a", "CLIENT LIST", "client setname x", "XADD s * f v", "QUIT"])


@pytest.mark.fuzz
@given(st.lists(COMMANDS, max_size=5), st.data())
def test_bytes_cut_anywhere_come_to_the_same(commands: list[str], data: st.DataObject) -> None:
    asked = b"".join(map(ask, commands))
    said = b"+OK\r\n" * len(commands) + b"*2\r\n$1\r\na\r\n-ERR x\r\n"
    play = Play()
    for raw, side in ((asked, play.client), (said, play.server)):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
        side(*(raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)))
    assert (play.to_server, play.to_client) == (asked, said)
    assert play.told == commands
    assert play.facts[-1] == Failed("x", "ERR")


def test_a_long_value_goes_through_in_parts() -> None:
    asked = request(b"SET", b"a", b"x" * 1_000_000)
    play = Play().client(asked[:40], asked[40:300_000])
    assert play.to_server == asked[:300_000]
    play.client(asked[300_000:])
    assert play.to_server == asked
    (told,) = play.facts
    assert isinstance(told, Statement)
    assert told.cut
    assert len(told.text) < 300
    many = request(b"DEL", *(b"k" for _ in range(1000)))
    told = Play().client(many).facts[0]
    assert isinstance(told, Statement)
    assert told.cut
    assert told.text.count("k") == limits.ARGUMENTS_KEPT - 1


REFUSED = [
    "MONITOR",
    "sync",
    "PSYNC ? -1",
    "REPLCONF listening-port 1",
    "client reply off",
    "CLIENT REPLY SKIP",
]


@pytest.mark.parametrize("command", REFUSED)
def test_what_would_evade_the_audit_is_refused_in_its_turn(command: str) -> None:
    raw = ask(command)
    play = Play().client(ask("GET a") + raw[:7], raw[7:] + ask("GET b"))
    (marker,) = play.markers
    assert play.to_server == ask("GET a") + request(marker) + ask("GET b")
    play.server(b"$1\r\n1\r\n").unknown(marker).server(b"$1\r\n2\r\n")
    first, refusal, last = play.to_client.partition(b"-NOPERM '")
    assert (first, bool(refusal), last[-7:]) == (b"$1\r\n1\r\n", True, b"$1\r\n2\r\n")
    assert marker not in play.to_client
    assert play.told == ["GET a", command, "GET b"]
    assert not any(isinstance(fact, Failed) and marker.decode() in fact.message for fact in play.facts)


def test_the_same_as_a_line_of_text_in_any_case_and_quotes() -> None:
    play = Play().client(b"mOnItOr\r\n").unknown()
    assert play.to_client.startswith(b"-NOPERM")
    play = Play().client(b"\"\\x6donitor\"\r\n  'sync' \n").unknown().unknown()
    assert play.to_client.count(b"-NOPERM") == 2
    assert b"onitor" not in play.to_server
    play = Play().client(b"set a 'b c'\r\n\r\n")
    assert play.to_server == request(b"set", b"a", b"b c")


@pytest.mark.parametrize(
    ("command", "answer", "told"),
    [
        ("AUTH s3cret", b"+OK\r\n", "AUTH ***"),
        ("AUTH alice s3cret", b"+OK\r\n", "AUTH alice ***"),
        ("auth default s3cret", b"-WRONGPASS", "auth default ***"),
        ("AUTH ALICE s3cret", b"-WRONGPASS", "AUTH ALICE ***"),
        ("AUTH alice s3cret more", b"-ERR wrong number", "AUTH ***"),
        ("HELLO 3 AUTH default s3cret", b"-WRONGPASS", "HELLO 3 AUTH default ***"),
        ("HELLO 3 OTHER", b"-ERR Syntax", "HELLO 3 OTHER"),
        ("RESET now", b"-ERR wrong number", "RESET now"),
    ],
)
def test_who_it_is_was_decided_before(command: str, answer: bytes, told: str) -> None:
    play = Play().client(ask(command)).unknown()
    assert play.to_client.startswith(answer)
    assert b"s3cret" not in play.to_server
    assert play.told == [told]


def test_hello_goes_on_without_its_login() -> None:
    play = Play().client(ask("HELLO 3 SETNAME app AUTH alice s3cret"), ask("HELLO"))
    assert play.to_server == ask("HELLO 3 SETNAME app") + ask("HELLO")


def test_after_a_reset_nothing_reaches_the_server_before_it_knows_who_this_is() -> None:
    play = Play().client(ask("GET a") + ask("RESET") + ask("GET b")).client(ask("GET c"))
    (marker,) = play.markers
    assert play.to_server == ask("GET a") + request(marker) + ask("RESET") + LOGIN
    play.server(b"$1\r\n1\r\n").unknown(marker).server(b"*3\r\n+message\r\n+x\r\n+y\r\n", b"+RES")
    play.server(b"ET\r\n+OK\r\n")
    assert play.to_client == b"$1\r\n1\r\n*3\r\n+message\r\n+x\r\n+y\r\n+RESET\r\n"
    assert play.to_server.endswith(LOGIN + ask("GET b") + ask("GET c"))
    assert play.told == ["GET a", "RESET", "GET b", "GET c"]
    play.server(b"+1\r\n+2\r\n")
    assert play.to_client.endswith(b"+RESET\r\n+1\r\n+2\r\n")


def test_a_login_that_fails_after_a_reset_ends_the_session() -> None:
    play = Play().client(ask("RESET")).unknown()
    with pytest.raises(ProtocolError, match="RESET"):
        play.server(b"+RESET\r\n-WRONGPASS\r\n")


def test_published_messages_do_not_disturb_answers_of_ours() -> None:
    play = Play().client(ask("SUBSCRIBE a b") + ask("AUTH x") + ask("PING"))
    message = b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\n-ERR \r\n"
    confirmed = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
    play.server(confirmed + message + confirmed).unknown().server(message + b"+PONG\r\n")
    assert play.to_client == confirmed + message + confirmed + b"+OK\r\n" + message + b"+PONG\r\n"


SECRETS = [
    ("ACL SETUSER bill on >s3cret ~*", "ACL SETUSER bill on >*** ~*"),
    ("acl setuser bill #s3cret <s3cret", "acl setuser bill #*** <***"),
    ("CONFIG SET maxmemory 1 requirepass s3cret", "CONFIG SET maxmemory 1 requirepass ***"),
    ("CONFIG SET tls-key-file-pass s3cret", "CONFIG SET tls-key-file-pass ***"),
    ("MIGRATE h 1 k 0 5 COPY AUTH s3cret KEYS a", "MIGRATE h 1 k 0 5 COPY AUTH *** KEYS a"),
    ("MIGRATE h 1 k 0 5 AUTH2 bill s3cret", "MIGRATE h 1 k 0 5 AUTH2 bill ***"),
    ("SENTINEL SET m auth-pass s3cret", "SENTINEL SET m auth-pass ***"),
    ("HELLO 3 auth alice s3cret setname x", "HELLO 3 auth alice *** setname x"),
]


@pytest.mark.parametrize(("command", "told"), SECRETS)
def test_secrets_are_hidden(command: str, told: str) -> None:
    words = [word.encode() for word in command.split(" ")]
    assert statement(words, frozenset()) == Statement(told)


@pytest.mark.fuzz
@given(st.sampled_from(SECRETS), st.integers(0, 12), st.booleans())
def test_secrets_are_hidden_in_commands_that_end_anywhere(
    secret: tuple[str, str], count: int, more: bool
) -> None:
    words = [word.encode() for word in secret[0].split(" ")][:count]
    if words:
        assert "s3cret" not in statement(words, frozenset({-1} if more else ())).text


def test_a_servers_error_repeats_no_secret() -> None:
    play = Play().client(ask("PING")).server(b"-ERR Error in ACL SETUSER modifier '#s3cret': no hash\r\n")
    assert play.facts[-1] == Failed("Error in ACL SETUSER modifier '***': no hash", "ERR")


def test_the_end_is_said_only_between_replies() -> None:
    play = Play().client(ask("GET a"))
    assert play.conversation.refusal("locked") == b"-ERR locked\r\n"
    play.server(b"*2\r\n+a\r\n")
    assert play.conversation.refusal("locked") == b""
    play.server(b"+b\r\n+")
    assert play.conversation.refusal("locked") == b""


def test_what_is_held_has_a_limit() -> None:
    with pytest.raises(ProtocolError, match="too long"):
        Play().client(b"*2\r\n$4\r\nAUTH\r\n$999999\r\n", b"x" * limits.HELD_MAX)
    with pytest.raises(ProtocolError, match="too long"):
        Play().client(b"*2\r\n$999999\r\n", b"x" * limits.HELD_MAX)
    with pytest.raises(ProtocolError, match="without reading"):
        Play().client(ask("MONITOR") * (limits.ANSWERS_PENDING_MAX + 1))


PIECES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        (
            *map(ask, ("GET a", "AUTH x", "RESET", "HELLO 3", "CLIENT REPLY ON", "MONITOR")),
            *(b"+OK\r\n", b"*1\r\n", b"-ERR x\r\n", b"ping\r\n", b"*0\r\n", b"$3\r\nabc\r\n"),
        )
    ),
)


@pytest.mark.fuzz
@pytest.mark.fuzz
@given(st.lists(st.tuples(st.booleans(), PIECES), max_size=15))
def test_any_bytes_end_in_nothing_worse_than_a_protocol_error(said: list[tuple[bool, bytes]]) -> None:
    play = Play()
    with contextlib.suppress(ProtocolError):
        for by_client, raw in said:
            play.client(raw) if by_client else play.server(raw)
            if play.markers and not by_client:
                play.unknown()
    play.conversation.refusal("x")
