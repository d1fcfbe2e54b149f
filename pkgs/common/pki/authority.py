"""Making a certificate authority of each kind."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

from pkgs.common.errors import InputError
from pkgs.common.pki import keys, x509
from pkgs.common.resources.kinds import (
    CaKeySet,
    CaType,
    CertAuthority,
    CertAuthoritySpec,
    JwtKeyPair,
    Rotation,
    SshKeyPair,
    TlsKeyPair,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.names import valid_cluster_name
from pkgs.common.resources.secrets import without_secrets

__all__ = ["CA_TYPES", "PROTOCOLS", "new_authority", "new_key_set", "without_secrets"]

CA_TYPES: tuple[CaType, ...] = get_args(CaType)

PROTOCOLS: dict[CaType, tuple[str, ...]] = {
    "user": ("ssh", "tls"),
    "host": ("ssh", "tls"),
    "db": ("tls",),
    "db_client": ("tls",),
    "openssh": ("ssh",),
    "jwt": ("jwt",),
    "saml_idp": ("tls",),
    "oidc_idp": ("jwt",),
    "spiffe": ("tls", "jwt"),
    "okta": ("jwt",),
    "awsra": ("tls",),
    "bound_keypair": ("jwt",),
}
"""Which kinds of keys an authority of each type has."""


def new_authority(ca_type: CaType, cluster: str, now: float) -> CertAuthority:
    """A new authority with its private keys."""
    if not valid_cluster_name(cluster):
        raise InputError(f"cluster name {cluster!r} is not valid", hint="use a DNS name")
    return CertAuthority(
        metadata=Metadata(name=cluster),
        sub_kind=ca_type,
        spec=CertAuthoritySpec(
            type=ca_type,
            cluster_name=cluster,
            active_keys=new_key_set(ca_type, cluster, now),
            rotation=Rotation(last_rotated=datetime.fromtimestamp(int(now), UTC)),
        ),
    )


def new_key_set(ca_type: CaType, cluster: str, now: float) -> CaKeySet:
    """Fresh keys of the kinds this type of authority has."""
    protocols = PROTOCOLS[ca_type]
    ssh, tls, jwt = [], [], []
    if "ssh" in protocols:
        ssh_key = keys.new_ssh_key()
        ssh.append(SshKeyPair(public_key=ssh_key.public_line, private_key=ssh_key.private_pem))
    if "tls" in protocols:
        tls_key = keys.new_tls_key()
        cert = x509.new_ca(cluster, tls_key.private_pem, now=now)
        tls.append(TlsKeyPair(cert=cert, key=tls_key.private_pem))
    if "jwt" in protocols:
        jwt_key = keys.new_tls_key()
        jwt.append(JwtKeyPair(public_key=jwt_key.public_pem, private_key=jwt_key.private_pem))
    return CaKeySet(ssh=ssh, tls=tls, jwt=jwt)
