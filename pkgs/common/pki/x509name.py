"""The identity inside an X.509 subject, written and read (reference: subject fields and private OIDs).

Lists are repeated attributes, never joined strings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

from pkgs.common.errors import InputError, TrustError
from pkgs.common.pki.certspec import HostCertSpec, UserCertSpec
from pkgs.common.pki.identity import RouteToDatabase
from pkgs.common.pki.ssh import ext as sshext

RENEWABLE = ObjectIdentifier("1.3.9999.1.13")
GENERATION = ObjectIdentifier("1.3.9999.1.14")
HOME_CLUSTER = ObjectIdentifier("1.3.9999.1.7")
MFA_DEVICE = ObjectIdentifier("1.3.9999.1.8")
LOGIN_IP = ObjectIdentifier("1.3.9999.1.9")
DB_SERVICE = ObjectIdentifier("1.3.9999.2.1")
DB_PROTOCOL = ObjectIdentifier("1.3.9999.2.2")
DB_USER = ObjectIdentifier("1.3.9999.2.3")
DB_NAME = ObjectIdentifier("1.3.9999.2.4")
DB_ROLES = ObjectIdentifier("1.3.9999.2.19")
IMPERSONATOR = ObjectIdentifier("1.3.9999.2.7")
ACTIVE_REQUEST = ObjectIdentifier("1.3.9999.2.8")
DISALLOW_REISSUE = ObjectIdentifier("1.3.9999.2.9")
ALLOWED_RESOURCES = ObjectIdentifier("1.3.9999.2.10")
SYSTEM_ROLE = ObjectIdentifier("1.3.9999.2.11")
PREVIOUS_EXPIRY = ObjectIdentifier("1.3.9999.2.12")
PINNED_IP = ObjectIdentifier("1.3.9999.2.15")
BOT_NAME = ObjectIdentifier("1.3.9999.2.20")
BOT_INSTANCE_ID = ObjectIdentifier("1.3.9999.2.21")
JOIN_TOKEN = ObjectIdentifier("1.3.9999.2.22")
DEVICE_ID = ObjectIdentifier("1.3.9999.3.1")
DEVICE_ASSET_TAG = ObjectIdentifier("1.3.9999.3.2")

_COMMON_NAME_BYTES = 64

_encode = msgspec.json.Encoder().encode
_traits = msgspec.json.Decoder(dict[str, tuple[str, ...]])
_strings = msgspec.json.Decoder(tuple[str, ...])


def user_name(spec: UserCertSpec) -> x509.Name:
    """The subject of a user's certificate."""
    pairs: list[tuple[ObjectIdentifier, str]] = [(NameOID.COMMON_NAME, spec.user)]
    pairs += [(NameOID.ORGANIZATION_NAME, role) for role in spec.roles]
    pairs += [(NameOID.LOCALITY_NAME, login) for login in spec.logins]
    pairs.append((NameOID.STREET_ADDRESS, spec.route_to_cluster))
    if spec.traits:
        pairs.append((NameOID.POSTAL_CODE, _encode(spec.traits).decode()))
    pairs += [
        (HOME_CLUSTER, spec.cluster),
        (MFA_DEVICE, spec.mfa_device),
        (LOGIN_IP, spec.login_ip),
        (IMPERSONATOR, spec.impersonator),
        (PINNED_IP, spec.source_addr),
        (DEVICE_ID, spec.device_id),
        (DEVICE_ASSET_TAG, spec.device_asset_tag),
        (BOT_NAME, spec.bot_name),
        (BOT_INSTANCE_ID, spec.bot_instance_id),
        (JOIN_TOKEN, spec.join_token),
        (RENEWABLE, "true" if spec.renewable else ""),
        (GENERATION, str(spec.generation) if spec.generation else ""),
    ]
    pairs += [(ACTIVE_REQUEST, request) for request in spec.active_requests]
    if spec.disallow_reissue:
        pairs.append((DISALLOW_REISSUE, "true"))
    if spec.allowed_resources is not None:
        pairs.append((ALLOWED_RESOURCES, _encode(spec.allowed_resources).decode()))
    if spec.previous_expires_at:
        pairs.append((PREVIOUS_EXPIRY, sshext.write_time(spec.previous_expires_at)))
    if (route := spec.route_to_database) is not None:
        pairs += [
            (DB_SERVICE, route.service),
            (DB_PROTOCOL, route.protocol),
            (DB_USER, route.user),
            (DB_NAME, route.database),
            (DB_ROLES, "" if route.roles is None else _encode(route.roles).decode()),
        ]
    return _name(pairs)


