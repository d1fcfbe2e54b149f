"""Redis's requests and replies: what is built is read again, however it is cut, and any bytes end well."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.dbwire.redis.build import error, request
from pkgs.common.dbwire.redis.limits import DEPTH_MAX, HEADER_MAX, INLINE_MAX, LINE_MAX
from pkgs.common.dbwire.redis.replies import Replies
from pkgs.common.dbwire.redis.requests import Requests, split_line
from pkgs.common.errors import ProtocolError

ARGUMENTS = st.lists(st.binary(max_size=30), min_size=1, max_size=6)
Seen = tuple[list[bytes], frozenset[int]]


def pieces(raw: bytes, data: st.DataObject) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=10)))
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


def read_all(requests: Requests, parts: list[bytes]) -> tuple[list[Seen], bytes]:
    """The commands, and what is left unread."""
    seen: list[Seen] = []
    left = b""
    for part in parts:
        buffer, pos = left + part, 0
        while True:
            pos = requests.read(buffer, pos)
            if not requests.whole:
                break
            seen.append((requests.arguments, requests.cut))
            requests.next()
        left = buffer[pos:]
    return seen, left


@pytest.mark.fuzz
@given(st.lists(ARGUMENTS, max_size=5), st.data())
def test_requests_cut_anywhere_are_the_same(commands: list[list[bytes]], data: st.DataObject) -> None:
    raw = b"".join(request(*arguments) for arguments in commands)
    seen, left = read_all(Requests(4, 20), pieces(raw, data))
    assert left == b""
    for arguments, (kept, cut) in zip(commands, seen, strict=True):
        assert kept == [argument[:20] for argument in arguments[:4]]
        missing = {-1} if len(arguments) > 4 else set()
        assert cut == missing | {index for index, word in enumerate(arguments[:4]) if len(word) > 20}


@pytest.mark.fuzz
@given(st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=4))
def test_a_quoted_line_is_the_same_as_a_request(arguments: list[bytes]) -> None:
    line = b" ".join(b'"' + b"".join(b"\\x%02x" % byte for byte in word) + b'"' for word in arguments)
    assert split_line(line) == arguments
    assert read_all(Requests(9, 99), [line + b"\r\n"]) == ([(arguments, frozenset())], b"")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b"  set  a\t1  ", [b"set", b"a", b"1"]),
        (b'set \'it\\\'s\' "a\\n\\"b\\""', [b"set", b"it's", b'a\n"b"']),
        (b"get \xff", [b"get", b"\xff"]),
    ],
)
def test_lines_of_text(line: bytes, words: list[bytes]) -> None:
    assert split_line(line) == words


@pytest.mark.parametrize(
    "raw",
    [
        b"set 'a\r\n",
        b'set a"b"\r\n',
        b'set "a"b\r\n',
        b"*1\r\n+PING\r\n",
        b"*1\r\n$-1\r\n",
        b"*01\r\n",
        b"*+1\r\n",
        b"*1\n$4\r\nPING\r\n" + b" " * HEADER_MAX,
        b"*99999999999\r\n",
        b"*1\r\n$4\r\nPINGxx",
        b"*1\r\n$4\r\nPIN\r\n\r\n",
        b"*" + b"1" * HEADER_MAX,
        b"x" * INLINE_MAX,
    ],
)
def test_what_servers_might_read_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_all(Requests(9, 99), [raw])
    with pytest.raises(ProtocolError):
        read_all(Requests(9, 99), [raw[index : index + 1] for index in range(len(raw))])


def test_a_command_without_arguments_is_gone_over() -> None:
    seen, _ = read_all(Requests(9, 99), [b"*0\r\n*-1\r\n\r\n" + request(b"PING")])
    assert [kept for kept, _ in seen] == [[], [], [], [b"PING"]]


# --- replies

SCALARS = st.one_of(
    st.sampled_from(
        (
            *(b"+OK\r\n", b":12\r\n", b"_\r\n", b"#t\r\n", b",1.5\r\n", b"(123\r\n", b"$-1\r\n", b"*-1\r\n"),
            *(b"*0\r\n", b"%0\r\n", b"-ERR no\r\n", b"=7\r\ntxt:abc\r\n", b"!5\r\nERR x\r\n"),
            b"$?\r\n;4\r\nab\r\n\r\n;1\r\nx\r\n;0\r\n",
        )
    ),
    st.binary(max_size=20).map(lambda text: b"$%d\r\n%b\r\n" % (len(text), text)),
)


def _nested(children: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    def some(mark: bytes, each: int = 1) -> st.SearchStrategy[bytes]:
        return st.lists(children, max_size=3).map(
            lambda found: mark + b"%d\r\n" % len(found) + b"".join(found) * each
        )

    streamed = st.lists(children, max_size=3).map(lambda found: b"*?\r\n" + b"".join(found) + b".\r\n")
    attributed = st.tuples(children, children).map(lambda pair: b"|1\r\n+k\r\n" + pair[0] + pair[1])
    return st.one_of(some(b"*"), some(b"~"), some(b">"), some(b"%", 2), streamed, attributed)


REPLIES = st.recursive(SCALARS, _nested, max_leaves=8)


def boundaries(parts: list[bytes]) -> tuple[list[int], int]:
    """Where no reply was under way, and how many errors there were."""
    replies = Replies()
    found, errors, offset, left = [], 0, 0, b""
    for part in parts:
        buffer, pos = left + part, 0
        while True:
            start, pos = replies.skip(buffer, pos)
            if start == pos:
                break
            errors += 1
            assert buffer[start:pos].startswith(b"-")
            replies.line_done()
        offset += pos
        left = buffer[pos:]
        if replies.between and not left:
            found.append(offset)
    assert not left
    return found, errors


@pytest.mark.fuzz
@given(st.lists(REPLIES, min_size=1, max_size=4), st.data())
def test_replies_end_where_they_end(said: list[bytes], data: st.DataObject) -> None:
    ends = [len(b"".join(said[: index + 1])) for index in range(len(said))]
    found, errors = boundaries(said)
    assert found == ends
    raw = b"".join(said)
    byte_by_byte, again = boundaries([raw[index : index + 1] for index in range(len(raw))])
    assert set(byte_by_byte) == set(ends)
    assert errors == again
    assert boundaries(pieces(raw, data))[1] == errors


def test_texts_are_shown_only_when_asked_for() -> None:
    replies = Replies()
    raw = b"*1\r\n+inside\r\n+OK\r\n"
    assert replies.skip(raw, 0) == (len(raw), len(raw))
    assert Replies().skip(raw, 0, texts=True) == (len(raw) - 5, len(raw))


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 400\r\n",
        b"$x\r\n",
        b"$-2\r\n",
        b"*1_0\r\n",
        b"$99999999999999\r\n",
        b";1\r\n",
        b".\r\n",
        b"*1\r\n.\r\n",
        b"*1\r\n" * (DEPTH_MAX + 1),
        b"+" + b"x" * LINE_MAX,
    ],
)
def test_what_is_no_reply_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        Replies().skip(raw, 0)


@pytest.mark.fuzz
@pytest.mark.fuzz
@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_end_in_nothing_worse_than_a_protocol_error(parts: list[bytes]) -> None:
    with contextlib.suppress(ProtocolError):
        read_all(Requests(3, 5), parts)
    replies = Replies()
    with contextlib.suppress(ProtocolError):
        for part in parts:
            start, end = replies.skip(part, 0)
            if start != end:
                replies.line_done()


def test_an_error_of_ours_is_one_line() -> None:
    assert error("ERR two\r\nlines") == b"-ERR two lines\r\n"
