"""Choosing a line: keys in, lines out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.clients.tsh.picker.choice import Choice
from pkgs.common.output.table import display_width

LINES = ["web-1  env=prod", "web-2  env=dev", "db  env=prod", "gateway  env=dev"]


def taken(*keys: str) -> int | None:
    choice = Choice(LINES)
    for key in keys:
        choice.feed(key.encode())
    return choice.taken


@pytest.mark.parametrize(
    ("keys", "index"),
    [
        (["\r"], 0),
        (["\x1b[B", "\r"], 1),
        (["\x1b", "[", "B", "\r"], 1),
        (["\x1bOB\x1bOB\x1bOA\r"], 1),
        (["\x1b[B" * 9, "\r"], 3),
        (["\x1b[A", "\r"], 0),
        (["db\r"], 2),
        (["DEV web\r"], 1),
        (["gtw\r"], 3),
        (["dbx\x7f\r"], 2),
        (["zzz\x15\r"], 0),
        (["zzz\r"], None),
        (["\x1b[B\x1b[Bweb\r"], 0),
    ],
)
def test_what_enter_takes(keys: list[str], index: int | None) -> None:
    assert taken(*keys) == index


@pytest.mark.parametrize("key", ["\x03", "\x04", "\x07"])
def test_leaving_takes_nothing_whatever_is_typed_behind(key: str) -> None:
    choice = Choice(LINES)
    choice.feed(f"db{key}\r".encode())
    assert choice.left and choice.taken is None


def test_the_frame_holds_the_marked_line() -> None:
    choice = Choice([f"node-{i:03}" for i in range(100)])
    choice.feed(b"\x1b[B" * 50)
    frame = choice.frame(80, 10)
    assert len(frame) == 9 and frame[0] == "100/100 > "
    assert [line for line in frame if line.startswith("> ")] == ["> node-050"]
    choice.feed(b"\x1b[B" * 90)
    assert choice.frame(80, 10)[-1] == "> node-099"


@pytest.mark.fuzz
@given(st.lists(st.text(max_size=40), max_size=20), st.lists(st.binary(max_size=20)), st.integers(2, 60))
def test_a64_no_name_and_no_key_reaches_the_terminal_raw(
    lines: list[str], typed: list[bytes], columns: int
) -> None:
    choice = Choice(lines)
    for data in typed:
        choice.feed(data)
        for line in choice.frame(columns, 8):
            assert line.isprintable()
            assert display_width(line) < max(2, columns)
        assert choice.taken is None or 0 <= choice.taken < len(lines)
