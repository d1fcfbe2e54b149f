"""What a proxy may not get from the Auth Service with the calls for servers without an agent (attack A40)."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pkgs.auth import limits
from pkgs.common.api.login import CreateUser
from pkgs.common.api.openssh import IssueOpensshHostCert, PutOpensshServer
from pkgs.common.api.resources import Heartbeat, PutResource
from pkgs.common.errors import AccessError, AlreadyExistsError, DeniedError, InputError, TrustError
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.keys import new_ssh_key
from pkgs.common.pki.signer import signers_of
from pkgs.common.pki.sshcert import line_to_blob, unverified_facts, verify_user_cert
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget, Node, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions
from tests.integration.auth_kit import Kit, auth, events, role, run
from tests.security.openssh_kit import asking, certificate, described, proof, server

Ask = Callable[[Any], Awaitable[Any]]


def with_proxy(folder: Path, body: Callable[[Kit, Ask, str], Awaitable[None]]) -> None:
    """A cluster with a proxy, a server without an agent, and alice who may log in there as root."""

    async def main() -> None:
        async with auth(folder) as kit:
            allow = Conditions(logins=["root"], node_labels={"env": "lab"})
            await kit.admin.call(PutResource(resource=role("lab", allow)))
            await kit.admin.call(CreateUser(name="alice", roles=["lab"]))
            proxy = kit.as_host(await kit.join(SystemRole.PROXY))
            await body(kit, proxy.call, await server(kit, env="lab"))

    run(main)


async def refused(ask: Ask, request: Any, kind: type[AccessError] = DeniedError) -> None:
    with pytest.raises(kind):
        await ask(request)


def alice(kit: Kit, **fields: Any) -> Any:
    return certificate(kit, new_ssh_key(), "alice", **{"roles": ("lab",), **fields})


def test_a40_a_login_gives_one_short_certificate_for_one_login_and_nothing_more(short_tmp: Path) -> None:
    async def body(kit: Kit, ask: Ask, node: str) -> None:
        issued = await ask(asking(node, proof(alice(kit))))
        blob, now = line_to_blob(issued.ssh_cert), kit.clock.now()
        facts = unverified_facts(blob)
        assert facts.principals == ("root",) and facts.key_id == "alice"
        assert now < facts.valid_before <= now + limits.OPENSSH_CERT_TTL_S
        assert set(facts.extensions) == {"permit-pty"}
        assert facts.authority_blob in kit.service.authorities.trust.ssh_keys("openssh")
        # No agent and no proxy takes it for a user's own (attack A15).
        with pytest.raises(TrustError):
            verify_user_cert(blob, trust=kit.service.authorities.trust, login="root", source_addr="", now=now)
        made = (await events(kit, "cert.create"))[-1]
        assert made["user"] == "alice" and made["identity"]["server_id"] == node  # type: ignore[index]

    with_proxy(short_tmp, body)


def test_a40_who_only_saw_a_certificate_gets_nothing(short_tmp: Path) -> None:
    async def body(kit: Kit, ask: Ask, node: str) -> None:
        key = alice(kit)
        good = proof(key)
        for broken in (
            msgspec.structs.replace(good, signature=b""),
            msgspec.structs.replace(good, session_id=b"x" * 32),
            msgspec.structs.replace(good, session_id=b""),
            msgspec.structs.replace(proof(alice(kit)), certificate=good.certificate),
            msgspec.structs.replace(good, algorithm="ssh-ed25519"),
        ):
            await refused(ask, asking(node, broken), TrustError)
        await ask(asking(node, good))
        await refused(ask, asking(node, good))  # recorded, and sent again

    with_proxy(short_tmp, body)


def test_a40_a_proof_is_for_the_login_that_was_signed(short_tmp: Path) -> None:
    async def body(kit: Kit, ask: Ask, node: str) -> None:
        key = alice(kit, logins=("root", "deploy"))
        await refused(
            ask, asking(node, msgspec.structs.replace(proof(key, "deploy"), login="root")), TrustError
        )
        await refused(ask, asking(node, proof(key, "deploy")))  # which no role of hers gives

    with_proxy(short_tmp, body)


def test_a02_a07_a15_only_good_certificates_of_users_count(short_tmp: Path) -> None:
    async def body(kit: Kit, ask: Ask, node: str) -> None:
        now = kit.clock.now()
        store = kit.service.authorities
        openssh = signers_of(store._own("openssh")).ssh
        for key in (
            alice(kit, signer=store.host_ssh),
            alice(kit, signer=openssh),
            alice(kit, valid_after=now - 7200, valid_before=now - 3600),
            alice(kit, valid_after=now + 3600, valid_before=now + 7200),
        ):
            await refused(ask, asking(node, proof(key)), TrustError)
        await refused(ask, asking(node, proof(certificate(kit, new_ssh_key(), "nobody", roles=("lab",)))))

    with_proxy(short_tmp, body)


def test_a12_a_pinned_certificate_is_not_used_from_elsewhere(short_tmp: Path) -> None:
    async def body(kit: Kit, ask: Ask, node: str) -> None:
        pinned = alice(kit, source_addr="203.0.113.7")
        await refused(ask, asking(node, proof(pinned), "203.0.113.8:1000"))
        await ask(asking(node, proof(pinned), "203.0.113.7:1000"))

    with_proxy(short_tmp, body)


def test_a14_the_decision_is_made_anew_with_roles_and_locks_of_this_moment(short_tmp: Path) -> None:
    async def body(kit: Kit, ask: Ask, node: str) -> None:
        await refused(ask, asking(await server(kit, "other.example.com", env="prod"), proof(alice(kit))))
        await refused(ask, asking(str(uuid.uuid4()), proof(alice(kit))))
        await ask(asking(node, proof(alice(kit))))
        lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="alice")))
        await kit.admin.call(PutResource(resource=lock))
        with pytest.raises(AccessError):
            await ask(asking(node, proof(alice(kit))))

    with_proxy(short_tmp, body)


def test_a40_host_certificates_are_for_servers_without_an_agent_alone(short_tmp: Path) -> None:
    async def body(kit: Kit, ask: Ask, node: str) -> None:
        agent = await kit.join(SystemRole.NODE)
        beat = Heartbeat(server=Node(metadata=Metadata(name=agent.id), spec=ServerSpec(hostname="agent")))
        await kit.as_host(agent).call(beat)
        line = new_ssh_key().public_line
        await refused(ask, IssueOpensshHostCert(node=agent.id, ssh_public_key=line))
        issued = await ask(IssueOpensshHostCert(node=node, ssh_public_key=line))
        facts = unverified_facts(line_to_blob(issued.ssh_cert))
        cluster = kit.service.cluster_name
        names = {node, f"{node}.{cluster}", "box9.example.com", f"box9.example.com.{cluster}"}
        assert set(facts.principals) == names
        named = described(cluster, env="lab")
        await kit.admin.call(PutResource(resource=named))
        await refused(ask, IssueOpensshHostCert(node=named.name, ssh_public_key=line), InputError)

    with_proxy(short_tmp, body)


def test_a39_a_host_makes_itself_known_as_itself_and_no_more(short_tmp: Path) -> None:
    async def body(kit: Kit, ask: Ask, node: str) -> None:
        host = await kit.join(SystemRole.NODE)
        call = kit.as_host(host).call
        known = PutOpensshServer(hostname="box9.example.com", addr="10.0.0.9:22", labels={"env": "lab"})
        await call(known)
        # It names itself like the server above: it must prove its own id, the other one its name.
        assert (await ask(asking(host.id, proof(alice(kit))))).server_names == [host.id]
        assert (await ask(asking(node, proof(alice(kit))))).server_names == ["box9.example.com", node]
        stored = [r for r in kit.service.store.all("node") if r.name == host.id]
        assert len(stored) == 1 and stored[0].sub_kind == "openssh"
        assert stored[0].metadata.expires is not None
        for change in (
            {"hostname": kit.service.cluster_name},
            {"hostname": node},
            {"hostname": "proxy.teleport.cluster.local"},
            {"hostname": "a b"},
            {"addr": ""},
            {"addr": "10.0.0.9"},
            {"labels": {f"l{n}": "x" for n in range(2000)}},
            {"labels": {"l": "x" * 100_000}},
        ):
            await refused(call, msgspec.structs.replace(known, **change), InputError)
        beat = Heartbeat(server=Node(metadata=Metadata(name=host.id), spec=ServerSpec(hostname="agent")))
        await refused(call, beat)
        agent = await kit.join(SystemRole.NODE)
        beat = Heartbeat(server=Node(metadata=Metadata(name=agent.id), spec=ServerSpec(hostname="agent")))
        await kit.as_host(agent).call(beat)
        await refused(kit.as_host(agent).call, known, AlreadyExistsError)
        for caller in (kit.nobody(), kit.admin, kit.as_host(await kit.join(SystemRole.PROXY))):
            await refused(caller.call, known)

    with_proxy(short_tmp, body)


def test_a39_no_agent_takes_the_place_of_a_server_without_one(short_tmp: Path) -> None:
    async def body(kit: Kit, ask: Ask, node: str) -> None:
        agent = await kit.join(SystemRole.NODE)
        beat = Heartbeat(server=Node(metadata=Metadata(name=agent.id), spec=ServerSpec(hostname="agent")))
        await kit.as_host(agent).call(beat)
        taken = msgspec.structs.replace(described(env="lab"), metadata=Metadata(name=agent.id))
        await refused(kit.admin.call, PutResource(resource=taken), InputError)
        plain = Node(metadata=Metadata(name=node), spec=ServerSpec(hostname="box9"))
        await refused(kit.admin.call, PutResource(resource=plain), InputError)
        with pytest.raises(AccessError):
            await kit.join(SystemRole.NODE, kit.nobody(), host_id=node)

    with_proxy(short_tmp, body)
