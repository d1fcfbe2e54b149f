"""What PostgreSQL's users made on demand may do with tables, views and routines: given and taken away.

take what the user has here -> list the objects -> decide for each -> grant -> look whether it is just that

Whatever was granted to the user itself is taken, whoever granted it: the server knows what that is. All in
one transaction of the database that holds the objects.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pkgs.agents.db.postgres.login import ServerError
from pkgs.agents.db.users import limits
from pkgs.agents.db.users.accounts import Given, Objects
from pkgs.agents.db.users.postgres_sql import Admin, identifier, text
from pkgs.common.access.dbobjects import DbObject
from pkgs.common.errors import LimitExceededError, UnavailableError

_NOT_ALLOWED = "42501"
_CANNOT = "the admin user cannot grant all the permissions on objects that roles give"
_HOW_IT_COULD = "it must be a member of the objects' owner, or have the permissions WITH GRANT OPTION"
_WORDS = {
    "table": "TABLE",
    "view": "TABLE",
    "materialized view": "TABLE",
    "foreign table": "TABLE",
    "table column": "TABLE",
    "sequence": "SEQUENCE",
    "function": "ROUTINE",
    "procedure": "ROUTINE",
    "aggregate": "ROUTINE",
    "schema": "SCHEMA",
}
"""What the server calls objects, and what statements call them. Others are nobody's to take here."""

_HELD = """
SELECT DISTINCT i.type, i.identity
FROM pg_shdepend s
JOIN pg_roles r ON r.oid = s.refobjid
CROSS JOIN LATERAL pg_identify_object(s.classid, s.objid, 0) i
WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'a' AND r.rolname = $1
AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_ELSEWHERE = """
SELECT DISTINCT d.datname
FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid JOIN pg_database d ON d.oid = s.dbid
WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'a' AND r.rolname = $1
AND d.datname <> current_database() AND d.datallowconn AND has_database_privilege(d.oid, 'CONNECT')
"""
# Objects of extensions and of the server are not imported, and nobody is granted what is theirs already.
_OBJECTS = """
WITH the AS (SELECT oid FROM pg_roles WHERE rolname = $1),
schemas AS (
    SELECT oid, nspname, has_schema_privilege((SELECT oid FROM the), oid, 'USAGE') AS open FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
),
extended AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e')
SELECT CASE WHEN c.relkind IN ('v', 'm') THEN 'view' ELSE 'table' END, n.nspname, c.relname,
    quote_ident(n.nspname) || '.' || quote_ident(c.relname), n.open
FROM pg_class c JOIN schemas n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND c.relowner <> (SELECT oid FROM the)
AND NOT EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid)
UNION ALL
SELECT 'procedure', n.nspname, p.proname,
    quote_ident(n.nspname) || '.' || quote_ident(p.proname)
    || '(' || pg_get_function_identity_arguments(p.oid) || ')', n.open
FROM pg_proc p JOIN schemas n ON n.oid = p.pronamespace
WHERE p.proowner <> (SELECT oid FROM the)
AND NOT EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid)
LIMIT $2
"""
_SERIALS = """
SELECT quote_ident(t.nspname) || '.' || quote_ident(c.relname),
    quote_ident(n.nspname) || '.' || quote_ident(s.relname)