def database_client_name(user: str) -> x509.Name:
    """The subject by which a database knows its user: a common name and nothing else, as the documentation of
    database servers has it (`REQUIRE SUBJECT '/CN=alice'`)."""
    if not 0 < len(user.encode()) <= _COMMON_NAME_BYTES or not user.isprintable():
        raise InputError("the database user's name does not fit into a certificate", hint="1 to 64 bytes")
    return _name([(NameOID.COMMON_NAME, user)])


def host_name(spec: HostCertSpec) -> x509.Name:
    """The subject of a host's certificate. The cluster is also an attribute of its own, because a
    common name has only 64 bytes."""
    common = f"{spec.host_id}.{spec.cluster}"
    if len(common) > _COMMON_NAME_BYTES:
        common = spec.host_id
    pairs = [(NameOID.COMMON_NAME, common), (NameOID.ORGANIZATION_NAME, spec.system_roles[0].value)]
    pairs += [(SYSTEM_ROLE, role.value) for role in spec.system_roles]
    pairs.append((HOME_CLUSTER, spec.cluster))
    return _name(pairs)


def authority_name(cluster: str) -> x509.Name:
    """Subject and issuer of a CA; a cluster name longer than a common name stands in O alone."""
    common = cluster if len(cluster) <= _COMMON_NAME_BYTES else cluster[:_COMMON_NAME_BYTES]
    return _name([(NameOID.COMMON_NAME, common), (NameOID.ORGANIZATION_NAME, cluster)])


def _name(pairs: Iterable[tuple[ObjectIdentifier, str]]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs if value])


class SubjectFields:
    """Attributes of a subject by OID; only known ones, and each single one at most once."""

    def __init__(self, name: x509.Name) -> None:
        self._values: dict[ObjectIdentifier, list[str]] = {}
        for attribute in name:
            if isinstance(attribute.value, str):
                self._values.setdefault(attribute.oid, []).append(attribute.value)

    def has(self, *oids: ObjectIdentifier) -> bool:
        return any(oid in self._values for oid in oids)

    def many(self, oid: ObjectIdentifier) -> tuple[str, ...]:
        return tuple(self._values.get(oid, ()))

    def one(self, oid: ObjectIdentifier) -> str:
        values = self._values.get(oid, [])
        if len(values) > 1:
            raise TrustError("certificate is not accepted", detail=f"attribute {oid.dotted_string} twice")
        return values[0] if values else ""


def user_facts(fields: SubjectFields) -> sshext.UserFacts:
    """What the subject says about a user; raises TrustError where a value does not parse."""
    optional: dict[str, Any] = {}
    try:
        if traits := fields.one(NameOID.POSTAL_CODE):
            optional["traits"] = _traits.decode(traits)
        if allowed := fields.one(ALLOWED_RESOURCES):
            optional["allowed_resources"] = _strings.decode(allowed)
        if previous := fields.one(PREVIOUS_EXPIRY):
            optional["previous_expires_at"] = sshext.read_time(previous)
        if generation := fields.one(GENERATION):
            optional["generation"] = sshext.read_generation(generation)
        if fields.has(DB_SERVICE, DB_PROTOCOL, DB_USER, DB_NAME, DB_ROLES):
            optional["route_to_database"] = _route(fields)
    except (msgspec.MsgspecError, ValueError) as error:
        raise TrustError(
            "certificate is not accepted", detail="a subject attribute does not parse"
        ) from error
    return sshext.UserFacts(
        roles=fields.many(NameOID.ORGANIZATION_NAME),
        login_ip=fields.one(LOGIN_IP),
        route_to_cluster=fields.one(NameOID.STREET_ADDRESS),
        mfa_device=fields.one(MFA_DEVICE),
        impersonator=fields.one(IMPERSONATOR),
        disallow_reissue=fields.has(DISALLOW_REISSUE),
        active_requests=fields.many(ACTIVE_REQUEST),
        device_id=fields.one(DEVICE_ID),
        device_asset_tag=fields.one(DEVICE_ASSET_TAG),
        bot_name=fields.one(BOT_NAME),
        bot_instance_id=fields.one(BOT_INSTANCE_ID),
        join_token=fields.one(JOIN_TOKEN),
        renewable=fields.one(RENEWABLE) == "true",
        **optional,
    )


def _route(fields: SubjectFields) -> RouteToDatabase:
    """Whatever names a part of a route restricts to one: half a route raises ValueError."""
    service, protocol, roles = fields.one(DB_SERVICE), fields.one(DB_PROTOCOL), fields.one(DB_ROLES)
    if not service or not protocol:
        raise ValueError("a route to a database without its name or protocol")
    return RouteToDatabase(
        service=service,
        protocol=protocol,
        user=fields.one(DB_USER),
        database=fields.one(DB_NAME),
        roles=_strings.decode(roles) if roles else None,
    )
