"""Statements that make, change and end PostgreSQL's users made on demand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.db.users import limits
from pkgs.agents.db.users.accounts import MARK, Objects, OtherRolesError, Wanted
from pkgs.agents.db.users.postgres import State, activation, comment_on, deactivation
from pkgs.agents.db.users.postgres_objects import Found, counted, grants
from pkgs.agents.db.users.postgres_sql import identifier
from pkgs.common.access.dbobjects import DbObject, ImportRules, compile_permissions
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.resources.kinds import Database, DatabaseSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.presets import import_all_objects
from pkgs.common.resources.role import DbPermission

PERMISSIONS = compile_permissions([DbPermission(match={"*": "*"}, permissions=["SELECT"])], [], {})
DATABASE = Database(metadata=Metadata(name="db"), spec=DatabaseSpec(protocol="postgres", uri="x:1"))
OBJECTS = Wanted(objects=Objects("shop", PERMISSIONS, ImportRules([import_all_objects()], DATABASE, "shop")))
OURS = State(False, frozenset({MARK, "reader"}))


def test_a_user_is_made_marked_and_gets_its_roles() -> None:
    assert activation("ann", None, Wanted(("writer", "reader"))) == [
        'CREATE ROLE "ann" LOGIN IN ROLE "teleport-auto-user"',
        'GRANT "reader" TO "ann"',
        'GRANT "writer" TO "ann"',
    ]


def test_a_kept_user_gets_exactly_the_roles_of_now() -> None:
    assert activation("ann", OURS, Wanted(("writer",))) == [
        'REVOKE "reader" FROM "ann"',
        'GRANT "writer" TO "ann"',
        'ALTER ROLE "ann" LOGIN',
    ]
    assert activation("ann", State(True, OURS.roles), Wanted(("reader",))) == ['ALTER ROLE "ann" LOGIN']
    with pytest.raises(OtherRolesError):
        activation("ann", State(True, OURS.roles), Wanted())


def test_somebody_elses_user_is_never_touched() -> None:
    with pytest.raises(DeniedError, match="no member of teleport-auto-user"):
        activation("postgres", State(False, frozenset()), Wanted())
    with pytest.raises(DeniedError, match="marks users"):
        activation("ann", None, Wanted((MARK,)))


def test_the_terms_are_a_comment_that_other_agents_read() -> None:
    (_, said) = activation("ann", None, OBJECTS)
    assert said.startswith('COMMENT ON ROLE "ann" IS \'object permissions ')
    active = State(True, frozenset({MARK}), comment_on(OBJECTS))
    assert activation("ann", active, OBJECTS) == ['ALTER ROLE "ann" LOGIN']
    for state, wanted in ((active, Wanted()), (State(True, frozenset({MARK})), OBJECTS)):
        with pytest.raises(OtherRolesError):
            activation("ann", state, wanted)


def found(kind: str, name: str, is_open: bool = True) -> Found:
    return Found(DbObject(kind, 'the "schema', name), f'"the ""schema".{name}', is_open)


def test_objects_with_the_same_permissions_are_granted_at_once() -> None:
    reads = frozenset({"SELECT"})
    permitted = {
        found("table", "a", is_open=False): reads,
        found("table", "b", is_open=False): reads | {"INSERT"},
        found("view", "c", is_open=False): reads,
        found("procedure", "d(int)", is_open=False): frozenset({"EXECUTE"}),
    }
    schema = '"the ""schema"'
    assert list(grants("ann", permitted)) == [
        f'GRANT USAGE ON SCHEMA {schema} TO "ann"',
        f'GRANT EXECUTE ON ROUTINE {schema}.d(int) TO "ann"',
        f'GRANT INSERT, SELECT ON TABLE {schema}.b TO "ann"',
        f'GRANT SELECT ON TABLE {schema}.a, {schema}.c TO "ann"',
    ]
    told = counted(permitted)
    assert told.objects == {"table": 2, "view": 1, "procedure": 1}
    assert told.permissions["SELECT"] == {"table": 2, "view": 1}
    many = {found("table", f"t{number}"): reads for number in range(limits.OBJECTS_AT_ONCE + 1)}
    assert len(list(grants("ann", many))) == 2


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