FROM pg_depend d
JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace t ON t.oid = c.relnamespace
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'a'
"""
"""Tables and the sequences that number their rows by a default of a column (`serial`)."""
_GRANTED = """
WITH mine AS (
    SELECT DISTINCT s.classid, s.objid, r.oid AS role FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
    WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'a' AND r.rolname = $1
    AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
)
SELECT count(*) FROM (
    SELECT m.role, c.relacl AS acl FROM mine m
    JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
    UNION ALL SELECT m.role, p.proacl FROM mine m
    JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
) g CROSS JOIN LATERAL aclexplode(g.acl) a WHERE a.grantee = g.role
"""


@dataclass(frozen=True, slots=True)
class Found:
    """An object, and what is needed to grant something on it."""

    about: DbObject
    quoted: str
    """Its name in statements, as the server writes it."""
    open: bool
    """The user may look into its schema already."""


async def give(admin: Admin, user: str, wanted: Objects) -> Given:
    """The user has exactly what is wanted on the objects of this connection's database. Raises ServerError,
    UnavailableError, LimitExceededError."""
    await take(admin, user)
    if left := [identity for word, identity in await _held(admin, user) if word]:
        raise UnavailableError(
            f"somebody else gave the user permissions that the admin user cannot take: {left[0]}",
            hint="revoke them, or let the admin user be a member of the object's owner",
        )
    most, one_more = limits.OBJECTS_BYTES_MAX, str(limits.OBJECTS_MAX + 1)
    found = [_found(*row) for row in await admin.ask(_OBJECTS, user, one_more, most=most)]
    if len(found) > limits.OBJECTS_MAX:
        raise LimitExceededError(
            f"database {wanted.database} has more than {limits.OBJECTS_MAX:,} tables, views and procedures,"
            " too many for permissions on each",
            hint="use db_roles there",
        )
    permitted = await asyncio.to_thread(decided, found, wanted)
    serials = await _serials(admin, permitted)
    try:
        for statement in grants(user, permitted, serials):
            await admin.ask(statement)
    except ServerError as problem:
        if problem.detail != _NOT_ALLOWED:
            raise
        raise UnavailableError(f"{_CANNOT}: {problem.message}", hint=_HOW_IT_COULD) from problem
    # Where the admin user has the permissions and may not grant them, the server only warns.
    count = sum(len(permissions) for permissions in permitted.values()) + len(serials)
    if await admin.ask(_GRANTED, user) != [[str(count).encode()]]:
        raise UnavailableError(_CANNOT, hint=_HOW_IT_COULD)
    return counted(permitted)


async def take(admin: Admin, user: str) -> None:
    """What the user was granted here itself is gone, as far as the admin user may. Raises ServerError."""
    by_word: dict[str, list[str]] = defaultdict(list)
    for word, identity in await _held(admin, user):
        if word:
            by_word[word].append(identity)
    for word, names in by_word.items():
        for some in _parts(names):
            if not await _revoke(admin, user, word, some) and len(some) > 1:
                for one in some:
                    await _revoke(admin, user, word, [one])


async def databases_with_grants(admin: Admin, user: str) -> list[str]:
    """Other databases of the server in which the user was granted something, and the admin may look."""
    return [text(row[0]) for row in await admin.ask(_ELSEWHERE, user)]


async def _held(admin: Admin, user: str) -> list[tuple[str, str]]:
    """Word and name of each object here on which the user was granted something; no word: not for us."""
    rows = await admin.ask(_HELD, user, most=limits.OBJECTS_BYTES_MAX)
    return [(_WORDS.get(text(row[0]), ""), text(row[1])) for row in rows]


async def _revoke(admin: Admin, user: str, word: str, names: Sequence[str]) -> bool:
    statement = f"REVOKE ALL ON {word} {', '.join(names)} FROM {identifier(user)} CASCADE"
    return await admin.attempt(statement, but=_NOT_ALLOWED)


def _found(*row: bytes | None) -> Found:
    kind, schema, name, quoted, is_open = map(text, row)
    return Found(DbObject(kind, schema, name), quoted, is_open == "t")


def decided(found: Iterable[Found], wanted: Objects) -> dict[Found, frozenset[str]]:
    """The objects on which something is permitted, and what."""
    permitted = {}
    for one in found:
        labels = wanted.rules.labels_of(one.about)
        if permissions := wanted.permissions.on(one.about.kind, labels):
            permitted[one] = permissions
    return permitted


async def _serials(admin: Admin, permitted: Mapping[Found, frozenset[str]]) -> list[str]:
    """Sequences without which nothing can be inserted where that is permitted."""
    tables = {one.quoted for one, permissions in permitted.items() if "INSERT" in permissions}
    if not tables:
        return []
    rows = await admin.ask(_SERIALS, most=limits.OBJECTS_BYTES_MAX)
    return sorted({text(sequence) for table, sequence in rows if text(table) in tables})


def grants(
    user: str, permitted: Mapping[Found, frozenset[str]], serials: Sequence[str] = ()
) -> Iterator[str]:
    """Statements that give it all to a user who has nothing."""
    name = identifier(user)
    closed = {identifier(one.about.schema) for one in permitted if not one.open}
    for some in _parts(sorted(closed)):
        yield f"GRANT USAGE ON SCHEMA {', '.join(some)} TO {name}"
    for some in _parts(serials):
        yield f"GRANT USAGE ON SEQUENCE {', '.join(some)} TO {name}"
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one, permissions in permitted.items():
        word = "ROUTINE" if one.about.kind == "procedure" else "TABLE"
        alike[(word, ", ".join(sorted(permissions)))].append(one.quoted)
    for (word, words), names in sorted(alike.items()):
        for some in _parts(names):
            yield f"GRANT {words} ON {word} {', '.join(some)} TO {name}"


def counted(permitted: Mapping[Found, frozenset[str]]) -> Given:
    by_permission: dict[str, Counter[str]] = defaultdict(Counter)
    for one, permissions in permitted.items():
        for permission in permissions:
            by_permission[permission][one.about.kind] += 1
    return Given(
        objects=dict(Counter(one.about.kind for one in permitted)),
        permissions={name: dict(counts) for name, counts in sorted(by_permission.items())},
    )


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), limits.OBJECTS_AT_ONCE):
        yield names[start : start + limits.OBJECTS_AT_ONCE]
