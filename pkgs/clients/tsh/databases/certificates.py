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
    from pkgs.common.api.databases import DatabaseSession
    from pkgs.common.pki.identity import RouteToDatabase
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
    from pkgs.common.pki.identity import RouteToDatabase

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
    cert_pem, key_pem = _issued(login, route)
    files.write(login, database.name, cert_pem, key_pem)
    return files.must(login, database.name)


def prepare(login: Login, held: Held) -> DatabaseSession:
    """What a session with this certificate would need."""
    from pkgs.common.api.databases import PrepareDatabaseSession

    client = auth_client(login)
    try:
        return client.call(PrepareDatabaseSession(route=_route(held)))
    finally:
        client.close()


def for_session(
    login: Login, held: Held, args: Parsed, *, ttl_s: float = 0.0, names_user: bool = False
) -> Held:
    """The certificate to open sessions with: where each needs a code, one that is made with a code asked for
    now, and written nowhere. `ttl_s`: 0 is as long as the roles allow. `names_user`: the client may name
    the database user. Raises InputError where nobody does."""
    needed = prepare(login, held)
    if needed.needs_user and not names_user:
        raise InputError(f"no database user is named for {held.service}", hint="add --db-user")
    if not needed.needs_code:
        return held
    from pkgs.clients.tsh.login.ask import one_time_code

    code = one_time_code(args, f"One-time code for database {held.service}: ")
    cert_pem, key_pem = _issued(login, _route(held), otp=code, ttl_s=ttl_s)
    return files.in_memory(login, held.service, cert_pem, key_pem)


def _route(held: Held) -> RouteToDatabase:
    from pkgs.common.pki.identity import RouteToDatabase

    return RouteToDatabase(
        service=held.service,
        protocol=held.protocol,
        user=held.user,
        database=held.database,
        roles=held.roles or None,
    )


def _issued(login: Login, route: RouteToDatabase, *, otp: str = "", ttl_s: float = 0.0) -> tuple[str, bytes]:
    """Certificate and key, in PEM; they end with the login at the latest."""
    from pkgs.common.api.login import ReissueUserCerts
    from pkgs.common.pki.keys import new_tls_key

    key = new_tls_key()
    request = ReissueUserCerts(
        ssh_public_key="",
        tls_public_key=key.public_pem,
        ttl_s=max(int(ttl_s or login.expires_at - time.time()) + 1, 1),
        route_to_database=route,
        otp=otp,
    )
    client = auth_client(login)
    try:
        return client.call(request).tls_cert, key.private_pem
    finally:
        client.close()


def lasts(login: Login, held: Held) -> bool:
    """Whether a new certificate would not last longer, or needn't yet."""
    return held.expires_at >= min(time.time() + SPARE_S, login.expires_at - 1)


def still_does(login: Login, held: Held, wanted: Whom) -> bool:
    """Whether it lasts, is for whom it should be, and was made with this login."""
    return lasts(login, held) and wanted.met_by(held) and not files.precedes(held, login)


def held_or_obtained(login: Login, database: Database, wanted: Whom) -> Held:
    """The stored certificate where it still does; else a new one."""
    held = files.read(login, database.name)
    if held is not None and still_does(login, held, wanted) and held.protocol == database.spec.protocol:
        return held
    return obtain(login, database, wanted)
