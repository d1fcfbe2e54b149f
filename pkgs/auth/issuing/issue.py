"""Issuing user certificates: pure steps that shape a specification, pure checks that may veto it, then
signing, and a last look at the finished certificates with the same functions every service verifies with.

Every path to a user certificate (login, reissue, `tctl auth sign`) ends in `UserIssuer.issue`; a path only
chooses its steps. Nothing is handed out before its audit events are durable.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from pkgs.auth import limits
from pkgs.auth.audit.journal import Journal
from pkgs.auth.issuing.authorities import Authorities
from pkgs.auth.issuing.grants import Grants, grants_of
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
from pkgs.common.access.locks import Interaction
from pkgs.common.access.options import SessionOptions
from pkgs.common.access.options.hours import logins_until
from pkgs.common.access.requests.assuming import Extra, extra, restriction
from pkgs.common.access.types import Environment
from pkgs.common.api.login import UserCerts
from pkgs.common.errors import DeniedError, InternalError
from pkgs.common.events.codes import CERT_CREATE
from pkgs.common.events.format import rfc3339
from pkgs.common.events.types import Event
from pkgs.common.pki import sshcert, x509
from pkgs.common.pki.certspec import NO_LOGIN_PREFIX, UserCertSpec, spec_from_identity
from pkgs.common.pki.identity import Identity, RouteToDatabase
from pkgs.common.pki.keys import check_public_line, check_public_pem
from pkgs.common.resources.kinds import AccessRequest
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
    database: RouteToDatabase | None = None
    """The one database that the certificate is to be good for."""
    proven: str = ""
    """The second factor of which a code was given for it now."""
    previous: Identity | None = None
    """The verified certificate a reissue starts from."""
    actor: Identity | None = None
    """The verified certificate of whoever takes on this user or these roles: its restrictions go on."""
    machine: Machine | None = None
    """The bot instance whose own certificates these are."""
    requests: tuple[AccessRequest, ...] = ()
    """As stored at this moment: those used from now on, and those of the old certificate still in force."""
    standing: frozenset[str] = frozenset()
    """Names of the roles that the user holds without any request; needed wherever requests play a part."""
    dropped: frozenset[str] = frozenset()
    """Requests of the old certificate to be given back."""

    @cached_property
    def grants(self) -> Grants:
        return self._grants_of(self.roles)

    def _grants_of(self, roles: tuple[Role, ...]) -> Grants:
        return grants_of(roles, self.traits, self._env)

    @property
    def _env(self) -> Environment:
        return Environment(now=self.now, source_addr=self.client_addr)

    @property
    def until(self) -> float:
        """The last moment at which every login that the roles give now is still given by them."""
        return logins_until(
            self.roles, self.traits, limits.MIN_TTL_S, self._env, horizon_s=limits.SIGNED_USER_TTL_MAX_S
        )

    @property
    def extra(self) -> Extra:
        """What the requests add; DeniedError when one of them gives nothing to this user now."""
        return extra(self.requests, self.user, self.now)

    @property
    def extra_logins(self) -> frozenset[str]:
        """Logins that the roles of the requests give by themselves."""
        granted = tuple(role for role in self.roles if role.name in self.extra.roles)
        return frozenset(self._grants_of(granted).logins) if granted else frozenset()

    @property
    def active_requests(self) -> tuple[str, ...]:
        """What the certificate names. One that is over stays named until it is given back, so that a lock
        on it goes on holding."""
        before = self.previous.active_requests if self.previous is not None else ()
        kept = (name for name in before if name not in self.dropped)
        return tuple(dict.fromkeys((*kept, *(request.name for request in self.requests))))

    @property
    def options(self) -> SessionOptions:
        return self.grants.options

    @property
    def bounds(self) -> tuple[Identity, ...]:
        """Certificates that this one may not outlive. A machine outlives its own: its generation is proof."""
        previous = None if self.machine is not None else self.previous
        return tuple(identity for identity in (previous, self.actor) if identity is not None)


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
    return msgspec.structs.replace(spec, valid_before=min(expires, order.extra.until, order.until))


def set_roles(order: Order, spec: UserCertSpec) -> UserCertSpec:
    return msgspec.structs.replace(spec, roles=tuple(role.name for role in order.roles), traits=order.traits)


def set_logins(order: Order, spec: UserCertSpec) -> UserCertSpec:
    """Logins that roles and traits allow now; a reissue keeps those it had and gets those of requests."""
    logins = order.grants.logins
    if order.previous is not None and order.machine is None:
        known = {*order.previous.logins, *order.extra_logins}
        logins = tuple(login for login in logins if login in known)
    logins = logins[: limits.MAX_PRINCIPALS]
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
    return msgspec.structs.replace(
        spec,
        extensions=tuple(flags),
        custom_extensions=order.grants.extensions,
        oldssh=options.cert_format == "oldssh",
    )


def pin_source(order: Order, spec: UserCertSpec) -> UserCertSpec:
    """With `pin_source_ip` the certificate works from the client's address only; a pin is never dropped."""
    if spec.source_addr or not order.options.pin_source_ip:
        return spec
    return msgspec.structs.replace(spec, source_addr=order.client_addr)


def set_requests(order: Order, spec: UserCertSpec) -> UserCertSpec:
    """Name the requests, and restrict to the resources that they are for."""
    if order.previous is None:
        return spec
    allowed = restriction(order.previous, order.requests, order.dropped, order.extra)
    return msgspec.structs.replace(spec, active_requests=order.active_requests, allowed_resources=allowed)


