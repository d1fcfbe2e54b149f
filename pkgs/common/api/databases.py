"""Databases: agents announcing what they serve, and the certificates that databases believe."""

from __future__ import annotations

import msgspec

from pkgs.common.api.login import Done
from pkgs.common.pki.identity import RouteToDatabase
from pkgs.common.resources.kinds import DatabaseServer, DatabaseService
from pkgs.common.rpc.calls import Request

ANNOUNCED_AT_ONCE = 50
"""Databases in one call."""


class AnnounceDatabases(Request[Done], frozen=True, kw_only=True):
    """A Database Service says that it lives and serves these databases. Only for its own host id; an agent
    with many announces them in several calls."""

    service: DatabaseService
    servers: list[DatabaseServer] = []
    forget: list[str] = []
    """Names of databases that it serves no more."""
    ttl_s: int = 600


class DatabaseCert(msgspec.Struct, frozen=True, kw_only=True):
    cert: str
    """PEM."""
    expires_at: float
    """Unix seconds."""


class SignDatabaseCert(Request[DatabaseCert], frozen=True, kw_only=True):
    """A client certificate for a database user, for the agent that announced the database."""

    database: str
    user: str
    public_key: str
    """PEM SubjectPublicKeyInfo."""


class DatabaseSession(msgspec.Struct, frozen=True, kw_only=True):
    needs_code: bool
    """A certificate for it has to be made with a one-time code."""
    needs_user: bool
    """None is named, and none is made on demand."""


class PrepareDatabaseSession(Request[DatabaseSession], frozen=True, kw_only=True):
    """What a session that the caller means to open would need, should it be allowed at all."""

    route: RouteToDatabase


class DatabaseServerCert(msgspec.Struct, frozen=True, kw_only=True):
    cert: str
    """PEM."""
    client_authorities: str
    """PEM of those whose client certificates the database has to believe."""


class SignDatabaseServerCert(Request[DatabaseServerCert], frozen=True, kw_only=True):
    """`tctl auth sign --format=db`: a certificate for a database server."""

    names: list[str]
    public_key: str
    ttl_s: int
