"""A certificate for a database: asked for with the login's own, with a key of its own."""

from __future__ import annotations

import time

from pkgs.clients.tsh.connections.dial import auth_client
from pkgs.clients.tsh.databases import files
from pkgs.clients.tsh.databases.files import Held
from pkgs.clients.tsh.profile.login import Login
from pkgs.clients.tsh.servers.nodes import split_commas
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from pkgs.common.resources.kinds import Database

SPARE_S = 60.0
"""A certificate that ends sooner is made anew."""


class Whom:
    """As whom a database is opened; what is empty stays as it was with the certificate before."""

    __slots__ = ("database", "roles", "user")

    def __init__(self, user: str = "", database: str = "", roles: tuple[str, ...] | None = None) -> None:
        """`roles`: None is those from before, or all that are granted."""
        self.user = user
        self.database = database
        self.roles = roles

    def met_by(self, held: Held) -> bool:
        return (
            (self.user or held.user) == held.user
            and (self.database or held.database) == held.database
            and self.roles in (None, held.roles)
        )


def whom(args: Parsed) -> Whom:
    """What the flags say."""
    roles = tuple(split_commas(args.text("db-roles"))) if "db-roles" in args.given else None
    return Whom(args.text("db-user"), args.text("db-name"), roles)


def obtain(login: Login, database: Database, wanted: Whom) -> Held:
    """A new certificate, stored."""
    from pkgs.common.api.login import ReissueUserCerts
    from pkgs.common.pki.identity import RouteToDatabase
    from pkgs.common.pki.keys import new_tls_key

    if login.identity_file:
        raise InputError("an identity file is not good for databases", hint="log in with 'tsh login'")
    before = files.read(login, database.name)
    route = RouteToDatabase(
        service=database.name,
        protocol=database.spec.protocol,
        user=wanted.user or (before.user if before is not None else ""),
        database=wanted.database or (before.database if before is not None else ""),
        roles=wanted.roles if wanted.roles is not None else (before and before.roles) or None,
    )
    key = new_tls_key()
    request = ReissueUserCerts(
        ssh_public_key="",
        tls_public_key=key.public_pem,
        ttl_s=max(int(login.expires_at - time.time()) + 1, 1),
        route_to_database=route,
    )
    client = auth_client(login)
    try:
        certs = client.call(request)
    finally:
        client.close()
    files.write(login, database.name, certs.tls_cert, key.private_pem)
    held = files.read(login, database.name)
    assert held is not None
    return held


def lasts(login: Login, held: Held) -> bool:
    """Whether a new certificate would not last longer, or needn't yet."""
    return held.expires_at >= min(time.time() + SPARE_S, login.expires_at - 1)


def held_or_obtained(login: Login, database: Database, wanted: Whom) -> Held:
    """The stored certificate where it still does; else a new one."""
    held = files.read(login, database.name)
    if (
        held is not None
        and lasts(login, held)
        and held.protocol == database.spec.protocol
        and wanted.met_by(held)
    ):
        return held
    return obtain(login, database, wanted)
