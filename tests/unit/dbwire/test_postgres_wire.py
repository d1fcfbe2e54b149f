"""PostgreSQL's messages: what is built is parsed, cuts change nothing, hostile bytes raise one error."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import struct
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.dbwire.postgres import backend, frontend, limits, startup, values
from pkgs.common.dbwire.postgres.backend import Column, Negotiation, Report
from pkgs.common.dbwire.postgres.fields import message
from pkgs.common.dbwire.postgres.frames import Frames
from pkgs.common.dbwire.postgres.frontend import Bind, FunctionCall, Named, Parse, Values
from pkgs.common.dbwire.postgres.startup import CancelRequest, EncryptionRequest, Startup
from pkgs.common.errors import ProtocolError

texts = st.binary(max_size=40).map(lambda raw: raw.replace(b"\0", b"?"))
numbers = st.integers(0, 0xFFFF_FFFF)
small = st.integers(0, 0xFFFF)
formats = st.lists(st.sampled_from((0, 1)), max_size=3).map(tuple)
value_lists = st.builds(
    Values, formats, st.lists(st.none() | st.binary(max_size=40), max_size=5).map(tuple), st.just(False)
)
columns = st.builds(Column, texts, numbers, small, numbers, small, numbers, small)


# --- before a session


@pytest.mark.fuzz
@given(
    st.one_of(
        st.builds(EncryptionRequest, st.booleans()),
        st.builds(CancelRequest, numbers, st.binary(min_size=4, max_size=limits.CANCEL_KEY_MAX)),
        st.builds(
            Startup,
            st.sampled_from((startup.VERSION_3_0, startup.VERSION_3_2, 3 << 16 | 9999)),
            st.lists(st.tuples(texts.filter(len), texts), max_size=5).map(tuple),
        ),
    )
)
def test_first_packets_come_back(first: startup.First) -> None:
    raw = first.encode()
    assert startup.first_length(raw[:4]) == len(raw) - 4
    assert startup.parse_first(raw[4:]) == first


@pytest.mark.fuzz
@pytest.mark.fuzz
@given(st.binary(max_size=200))
def test_hostile_first_packets_raise_one_error(raw: bytes) -> None:
    for parse in (startup.parse_first, startup.first_length):
        with contextlib.suppress(ProtocolError):
            parse(raw)


def test_other_versions_and_lengths_are_refused() -> None:
    for body in (struct.pack(">I", 2 << 16) + b"\0", struct.pack(">II", startup.CANCEL_REQUEST, 1) + b"key"):
        with pytest.raises(ProtocolError):
            startup.parse_first(body)
    for length in (0, 7, limits.STARTUP_MAX + 1, 0xFFFF_FFFF):
        with pytest.raises(ProtocolError):
            startup.first_length(struct.pack(">I", length))


# --- frames

QUIET = b"Dd"
KINDS = backend.KINDS
messages = st.builds(
    lambda kind, body: message(bytes([kind]), body),
    st.sampled_from(list(KINDS)),
    st.binary(max_size=60),
)


def _pieces(data: bytes, cuts: list[int], hold_max: int, drop: Callable[[int], bool]) -> list[object]:
    """What comes out, with neighbouring quiet bytes in one."""
    frames = Frames(KINDS, QUIET, hold_max)
    found: list[object] = []
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(bounds):
        for kind, raw, rest in frames.feed(memoryview(data[begin:end])):
            if kind:
                found.append((kind, bytes(raw), rest))
                if drop(kind):
                    frames.drop_rest()
            elif found and isinstance(found[-1], bytes):
                found[-1] += bytes(raw)
            else:
                found.append(bytes(raw))
    assert not frames.midway
    return found


@pytest.mark.fuzz
@pytest.mark.fuzz
@given(
    st.lists(messages, max_size=8),
    st.lists(st.integers(0, 1000), max_size=12),
    st.integers(5, 80),
    st.sampled_from((b"", b"C", b"CE", KINDS)),
)
def test_cuts_change_nothing(sent: list[bytes], cuts: list[int], hold_max: int, dropped: bytes) -> None:
    data = b"".join(sent)
    drop = dropped.__contains__
    found = _pieces(data, cuts, hold_max, drop)
    assert found == _pieces(data, [], hold_max, drop)
    loud = [one for one in sent if one[0] not in QUIET]
    heads = [one for one in found if isinstance(one, tuple)]
    assert heads == [(one[0], one[: min(len(one), hold_max)], max(0, len(one) - hold_max)) for one in loud]
    if not dropped:
        assert b"".join(one if isinstance(one, bytes) else one[1] for one in found) == data  # type: ignore[index]


@pytest.mark.fuzz
@pytest.mark.fuzz
@given(st.lists(st.binary(max_size=100), max_size=5))
def test_hostile_frames_raise_one_error_and_hold_little(chunks: list[bytes]) -> None:
    frames = Frames(KINDS, QUIET, 64)
    try:
        for chunk in chunks:
            for _, raw, _ in frames.feed(memoryview(chunk)):
                assert len(raw) <= max(64, len(chunk))
    except ProtocolError:
        pass


def test_a_header_that_cannot_be_one_is_refused_wherever_it_is_cut() -> None:
    for bad in (
        b"D\0\0\0\3",
        b"D\xff\xff\xff\xff",
        b"C\0\0\0\0",
        b"C\x80\0\0\0",
        b"!\0\0\0\4",
        b"\0\0\0\0\4",
    ):
        for cut in range(len(bad) + 1):
            frames = Frames(KINDS, QUIET, 64)
            with pytest.raises(ProtocolError):
                for part in (bad[:cut], bad[cut:]):
                    for _ in frames.feed(memoryview(part)):
                        pass


def test_a_gigabyte_is_held_as_its_beginning() -> None:
    frames = Frames(frontend.KINDS, b"d", 64)
    head = b"Q" + struct.pack(">I", 1 << 30)
    assert list(frames.feed(memoryview(head))) == []
    ((kind, raw, rest),) = frames.feed(memoryview(bytes(59)))
    assert (kind, len(raw), rest) == (frontend.QUERY, 64, (1 << 30) + 1 - 64)
    frames.drop_rest()
    chunk = memoryview(bytes(1 << 20))
    for _ in range(1023):
        assert list(frames.feed(chunk)) == []
    assert not frames.midway


# --- bodies


def _view(raw: bytes) -> memoryview:
    return memoryview(raw)


@pytest.mark.fuzz
@given(texts)
def test_queries_come_back(text: bytes) -> None:
    assert frontend.parse_query(_view(frontend.query(text))) == text
    assert frontend.parse_execute(_view(frontend.execute(text, 5))) == text


@pytest.mark.fuzz
@given(st.builds(Parse, texts, texts, st.lists(numbers, max_size=4).map(tuple)))
def test_parse_comes_back(parsed: Parse) -> None:
    assert frontend.parse_parse(_view(parsed.encode())) == parsed


@pytest.mark.fuzz
@given(st.builds(Bind, texts, texts, value_lists, formats))
def test_bind_comes_back(bound: Bind) -> None:
    assert frontend.parse_bind(_view(bound.encode())) == bound


@pytest.mark.fuzz
@given(st.builds(FunctionCall, numbers, value_lists), st.sampled_from(b"SP"), texts)
def test_calls_and_names_come_back(call: FunctionCall, what: int, name: bytes) -> None:
    assert frontend.parse_function_call(_view(call.encode())) == call
    named = Named(what, name)
    assert frontend.parse_named(_view(named.encode(b"D"))) == named


@pytest.mark.fuzz
@given(st.builds(Bind, texts, texts, value_lists, formats), st.integers(0, 200))
def test_a_beginning_of_a_bind_gives_the_values_that_came(bound: Bind, held: int) -> None:
    raw = bound.encode()
    held = max(5 + len(bound.portal) + len(bound.statement) + 2 + 2 + 2 * 3 + 2, held)
    if held >= len(raw):
        return
    part = frontend.parse_bind(_view(raw[:held]), len(raw) - held)
    assert part.statement == bound.statement
    got, whole = part.parameters.values, bound.parameters.values
    assert got[:-1] == whole[: max(0, len(got) - 1)]
    if got and got[-1] is not None:
        full = whole[len(got) - 1]
        assert full is not None and full.startswith(got[-1])


@pytest.mark.fuzz
@given(st.lists(columns, max_size=5).map(tuple))
def test_descriptions_come_back(described: tuple[Column, ...]) -> None:
    assert backend.parse_row_description(_view(backend.row_description(described))) == described


@pytest.mark.fuzz
@given(st.lists(st.none() | st.binary(max_size=30), max_size=6))
def test_rows_come_back(row: list[bytes | None]) -> None:
    assert backend.parse_data_row(_view(backend.data_row(row))) == row


@pytest.mark.fuzz
@given(st.lists(st.tuples(st.integers(1, 255), texts), max_size=6).map(tuple))
def test_reports_come_back(fields: tuple[tuple[int, bytes], ...]) -> None:
    assert backend.parse_report(_view(Report(fields).encode())) == Report(fields)


def test_small_messages_of_the_server() -> None:
    assert backend.parse_key_data(_view(backend.key_data(7, bytes(256)))) == (7, bytes(256))
    assert backend.parse_parameter_status(_view(backend.parameter_status("a", "b"))) == ("a", "b")
    assert backend.parse_ready(_view(backend.ready(b"T"))) == ord("T")
    assert backend.parse_authentication(_view(backend.authentication_ok())) == ""
    assert "SCRAM" in backend.parse_authentication(_view(message(b"R", b"\0\0\0\x0aSCRAM-SHA-256\0\0")))
    negotiation = Negotiation(2, (b"_pq_.a", b"_pq_.b"))
    assert backend.parse_negotiation(_view(negotiation.encode())) == negotiation
    told = {"INSERT 0 5": 5, "SELECT 3": 3, "SELECT 0": 0, "COPY 7": 7, "SHOW": None, "X " + "9" * 30: None}
    for tag, rows in told.items():
        assert backend.parse_command_complete(_view(backend.command_complete(tag))) == rows
    report = backend.parse_report(_view(backend.error("no\0w", "42501", detail="d", hint="h")))
    assert [report.get(letter) for letter in "SVCMDH"] == ["ERROR", "ERROR", "42501", "no w", "d", "h"]


PARSERS: tuple[Callable[..., object], ...] = (
    frontend.parse_query,
    frontend.parse_parse,
    frontend.parse_bind,
    frontend.parse_named,
    frontend.parse_execute,
    frontend.parse_function_call,
    backend.parse_report,
)
WHOLE_PARSERS: tuple[Callable[..., object], ...] = (
    backend.parse_row_description,
    backend.parse_parameter_description,
    backend.parse_data_row,
    backend.parse_command_complete,
    backend.parse_ready,
    backend.parse_parameter_status,
    backend.parse_key_data,
    backend.parse_authentication,
    backend.parse_negotiation,
)


@pytest.mark.fuzz
@pytest.mark.fuzz
@given(st.binary(max_size=120), st.sampled_from((0, 1, 1 << 30)))
def test_hostile_bodies_raise_one_error(body: bytes, rest: int) -> None:
    raw = memoryview(b"?\0\0\0\0" + body)
    for parse in PARSERS:
        with contextlib.suppress(ProtocolError):
            parse(raw, rest)
    for parse in WHOLE_PARSERS:
        with contextlib.suppress(ProtocolError):
            parse(raw)


def test_a_text_that_ends_before_its_message_is_refused() -> None:
    """The server reads up to the zero byte; a reader that went on would judge another text (parser gap)."""
    for raw in (message(b"Q", b"SELECT 1\0; DROP TABLE x\0"), message(b"Q", b"SELECT 1")):
        with pytest.raises(ProtocolError):
            frontend.parse_query(memoryview(raw))


# --- binary values

BINARY = {
    (values.BOOL, b"\1"): "t",
    (values.INT2, struct.pack(">h", -5)): "-5",
    (values.INT4, struct.pack(">i", 70000)): "70000",
    (values.INT8, struct.pack(">q", -(1 << 40))): str(-(1 << 40)),
    (values.OID, struct.pack(">I", 4_000_000_000)): "4000000000",
    (values.FLOAT4, struct.pack(">f", 1.5)): "1.5",
    (values.FLOAT8, struct.pack(">d", 0.1)): "0.1",
    (values.FLOAT8, struct.pack(">d", float("-inf"))): "-Infinity",
    (values.TEXT, "grüße".encode()): "grüße",
    (values.TEXT, b"\xff"): "\\xff",
    (values.JSONB, b'\1{"a": 1}'): '{"a": 1}',
    (values.UUID, uuid.UUID(int=5).bytes): str(uuid.UUID(int=5)),
    (values.DATE, struct.pack(">i", 1)): "2000-01-02",
    (values.TIMESTAMP, struct.pack(">q", 1_500_000)): "2000-01-01 00:00:01.500000",
    (values.TIMESTAMPTZ, struct.pack(">q", 0)): "2000-01-01 00:00:00+00",
    (values.TIME, struct.pack(">q", 3_600_000_000)): "01:00:00",
    (values.NUMERIC, struct.pack(">HhHH3H", 3, 1, 0, 2, 1, 2345, 6700)): "12345.67",
    (values.NUMERIC, struct.pack(">HhHH1H", 1, -1, 0x4000, 4, 5)): "-0.0005",
    (values.NUMERIC, struct.pack(">HhHH1H", 1, -2, 0, 8, 5)): "0.00000005",
    (values.NUMERIC, struct.pack(">HhHH1H", 1, 2, 0, 0, 3)): "300000000",
    (values.NUMERIC, struct.pack(">HhHH", 0, 0, 0xC000, 0)): "NaN",
    (values.INT4, b"\0"): "\\x00",
    (values.BYTEA, b"\1\2"): "\\x0102",
    (99999, b"ab"): "\\x6162",
    (values.DATE, struct.pack(">i", (1 << 31) - 1)): "\\x7fffffff",
}


@pytest.mark.parametrize(("given_", "text"), BINARY.items())
def test_binary_values_are_written_out(given_: tuple[int, bytes], text: str) -> None:
    assert values.binary_to_text(given_[1], given_[0]) == text


@pytest.mark.fuzz
@pytest.mark.fuzz
@given(st.binary(max_size=60), st.sampled_from(sorted({kind for kind, _ in BINARY})))
def test_any_bytes_are_written_out_somehow(value: bytes, kind: int) -> None:
    assert isinstance(values.binary_to_text(value, kind), str)


@pytest.mark.fuzz
@given(st.datetimes(datetime.datetime(1800, 1, 1), datetime.datetime(2200, 1, 1)))
def test_moments_are_exact(moment: datetime.datetime) -> None:
    microseconds = (moment - datetime.datetime(2000, 1, 1)) // datetime.timedelta(microseconds=1)
    assert values.binary_to_text(struct.pack(">q", microseconds), values.TIMESTAMP) == moment.isoformat(" ")
