"""Secrets in MySQL's statements don't reach the audit log; the rest of a statement does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.db.record.passwords import LOOKED_AT, mask, mask_error

TABLE = [
    (
        "CREATE USER 'a'@'h' IDENTIFIED BY 's3cret' REQUIRE SUBJECT '/CN=a'",
        "CREATE USER 'a'@'h' IDENTIFIED BY '***' REQUIRE SUBJECT '/CN=a'",
    ),
    ("SET PASSWORD FOR 'u'@'h' = 's3cret'", "SET PASSWORD FOR 'u'@'h' = '***'"),
    (
        "set password for u = PASSWORD(concat('s3', \"cret\"))",
        "set password for u = PASSWORD(concat('***', '***'))",
    ),
    ("SET PASSWORD = 's3cret'; SELECT 'kept'", "SET PASSWORD = '***'; SELECT 'kept'"),
    (
        'ALTER USER a IDENTIFIED/**/BY /* x */ \'s3\\\'cret\', b IDENTIFIED BY "s3""cret"',
        "ALTER USER a IDENTIFIED/**/BY /* x */ '***', b IDENTIFIED BY '***'",
    ),
    (
        "CREATE USER a IDENTIFIED VIA x USING PASSWORD('s3cret') OR y USING 's3cret'",
        "CREATE USER a IDENTIFIED VIA x USING PASSWORD('***') OR y USING '***'",
    ),
    (
        "CHANGE MASTER TO MASTER_PASSWORD='s3cret', MASTER_HOST='h'",
        "CHANGE MASTER TO MASTER_PASSWORD='***', MASTER_HOST='h'",
    ),
    (
        "ALTER USER a IDENTIFIED BY 's3cret' REPLACE 's3cret'",
        "ALTER USER a IDENTIFIED BY '***' REPLACE '***'",
    ),
    ("/*!50000 ALTER USER a IDENTIFIED BY 's3cret' */", "/*!50000 ALTER USER a IDENTIFIED BY '***' */"),
    ("PREPARE p FROM 'ALTER USER a IDENTIFIED BY ''s3cret'''", "PREPARE p FROM 'ALTER USER a ***'"),
    ("EXECUTE IMMEDIATE \"SET PASSWORD = 's3cret'\"", 'EXECUTE IMMEDIATE "SET ***"'),
    ("ALTER USER a IDENTIFIED BY 's3cre", "ALTER USER a IDENTIFIED BY '***'"),
    ("SELECT 1 FROM t WHERE password = 0x7333637265", "SELECT 1 FROM t WHERE password = '***'"),
    ("SELECT 'no password here', 'kept'", "SELECT 'no password here', 'kept'"),
    ("SELECT `password` FROM t WHERE a = 'kept'", "SELECT `password` FROM t WHERE a = 'kept'"),
    ("INSERT INTO t VALUES ('it''s -- kept')", "INSERT INTO t VALUES ('it''s -- kept')"),
]


@pytest.mark.parametrize(("sql", "shown"), TABLE)
def test_secrets_are_hidden_and_the_rest_is_not(sql: str, shown: str) -> None:
    assert mask(sql).text == shown
    assert mask(sql).secret == (sql != shown)
    assert "s3" not in shown


@pytest.mark.fuzz
@given(st.text(alphabet="'\"\\`;#-/*! \nSETPASWORDidentifed by=(,)x0", max_size=80))
def test_any_text_ends_well(sql: str) -> None:
    mask(sql)


GAP = st.sampled_from([" ", "\n", "/* ' */", " -- '\n", '  # "\n'])
SECRET = st.from_regex(r"\A[A-Za-z0-9 ;,()=%-]{6,20}\Z").filter(
    lambda text: not re.search("(?i)for|set", text)
)


@pytest.mark.fuzz
@given(SECRET, GAP, GAP, st.sampled_from("'\""))
def test_a_secret_is_hidden_however_it_is_written(secret: str, one: str, two: str, quote: str) -> None:
    sql = f"SELECT 'x'; ALTER USER u IDENTIFIED{one}BY{two}{quote}{secret}{quote} ACCOUNT UNLOCK"
    assert secret not in mask(sql).text


def test_a_servers_error_does_not_repeat_a_secret() -> None:
    said = "You have an error in your SQL syntax; use near ''s3cret' FOO' at line 1"
    assert "s3cret" not in mask_error(said, secret=True)
    assert mask_error(said, secret=False) == said
    assert "s3cret" not in mask_error("use near 'IDENTIFIED BY 's3cret'' at line 1", secret=False)


def test_only_the_beginning_of_a_long_statement_with_secrets_is_looked_at() -> None:
    """Otherwise whoever may send statements could keep the whole agent busy with them."""
    values = ", ".join(["('a', 'b')"] * 5000)
    masked = mask(f"INSERT INTO accounts (name, password) VALUES {values}")
    assert (masked.cut, len(masked.text)) == (True, LOOKED_AT)
    assert not mask(f"INSERT INTO accounts (name) VALUES {values}").cut


HARM = "DROP TABLE t"


@pytest.mark.parametrize(
    "sql",
    [
        f"DELETE FROM u WHERE 'password\"' <> ''; {HARM}",
        f"SELECT 1 /* password ' */; {HARM}; SELECT 2 /* ' */",
        f"SELECT 1 AS `password'`; {HARM}; SELECT '1'",
        f"SELECT password + 'a\\', {HARM}, 'b'",
        f"SELECT 'x\\', password, {HARM}, 'y'",
        f"SELECT '\\', \"password'\", {HARM}, '",
        f"SELECT 1 /*!99999 password ' */; {HARM} /*' */",
        f"SELECT 1 --password '\n; {HARM} --'",
        f"SELECT $a$ ' $a$, password, 'x' + $a$; {HARM}; $a$ '",
    ],
)
def test_what_the_server_runs_is_not_hidden_unseen(sql: str) -> None:
    """Shown, or else the text is marked as one of which something is missing."""
    masked = mask(sql)
    assert HARM in masked.text or masked.cut


def test_a_secret_alone_is_no_missing_part() -> None:
    assert not mask("ALTER USER a IDENTIFIED BY 's3cret'").cut
