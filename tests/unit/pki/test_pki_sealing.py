"""Texts sealed by a passphrase."""

from __future__ import annotations

import base64
import contextlib
import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.errors import AccessError, DeniedError, InputError, LimitExceededError
from pkgs.common.pki import limits
from pkgs.common.pki.sealing import BEGIN, END, is_sealed, seal, unseal
from tests.harness.examples import examples

WORDS = "correct horse battery"
CHEAP = limits.SEAL_LOG_N_RANGE[0]
PLAIN = b"kind: github\nspec: {client_secret: hush}\n" * 20


def sealed(plain: bytes = PLAIN, words: str = WORDS) -> str:
    return seal(plain, words, secrets.token_bytes, log_n=CHEAP)


def rebuilt(raw: bytes) -> str:
    return f"{BEGIN}\n{base64.b64encode(raw).decode()}\n{END}\n"


def raw_of(text: str) -> bytes:
    return base64.b64decode("".join(text.splitlines()[1:-1]))


@given(st.binary(max_size=3000))
@settings(max_examples=examples(25))
def test_what_is_sealed_comes_out_again(plain: bytes) -> None:
    text = sealed(plain)
    assert text.isascii() and max(map(len, text.splitlines())) <= 76
    assert is_sealed(text)
    assert unseal(text, WORDS) == plain


def test_the_usual_cost_is_the_one_that_was_meant() -> None:
    text = seal(PLAIN, WORDS, secrets.token_bytes)
    assert raw_of(text)[7:10] == bytes([17, 8, 1])
    assert unseal(text, WORDS) == PLAIN


def test_nothing_shows_and_no_two_are_alike() -> None:
    one, two = sealed(), sealed()
    assert b"hush" not in raw_of(one)
    assert raw_of(one)[10:] != raw_of(two)[10:]


def test_line_ends_blanks_and_a_byte_order_mark_do_no_harm() -> None:
    text = sealed()
    for same in (
        text.replace("\n", "\r\n"),
        f"\ufeff\n\n{text}\n\n",
        "".join(f"  {line}  \n" for line in text.splitlines()),
        text.rstrip(),
    ):
        assert is_sealed(same)
        assert unseal(same, WORDS) == PLAIN


def test_a_passphrase_may_come_in_either_form_of_unicode() -> None:
    text = sealed(words="caf\u00e9 caf\u00e9 caf\u00e9")
    assert unseal(text, "cafe\u0301 cafe\u0301 cafe\u0301") == PLAIN


@pytest.mark.parametrize("words", ["", "Correct horse battery", WORDS + " ", WORDS[:-1]])
def test_a_wrong_passphrase_is_one_clear_line(words: str) -> None:
    with pytest.raises(AccessError) as caught:
        unseal(sealed(), words)
    assert "passphrase" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", ["short", "", "\ud800" * 12])
def test_passphrases_that_do_not_seal(words: str) -> None:
    with pytest.raises(InputError, match="passphrase"):
        sealed(words=words)


def test_every_changed_bit_is_noticed() -> None:
    raw = raw_of(sealed())
    for at in (*range(40), len(raw) // 2, len(raw) - 1):
        changed = bytearray(raw)
        changed[at] ^= 1
        with pytest.raises((InputError, DeniedError)):
            unseal(rebuilt(bytes(changed)), WORDS)


@pytest.mark.parametrize("length", [0, 5, 37, 38, 53, 54, 60, -1])
def test_cut_short(length: int) -> None:
    with pytest.raises((InputError, DeniedError), match=r"cut"):
        unseal(rebuilt(raw_of(sealed())[:length]), WORDS)


def test_what_is_wrong_is_said() -> None:
    text = sealed()
    raw = raw_of(text)
    rows: list[tuple[str, str]] = [
        ("kind: role", "not a sealed text"),
        ("", "not a sealed text"),
        (text.replace(END, ""), "its last line is missing"),
        (text[: len(text) // 2], "its last line is missing"),
        (text.replace(BEGIN, BEGIN + "\n\u00fc"), "not base64"),
        (text.replace(BEGIN, BEGIN + "\n="), "not base64"),
        (rebuilt(b"xxxxxx" + raw[6:]), "does not begin as one"),
        (rebuilt(raw[:6] + b"\x02" + raw[7:]), "form 2"),
        (rebuilt(raw[:7] + b"\x1f" + raw[8:]), "more work"),
        (rebuilt(raw[:7] + b"\x01" + raw[8:]), "more work"),
        (rebuilt(raw[:8] + b"\xff" + raw[9:]), "more work"),
        (rebuilt(raw[:9] + b"\xff" + raw[10:]), "more work"),
        (rebuilt(raw[:9] + b"\x00" + raw[10:]), "more work"),
    ]
    for wrong, part in rows:
        with pytest.raises(InputError, match=part):
            unseal(wrong, WORDS)


def test_too_large_on_either_side(monkeypatch: pytest.MonkeyPatch) -> None:
    text = sealed(b"x" * 4000)
    monkeypatch.setattr(limits, "MAX_SEALED_BYTES", 100)
    with pytest.raises(LimitExceededError, match="100 bytes"):
        sealed(b"x" * 101)
    with pytest.raises(LimitExceededError, match="100 bytes"):
        unseal(text, WORDS)


@pytest.mark.fuzz
@given(st.one_of(st.text(max_size=300), st.binary(max_size=300).map(lambda raw: rebuilt(raw))))
@settings(max_examples=examples(60))
def test_a43_any_text(text: str) -> None:
    with pytest.raises((InputError, DeniedError, LimitExceededError)):
        unseal(text, WORDS)


@pytest.mark.fuzz
@given(st.binary(min_size=0, max_size=120), st.integers(0, 80), st.integers(0, 12))
@settings(max_examples=examples(60))
def test_a43_a_sealed_text_that_was_tampered_with(junk: bytes, at: int, cost: int) -> None:
    """Whatever is put into it: an error of ours, or what was sealed; and never more work than is granted."""
    raw = _KEPT[:at] + junk + _KEPT[at + len(junk) :]
    # A larger cost is legal and only slow, so that it is not drawn here.
    raw = raw[:7] + bytes([cost]) + raw[8:]
    with contextlib.suppress(InputError, DeniedError, LimitExceededError):
        assert unseal(rebuilt(raw), WORDS) == PLAIN


_KEPT = raw_of(sealed())
