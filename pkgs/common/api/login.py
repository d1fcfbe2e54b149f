"""Logging in, signing up with an invitation, resetting, reissuing, and signing for others."""

from __future__ import annotations

import msgspec

from pkgs.common.pki.identity import RouteToDatabase
from pkgs.common.resources.kinds import CertAuthority
from pkgs.common.rpc.calls import Request


class UserCerts(msgspec.Struct, frozen=True, kw_only=True):
    """What a login yields."""

    user: str
    cluster_name: str
    ssh_cert: str
    """authorized_keys form of the certificate."""
    tls_cert: str
    """PEM."""
    authorities: list[CertAuthority]
    """Public parts of the host and user authorities, for the client's trust store."""
    expires_at: float
    """Unix seconds."""


class Login(Request[UserCerts], frozen=True, kw_only=True):
    """Password and one-time code against certificates for the given public keys."""

    user: str
    password: str
    otp: str = ""
    ssh_public_key: str
    """authorized_keys form."""
    tls_public_key: str
    """PEM SubjectPublicKeyInfo."""
    ttl_s: int = 0
    """0: the cluster's default; always capped by the roles."""
    client_addr: str = ""
    """Honoured only from a proxy; anybody else is taken at their own address."""
    user_agent: str = ""


class ReissueUserCerts(Request[UserCerts], frozen=True, kw_only=True):
    """New certificates for a caller that holds one. Restrictions only ever shrink."""

    ssh_public_key: str
    tls_public_key: str
    ttl_s: int = 0
    assume: list[str] = []
    """Approved access requests of the caller to use from now on."""
    drop: list[str] = []
    """Access requests of the old certificate to give back; `*`: all of them."""
    route_to_database: RouteToDatabase | None = None
    """Make it a certificate for this database and for nothing else. It has no SSH form: `ssh_public_key` is
    empty, and so is `ssh_cert` of the answer."""
    otp: str = ""
    """With a database: a one-time code, used up by this. The certificate then counts where each session
    demands a second factor, and lives at most for `mfa_verification_interval` of the roles."""


class SignUserCerts(Request[UserCerts], frozen=True, kw_only=True):
    """`tctl auth sign --user`: certificates for somebody else's public keys; administrators only."""

    user: str
    ssh_public_key: str
    tls_public_key: str
    ttl_s: int = 12 * 3600


class HostSshCert(msgspec.Struct, frozen=True, kw_only=True):
    ssh_cert: str


class SignHostCert(Request[HostSshCert], frozen=True, kw_only=True):
    """`tctl auth sign --host --format=openssh`."""

    principals: list[str]
    ssh_public_key: str
    ttl_s: int = 0


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """A secret link for setting a password: `https://<proxy>/web/invite/<token>` (or `/web/reset/`)."""

    user: str
    token: str
    kind: str
    """invite or reset."""
    url: str
    expires_at: float


class CreateUser(Request[Invitation], frozen=True, kw_only=True):
    """`tctl users add`: a user without a password, and an invitation."""

    name: str
    roles: list[str]
    traits: dict[str, list[str]] = {}
    ttl_s: int = 3600


class ResetUser(Request[Invitation], frozen=True, kw_only=True):
    """`tctl users reset`: the old password and factors stop working at once."""

    name: str
    ttl_s: int = 8 * 3600


class SignupForm(msgspec.Struct, frozen=True, kw_only=True):
    user: str
    cluster_name: str
    second_factor: str
    otp_secret: str
    """Base32; fixed for the life of the invitation."""
    otp_url: str
    """otpauth:// URL for a QR code."""
    kind: str = "invite"


class GetSignup(Request[SignupForm], frozen=True, kw_only=True):
    token: str
    client_addr: str = ""


class Done(msgspec.Struct, frozen=True):
    """Nothing to say but that it is done, durably."""


class FinishSignup(Request[Done], frozen=True, kw_only=True):
    token: str
    password: str
    otp: str = ""
    client_addr: str = ""
