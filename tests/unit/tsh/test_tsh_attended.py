"""One-time codes taken out of a moderator's keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.clients.tsh.ownssh.loop import Loop
from pkgs.clients.tsh.ownssh.session import Session
from pkgs.clients.tsh.ownssh.settings import Settings
from pkgs.clients.tsh.sessions import attended
from pkgs.clients.tsh.sessions.attended import Digits


@pytest.mark.parametrize(
    ("typed", "passed", "codes"),
    [
        (b"123456", b"", ["123456"]),
        (b"123 456\r", b"\r", ["123456"]),
        (b"12\x7f123456t", b"\x7ft", ["123456"]),
        (b"123456654321", b"", ["123456", "654321"]),
        (b"12345t6", b"t", []),
        (b" t\x03", b" t\x03", []),
        # What a terminal answers to a program's questions.
        (b"\x1b[?123456;0$y", b"\x1b[?123456;0$y", []),
        (b"\x1b]11;123456\x07", b"\x1b]11;123456\x07", []),
        (b"\x1bP1$r123456\x1b\\", b"\x1bP1$r123456\x1b\\", []),
        (b"\x9b123456R", b"\x9b123456R", []),
        (b"\x1b[A123456", b"\x1b[A", ["123456"]),
        (b"\x1bP1$r1\x1b\\123456", b"\x1bP1$r1\x1b\\", ["123456"]),
        (b"\x1b\x1b[123456R", b"\x1b\x1b[123456R", []),
        (b"\x1bOP123456", b"\x1bOP", ["123456"]),
    ],
)
def test_digits_are_a_code_and_all_else_goes_on(typed: bytes, passed: bytes, codes: list[str]) -> None:
    assert Digits().feed(typed) == (passed, codes)
    pieces = Digits()
    found = [pieces.feed(typed[at : at + 1]) for at in range(len(typed))]
    assert b"".join(rest for rest, _ in found) == passed
    assert [code for _, each in found for code in each] == codes


@given(st.lists(st.binary(max_size=20)))
def test_no_key_is_lost_but_digits_and_blanks(pieces: list[bytes]) -> None:
    digits = Digits()
    passed = b""
    for piece in pieces:
        rest, codes = digits.feed(piece)
        passed += rest
        assert all(len(code) == 6 and code.isdigit() for code in codes)
    wanted = bytes(key for key in b"".join(pieces) if key not in b"0123456789 ")
    assert bytes(key for key in passed if key not in b"0123456789 ") == wanted


def test_our_own_client_sends_no_code_to_the_server(capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[str] = []

    def prove(code: str) -> str:
        heard.append(code)
        return "The code is accepted."

    loop = Loop()
    settings = Settings(tty="yes", keys=attended.without_codes(prove))
    session = Session(loop, settings, tty=True, tell=lambda text: None)
    assert [session.outgoing(keys) for keys in (b"12", b"34 5", b"6t", b"\x1b[24;80R")] == [
        b"", b"", b"t", b"\x1b[24;80R",
    ]  # fmt: skip
    assert heard == ["123456"] and "Teleport > The code is accepted." in capfd.readouterr().err
    loop.close()
