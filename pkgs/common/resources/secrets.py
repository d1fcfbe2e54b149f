"""Which parts of resources are secret, and resources without them."""

from __future__ import annotations

from typing import TypeVar, cast

import msgspec

from pkgs.common.resources.kinds import CaKeySet, CertAuthority, JwtKeyPair, Resource, SshKeyPair, TlsKeyPair

R = TypeVar("R", bound=Resource)


def without_secrets(resource: R) -> R:
    """The same resource without private keys. A token stays: its name is what it is."""
    if not isinstance(resource, CertAuthority):
        return resource
    spec = msgspec.structs.replace(
        resource.spec,
        active_keys=_public(resource.spec.active_keys),
        additional_trusted_keys=_public(resource.spec.additional_trusted_keys),
    )
    return cast(R, msgspec.structs.replace(resource, spec=spec))


def _public(keys: CaKeySet) -> CaKeySet:
    return CaKeySet(
        ssh=[SshKeyPair(public_key=pair.public_key) for pair in keys.ssh],
        tls=[TlsKeyPair(cert=pair.cert) for pair in keys.tls],
        jwt=[JwtKeyPair(public_key=pair.public_key) for pair in keys.jwt],
    )
