"""Headless login: certificates for a machine where nobody is logged in, approved where somebody is."""

from __future__ import annotations

import uuid

import msgspec

from pkgs.common.api.login import Done, UserCerts
from pkgs.common.rpc.calls import Request

_NAMESPACE = uuid.UUID("6f1c1d6e-9d0f-4c0e-8a55-0f6d2e6f8b1a")
WAIT_S = 10.0
"""One call waits so long; the caller asks again, with the same keys."""
LIFE_S = 180.0
"""A request is over when it is so old."""


def headless_id(ssh_public_key: str) -> str:
    """The id of the request for this key (`type base64`; a comment does not count): whoever approves it
    approves this very key and no other."""
    return str(uuid.uuid5(_NAMESPACE, " ".join(ssh_public_key.split()[:2])))


class HeadlessAnswer(msgspec.Struct, frozen=True, kw_only=True):
    certs: UserCerts | None
    """None: nobody has decided yet."""


class StartHeadless(Request[HeadlessAnswer], frozen=True, kw_only=True):
    """Ask for certificates and wait a little for the user's approval. DeniedError when it was denied."""

    user: str
    headless_id: str
    ssh_public_key: str
    tls_public_key: str
    client_addr: str = ""
    """Honoured only from a proxy."""
    user_agent: str = ""


class HeadlessRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to approve."""

    headless_id: str
    user: str
    client_addr: str
    created: float
    """Unix seconds."""


class GetHeadless(Request[HeadlessRequest], frozen=True, kw_only=True):
    """One's own request that waits; nobody else's."""

    headless_id: str


class DecideHeadless(Request[Done], frozen=True, kw_only=True):
    """Approve or deny one's own request. An approval needs a one-time code."""

    headless_id: str
    approve: bool
    otp: str = ""
