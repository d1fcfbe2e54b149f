"""Counting what one user has open in the whole cluster: leases that agents take, renew and give back.

A lease is for one connection. Its holder renews it for as long as the connection lasts; when the holder dies,
the lease runs out by itself.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pkgs.common.api.login import Done
from pkgs.common.rpc.calls import Request

LeaseKind = Literal["connection", "database_connection"]
"""What is counted: connections to servers (`max_connections`), those to databases (`max_db_connections`)."""


class LeaseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    granted: bool
    most: int
    """Connections of that user at a time, by the roles of the certificate; 0: no limit, and no lease."""
    ttl_s: float = 0.0
    """Renew it before this has passed."""


class AcquireLease(Request[LeaseAnswer], frozen=True, kw_only=True):
    """A user has logged in here: may they have one more connection? The certificate they proved says who they
    are and which roles count. Asking again with the same id changes nothing."""

    lease_id: str
    """A UUID of the agent's own."""
    certificate: bytes
    """The user's SSH certificate in wire form."""
    login: str
    client_addr: str
    """IP address of the client."""


class AcquireDatabaseLease(Request[LeaseAnswer], frozen=True, kw_only=True):
    """The same for a session on a database of the caller's."""

    lease_id: str
    """A UUID of the agent's own."""
    certificate: bytes
    """The user's TLS certificate for that database, DER."""
    client_addr: str
    """IP address of the client."""


class HeldLease(msgspec.Struct, frozen=True, kw_only=True):
    kind: LeaseKind = "connection"
    user: str
    lease_id: str


class Renewed(msgspec.Struct, frozen=True, kw_only=True):
    lost: list[str]
    """Ids of those that have run out or are not the caller's: to be acquired anew."""


class RenewLeases(Request[Renewed], frozen=True, kw_only=True):
    leases: list[HeldLease]


class ReleaseLeases(Request[Done], frozen=True, kw_only=True):
    """Those connections are over. One that is not there is as good as given back."""

    leases: list[HeldLease]
