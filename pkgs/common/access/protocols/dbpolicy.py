"""What roles hold database sessions to (`allow.db`): only reading, columns that are not seen, limits.

A role's restrictions count on the databases that it is about, in or out of its hours and networks: those that
its labels select, for the users and names that it allows; a role that names no databases, users or names is
about all. Of all such roles the strictest wins, so that a role without restrictions lifts none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from pkgs.common.access.protocols.grants import Demand, Grant, Grants
from pkgs.common.access.types import Decision
from pkgs.common.errors import InputError
from pkgs.common.resources.role import UNRESTRICTED, DbConditions, Role

FIELD = "db"
"""Of roles."""


def says(grant: Grant, labels: Mapping[str, str], demands: Sequence[Demand]) -> DbConditions | None:
    """What the role holds this session to; None: it is about others, or says nothing."""
    allow, principals = grant.source.spec.allow, grant.protocol.principals
    if allow.db is None:
        return None
    if (allow.db_labels or allow.db_labels_expression) and not grant.selects(labels):
        return None
    means = all(not principals[demand[0]].entries(allow) or grant.allows(demand) for demand in demands)
    return allow.db if means else None


def restricted(
    decision: Decision, grants: Grants, labels: Mapping[str, str], demands: Sequence[Demand]
) -> Decision:
    """A yes with what the session is held to. Raises InputError."""
    if not decision:
        return decision
    for grant in grants.every:
        if grant.source.spec.deny.db is not None:
            raise InputError(f"role {grant.role}: deny.db: restrictions are for allow")
    found = [grant.source for grant in grants.every if says(grant, labels, demands) is not None]
    return replace(decision, restrictions=strictest(found))


def strictest(roles: Iterable[Role]) -> DbConditions:
    """What several roles come to; the order of masks is that of the roles' names."""
    every = [role.spec.allow.db or UNRESTRICTED for role in sorted(roles, key=lambda role: role.name)]
    masks = tuple(dict.fromkeys(mask for found in every for mask in found.mask))
    return DbConditions(
        read_only=any(found.read_only for found in every),
        mask=masks,
        mask_computed=bool(masks) and any(found.mask_computed for found in every),
        rows_max=_smallest(found.rows_max for found in every),
        bytes_max=_smallest(found.bytes_max for found in every),
    )


def _smallest(limits: Iterable[int]) -> int:
    return min((limit for limit in limits if limit > 0), default=0)


def fields(found: DbConditions) -> Iterator[str]:
    """The role's fields that restrict."""
    for name in found.__struct_fields__:
        if getattr(found, name) != getattr(UNRESTRICTED, name):
            yield f"{FIELD}.{name}"


def told(found: DbConditions) -> Iterator[str]:
    """Restrictions in the words of the role's fields."""
    if found.read_only:
        yield "read_only"
    for mask in found.mask:
        yield f"mask {mask.table}.{mask.column}" + ("" if mask.text == "***" else f" as {mask.text!r}")
    if found.mask_computed:
        yield "mask_computed"
    for name, limit in (("rows_max", found.rows_max), ("bytes_max", found.bytes_max)):
        if limit:
            yield f"{name} {limit}"


def terms(decision: Decision) -> dict[str, tuple[str, ...]]:
    """All that comes with a yes, by field of the role: what is granted, and as `db` what it is held to."""
    held = tuple(told(decision.restrictions))
    return {**decision.principals, **({FIELD: held} if held else {})}
