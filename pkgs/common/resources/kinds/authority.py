"""`cert_authority`: the keys everybody trusts."""

from datetime import datetime
from typing import Literal

from pkgs.common.resources.metadata import Base, Spec


class SshKeyPair(Spec, frozen=True, kw_only=True):
    public_key: str
    """authorized_keys form."""
    private_key: bytes = b""
    """PEM; only with secrets."""


class TlsKeyPair(Spec, frozen=True, kw_only=True):
    cert: str
    """PEM certificate."""
    key: bytes = b""
    """PEM; only with secrets."""


class JwtKeyPair(Spec, frozen=True, kw_only=True):
    public_key: str
    private_key: bytes = b""


class CaKeySet(Spec, frozen=True, kw_only=True):
    ssh: list[SshKeyPair] = []
    tls: list[TlsKeyPair] = []
    jwt: list[JwtKeyPair] = []


class Rotation(Spec, frozen=True, kw_only=True):
    state: Literal["standby", "in_progress"] = "standby"
    phase: str = "standby"
    last_rotated: datetime | None = None


CaType = Literal[
    "user",
    "host",
    "db",
    "db_client",
    "openssh",
    "jwt",
    "saml_idp",
    "oidc_idp",
    "spiffe",
    "okta",
    "awsra",
    "bound_keypair",
]


class CertAuthoritySpec(Spec, frozen=True, kw_only=True):
    type: CaType
    cluster_name: str
    active_keys: CaKeySet = CaKeySet()
    additional_trusted_keys: CaKeySet = CaKeySet()
    rotation: Rotation = Rotation()


class CertAuthority(Base, frozen=True, kw_only=True, tag="cert_authority"):
    """`sub_kind` is the CA type, `metadata.name` the cluster name."""

    version: str = "v2"
    spec: CertAuthoritySpec
