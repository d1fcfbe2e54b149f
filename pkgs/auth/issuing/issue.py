"""Issuing user certificates: pure steps that shape a specification, pure checks that may veto it, then
signing, and a last look at the finished certificates with the same functions every service verifies with.

Every path to a user certificate (login, reissue, `tctl auth sign`) ends in `UserIssuer.issue`; a path only
chooses its steps. Nothing is handed out before its audit events are durable.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from pkgs.auth import limits
from pkgs.auth.audit.journal import Journal
from pkgs.auth.issuing.authorities import Authorities
from pkgs.auth.issuing.restrictions import (
    KEPT,
    Machine,
    check_renewable,
    check_taken_on,
    keeps,
    keeps_pin,
    machine_fields,
    of_machine,
    taken_on,
)
from pkgs.common.access.locks import matching_lock
from pkgs.common.access.options import SessionOptions, logins_for, merge_options
from pkgs.common.api.login import UserCerts
from pkgs.common.errors import DeniedError, InternalError
from pkgs.common.events.codes import CERT_CREATE
from pkgs.common.events.format import rfc3339
from pkgs.common.events.types import Event
from pkgs.common.pki import sshcert, x509
from pkgs.common.pki.certspec import NO_LOGIN_PREFIX, UserCertSpec, spec_from_identity
from pkgs.common.pki.identity import Identity
from pkgs.common.pki.keys import check_public_line, check_public_pem
from pkgs.common.resources.kinds import Lock
from pkgs.common.resources.role import Role


@dataclass(frozen=True)
class Order:
    """What is asked for and everything the steps may look at; they look nothing up."""

    user: str
    cluster: str
    roles: tuple[Role, ...]
    """The roles the certificate is about: those held now, or fewer."""
    traits: dict[str, tuple[str, ...]]
    now: float
    ttl_s: float
    """Wanted lifetime; the roles cap it."""
    max_ttl_s: float = limits.MAX_USER_TTL_S
    client_addr: str = ""
    mfa_device: str = ""
    previous: Identity | None = None
    """The verified certificate a reissue starts from."""
    actor: Identity | None = None
    """The verified certificate of whoever takes on this user or these roles: its restrictions go on."""
    machine: Machine | None = None
    """The bot instance whose own certificates these are."""

    @cached_property
    def grants(self) -> Grants:
        return grants_of(self.roles, self.traits)

    @property
    def options(self) -> SessionOptions:
        return self.grants.options

    @property
    def bounds(self) -> tuple[Identity, ...]:
        """Certificates that this one may not outlive. A machine outlives its own: its generation is proof."""
        previous = None if self.machine is not None else self.previous
        return tuple(identity for identity in (previous, self.actor) if identity is not None)


class Grants(NamedTuple):
    """What a set of roles gives with these traits."""

    options: SessionOptions
    logins: tuple[str, ...]


_grants: dict[tuple[object, ...], tuple[tuple[Role, ...], Grants]] = {}


def grants_of(roles: tuple[Role, ...], traits: dict[str, tuple[str, ...]]) -> Grants:
    """Worked out once while these very roles are in use: thousands of logins share a few combinations.

    An entry holds its roles, so that an id is never taken over by another object. The logins are those for
    a life that every role allows; a certificate's life is cut to that before its logins are set."""
    key = (*map(id, roles), *sorted(traits.items()))
    found = _grants.get(key)
    if found is None:
        options = merge_options(roles)
        life = min(options.max_session_ttl_s, limits.MIN_TTL_S)
        found = (roles, Grants(options, logins_for(roles, traits, life)))
        if len(_grants) >= limits.GRANTS_REMEMBERED:
            _grants.clear()
        _grants[key] = found
    return found[1]


Modifier = Callable[[Order, UserCertSpec], UserCertSpec]
Validator = Callable[[Order, UserCertSpec], None]


def start(order: Order) -> UserCertSpec:
    """The specification before any step: a reissue begins with everything the old certificate says."""
    valid_after = order.now - limits.BACKDATE_S
    machine = order.machine
    if order.previous is not None:
        spec = spec_from_identity(order.previous, valid_after=valid_after)
        return spec if machine is None else msgspec.structs.replace(spec, generation=machine.generation)
    spec = UserCertSpec(
        user=order.user,
        cluster=order.cluster,
        roles=tuple(role.name for role in order.roles),
        traits=order.traits,
        logins=(),
        valid_after=valid_after,
        valid_before=order.now,
        login_ip=order.client_addr,
        route_to_cluster=order.cluster,
        mfa_device=order.mfa_device,
    )
    if machine is not None:
        return of_machine(spec, machine)
    return spec if order.actor is None else taken_on(spec, order.actor)


