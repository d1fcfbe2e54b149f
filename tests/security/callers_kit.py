"""One caller of every kind for one Auth Service, and what the calls of a test are about."""

from __future__ import annotations

import base64
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from pkgs.auth.accounts.totp import code_at
from pkgs.common.api.accesslists import AddMember
from pkgs.common.api.bots import AddBotInstance, CreateBot
from pkgs.common.api.join import Join
from pkgs.common.api.login import CreateUser
from pkgs.common.api.recordings import UploadRecording
from pkgs.common.api.requests import CreateAccessRequest
from pkgs.common.api.resources import CreateToken, PutResource
from pkgs.common.pki import x509
from pkgs.common.pki.certspec import HostCertSpec, UserCertSpec
from pkgs.common.pki.identity import RouteToDatabase, SystemRole
from pkgs.common.pki.keys import TlsKey, new_tls_key
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Impersonate, Rule
from pkgs.common.rpc.client import RpcClient
from tests.integration.auth_kit import Kit, User, chunks, new_keys, role, session
from tests.integration.bots_kit import join, take_on
from tests.integration.lists_kit import access_list
from tests.integration.requests_kit import node, setup

CLUSTER = "alpha.example"
EVERYTHING = (
    *("editor", "auditor", "access", "reviewer", "requester", "lead", "dev", "searcher", "decider"),
    *("signer", "taker", "ender"),
)
"""Roles with every power that a role can give."""
ROUTE = RouteToDatabase(service="orders", protocol="postgres", user="alice")
HOSTS = {role: f"host {role.value}" for role in SystemRole}


@dataclass
class Peer:
    """A caller: who it says it is, and its connection."""

    kind: str
    name: str
    client: RpcClient

    @property
    def is_host(self) -> bool:
        return self.kind.startswith("host ")


@dataclass
class World:
    kit: Kit
    peers: list[Peer] = field(default_factory=list)
    plain: User | None = None
    recording: str = ""
    server: str = ""
    made: int = 0
    orders: AsyncIterator[Any] | None = None
    """What the Auth Service has a node do."""

    @property
    def admin(self) -> RpcClient:
        return self.kit.admin

    def fresh(self, stem: str) -> str:
        self.made += 1
        return f"{stem}-{self.made}"

    async def user(self) -> str:
        name = self.fresh("somebody")
        await self.admin.call(CreateUser(name=name, roles=["access"]))
        return name

    async def invitation(self) -> str:
        return (await self.admin.call(CreateUser(name=self.fresh("invited"), roles=["access"]))).token

    def code_for(self, secret: str) -> str:
        raw = base64.b32decode(secret + "=" * (-len(secret) % 8))
        return code_at(raw, int(self.kit.clock.now()) // 30)

    async def bot_token(self) -> str:
        return (await self.admin.call(AddBotInstance(bot="ci"))).token

    async def member(self) -> str:
        name = await self.user()
        await self.admin.call(AddMember(access_list="team", name=name))
        return name

    async def request(self) -> str:
        """A pending request of somebody else."""
        made = await self.admin.call(CreateAccessRequest(user="asker", roles=["dba"], reason="x"))
        return made.request.name


async def world(kit: Kit) -> World:
    made = World(kit)
    await setup(kit)
    signs = Conditions(
        impersonate=Impersonate(users=["noor"], roles=["*"]),
        rules=[Rule(resources=["host_cert", "database_certificate"], verbs=["create"])],
    )
    await kit.admin.call(PutResource(resource=role("signer", signs)))
    taken = Impersonate(roles=["deploy"])
    await kit.admin.call(PutResource(resource=role("taker", Conditions(impersonate=taken))))
    for name in ("deploy", "nothing"):
        await kit.admin.call(PutResource(resource=role(name, Conditions())))
    ends = [Rule(resources=["session_tracker"], verbs=["delete"])]
    await kit.admin.call(PutResource(resource=role("ender", Conditions(rules=ends))))
    for name, roles in (("noor", ["access"]), ("asker", ["dev"]), ("lena", ["lead"])):
        await kit.admin.call(CreateUser(name=name, roles=roles))
    for name in ("boss", "other", "locked"):
        await kit.admin.call(CreateUser(name=name, roles=list(EVERYTHING)))
    await kit.admin.call(PutResource(resource=access_list("team", "deploy", owners=("lena",))))
    made.server = await node(kit, "db1", tier="db")
    await _people(made)
    await _machines(made)
    await _hosts(made)
    await _recording(made)
    lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="locked")))
    await kit.admin.call(PutResource(resource=lock))
    return made


