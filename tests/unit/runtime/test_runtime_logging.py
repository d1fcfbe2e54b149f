"""Log records: one line each, inert, bounded, levels that change at once (attack A63)."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.runtime import logging as ours
from tests.harness.examples import examples

NASTY = 'x\n2026-01-01T00:00:00.000Z ERROR [AUTH] faked\r\x1b[2J\x1b]52;c;aGk=\x07 "q" %n %s \u202e\u2028\x00'


def record(
    message: str, level: int = logging.INFO, args: tuple[object, ...] = (), **fields: object
) -> logging.LogRecord:
    made = logging.LogRecord("teleport.auth.login", level, "/x/file.py", 7, message, args, None)
    made.__dict__.update(fields)
    return made


@pytest.fixture
def captured() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    ours_level = logging.getLogger("teleport").level
    for handler in handlers:
        root.removeHandler(handler)
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(ours.TextFormatter())
    root.addHandler(handler)
    yield out
    root.removeHandler(handler)
    for old in handlers:
        root.addHandler(old)
    root.setLevel(level)
    logging.getLogger("teleport").setLevel(ours_level)


def test_text_line() -> None:
    line = ours.TextFormatter().format(record("user logged in", user="alice", addr="10.0.0.1:4711", n=3))
    assert line.endswith("INFO  [AUTH.LOGIN] user logged in user=alice addr=10.0.0.1:4711 n=3")


def test_json_line() -> None:
    entry = json.loads(ours.JsonFormatter().format(record("user logged in", user="alice", n=3, ok=True)))
    assert entry["level"] == "info"
    assert entry["component"] == "AUTH.LOGIN"
    assert (entry["user"], entry["n"], entry["ok"], entry["caller"]) == ("alice", 3, True, "file.py:7")


@pytest.mark.parametrize("formatter", [ours.TextFormatter(), ours.JsonFormatter()])
def test_a63_a_name_from_outside_makes_one_inert_record(formatter: logging.Formatter) -> None:
    line = formatter.format(record("failed for %s", args=(NASTY,), user=NASTY))
    assert line.isprintable()
    assert "\x1b" not in line


def test_a63_a_field_cannot_pretend_to_be_another() -> None:
    line = ours.TextFormatter().format(record("failed", user='bob" admin="yes'))
    assert line.endswith(r'user="bob\" admin=\"yes"')
    entry = json.loads(
        ours.JsonFormatter().format(record("failed", level_="x", message_="y", timestamp="faked"))
    )
    assert entry["timestamp"] != "faked"
    assert entry["field_timestamp"] == "faked"


def test_a63_a_megabyte_is_cut_with_a_mark() -> None:
    line = ours.TextFormatter().format(record("x" * 1_000_000, user="y" * 1_000_000))
    assert len(line) < 6000
    assert f"[{1_000_000 - ours.MAX_MESSAGE} more]" in line


def test_a63_too_many_fields_are_left_out() -> None:
    line = ours.TextFormatter().format(record("m", **{f"f{n}": n for n in range(1000)}))
    assert line.endswith("fields_left_out=yes")


def test_wrong_arguments_do_not_lose_the_record() -> None:
    assert "%d apples ('x',)" in ours.TextFormatter().format(record("%d apples", args=("x",)))


@pytest.mark.fuzz
@settings(max_examples=examples(100))
@given(st.text(), st.text())
def test_fuzz_every_record_is_one_printable_line(message: str, value: str) -> None:
    made = record("%s", args=(message,), value=value)
    assert ours.TextFormatter().format(made).isprintable()
    assert json.loads(ours.JsonFormatter().format(made))["message"] == ours.inert(message, ours.MAX_MESSAGE)


def test_a_level_change_takes_effect_with_the_next_record(captured: io.StringIO) -> None:
    log = ours.component_log("auth.deep.inside")
    ours.set_level("INFO")
    log.debug("one")
    ours.set_level("debug")
    log.debug("two")
    log.log(ours.TRACE, "three")
    ours.set_level("TRACE")
    log.log(ours.TRACE, "four")
    ours.set_level("ERROR")
    log.warning("five")
    text = captured.getvalue()
    assert [word for word in ("one", "two", "three", "four", "five") if word in text] == ["two", "four"]
    assert "TRACE [AUTH.DEEP.INSIDE] four" in text


def test_levels_in_any_case() -> None:
    assert ours.parse_level(" warning\n") == "WARN"
    assert ours.parse_level("Trace") == "TRACE"
    assert ours.parse_level("fatal") is None
    with pytest.raises(ValueError, match="no log level"):
        ours.set_level("fatal")


def test_a_traceback_is_one_record() -> None:
    try:
        raise RuntimeError("multi\nline")
    except RuntimeError as error:
        made = record("unexpected")
        made.exc_info = (type(error), error, error.__traceback__)
    line = ours.TextFormatter().format(made)
    assert line.isprintable()
    assert "RuntimeError" in line
