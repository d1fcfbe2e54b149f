"""Passwords in statements are replaced, however they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.db.postgres.secrets import HIDDEN, Masked, mask

SECRET = "hunter2"
HIDING = (
    "CREATE ROLE x PASSWORD 'hunter2'",
    "create user x with encrypted password'hunter2' valid until '2030-01-01'",
    "ALTER ROLE x PASSWORD E'hunter2\\'hunter2'",
    "ALTER ROLE x PASSWORD 'a''hunter2'",
    "ALTER ROLE x PASSWORD 'a'\n 'hunter2'",
    "ALTER ROLE x PASSWORD $$hunter2$$",
    "ALTER ROLE x PASSWORD $tag$hunter2 $$ hunter2$tag$",
    "ALTER ROLE x PASSWORD U&'hunter2'",
    "ALTER ROLE x PASSWORD /* a comment */ 'hunter2'",
    "ALTER ROLE x PASSWORD -- a comment\n 'hunter2'",
    "ALTER ROLE x PASSWORD 'hunter2",
    "CREATE USER MAPPING FOR x SERVER s OPTIONS (user 'me', password 'hunter2')",
    "CREATE SUBSCRIPTION s CONNECTION 'host=h password=hunter2 user=u' PUBLICATION p",
    "SELECT dblink_connect('password = hunter2')",
    "DO $$ BEGIN EXECUTE 'ALTER ROLE x PASSWORD ''hunter2'''; END $$",
    "UPDATE users SET password = 'hunter2' WHERE id = 5",
    "UPDATE users SET \"password\" = crypt('hunter2', gen_salt('bf'))",
    "SELECT f(password => 'hunter2')",
    "ALTER ROLE x PASSWORD 'hunter2'; ALTER ROLE y PASSWORD 'hunter2'",
)


@pytest.mark.parametrize("text", HIDING)
def test_no_password_is_left(text: str) -> None:
    masked = mask(text).text
    assert SECRET not in masked and HIDDEN in masked


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "ALTER ROLE x PASSWORD NULL",
        "SELECT password FROM users WHERE name = 'me'",
        "SELECT password_hash FROM users WHERE x = 'y'",
        "UPDATE users SET password = $1",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert mask(text) == Masked(text)


def test_what_stands_around_is_kept() -> None:
    assert (
        mask("ALTER ROLE x PASSWORD 'a' VALID UNTIL 'b'").text
        == f"ALTER ROLE x PASSWORD {HIDDEN} VALID UNTIL 'b'"
    )


@pytest.mark.fuzz
@pytest.mark.fuzz
@given(st.lists(st.sampled_from(("password", *"'$=(,/*-\\E \n", "$a$", "x", "''")), max_size=40))
def test_any_text_is_masked_somehow(parts: list[str]) -> None:
    text = "".join(parts)
    masked = mask(text).text
    assert masked == text or HIDDEN in masked


HARM = "DROP TABLE t"
AROUND = (
    f"SELECT 1 /* password $$ */; {HARM}; SELECT 2 /* $$ */",
    f"-- password '\n{HARM}; --'",
    f"SELECT 1 AS \"password'\"; {HARM}; SELECT '1'",
    f"SELECT password /* ' */; {HARM}; SELECT /* ' */ 1",
    f"SELECT 'password ''', 1; {HARM}; SELECT ' '' '",
    f"SELECT password, e€$$; {HARM}; SELECT 1 AS e€$$",
    f"SELECT password,\u00a0$$; {HARM}; SELECT \u00a0$$",
    f"DO $$ BEGIN /* password ' */ {HARM}; /* ' */ END $$",
    f"DO 'BEGIN /* password '' */ {HARM}; /* '' */ END'",
    f"/* /* password */ ' */ {HARM}; SELECT password, '/* x */'",
)


@pytest.mark.parametrize("text", AROUND)
def test_what_the_server_runs_is_not_hidden_behind_the_word(text: str) -> None:
    assert HARM in mask(text).text


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT '\\', password, ', {HARM}, '",
        f"SELECT E'a'\n'\\', password, ', {HARM}, '",
        f"DO E'BEGIN /* password \\' */ {HARM}; /* \\' */ END'",
        "SELECT password " + "+ 1 " * 20_000 + HARM,
    ],
)
def test_where_that_is_not_sure_it_is_said(text: str) -> None:
    """As the server's settings are, a backslash counts or not."""
    masked = mask(text)
    assert HARM in masked.text or not masked.sure
