"""Which parts of resources are secret, resources without them, and what an edit keeps of them."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import msgspec

from pkgs.common.resources.kinds import (
    CaKeySet,
    CertAuthority,
    JwtKeyPair,
    RecordingKeys,
    RecordingKeysSpec,
    Resource,
    SshKeyPair,
    TlsKeyPair,
    Token,
)

R = TypeVar("R", bound=Resource)

SECRETS: dict[str, tuple[str, ...]] = {
    "github": ("client_secret",),
    "oidc": ("client_secret", "mfa.client_secret", "google_service_account"),
    "saml": ("signing_key_pair.private_key", "assertion_key_pair.private_key"),
    "trusted_cluster": ("token",),
    "kube_cluster": ("kubeconfig",),
    "token": ("bound_keypair.onboarding.registration_secret",),
}
"""Texts inside `spec` that are shown only with secrets. A token's name is one too, but it is what it is."""

_BOUND_TO: dict[str, tuple[str, ...]] = {
    "github": ("client_id", "endpoint_url", "api_endpoint_url", "redirect_url"),
    "oidc": ("client_id", "issuer_url", "redirect_url", "google_service_account_uri", "mfa.client_id"),
    "saml": ("signing_key_pair.cert", "assertion_key_pair.cert"),
    "trusted_cluster": ("web_proxy_addr", "tunnel_addr"),
    "kube_cluster": (),
    "token": ("join_method", "bound_keypair.onboarding.initial_public_key"),
}
"""Whom the secret is for. Who changes that must know the secret: it is never sent to a new place."""


def without_secrets(resource: R) -> R:
    """The same resource without private keys and shared secrets. A token stays: its name is what it is."""
    if isinstance(resource, CertAuthority):
        spec = msgspec.structs.replace(
            resource.spec,
            active_keys=_public(resource.spec.active_keys),
            additional_trusted_keys=_public(resource.spec.additional_trusted_keys),
        )
        return cast(R, msgspec.structs.replace(resource, spec=spec))
    if isinstance(resource, RecordingKeys):
        keys = [msgspec.structs.replace(key, private_key="") for key in resource.spec.keys]
        return cast(R, msgspec.structs.replace(resource, spec=RecordingKeysSpec(keys=keys)))
    result: Any = resource
    for path in SECRETS.get(resource.kind, ()):
        if _get(result.spec, path):
            result = msgspec.structs.replace(result, spec=_set(result.spec, path, ""))
    return cast(R, result)


def keeping_secrets(resource: R, before: Resource | None) -> R:
    """An edited resource with the secrets that its editor was not shown; none if it now goes elsewhere."""
    if before is None or before.kind != resource.kind or resource.kind not in SECRETS:
        return resource
    result, old = cast(Any, resource), cast(Any, before).spec
    if any(_get(result.spec, path) != _get(old, path) for path in _BOUND_TO[resource.kind]):
        return resource
    for path in SECRETS[resource.kind]:
        if not _get(result.spec, path) and _get(old, path):
            result = msgspec.structs.replace(result, spec=_set(result.spec, path, _get(old, path)))
    return cast(R, result)


def changed_secrets(before: Resource | None, after: Resource | None) -> list[str]:
    """Paths inside `spec` whose secret is not the same on both sides; never what it is."""
    found = after or before
    if found is None:
        return []
    old, new = _secrets(before), _secrets(after)
    return [path for path in SECRETS.get(found.kind, ()) if old.get(path) != new.get(path)]


def _secrets(resource: Resource | None) -> dict[str, Any]:
    if resource is None:
        return {}
    spec = getattr(resource, "spec", None)
    found = {path: _get(spec, path) for path in SECRETS.get(resource.kind, ())}
    return {path: value for path, value in found.items() if value}


def secrets_in(resource: Resource) -> tuple[str, ...]:
    """Paths inside `spec` of the secrets that a document brings along."""
    return tuple(_secrets(resource))


def masked(secret: str) -> str:
    """Stars and the last quarter: enough to recognise one's own, not enough to use it."""
    shown = len(secret) // 4
    return "*" * min(len(secret) - shown, 64) + secret[len(secret) - shown :][:64] if secret else ""


def shown_name(resource: Resource) -> str:
    """The name as it may stand in a log: that of a join token is what lets hosts in."""
    if isinstance(resource, Token) and resource.spec.join_method == "token":
        return masked(resource.name)
    return resource.name


def _get(spec: Any, path: str) -> Any:
    for name in path.split("."):
        spec = getattr(spec, name) if spec is not None else None
    return spec


def _set(spec: Any, path: str, value: Any) -> Any:
    """A copy with one field changed; unchanged where a block on the way is not given."""
    name, _, rest = path.partition(".")
    if spec is None:
        return None
    new = _set(getattr(spec, name), rest, value) if rest else value
    return msgspec.structs.replace(spec, **{name: new})


def _public(keys: CaKeySet) -> CaKeySet:
    return CaKeySet(
        ssh=[SshKeyPair(public_key=pair.public_key) for pair in keys.ssh],
        tls=[TlsKeyPair(cert=pair.cert) for pair in keys.tls],
        jwt=[JwtKeyPair(public_key=pair.public_key) for pair in keys.jwt],
    )
