"""Statements that make, change and end MariaDB's users made on demand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.db.users.accounts import MARK, OtherRolesError
from pkgs.agents.db.users.mysql import State, activation, deactivation, identifier, own_role, subject
from pkgs.common.errors import DeniedError, InputError

OWN = f"`{own_role('ann')}`"
DIRECT = frozenset({MARK, own_role("ann")})
OURS = State(DIRECT, False, frozenset({"reader"}))


def test_a_user_is_let_in_by_the_last_statement_only() -> None:
    assert activation("ann", None, ["reader"]) == [
        "CREATE USER `ann`@`%` REQUIRE SUBJECT '/CN=ann' ACCOUNT LOCK",
        "GRANT `teleport-auto-user` TO `ann`@`%`",
        f"CREATE ROLE IF NOT EXISTS {OWN}",
        f"GRANT `reader` TO {OWN}",
        f"GRANT {OWN} TO `ann`@`%`",
        f"SET DEFAULT ROLE {OWN} FOR `ann`@`%`",
        "ALTER USER `ann`@`%` REQUIRE SUBJECT '/CN=ann' ACCOUNT UNLOCK",
    ]
    assert deactivation("ann", OURS, drop=True) == [
        "ALTER USER `ann`@`%` ACCOUNT LOCK",
        f"DROP ROLE IF EXISTS {OWN}",
        "DROP USER `ann`@`%`",
    ]


def test_a_user_in_use_or_of_somebody_else_is_not_changed() -> None:
    assert f"REVOKE `reader` FROM {OWN}" in activation("ann", OURS, [])
    more = State(DIRECT | {"dba"}, False, OURS.roles)
    assert activation("ann", more, ["reader"])[0] == "REVOKE `dba` FROM `ann`@`%`"
    assert deactivation("ann", more, drop=False)[-1] == "REVOKE `dba` FROM `ann`@`%`"
    with pytest.raises(OtherRolesError):
        activation("ann", State(DIRECT, True, OURS.roles), [])
    with pytest.raises(DeniedError, match="has not the role"):
        activation("root", State(frozenset({"dba"}), False, frozenset()), [])
    with pytest.raises(DeniedError, match="marks users"):
        activation("ann", None, [MARK])


@pytest.mark.fuzz
@given(st.text())
def test_names_are_one_quoted_identifier_or_refused(name: str) -> None:
    try:
        quoted = identifier(name)
    except InputError:
        return
    assert (quoted[0], quoted[-1]) == ("`", "`")
    assert "`" not in quoted[1:-1].replace("``", "")
    assert quoted[1:-1].replace("``", "`") == name
    literal = subject(name)
    assert literal.isascii() and literal.startswith("'/CN=")
    assert "'" not in literal[1:-1].replace("\\\\", "").replace("''", "")
