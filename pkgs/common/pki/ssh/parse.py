"""From bytes to an `UnverifiedCert`: the syntax of OpenSSH certificates (PROTOCOL.certkeys), strictly.

Nothing here trusts anything. A principal list stays a list; it is never joined or split on a character
(attack A05). Critical options that we do not know make the certificate unusable (attack A06).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum

from pkgs.common.pki import limits
from pkgs.common.pki.source import IpNetwork
from pkgs.common.pki.ssh import key as sshkey
from pkgs.common.pki.ssh.key import PublicKey
from pkgs.common.pki.ssh.wire import Reader, WireError
from pkgs.common.resources.names import valid_host_id

RELAYED = "x-teleport-relayed"
"""Critical option of a certificate by which a proxy logs in for its user: the one server that it is for, and
the proxy, by their host ids with a blank between."""


class CertType(IntEnum):
    USER = 1
    HOST = 2


@dataclass(frozen=True, slots=True)
class CriticalOptions:
    """The critical options we know, parsed."""

    source_networks: tuple[IpNetwork, ...] | None = None
    force_command: str = ""
    relayed_to: str = ""
    """The one host that the certificate is for, which a proxy passes its user on to."""
    relayed_by: str = ""


@dataclass(frozen=True, slots=True)
class UnverifiedCert:
    """What a certificate says, before anybody checked that it may say so."""

    key_type: str
    """Type of the certified key, without the certificate suffix."""
    public_key: PublicKey
    public_blob: bytes
    """Wire form of the certified key."""
    serial: int
    cert_type: CertType
    key_id: str
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    """Unix seconds; 2**64-1: for ever."""
    critical: CriticalOptions
    extensions: dict[str, str]
    """Name to value; a flag has the empty value. Unknown ones included."""
    authority_blob: bytes
    signature: bytes
    signed_data: bytes


def parse_cert(blob: bytes) -> UnverifiedCert:
    """Parses a whole certificate; raises WireError for anything that is not exactly one."""
    if len(blob) > limits.MAX_SSH_CERT_BYTES:
        raise WireError("certificate is too large")
    reader = Reader(blob)
    cert_key_type = reader.text()
    key_type = cert_key_type.removesuffix(sshkey.CERT_SUFFIX)
    if key_type == cert_key_type:
        raise WireError("not a certificate")
    if key_type not in sshkey.KEY_TYPES:
        raise WireError("certificate type is not accepted")
    reader.string()  # nonce
    public_key = sshkey.read_public_fields(key_type, reader)
    serial = reader.uint64()
    try:
        cert_type = CertType(reader.uint32())
    except ValueError as error:
        raise WireError("neither a user nor a host certificate") from error
    key_id = reader.text()
    principals = _parse_principals(reader.string())
    valid_after, valid_before = reader.uint64(), reader.uint64()
    critical = _parse_critical(_parse_options(reader.string()), cert_type)
    extensions = _parse_extensions(_parse_options(reader.string()))
    if reader.string():
        raise WireError("reserved field is not empty")
    authority_blob = reader.string()
    signed_data = blob[: reader.position]
    signature = reader.string()
    reader.end()
    return UnverifiedCert(
        key_type=key_type,
        public_key=public_key,
        public_blob=sshkey.public_blob(public_key),
        serial=serial,
        cert_type=cert_type,
        key_id=key_id,
        principals=principals,
        valid_after=valid_after,
        valid_before=valid_before,
        critical=critical,
        extensions=extensions,
        authority_blob=authority_blob,
        signature=signature,
        signed_data=signed_data,
    )


def _parse_principals(raw: bytes) -> tuple[str, ...]:
    reader = Reader(raw)
    principals: list[str] = []
    while not reader.at_end:
        if len(principals) == limits.MAX_PRINCIPALS:
            raise WireError("too many principals")
        principals.append(reader.text())
    return tuple(principals)


def _parse_options(raw: bytes) -> dict[str, bytes]:
    """Name to undecoded data; a name that comes twice is refused."""
    reader = Reader(raw)
    options: dict[str, bytes] = {}
    while not reader.at_end:
        name, data = reader.text(), reader.string()
        if name in options:
            raise WireError("option given twice")
        if len(options) == limits.MAX_OPTIONS:
            raise WireError("too many options")
        options[name] = data
    return options


def _parse_critical(options: dict[str, bytes], cert_type: CertType) -> CriticalOptions:
    networks: tuple[IpNetwork, ...] | None = None
    command = relayed_to = relayed_by = ""
    for name, data in options.items():
        if cert_type is not CertType.USER:
            raise WireError("critical option in a host certificate")
        if name == "source-address":
            networks = _parse_networks(_value_of(data))
        elif name == "force-command":
            command = _value_of(data)
            if not command or "\0" in command:
                raise WireError("force-command is empty or holds a NUL")
        elif name == RELAYED:
            relayed_to, _, relayed_by = _value_of(data).partition(" ")
            if not valid_host_id(relayed_to) or not valid_host_id(relayed_by):
                raise WireError("a relayed certificate does not name two hosts")
        else:
            raise WireError("unknown critical option")
    return CriticalOptions(networks, command, relayed_to, relayed_by)


def _value_of(data: bytes) -> str:
    inner = Reader(data)
    value = inner.text()
    inner.end()
    return value


def _parse_networks(value: str) -> tuple[IpNetwork, ...]:
    """The CIDR list of `source-address`; an address with host bits set, or an empty list, is refused."""
    parts = value.split(",")
    if len(parts) > limits.MAX_SOURCE_NETWORKS:
        raise WireError("too many networks in source-address")
    try:
        return tuple(ipaddress.ip_network(part, strict=True) for part in parts)
    except ValueError as error:
        raise WireError("source-address is not a list of networks") from error


def _parse_extensions(options: dict[str, bytes]) -> dict[str, str]:
    """Extensions whose data is neither empty nor one string are of an unknown kind, and ignored."""
    extensions: dict[str, str] = {}
    for name, data in options.items():
        try:
            extensions[name] = _value_of(data) if data else ""
        except WireError:
            continue
    return extensions