def _crafted(made: World, user: str, **fields: Any) -> RpcClient:
    """With a certificate of the real authority for somebody with every power."""
    now, key = made.kit.clock.now(), new_tls_key()
    spec = UserCertSpec(
        **{
            "user": user,
            "cluster": CLUSTER,
            "roles": EVERYTHING,
            "logins": ("root",),
            "traits": {},
            "valid_after": now - 3600,
            "valid_before": now + 3600,
            **fields,
        }
    )
    signer = made.kit.service.authorities.user_tls
    return made.kit.client(x509.sign_user_tls(signer, spec, key.public_pem), key.private_pem)


async def _people(made: World) -> None:
    kit = made.kit
    made.plain = await kit.user("plain", "nothing", login=False)
    only = (f"/{CLUSTER}/node/{made.server}",)
    made.peers += [
        Peer("nobody", "", kit.nobody()),
        Peer("plain", "plain", _crafted(made, "plain", roles=("nothing",))),
        Peer("restricted", "boss", _crafted(made, "boss", allowed_resources=only)),
        Peer("impersonated", "other", _crafted(made, "other", impersonator="boss")),
        Peer("locked", "locked", _crafted(made, "locked")),
        Peer("gone", "gone", _crafted(made, "gone")),
        Peer("boss", "boss", _crafted(made, "boss")),
        Peer("for a database", "boss", _crafted(made, "boss", route_to_database=ROUTE)),
        Peer("admin", "", kit.admin),
    ]


async def _machines(made: World) -> None:
    kit = made.kit
    token = await kit.admin.call(CreateBot(name="ci", roles=list(EVERYTHING)))
    machine = await join(kit, token.token)
    output = await take_on(kit, machine.client, *EVERYTHING)
    made.peers += [
        Peer("bot", "bot-ci", machine.client),
        Peer("bot's output", "bot-ci", output.client),
    ]


async def _hosts(made: World) -> None:
    kit = made.kit
    joining = [r for r in SystemRole if r not in (SystemRole.AUTH, SystemRole.BOT)]
    token = (await kit.admin.call(CreateToken(roles=[r.value for r in joining]))).resource.name
    for system_role, kind in HOSTS.items():
        host_id, key = str(uuid.uuid4()), new_tls_key()
        if system_role is SystemRole.BOT:
            cert = _bot_host(made, host_id, key)
        else:
            secret = "" if system_role is SystemRole.AUTH else token
            keys = {**new_keys(), "tls_public_key": key.public_pem}
            asked = Join(token=secret, role=system_role, host_id=host_id, node_name="node-1", **keys)
            cert = (await kit.admin.call(asked)).tls_cert
        made.peers.append(Peer(kind, host_id, kit.client(cert, key.private_pem)))


def _bot_host(made: World, host_id: str, key: TlsKey) -> str:
    """What no call gives out: a host that says it is a machine."""
    now = made.kit.clock.now()
    spec = HostCertSpec(
        host_id=host_id,
        cluster=CLUSTER,
        system_roles=(SystemRole.BOT,),
        valid_after=now - 60,
        valid_before=now + 3600,
    )
    return x509.sign_host_tls(made.kit.service.authorities.host_tls, spec, key.public_pem)


async def _recording(made: World) -> None:
    """Of a session of the plain user."""
    host = await made.kit.join()
    made.recording = await session(made.kit, host, user="plain")
    upload = UploadRecording(session_id=made.recording)
    await made.kit.as_host(host).upload(upload, chunks(b"recorded"))
