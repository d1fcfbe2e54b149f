"""Roles, users and calls for tests of access requests."""

from __future__ import annotations

from typing import Any

from pkgs.common.api.login import ReissueUserCerts, UserCerts
from pkgs.common.api.requests import (
    CreateAccessRequest,
    GetAccessRequest,
    ListAccessRequests,
    ReviewAccessRequest,
    SearchRequestable,
)
from pkgs.common.api.resources import Heartbeat, PutResource
from pkgs.common.pki import x509
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import AccessRequest, Node, Resource, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import (
    Conditions,
    RequestConditions,
    ReviewConditions,
    Rule,
    Threshold,
)
from pkgs.common.rpc.client import RpcClient
from tests.integration.auth_kit import Kit, User, role

DBA = role("dba", Conditions(logins=["postgres"], node_labels={"tier": "db"}), max_session_ttl="4h")
ADMIN = role(
    "admin", Conditions(logins=["root"], node_labels={"*": "*"}, rules=[Rule(resources=["*"], verbs=["*"])])
)
DEV = role(
    "dev",
    Conditions(
        logins=["{{internal.logins}}"],
        node_labels={"tier": "web"},
        request=RequestConditions(
            roles=["dba"],
            thresholds=[Threshold(name="two eyes", approve=2, deny=1)],
            suggested_reviewers=["lena", "otto"],
            annotations={"team": ["{{external.team}}"]},
        ),
    ),
)
LEAD = role("lead", Conditions(review_requests=ReviewConditions(roles=["dba"])))
SEARCHER = role("searcher", Conditions(request=RequestConditions(search_as_roles=["dba"])))
DECIDER = role(
    "decider",
    Conditions(
        rules=[Rule(resources=["access_request"], verbs=["list", "read", "create", "update", "delete"])]
    ),
)
ROLES = (DBA, ADMIN, DEV, LEAD, SEARCHER, DECIDER)


async def setup(kit: Kit) -> None:
    for each in ROLES:
        await kit.admin.call(PutResource(resource=each))


async def node(kit: Kit, hostname: str, **labels: str) -> str:
    """A node that the cluster lists; its id."""
    host = await kit.join(node_name=hostname)
    server = Node(
        metadata=Metadata(name=host.id, labels=labels),
        spec=ServerSpec(hostname=hostname, use_tunnel=True, version="0"),
    )
    await kit.as_host(host).call(Heartbeat(server=server, ttl_s=3600))
    return host.id


async def ask(client: RpcClient, **fields: Any) -> AccessRequest:
    return (await client.call(CreateAccessRequest(**fields))).request


async def read(client: RpcClient, name: str) -> AccessRequest:
    return (await client.call(GetAccessRequest(id=name))).request


async def vote(client: RpcClient, name: str, state: Any = "APPROVED", **fields: Any) -> AccessRequest:
    return (await client.call(ReviewAccessRequest(id=name, proposed_state=state, **fields))).request


async def listing(client: RpcClient, which: Any = "all") -> list[str]:
    found = client.stream(ListAccessRequests(which=which))
    return [shown.request.name async for chunk in found for shown in chunk.requests]


async def searched(client: RpcClient, kind: str = "node", **fields: Any) -> list[Resource]:
    found = client.stream(SearchRequestable(kind=kind, **fields))
    return [resource async for chunk in found for resource in chunk.resources]


async def reissue(client: RpcClient, user: User, **fields: Any) -> UserCerts:
    """New certificates for the same keys."""
    return await client.call(
        ReissueUserCerts(
            **{
                "ssh_public_key": user.ssh_key.public_line,
                "tls_public_key": user.tls_key.public_pem,
                "ttl_s": 8 * 3600,
                **fields,
            }
        )
    )


def who(kit: Kit, certs: UserCerts) -> Identity:
    """The identity of a certificate, read as a service reads it."""
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import load_pem_x509_certificate

    der = load_pem_x509_certificate(certs.tls_cert.encode()).public_bytes(Encoding.DER)
    return x509.verify_peer(der, trust=kit.service.authorities.trust, now=kit.clock.now())
