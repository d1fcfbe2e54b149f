"""What there is to be used of a kind: what is stored, and for databases what agents announce besides.

A database of an agent's file is no `db` resource, and decisions about it are about what its agent announces.
"""

from __future__ import annotations

from pkgs.auth.state.store import Store
from pkgs.common.resources.kinds import Database, DatabaseServer, Resource


def all_described(store: Store, kind: str) -> list[Resource]:
    """All of a kind, each name once."""
    found = store.all(kind)
    if kind != "db":
        return found
    by_name: dict[str, Resource] = {resource.name: resource for resource in found}
    return list((by_name | _announced(store)).values())


def described(store: Store, kind: str, name: str) -> Resource | None:
    """The one of that name; None: there is none."""
    if kind == "db" and (announced := _announced(store).get(name)) is not None:
        return announced
    return store.get(kind, name)


def _announced(store: Store) -> dict[str, Database]:
    return {
        server.name: server.spec.database
        for server in store.all("db_server")
        if isinstance(server, DatabaseServer)
    }
