"""Text from outside is inert after `sanitize`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.output.sanitize import inert, inert_json, inert_lines
from tests.harness.examples import examples

HOSTILE = {
    "\x1b]52;c;ZXZpbA==\x07": "\\x1b]52;c;ZXZpbA==\\x07",
    "a\x1b[2Jb": "a\\x1b[2Jb",
    "\x9b31m": "\\x9b31m",
    "x\u202egnp.exe": "x\\u202egnp.exe",
    "one\ntwo\r": "one\\ntwo\\r",
    "\u2066hid\u2069": "\\u2066hid\\u2069",
    "\u2028": "\\u2028",
    "\ud800": "\\ud800",
    "\x7f": "\\x7f",
    "\U000e0041": "\\U000e0041",
}


def test_each_hostile_text_becomes_its_visible_form() -> None:
    for text, shown in HOSTILE.items():
        assert inert(text) == shown


def test_ordinary_names_stay_as_they_are() -> None:
    for text in ("web-1", "größe", "服务器", "naïve [link=x]y[/link]", ""):
        assert inert(text) == text


@pytest.mark.fuzz
@given(st.text(alphabet=st.characters(codec=None)))
@settings(max_examples=examples(100))
def test_nothing_unprintable_ever_comes_out(text: str) -> None:
    shown = inert(text)
    assert shown.isprintable()
    shown.encode()


def test_later_lines_of_a_message_cannot_pose_as_ours() -> None:
    assert inert_lines("bad\nERROR: fake\x1b[A") == "bad\n  ERROR: fake\\x1b[A"


@given(st.text())
@settings(max_examples=examples(100))
def test_json_stays_the_same_value_without_raw_control_characters(text: str) -> None:
    document = json.dumps({"k": text}, ensure_ascii=False)
    shown = inert_json(document)
    assert json.loads(shown) == {"k": text}
    assert all(char.isprintable() for char in shown)
