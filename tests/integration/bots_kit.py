"""A machine as its program will be: joins with a token, renews, takes on roles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from pkgs.common.api.bots import (
    AddBotInstance,
    BotCerts,
    BotToken,
    CreateBot,
    ImpersonateRoles,
    JoinBot,
    RenewBotCerts,
)
from pkgs.common.api.login import UserCerts
from pkgs.common.api.resources import PutResource
from pkgs.common.pki import x509
from pkgs.common.pki.identity import Identity
from pkgs.common.pki.keys import SshKey, TlsKey, new_ssh_key, new_tls_key
from pkgs.common.resources.role import Conditions
from pkgs.common.rpc.client import RpcClient
from tests.integration.auth_kit import Kit, role


@dataclass
class Machine:
    kit: Kit
    ssh_key: SshKey
    tls_key: TlsKey
    made: BotCerts

    @property
    def id(self) -> str:
        return self.made.bot_instance_id

    @property
    def client(self) -> RpcClient:
        return self.kit.client(self.made.certs.tls_cert, self.tls_key.private_pem)

    def identity(self) -> Identity:
        return identity_of(self.kit, self.made.certs)

    async def renew(self, **fields: Any) -> Machine:
        """The machine with its next certificates, for new keys."""
        ssh_key, tls_key = new_ssh_key(), new_tls_key()
        made = await self.client.call(
            RenewBotCerts(
                **{"ssh_public_key": ssh_key.public_line, "tls_public_key": tls_key.public_pem, **fields}
            )
        )
        return Machine(self.kit, ssh_key, tls_key, made)

    async def take_on(self, *roles: str, **fields: Any) -> Output:
        return await take_on(self.kit, self.client, *roles, **fields)


@dataclass
class Output:
    kit: Kit
    tls_key: TlsKey
    certs: UserCerts

    @property
    def client(self) -> RpcClient:
        return self.kit.client(self.certs.tls_cert, self.tls_key.private_pem)

    def identity(self) -> Identity:
        return identity_of(self.kit, self.certs)


async def take_on(kit: Kit, client: RpcClient, *roles: str, **fields: Any) -> Output:
    tls_key = new_tls_key()
    keys = {"ssh_public_key": new_ssh_key().public_line, "tls_public_key": tls_key.public_pem}
    return Output(kit, tls_key, await client.call(ImpersonateRoles(roles=list(roles), **keys, **fields)))


def identity_of(kit: Kit, certs: UserCerts) -> Identity:
    """What a service reads in a certificate."""
    return x509.verify_peer(
        x509_der(certs.tls_cert), trust=kit.service.authorities.trust, now=kit.clock.now()
    )


def x509_der(pem: str) -> bytes:
    return load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


async def roles(kit: Kit, *names: str, **options: object) -> None:
    """Roles that let log in everywhere as `deploy`."""
    for name in names:
        made = role(name, Conditions(logins=["deploy"], node_labels={"*": "*"}), **options)
        await kit.admin.call(PutResource(resource=made, mode="upsert"))


async def add_bot(kit: Kit, name: str = "ci", *roles: str, **fields: Any) -> BotToken:
    return await kit.admin.call(CreateBot(name=name, roles=list(roles), **fields))


async def add_instance(kit: Kit, name: str = "ci") -> BotToken:
    return await kit.admin.call(AddBotInstance(bot=name))


async def join(kit: Kit, token: str, client: RpcClient | None = None, **fields: Any) -> Machine:
    ssh_key, tls_key = new_ssh_key(), new_tls_key()
    made = await (client or kit.nobody()).call(
        JoinBot(
            **{
                "token": token,
                "ssh_public_key": ssh_key.public_line,
                "tls_public_key": tls_key.public_pem,
                **fields,
            }
        )
    )
    return Machine(kit, ssh_key, tls_key, made)


async def machine(kit: Kit, *names: str, bot: str = "ci") -> Machine:
    """An instance of a bot that takes on these roles, which are made too."""
    await roles(kit, *names)
    return await join(kit, (await add_bot(kit, bot, *names)).token)