# Modifiers: each sets one thing.


def set_lifetime(order: Order, spec: UserCertSpec) -> UserCertSpec:
    """The wanted time, at most what the shortest-lived role allows; a reissue never outlives its origin."""
    wanted = min(max(order.ttl_s, limits.MIN_TTL_S), order.max_ttl_s)
    # Certificates count whole seconds, and rounding must not lengthen a life.
    expires = float(int(order.now + min(order.options.max_session_ttl_s, wanted)))
    expires = min([expires, *(identity.expires_at for identity in order.bounds)])
    return msgspec.structs.replace(spec, valid_before=expires)


def set_roles(order: Order, spec: UserCertSpec) -> UserCertSpec:
    return msgspec.structs.replace(spec, roles=tuple(role.name for role in order.roles), traits=order.traits)


def set_logins(order: Order, spec: UserCertSpec) -> UserCertSpec:
    """Logins that roles and traits allow now; a reissue keeps only those it had."""
    logins = order.grants.logins[: limits.MAX_PRINCIPALS]
    if order.previous is not None and order.machine is None:
        logins = tuple(login for login in logins if login in order.previous.logins)
    return msgspec.structs.replace(spec, logins=logins or (f"{NO_LOGIN_PREFIX}{uuid.uuid4()}",))


def set_extensions(order: Order, spec: UserCertSpec) -> UserCertSpec:
    options = order.options
    flags = ["permit-pty"]
    if options.forward_agent:
        flags.append("permit-agent-forwarding")
    if options.port_forward_local or options.port_forward_remote:
        flags.append("permit-port-forwarding")
    if options.x11:
        flags.append("permit-X11-forwarding")
    return msgspec.structs.replace(spec, extensions=tuple(flags), oldssh=options.cert_format == "oldssh")


def pin_source(order: Order, spec: UserCertSpec) -> UserCertSpec:
    """With `pin_source_ip` the certificate works from the client's address only; a pin is never dropped."""
    if spec.source_addr or not order.options.pin_source_ip:
        return spec
    return msgspec.structs.replace(spec, source_addr=order.client_addr)


MODIFIERS: tuple[Modifier, ...] = (set_lifetime, set_roles, set_logins, set_extensions, pin_source)

# Validators: each refuses one thing.


def has_roles(order: Order, spec: UserCertSpec) -> None:
    if not spec.roles:
        raise DeniedError("a certificate needs at least one role", hint="ask an administrator for a role")


def lives_within_bounds(order: Order, spec: UserCertSpec) -> None:
    life = spec.valid_before - order.now
    if life <= 0:
        raise DeniedError("the certificate would already have expired", hint="log in again")
    if life > order.max_ttl_s or life > order.options.max_session_ttl_s:
        raise DeniedError("the certificate would live longer than the roles allow")


def is_pinned_where_demanded(order: Order, spec: UserCertSpec) -> None:
    if order.options.pin_source_ip and not spec.source_addr:
        raise DeniedError(
            "a role demands a certificate bound to the client's address, which is not known for certain here"
        )


def only_shrinks(order: Order, spec: UserCertSpec) -> None:
    """A reissued certificate has nothing that its origin had not, and keeps every restriction (A34)."""
    before = order.previous
    if before is None:
        return
    if before.disallow_reissue:
        raise DeniedError("this certificate cannot be renewed", hint="log in again")
    if order.machine is not None:
        # What a machine may do is what its bot may now; `is_machine_as_ordered` looks at the rest.
        return
    kept = keeps(spec, before, "cluster", "impersonator", "renewable", "generation", *KEPT)
    granted = {login for login in spec.logins if not login.startswith(NO_LOGIN_PREFIX)}
    shrunk = (
        spec.user == before.name
        and spec.valid_before <= before.expires_at
        and set(spec.roles) <= set(before.roles)
        and granted <= set(before.logins)
        and all(set(values) <= set(before.traits.get(name, ())) for name, values in spec.traits.items())
        and keeps_pin(spec, before)
    )
    if not (kept and shrunk):
        raise DeniedError("a renewed certificate may not say more than the old one")


