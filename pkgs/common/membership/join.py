"""Becoming a member: a token (or the administrator's socket) against host certificates.

    local   the Auth Service of this host, by its socket; no token needed
    pinned  directly or through a proxy: ask for the host authority, check the CA pin, dial again, join
    web     through a proxy without a pin: HTTPS to the proxy, verified by web PKI

While nobody answers it tries again, with jitter. What will not get better (a wrong token, a wrong pin) ends
it with one line that says what to do. Nothing is stored before everything is verified (attack A38).
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from pkgs.common.api.join import HostCerts, Join
from pkgs.common.api.system import GetHostCa
from pkgs.common.errors import (
    AccessError,
    AlreadyExistsError,
    DeniedError,
    InputError,
    InternalError,
    LimitExceededError,
    NotFoundError,
    TrustError,
    UnavailableError,
)
from pkgs.common.membership import limits
from pkgs.common.membership.identity import (
    HostIdentity,
    HostKeys,
    host_uuid,
    load_identity,
    other_identity,
    store_identity,
    verify_host_certs,
)
from pkgs.common.membership.route import (
    Route,
    anonymous_context,
    dialler,
    member_context,
    unverified_context,
)
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.pins import check_pin
from pkgs.common.resources.durations import parse_duration
from pkgs.common.rpc.client import Dial, Endpoint, RpcClient
from pkgs.common.runtime.atomicfile import make_private_dir
from pkgs.common.runtime.backoff import Backoff
from pkgs.common.runtime.clock import Clock
from pkgs.common.runtime.config import Config

_PASSING = (UnavailableError, LimitExceededError, InternalError)
"""Errors after which the same attempt may succeed later."""


class JoinPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Who joins as what, and how to get there. Token and pins are read from the configuration only when
    there is something to join: a host that is a member may have lost them."""

    config: Config
    route: Route
    role: SystemRole
    additional_principals: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Without the configuration, which may hold the token."""
        return f"JoinPlan({self.role.value} by {self.route})"

    @property
    def data_dir(self) -> Path:
        return self.config.data_dir

    def backoff(self) -> Backoff:
        """Pauses between attempts, within what the configuration says."""
        retry = self.config.teleport.auth_connection_config
        first = retry.initial_connection_delay
        limit_s = parse_duration(retry.upper_limit_between_retries)
        return Backoff(min(parse_duration(first) if first else limits.RETRY_FIRST_S, limit_s), limit_s)


async def ensure_identity(plan: JoinPlan, clock: Clock, log: logging.Logger) -> HostIdentity:
    """The stored identity, or a new one by joining; waits for the cluster as long as it takes.

    Services that share a data dir join one after the other, so that the later ones can show the host id
    to be theirs."""
    identity = load_identity(plan.data_dir, plan.role)
    if identity is not None and not _expired(identity, clock):
        return identity
    async with _join_lock(plan.data_dir):
        identity = load_identity(plan.data_dir, plan.role)
        if identity is not None and not _expired(identity, clock):
            return identity
        return await _join_until_done(plan, clock, log, expired=identity)


def _expired(identity: HostIdentity, clock: Clock) -> bool:
    return identity.expires_at is not None and clock.now() >= identity.expires_at


async def _join_until_done(
    plan: JoinPlan,
    clock: Clock,
    log: logging.Logger,
    expired: HostIdentity | None,
) -> HostIdentity:
    way, token = _way(plan, clock, log, expired)
    host_id = host_uuid(plan.data_dir)
    # One request for all attempts: when an answer was lost on its way, the next attempt asks for that very
    # answer, where another join with the same token and host id would be refused.
    host_keys = HostKeys.new()
    request = Join(
        token=token,
        role=plan.role,
        host_id=host_id,
        node_name=plan.config.nodename,
        ssh_public_key=host_keys.ssh.public_line,
        tls_public_key=host_keys.tls.public_pem,
        additional_principals=list(plan.additional_principals),
    )
    backoff = plan.backoff()
    while True:
        try:
            identity = verify_host_certs(
                await way(request),
                host_keys,
                role=plan.role,
                host_id=host_id,
                node_name=plan.config.nodename,
                additional_principals=plan.additional_principals,
                now=clock.now(),
            )
        except _PASSING as error:
            pause = backoff.next()
            log.warning(
                "cannot join the cluster yet: %s",
                error,
                extra={"detail": error.detail, "retry_s": round(pause, 1)},
            )
            await asyncio.sleep(pause)
        except AccessError as error:
            raise _final(plan, error) from error
        else:
            store_identity(plan.data_dir, identity)
            log.info(
                "joined the cluster",
                extra={"cluster": identity.cluster_name, "host_id": host_id, "role": plan.role.value},
            )
            return identity


Way = Callable[[Join], Awaitable[HostCerts]]


def _way(plan: JoinPlan, clock: Clock, log: logging.Logger, expired: HostIdentity | None) -> tuple[Way, str]:
    """How to join and with which token, or what is missing for it."""
    socket_path = plan.route.join_socket
    if socket_path is not None:
        return partial(_join_over, Endpoint(unix_path=str(socket_path))), ""
    vouching = other_identity(plan.data_dir, plan.role)
    if vouching is not None and not _expired(vouching, clock):
        return partial(_join_vouched, plan, vouching), plan.config.token()
    if expired is not None:
        # Nothing shows any more that this host is the one that the cluster knows by this id.
        raise TrustError(
            f"the host certificate in {plan.data_dir} has expired",
            hint="remove proc and host_uuid there, and join again with a new token",
        )
    token = plan.config.token()
    if not token:
        raise InputError(
            "this host has not joined a cluster yet and has no join token",
            hint=f"make one with `tctl tokens add --type={plan.role.value.lower()}`, give it with --token",
        )
    if pins := plan.config.ca_pins():
        return partial(_join_pinned, plan, pins), token
    if not plan.route.by_proxy:
        raise InputError(
            "joining the Auth Service directly needs a CA pin",
            hint="`tctl status` on the Auth host shows it; give it with --ca-pin",
        )
    if plan.config.insecure:
        log.warning(
            "INSECURE: the proxy's certificate is NOT verified; whoever answers at %s gets the join token "
            "and becomes this host's cluster. Use --ca-pin instead.",
            plan.route.addrs[0],
        )
    # Once in a host's life; the library's client of the web need not stay in every service.
    from pkgs.common.membership.webjoin import join_by_web

    return partial(join_by_web, plan.route.addrs[0], insecure=plan.config.insecure), token


async def _join_over(target: Endpoint | Dial, request: Join) -> HostCerts:
    client = RpcClient(target)
    try:
        return await client.call(request, deadline_s=limits.JOIN_CALL_S, idempotency_key=_key(request))
    finally:
        await client.close()


def _key(request: Join) -> str:
    """The same for the same request, and nobody else's: it depends on keys made for this join."""
    return hashlib.sha256(msgspec.msgpack.encode(request)).hexdigest()


