"""Access lists, their people and what certificates say, for tests."""

from __future__ import annotations

from typing import Any

from pkgs.common.access.lists.membership import LIST_KIND, USER_KIND
from pkgs.common.api.login import ReissueUserCerts, UserCerts
from pkgs.common.api.resources import PutResource
from pkgs.common.pki.sshcert import line_to_blob, verify_user_cert
from pkgs.common.resources.kinds import AccessList, AccessListMember, Resource
from pkgs.common.resources.kinds.requests import (
    AccessListSpec,
    Grants,
    ListMemberSpec,
    ListOwner,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions
from pkgs.common.rpc.client import RpcClient
from tests.integration.auth_kit import Kit, User, role


def access_list(name: str, *roles: str, owners: tuple[str, ...] = ("olga",), **fields: Any) -> AccessList:
    made = [
        ListOwner(
            name=owner.removeprefix("list/"),
            membership_kind=LIST_KIND if owner.startswith("list/") else USER_KIND,
        )
        for owner in owners
    ]
    grants = Grants(roles=list(roles), traits=fields.pop("traits", {}))
    spec = AccessListSpec(title=f"The {name}", owners=made, grants=grants, **fields)
    return AccessList(metadata=Metadata(name=name), spec=spec)


def member(list_name: str, name: str, **fields: Any) -> AccessListMember:
    return AccessListMember(
        metadata=Metadata(name=name), spec=ListMemberSpec(access_list=list_name, name=name, **fields)
    )


async def put(client: RpcClient, resource: Resource, mode: Any = "create") -> Resource:
    return (await client.call(PutResource(resource=resource, mode=mode))).resource


async def people(kit: Kit, *names: str) -> list[User]:
    await put(kit.admin, role("nothing", Conditions()))
    await put(kit.admin, role("extra", Conditions(logins=["extra"])))
    return [await kit.user(name, "nothing", logins=()) for name in ("olga", *names)]


def roles_of(kit: Kit, certs: UserCerts) -> set[str]:
    identity = verify_user_cert(
        line_to_blob(certs.ssh_cert),
        trust=kit.service.authorities.trust,
        login=None,
        source_addr="",
        now=kit.clock.now(),
    )
    return set(identity.roles)


async def renewed(kit: Kit, user: User) -> UserCerts:
    keys = {"ssh_public_key": user.ssh_key.public_line, "tls_public_key": user.tls_key.public_pem}
    return await kit.as_user(user).call(ReissueUserCerts(**keys))
