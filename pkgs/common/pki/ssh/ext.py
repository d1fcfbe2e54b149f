"""The platform's extensions of an SSH user certificate, and back (reference: names and JSON forms)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.pki.identity import Identity, PeerKind, RouteToDatabase
from pkgs.common.pki.ssh.wire import WireError

_GENERATION_DIGITS = 12
FLAGS = (
    "permit-pty",
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-X11-forwarding",
    "permit-user-rc",
)
"""OpenSSH's flag extensions; they grant, so only an empty value counts."""


class _Roles(msgspec.Struct, forbid_unknown_fields=True):
    roles: list[str]
    version: str = "v1"


class _Requests(msgspec.Struct):
    access_requests: list[str]


_encode = msgspec.json.Encoder().encode
_roles = msgspec.json.Decoder(_Roles)
_requests = msgspec.json.Decoder(_Requests)
_traits = msgspec.json.Decoder(dict[str, tuple[str, ...]])
_strings = msgspec.json.Decoder(tuple[str, ...])


class UserFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the extensions say about a user; the field names are those of `Identity`."""

    roles: tuple[str, ...] = ()
    traits: dict[str, tuple[str, ...]] = {}
    login_ip: str = ""
    route_to_cluster: str = ""
    route_to_database: RouteToDatabase | None = None
    """Never of an SSH certificate."""
    previous_expires_at: float = 0.0
    mfa_device: str = ""
    impersonator: str = ""
    disallow_reissue: bool = False
    active_requests: tuple[str, ...] = ()
    allowed_resources: tuple[str, ...] | None = None
    device_id: str = ""
    device_asset_tag: str = ""
    bot_name: str = ""
    bot_instance_id: str = ""
    join_token: str = ""
    renewable: bool = False
    generation: int = 0
    extensions: tuple[str, ...] = ()

    def identity(self, *, name: str, cluster: str, logins: tuple[str, ...], **rest: Any) -> Identity:
        """The user with all of these facts: whoever reads a certificate can forget no restriction."""
        facts = msgspec.structs.asdict(self)
        return Identity(kind=PeerKind.USER, name=name, cluster=cluster, logins=logins, **facts, **rest)


def write_time(unix_s: float) -> str:
    return datetime.fromtimestamp(int(unix_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_time(text: str) -> float:
    """Unix seconds of an RFC 3339 time; raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("time without a zone")
    return moment.timestamp()


def to_extensions(spec: UserCertSpec) -> dict[str, str]:
    """Extension names to values; a flag has the empty value."""
    # What is for some resources only must not open whatever else reads custom extensions (attack A22).
    custom = spec.custom_extensions if spec.allowed_resources is None else {}
    found = {**custom, **dict.fromkeys(spec.extensions, "")}
    if not spec.oldssh:
        found["teleport-roles"] = _encode(_Roles(list(spec.roles))).decode()
        found["teleport-traits"] = _encode(spec.traits).decode()
        found["teleport-route-to-cluster"] = spec.route_to_cluster
        if spec.active_requests:
            found["teleport-active-requests"] = _encode(_Requests(list(spec.active_requests))).decode()
    if spec.allowed_resources is not None:
        found["teleport-allowed-resources"] = _encode(spec.allowed_resources).decode()
    if spec.previous_expires_at:
        found["prev-identity-expires"] = write_time(spec.previous_expires_at)
    if spec.disallow_reissue:
        found["disallow-reissue"] = ""
    found["mfa-verified"] = spec.mfa_device
    found["login-ip"] = spec.login_ip
    found["impersonator"] = spec.impersonator
    found["teleport-device-id"] = spec.device_id
    found["teleport-device-asset-tag"] = spec.device_asset_tag
    found["bot-name@goteleport.com"] = spec.bot_name
    found["bot-instance-id@goteleport.com"] = spec.bot_instance_id
    found["join-token@goteleport.com"] = spec.join_token
    if spec.renewable:
        found["renewable"] = ""
    if spec.generation:
        found["generation"] = str(spec.generation)
    return {name: value for name, value in found.items() if value or name in _MAY_BE_EMPTY}


_MAY_BE_EMPTY = frozenset({*FLAGS, "disallow-reissue", "renewable"})


def from_extensions(extensions: dict[str, str]) -> UserFacts:
    """Reads them; unknown names are ignored, a known one that does not parse raises WireError."""
    facts: dict[str, Any] = {}
    flags = []
    try:
        for name, value in extensions.items():
            if name in FLAGS:
                if value:
                    raise WireError(f"extension {name} has a value")
                flags.append(name)
            elif name in _READERS:
                field, read = _READERS[name]
                facts[field] = read(value)
    except (msgspec.MsgspecError, ValueError) as error:
        raise WireError(f"extension {name} does not parse") from error
    return UserFacts(extensions=tuple(flags), **facts)


def _text(value: str) -> str:
    if not value:
        raise ValueError("empty")
    return value


def _flag(value: str) -> bool:
    return True  # whatever the value: the flag only restricts


def _grant(value: str) -> bool:
    if value:
        raise ValueError("a flag that grants has no value")
    return True


def read_generation(text: str) -> int:
    """A count of renewals; raises ValueError."""
    if not (text.isascii() and text.isdecimal() and len(text) <= _GENERATION_DIGITS and int(text) > 0):
        raise ValueError("not a generation")
    return int(text)


_READERS: dict[str, tuple[str, Any]] = {
    "teleport-roles": ("roles", lambda value: tuple(_roles.decode(value).roles)),
    "teleport-traits": ("traits", _traits.decode),
    "teleport-route-to-cluster": ("route_to_cluster", str),
    "teleport-active-requests": (
        "active_requests",
        lambda value: tuple(_requests.decode(value).access_requests),
    ),
    "teleport-allowed-resources": ("allowed_resources", _strings.decode),
    "prev-identity-expires": ("previous_expires_at", read_time),
    "mfa-verified": ("mfa_device", _text),
    "login-ip": ("login_ip", _text),
    "impersonator": ("impersonator", _text),
    "disallow-reissue": ("disallow_reissue", _flag),
    "teleport-device-id": ("device_id", _text),
    "teleport-device-asset-tag": ("device_asset_tag", _text),
    "bot-name@goteleport.com": ("bot_name", _text),
    "bot-instance-id@goteleport.com": ("bot_instance_id", _text),
    "join-token@goteleport.com": ("join_token", _text),
    "renewable": ("renewable", _grant),
    "generation": ("generation", read_generation),
}
