"""The host's side of the cluster: join or renew, fetch the authorities, be known as a server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from pkgs.common.api.join import RenewHostCerts
from pkgs.common.api.openssh import PutOpensshServer
from pkgs.common.api.resources import ListResources
from pkgs.common.errors import UnavailableError
from pkgs.common.membership import limits
from pkgs.common.membership.identity import HostIdentity, HostKeys, store_identity, verify_host_certs
from pkgs.common.membership.join import JoinPlan, ensure_identity
from pkgs.common.membership.route import dialler, member_context, route_of
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.trust import Trust
from pkgs.common.resources.kinds import CertAuthority
from pkgs.common.rpc.client import RpcClient
from pkgs.common.runtime.clock import Clock
from pkgs.common.runtime.config import Config

_log = logging.getLogger(__name__)
JOIN_S: Final = 60.0
"""How long a join keeps trying while nobody answers."""


async def enter(
    config: Config, additional_principals: tuple[str, ...], clock: Clock
) -> tuple[HostIdentity, tuple[str, ...]]:
    """This host as a member with fresh certificates for these names, and the authorities whose users its
    sshd is to believe. Certificates are renewed when half their life is over, when other names are wanted,
    and when the host authority was rotated."""
    plan = JoinPlan(
        config=config,
        route=route_of(config),
        role=SystemRole.NODE,
        additional_principals=additional_principals,
    )
    try:
        async with asyncio.timeout(JOIN_S):
            identity = await ensure_identity(plan, clock, _log)
    except TimeoutError:
        raise UnavailableError(f"{plan.route} did not let this host in within {JOIN_S:g} seconds") from None
    async with _calling(config, identity) as client:
        trust = await _authorities(client, identity)
        lines = tuple(trust.ssh_ca_lines("openssh"))
        if not lines:
            raise UnavailableError("the cluster has no openssh authority", hint="upgrade its Auth Service")
        if (
            clock.now() >= identity.renew_at
            or identity.node_name != config.nodename
            or tuple(identity.additional_principals) != additional_principals
            or _host_authorities(trust) != _host_authorities(identity.trust)
        ):
            identity = await _renewed(client, config, identity, additional_principals, clock)
    return identity, lines


async def announce(config: Config, identity: HostIdentity, addr: str, labels: dict[str, str]) -> None:
    """Make the server known, or change what is known of it."""
    async with _calling(config, identity) as client:
        request = PutOpensshServer(hostname=config.nodename, addr=addr, labels=labels)
        await client.call(request, deadline_s=limits.HEARTBEAT_CALL_S)


@asynccontextmanager
async def _calling(config: Config, identity: HostIdentity) -> AsyncIterator[RpcClient]:
    route = route_of(config)
    client = RpcClient(dialler(route, lambda: member_context(route, identity, identity.trust)))
    try:
        yield client
    finally:
        await client.close()


async def _authorities(client: RpcClient, identity: HostIdentity) -> Trust:
    found: list[CertAuthority] = []
    request = ListResources(kind="cert_authority")
    async for chunk in client.stream(request, deadline_s=limits.HEARTBEAT_CALL_S):
        found += [one for one in chunk.resources if isinstance(one, CertAuthority)]
    own = [one for one in found if one.spec.cluster_name == identity.cluster_name]
    return Trust.from_authorities(own, identity.cluster_name)


def _host_authorities(trust: Trust) -> tuple[list[str], str]:
    return trust.ssh_ca_lines("host"), trust.tls_roots_pem("host")


async def _renewed(
    client: RpcClient,
    config: Config,
    old: HostIdentity,
    additional_principals: tuple[str, ...],
    clock: Clock,
) -> HostIdentity:
    host_keys = HostKeys.new()
    certs = await client.call(
        RenewHostCerts(
            node_name=config.nodename,
            ssh_public_key=host_keys.ssh.public_line,
            tls_public_key=host_keys.tls.public_pem,
            additional_principals=list(additional_principals),
        ),
        deadline_s=limits.JOIN_CALL_S,
    )
    identity = verify_host_certs(
        certs,
        host_keys,
        role=old.role,
        host_id=old.host_id,
        node_name=config.nodename,
        additional_principals=additional_principals,
        now=clock.now(),
    )
    store_identity(config.data_dir, identity)
    return identity
