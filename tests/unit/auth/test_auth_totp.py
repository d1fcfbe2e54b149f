"""One-time codes against the vectors of RFC 6238, and the rule that each counts once."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.auth.accounts.totp import code_at, matching_step, otpauth_url, to_base32
from tests.harness.examples import examples

SECRET = b"12345678901234567890"
# RFC 6238 appendix B, SHA-1, cut to six digits.
VECTORS = {
    59: "287082",
    1111111109: "081804",
    1111111111: "050471",
    1234567890: "005924",
    2000000000: "279037",
    20000000000: "353130",
}


@pytest.mark.parametrize(("moment", "code"), VECTORS.items())
def test_the_vectors_of_the_rfc(moment: int, code: str) -> None:
    assert code_at(SECRET, moment // 30) == code
    assert matching_step(SECRET, code, moment, 0) == moment // 30


def test_one_step_of_skew_each_way_and_no_more() -> None:
    now = 1_800_000_015.0
    step = int(now) // 30
    for offset, fits in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        found = matching_step(SECRET, code_at(SECRET, step + offset), now, 0)
        assert (found == step + offset) is fits


def test_a_code_not_newer_than_the_last_used_one_is_refused() -> None:
    now = 1_800_000_015.0
    step = int(now) // 30
    assert matching_step(SECRET, code_at(SECRET, step), now, step) is None
    assert matching_step(SECRET, code_at(SECRET, step - 1), now, step) is None
    assert matching_step(SECRET, code_at(SECRET, step + 1), now, step) == step + 1


@pytest.mark.fuzz
@settings(max_examples=examples(60))
@given(st.text(max_size=12))
def test_no_text_breaks_the_comparison(text: str) -> None:
    found = matching_step(SECRET, text, 1_800_000_000.0, 0)
    assert found is None or text == code_at(SECRET, found)


def test_the_url_reads_back() -> None:
    url = urlsplit(otpauth_url(SECRET, "mira@example.com", "alpha.example"))
    assert (url.scheme, url.netloc) == ("otpauth", "totp")
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert base64.b32decode(query["secret"]) == SECRET
    assert query["issuer"] == "alpha.example"
    assert to_base32(b"abc") == "MFRGG"