async def _join_pinned(plan: JoinPlan, pins: Sequence[str], request: Join) -> HostCerts:
    """Two connections: the first believes anybody and is only asked for the authority that the pin names."""
    client = RpcClient(dialler(plan.route, lambda: unverified_context(plan.route)))
    try:
        answer = await client.call(GetHostCa(), deadline_s=limits.JOIN_CALL_S)
    finally:
        await client.close()
    check_pin(answer.host_ca_pems, pins)  # attack A38
    roots = "".join(pem if pem.endswith("\n") else pem + "\n" for pem in answer.host_ca_pems)
    context = partial(anonymous_context, plan.route, roots, answer.cluster_name)
    return await _join_over(dialler(plan.route, context), request)


async def _join_vouched(plan: JoinPlan, vouching: HostIdentity, request: Join) -> HostCerts:
    """Another service of this host is a member: its certificate shows that the host id is ours."""
    context = partial(member_context, plan.route, vouching, vouching.trust)
    return await _join_over(dialler(plan.route, context), request)


def _final(plan: JoinPlan, error: AccessError) -> AccessError:
    """The same error with what to do about it, in one line."""
    kind = plan.role.value.lower()
    hint = error.hint
    if isinstance(error, DeniedError | NotFoundError):
        hint = f"make a new token with `tctl tokens add --type={kind}` and give it with --token"
    elif isinstance(error, AlreadyExistsError):
        hint = f"empty {plan.data_dir} to join as a new host"
    elif isinstance(error, TrustError) and not plan.route.join_socket:
        hint = error.hint or "check the address, and give the CA pin that `tctl status` shows with --ca-pin"
    return type(error)(
        f"cannot join the cluster by {plan.route}: {error.message}", detail=error.detail, hint=hint
    )


@asynccontextmanager
async def _join_lock(data_dir: Path) -> AsyncIterator[None]:
    make_private_dir(data_dir)
    make_private_dir(data_dir / "proc")
    descriptor = os.open(data_dir / "proc" / "join.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(limits.JOIN_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)