def is_bounded_by_actor(order: Order, spec: UserCertSpec) -> None:
    if order.actor is not None:
        check_taken_on(spec, order.actor)


def is_machine_as_ordered(order: Order, spec: UserCertSpec) -> None:
    check_renewable(spec, order.machine, order.previous, order.now)


VALIDATORS: tuple[Validator, ...] = (
    has_roles,
    lives_within_bounds,
    is_pinned_where_demanded,
    only_shrinks,
    is_bounded_by_actor,
    is_machine_as_ordered,
)


class UserIssuer:
    """The one place that signs certificates for users."""

    def __init__(
        self, authorities: Authorities, journal: Journal, locks: Callable[[], Sequence[Lock]]
    ) -> None:
        self._authorities = authorities
        self._journal = journal
        self._locks = locks

    @property
    def cluster_name(self) -> str:
        return self._authorities.cluster_name

    async def issue(
        self, order: Order, ssh_public_key: str, tls_public_key: str, *also: Event, user_agent: str = ""
    ) -> UserCerts:
        """Shape, check, sign, check again, write the audit events (`also` first), hand out."""
        spec = start(order)
        for modifier in MODIFIERS:
            spec = modifier(order, spec)
        for validator in VALIDATORS:
            validator(order, spec)
        authorities = self._authorities
        ssh_cert = sshcert.sign_user_cert(authorities.user_ssh, spec, check_public_line(ssh_public_key))
        tls_cert = x509.sign_user_tls(authorities.user_tls, spec, check_public_pem(tls_public_key))
        self._check_finished(order, spec, ssh_cert, tls_cert)
        await self._journal.write(*also, self._event(spec, user_agent))
        return UserCerts(
            user=spec.user,
            cluster_name=spec.cluster,
            ssh_cert=ssh_cert,
            tls_cert=tls_cert,
            authorities=authorities.for_clients(),
            expires_at=spec.valid_before,
        )

    def _check_finished(self, order: Order, spec: UserCertSpec, ssh_cert: str, tls_cert: str) -> None:
        """Read both certificates as a stranger would; they must say what was meant and nothing more."""
        trust = self._authorities.trust
        der = load_pem_x509_certificate(tls_cert.encode()).public_bytes(Encoding.DER)
        address = spec.source_addr or order.client_addr
        ssh = sshcert.verify_user_cert(
            sshcert.line_to_blob(ssh_cert), trust=trust, login=None, source_addr=address, now=order.now
        )
        tls = x509.verify_peer(der, trust=trust, now=order.now)
        for identity in (ssh, tls):
            # The old SSH format leaves out roles and traits, so its holder can do nothing by them.
            silent = spec.oldssh and identity is ssh
            as_meant = (
                identity.name == spec.user
                and identity.cluster == spec.cluster
                and (silent or set(identity.roles) == set(spec.roles))
                and set(identity.logins) == set(spec.logins)
                and identity.expires_at <= spec.valid_before
                and identity.mfa_device == spec.mfa_device
                and identity.impersonator == spec.impersonator
                and identity.disallow_reissue == spec.disallow_reissue
                and identity.device_id == spec.device_id
                and identity.bot_name == spec.bot_name
                and identity.bot_instance_id == spec.bot_instance_id
                and identity.renewable == spec.renewable
                and identity.generation == spec.generation
                and identity.source_addr == spec.source_addr
            )
            if not as_meant:
                raise InternalError("a certificate did not come out as meant and was withheld")
            lock = matching_lock(self._locks(), identity, order.now)
            if lock is not None:
                raise DeniedError(lock.spec.message or "access is locked", detail=f"lock {lock.name}")

    def _event(self, spec: UserCertSpec, user_agent: str) -> Event:
        return self._journal.event(
            CERT_CREATE,
            cert_type="user",
            user=spec.user,
            identity={
                "user": spec.user,
                "roles": list(spec.roles),
                "logins": list(spec.logins),
                "traits": [f"{name}={','.join(values)}" for name, values in spec.traits.items()],
                "expires": rfc3339(spec.valid_before),
                "route_to_cluster": spec.route_to_cluster,
                "client_ip": spec.source_addr or spec.login_ip,
                "mfa_device_uuid": spec.mfa_device,
                "impersonator": spec.impersonator,
                "access_requests": list(spec.active_requests),
                **machine_fields(spec),
            },
            user_agent=user_agent or None,
        )
