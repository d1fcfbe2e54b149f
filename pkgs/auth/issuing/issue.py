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
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from pkgs.auth import limits
from pkgs.auth.audit.journal import Journal
from pkgs.auth.issuing.authorities import Authorities
from pkgs.common.access.locks import Interaction
from pkgs.common.access.options import SessionOptions, merge_options
from pkgs.common.access.options.hours import logins_at, logins_until
from pkgs.common.access.options.login import cert_extensions
from pkgs.common.access.options.merge import refusing, serving
from pkgs.common.access.requests.assuming import Extra, extra, restriction
from pkgs.common.access.types import Environment
from pkgs.common.api.login import UserCerts
from pkgs.common.errors import DeniedError, InternalError
from pkgs.common.events.codes import CERT_CREATE
from pkgs.common.events.format import rfc3339
from pkgs.common.events.types import Event
from pkgs.common.pki import sshcert, x509
from pkgs.common.pki.certspec import NO_LOGIN_PREFIX, UserCertSpec, spec_from_identity
from pkgs.common.pki.identity import Identity
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
    impersonator: str = ""
    previous: Identity | None = None
    """The verified certificate a reissue starts from."""
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


class Grants(NamedTuple):
    """What a set of roles gives with these traits."""

    options: SessionOptions
    logins: tuple[str, ...]
    extensions: dict[str, str]
    """Custom ones of the SSH certificate."""


_grants: dict[tuple[object, ...], tuple[tuple[Role, ...], Grants]] = {}


def grants_of(roles: tuple[Role, ...], traits: dict[str, tuple[str, ...]], env: Environment) -> Grants:
    """Worked out once while these very roles are in use: thousands of logins share a few combinations.

    Logins and extensions come from the roles that count now and from here: for whatever reads them later may
    ask nobody. An entry holds its roles, so that an id is never taken over by another object. The logins are
    those for a life that every role allows; a certificate's life is cut to that before its logins are set."""
    counting = (tuple(map(serving(env), roles)), tuple(map(refusing(env), roles)))
    key = (*map(id, roles), counting, *sorted(traits.items()))
    found = _grants.get(key)
    if found is None:
        options = merge_options(roles, in_force=serving(env))
        life = min(options.max_session_ttl_s, limits.MIN_TTL_S)
        logins = logins_at(roles, traits, life, env)
        extensions = cert_extensions(roles, traits, serving(env))
        found = (roles, Grants(options, logins, extensions))
        if len(_grants) >= limits.GRANTS_REMEMBERED:
            _grants.clear()
        _grants[key] = found
    return found[1]


Modifier = Callable[[Order, UserCertSpec], UserCertSpec]
Validator = Callable[[Order, UserCertSpec], None]


def start(order: Order) -> UserCertSpec:
    """The specification before any step: a reissue begins with everything the old certificate says."""
    valid_after = order.now - limits.BACKDATE_S
    if order.previous is not None:
        return spec_from_identity(order.previous, valid_after=valid_after)
    return UserCertSpec(
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
        impersonator=order.impersonator,
    )


# Modifiers: each sets one thing.


def set_lifetime(order: Order, spec: UserCertSpec) -> UserCertSpec:
    """The wanted time, at most what the shortest-lived role allows; a reissue never outlives its origin."""
    wanted = min(max(order.ttl_s, limits.MIN_TTL_S), order.max_ttl_s)
    # Certificates count whole seconds, and rounding must not lengthen a life.
    expires = float(int(order.now + min(order.options.max_session_ttl_s, wanted)))
    if order.previous is not None:
        expires = min(expires, order.previous.expires_at)
    return msgspec.structs.replace(spec, valid_before=min(expires, order.extra.until, order.until))


def set_roles(order: Order, spec: UserCertSpec) -> UserCertSpec:
    return msgspec.structs.replace(spec, roles=tuple(role.name for role in order.roles), traits=order.traits)


def set_logins(order: Order, spec: UserCertSpec) -> UserCertSpec:
    """Logins that roles and traits allow now; a reissue keeps those it had and gets those of requests."""
    logins = order.grants.logins
    if order.previous is not None:
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


MODIFIERS: tuple[Modifier, ...] = (
    set_lifetime,
    set_roles,
    set_logins,
    set_extensions,
    pin_source,
    set_requests,
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
    if before.disallow_reissue:
        raise DeniedError("this certificate cannot be renewed", hint="log in again")
    kept = all(
        getattr(spec, name) == getattr(before, name)
        for name in (
            "cluster", "mfa_device", "impersonator", "force_command",
            "device_id", "device_asset_tag", "bot_name", "bot_instance_id", "join_token", "renewable",
            "generation",
        )
    )  # fmt: skip
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
        and (not before.source_addr or spec.source_addr == before.source_addr)
        and set(before.active_requests) - order.dropped <= set(spec.active_requests)
        and set(spec.active_requests) - set(before.active_requests) <= {r.name for r in order.requests}
        and {r.name for r in order.requests} <= set(spec.active_requests)
        and spec.allowed_resources == restriction(before, order.requests, order.dropped, added)
    )
    if not (kept and shrunk):
        raise DeniedError("a renewed certificate may not say more than the old one")


VALIDATORS: tuple[Validator, ...] = (
    has_roles,
    lives_within_bounds,
    is_pinned_where_demanded,
    requests_need_an_origin,
    only_shrinks,
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
                and identity.renewable == spec.renewable
                and identity.generation == spec.generation
                and identity.source_addr == spec.source_addr
                and (silent or identity.active_requests == spec.active_requests)
                and identity.allowed_resources == spec.allowed_resources
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
            },
            user_agent=user_agent or None,
        )
