"""Statements that make, change and end PostgreSQL's users made on demand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.db.users.accounts import MARK, OtherRolesError
from pkgs.agents.db.users.postgres import State, activation, deactivation, identifier
from pkgs.common.errors import DeniedError, InputError

OURS = State(False, frozenset({MARK, "reader"}))


def test_a_user_is_made_marked_and_gets_its_roles() -> None:
    assert activation("ann", None, ["writer", "reader"]) == [
        'CREATE ROLE "ann" LOGIN IN ROLE "teleport-auto-user"',
        'GRANT "reader" TO "ann"',
        'GRANT "writer" TO "ann"',
    ]


def test_a_kept_user_gets_exactly_the_roles_of_now() -> None:
    assert activation("ann", OURS, ["writer"]) == [
        'REVOKE "reader" FROM "ann"',
        'GRANT "writer" TO "ann"',
        'ALTER ROLE "ann" LOGIN',
    ]
    assert activation("ann", State(True, OURS.roles), ["reader"]) == ['ALTER ROLE "ann" LOGIN']
    with pytest.raises(OtherRolesError):
        activation("ann", State(True, OURS.roles), [])


def test_somebody_elses_user_is_never_touched() -> None:
    with pytest.raises(DeniedError, match="no member of teleport-auto-user"):
        activation("postgres", State(False, frozenset()), [])
    with pytest.raises(DeniedError, match="marks users"):
        activation("ann", None, [MARK])


def test_at_the_end_it_is_locked_first() -> None:
    assert deactivation("ann", OURS) == ['ALTER ROLE "ann" NOLOGIN', 'REVOKE "reader" FROM "ann"']


@pytest.mark.fuzz
@given(st.text())
def test_names_are_one_quoted_identifier_or_refused(name: str) -> None:
    try:
        quoted = identifier(name)
    except InputError:
        assert not name or "\0" in name or len(name.encode()) > 63
        return
    assert (quoted[0], quoted[-1]) == ('"', '"')
    assert '"' not in quoted[1:-1].replace('""', "")
    assert quoted[1:-1].replace('""', '"') == name