def set_database(order: Order, spec: UserCertSpec) -> UserCertSpec:
    spec = msgspec.structs.replace(spec, route_to_database=order.database)
    if not order.proven or order.previous is None:
        return spec
    return msgspec.structs.replace(
        spec, mfa_device=order.proven, previous_expires_at=order.previous.expires_at
    )


MODIFIERS: tuple[Modifier, ...] = (
    set_lifetime,
    set_roles,
    set_logins,
    set_extensions,
    pin_source,
    set_requests,
    set_database,
)

# Validators: each refuses one thing.


def has_roles(order: Order, spec: UserCertSpec) -> None:
    if not spec.roles:
        raise DeniedError("a certificate needs at least one role", hint="ask an administrator for a role")


def lives_within_bounds(order: Order, spec: UserCertSpec) -> None:
    life = spec.valid_before - order.now
    if life <= 0:
        raise DeniedError("the certificate would already have expired", hint="log in again")
    if life > order.max_ttl_s or life > order.options.max_session_ttl_s or spec.valid_before > order.until:
        raise DeniedError("the certificate would live longer than the roles allow")


def is_pinned_where_demanded(order: Order, spec: UserCertSpec) -> None:
    if order.options.pin_source_ip and not spec.source_addr:
        raise DeniedError(
            "a role demands a certificate bound to the client's address, which is not known for certain here"
        )


def requests_need_an_origin(order: Order, spec: UserCertSpec) -> None:
    """Requests are used by people with a certificate of their own (attack A32)."""
    before = order.previous
    if before is None:
        if order.requests or spec.active_requests or spec.allowed_resources is not None:
            raise DeniedError("an access request is used with a certificate that exists")
        return
    if not order.requests:
        return
    if before.impersonator or before.bot_name or before.renewable or before.force_command:
        raise DeniedError("only a person's own certificate can use an access request")


def only_shrinks(order: Order, spec: UserCertSpec) -> None:
    """A reissued certificate has nothing that its origin had not, and keeps every restriction (A34); only
    what the stored requests grant at this moment is added, and they are read here once more."""
    before = order.previous
    if before is None:
        return
    if before.route_to_database is not None:
        raise DeniedError("a certificate for one database cannot be renewed", hint="use that of your login")
    if before.disallow_reissue:
        raise DeniedError("this certificate cannot be renewed", hint="log in again")
    if order.machine is not None:
        # What a machine may do is what its bot may now; `is_machine_as_ordered` looks at the rest.
        return
    # Where the login had no second factor a session may have one, never another.
    given = before.mfa_device or (order.proven if spec.route_to_database is not None else "")
    origin = msgspec.structs.replace(before, mfa_device=given)
    kept = keeps(spec, origin, "cluster", "impersonator", "renewable", "generation", *KEPT)
    granted = {login for login in spec.logins if not login.startswith(NO_LOGIN_PREFIX)}
    added = extra(order.requests, before.name, order.now)
    by_request = bool(before.active_requests or order.requests)
    # What a request gave before is asked for anew: it may have been given back, denied or deleted.
    held = set(before.roles) & order.standing if by_request else set(before.roles)
    shrunk = (
        spec.user == before.name
        and spec.valid_before <= min(before.expires_at, added.until)
        and set(spec.roles) <= {*held, *added.roles}
        and granted <= {*before.logins, *order.extra_logins} & {*order.grants.logins}
        and all(set(values) <= set(before.traits.get(name, ())) for name, values in spec.traits.items())
        and keeps_pin(spec, before)
        and set(before.active_requests) - order.dropped <= set(spec.active_requests)
        and set(spec.active_requests) - set(before.active_requests) <= {r.name for r in order.requests}
        and {r.name for r in order.requests} <= set(spec.active_requests)
        and spec.allowed_resources == restriction(before, order.requests, order.dropped, added)
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
    requests_need_an_origin,
    only_shrinks,
    is_bounded_by_actor,
    is_machine_as_ordered,
)


class UserIssuer:
    """The one place that signs certificates for users."""

    def __init__(
        self, authorities: Authorities, journal: Journal, check_locks: Callable[[Interaction], None]
    ) -> None:
        self._authorities = authorities
        self._journal = journal
        self._check_locks = check_locks

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
        # Nothing that opens SSH is made for whoever asks for a database.
        ssh_cert = (
            sshcert.sign_user_cert(authorities.user_ssh, spec, check_public_line(ssh_public_key))
            if spec.route_to_database is None
            else ""
        )
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
        tls = x509.verify_peer(der, trust=trust, now=order.now)
        finished = [tls]
        if ssh_cert or spec.route_to_database is None:
            blob = sshcert.line_to_blob(ssh_cert)
            finished.append(
                sshcert.verify_user_cert(blob, trust=trust, login=None, source_addr=address, now=order.now)
            )
        for identity in finished:
            # The old SSH format leaves out roles and traits, so its holder can do nothing by them.
            silent = spec.oldssh and identity is not tls
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
                and (silent or identity.active_requests == spec.active_requests)
                and identity.allowed_resources == spec.allowed_resources
                and identity.route_to_database == spec.route_to_database
            )
            if not as_meant:
                raise InternalError("a certificate did not come out as meant and was withheld")
            self._check_locks(Interaction(identity))

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
                "allowed_resource_ids": list(spec.allowed_resources or ()),
                **machine_fields(spec),
            },
            route_to_database=_route_fields(spec.route_to_database),
            user_agent=user_agent or None,
        )


def _route_fields(route: RouteToDatabase | None) -> dict[str, str | list[str]] | None:
    if route is None:
        return None
    return {
        "service_name": route.service,
        "protocol": route.protocol,
        "username": route.user,
        "database": route.database,
        "roles": list(route.roles or ()),
    }
