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

_SPARE_S = 60.0
"""A certificate that ends sooner is made anew."""


def obtain(login: Login, database: Database, args: Parsed) -> Held:
    """A new certificate, stored; for whom the flags say, else for whom the one before was."""
    from pkgs.common.api.login import ReissueUserCerts
    from pkgs.common.pki.identity import RouteToDatabase
    from pkgs.common.pki.keys import new_tls_key

    if login.identity_file:
        raise InputError("an identity file is not good for databases", hint="log in with 'tsh login'")
    before = files.read(login, database.name)
    roles: tuple[str, ...] | None = tuple(split_commas(args.text("db-roles")))
    if "db-roles" not in args.given:
        roles = before.roles if before is not None and before.roles else None
    route = RouteToDatabase(
        service=database.name,
        protocol=database.spec.protocol,
        user=args.text("db-user") or (before.user if before is not None else ""),
        database=args.text("db-name") or (before.database if before is not None else ""),
        roles=roles,
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


def held_or_obtained(login: Login, database: Database, args: Parsed) -> Held:
    """The stored certificate where it still does for what the flags ask; else a new one."""
    held = files.read(login, database.name)
    if held is None or held.expires_at < time.time() + _SPARE_S or held.protocol != database.spec.protocol:
        return obtain(login, database, args)
    if files.precedes(held, login):
        return obtain(login, database, args)
    wanted = (args.text("db-user") or held.user, args.text("db-name") or held.database)
    if wanted != (held.user, held.database) or "db-roles" in args.given:
        return obtain(login, database, args)
    return held
