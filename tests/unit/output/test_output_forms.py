"""Tables, JSON, YAML, times, progress."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.errors import InputError
from pkgs.common.output import jsonout, times, yamlout
from pkgs.common.output.progress import Progress
from pkgs.common.output.table import display_width, render
from tests.harness.examples import examples
from tests.harness.pace import assert_takes_under


def test_a_table_has_a_header_a_dashed_underline_and_padded_columns() -> None:
    assert render(("Name", "Labels"), [("a", "x=1"), ("longer", "")]) == (
        "Name   Labels\n------ ------\na      x=1\nlonger\n"
    )


def test_the_widest_column_is_cut_to_the_terminal_and_nothing_without_one() -> None:
    long = "l=" + "x" * 100
    cut = render(("Name", "Labels", "V"), [("node-1", long, "1")], width=40)
    assert max(len(line) for line in cut.splitlines()) <= 40
    assert "xxx... 1" in cut
    assert long in render(("Name", "Labels", "V"), [("node-1", long, "1")])


def test_a_tiny_terminal_still_tells_cells_apart() -> None:
    text = render(("Name", "Labels"), [("n" * 40, "l" * 40)], width=10)
    assert "nnnnnnnnn..." in text


def test_wide_characters_take_two_columns() -> None:
    assert display_width("服务") == 4
    table = render(("A", "B"), [("服务", "x"), ("ab", "y")])
    assert table.splitlines()[2:] == ["服务 x", "ab   y"]


def test_cells_are_inert_and_one_line() -> None:
    table = render(("A", "B"), [("\x1b[2J", "x\ny")])
    assert len(table.splitlines()) == 3
    assert "\x1b" not in table


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
@settings(max_examples=examples(100))
def test_yaml_reads_back_as_the_same_value(value: Any) -> None:
    text = yamlout.dumps(value)
    assert all(char == "\n" or char.isprintable() for char in text)
    assert yaml.safe_load(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "No",
        "null",
        "~",
        "1",
        "1.5",
        "0x1f",
        "2026-01-01",
        "12:30:45",
        "a: b",
        "- a",
        "#c",
        "",
        " a ",
        "a #b",
        "true",
        "=",
        "<<",
        "*x",
        "&x",
        "!x",
        "@x",
        "`x",
        "'x'",
        '"x"',
        "a\\b",
        "-",
        "---",
        ".inf",
        "1e3",
        "0o7",
        "é",
    ],
)
def test_yaml_strings_that_look_like_something_else_stay_strings(text: str) -> None:
    assert yaml.safe_load(yamlout.dumps({"k": text, text: 1})) == {"k": text, text: 1}


def test_yaml_documents_are_separated_and_an_empty_list_is_nothing() -> None:
    assert list(yaml.safe_load_all("".join(yamlout.dumps_all([{"a": 1}, {"a": [1, {"b": []}]}])))) == [
        {"a": 1},
        {"a": [1, {"b": []}]},
    ]
    assert list(yamlout.dumps_all([])) == []


def test_ten_thousand_documents_take_little_time() -> None:
    node = {
        "kind": "node",
        "metadata": {"name": "x", "labels": {"a": "b"}},
        "spec": {"hostname": "h", "n": 1},
    }

    def write() -> None:
        assert sum(map(len, yamlout.dumps_all([node] * 10_000))) > 500_000

    assert_takes_under(2, write)


def test_json_is_indented_and_ends_in_a_newline() -> None:
    assert jsonout.dumps([]) == "[]\n"
    assert jsonout.dumps({"a": ["\x9b\u202e"]}) == '{\n    "a": [\n        "\\u009b\\u202e"\n    ]\n}\n'
    assert json.loads(jsonout.line({"a": 1})) == {"a": 1}


def test_times() -> None:
    assert times.short(0) == "01 Jan 70 00:00 UTC"
    assert times.rfc3339(0) == "1970-01-01T00:00:00Z"
    assert times.remaining(-1) == "expired"
    assert times.remaining(43_199) == "11h59m"
    assert times.remaining(61) == "1m"
    assert times.parse("1970-01-02", flag="--since") == 86_400
    assert times.parse("1970-01-01T01:00:00+01:00", flag="--since") == 0
    with pytest.raises(InputError, match="--since"):
        times.parse("yesterday\x1b", flag="--since")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_silent_on_short_waits_and_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("Working") as progress:
        progress.update("1")
    assert terminal.getvalue() == ""
    monkeypatch.setattr("pkgs.common.output.progress.PROGRESS_AFTER_S", 0.0)
    with Progress("Working") as progress:
        progress.update("\x1b]0;x\x07")
    assert "Working \\x1b]0;x\\x07" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with Progress("Working") as progress:
        progress.update("1")
    assert pipe.getvalue() == ""
