"""What a proxy that records may not get or do in its users' names (attack A40)."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pkgs.auth import limits
from pkgs.common.api.audit import EmitEvents
from pkgs.common.api.login import CreateUser
from pkgs.common.api.openssh import IssueOpensshHostCert, IssueRelayCert
from pkgs.common.api.resources import Heartbeat, PutResource
from pkgs.common.api.semaphores import AcquireLease
from pkgs.common.errors import AccessError, DeniedError, InputError, TrustError
from pkgs.common.events import codes
from pkgs.common.pki.certspec import spec_from_identity
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.keys import new_ssh_key
from pkgs.common.pki.signer import SshSigner
from pkgs.common.pki.sshcert import line_to_blob, unverified_facts, verify_user_cert
from pkgs.common.resources.kinds import (
    Lock,
    LockSpec,
    LockTarget,
    Node,
    RecordingConfig,
    RecordingSpec,
    ServerSpec,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions
from pkgs.common.ssh.client.connection import connect
from pkgs.common.ssh.client.hosts import Pinned
from tests.harness.sshd import Authority, Sshd
from tests.harness.wait import wait_for
from tests.integration.auth_kit import Host, Kit, auth, event, role, run
from tests.integration.ssh_kit import HOST_ID, SshNode
from tests.integration.together_kit import at_terminal, live, prepare
from tests.security.openssh_kit import asking, certificate, proof, server

Ask = Callable[[Any], Awaitable[Any]]


async def mode(kit: Kit, name: Any) -> None:
    config = RecordingConfig(
        metadata=Metadata(name="session-recording-config"), spec=RecordingSpec(mode=name)
    )
    await kit.admin.call(PutResource(resource=config, mode="upsert"))


async def agent(kit: Kit, **labels: str) -> Host:
    host = await kit.join(SystemRole.NODE)
    spec = ServerSpec(hostname="web1", public_addrs=["web1.example.com:3022"])
    node = Node(metadata=Metadata(name=host.id, labels=labels), spec=spec)
    await kit.as_host(host).call(Heartbeat(server=node))
    return host


def alice(kit: Kit, **fields: Any) -> Any:
    return certificate(kit, new_ssh_key(), "alice", **{"roles": ("lab",), **fields})


def relay(node: str, shown: Any) -> IssueRelayCert:
    request = asking(node, shown)
    return IssueRelayCert(
        node=node, proof=shown, client_addr=request.client_addr, ssh_public_key=request.ssh_public_key
    )


def with_proxy(folder: Path, body: Callable[[Kit, Ask, Host], Awaitable[None]]) -> None:
    """A cluster whose proxies record, with an agent that alice may log in to as root."""

    async def main() -> None:
        async with auth(folder) as kit:
            allow = Conditions(logins=["root"], node_labels={"env": "lab"})
            await kit.admin.call(PutResource(resource=role("lab", allow)))
            await kit.admin.call(CreateUser(name="alice", roles=["lab"]))
            await mode(kit, "proxy-sync")
            proxy = kit.as_host(await kit.join(SystemRole.PROXY))
            await body(kit, proxy.call, await agent(kit, env="lab"))

    run(main)


async def refused(ask: Ask, request: Any, kind: type[AccessError] = DeniedError) -> None:
    with pytest.raises(kind):
        await ask(request)


def test_a40_a_relayed_certificate_opens_one_login_on_one_agent_and_nothing_else(short_tmp: Path) -> None:
    async def body(kit: Kit, ask: Ask, host: Host) -> None:
        trust, now = kit.service.authorities.trust, kit.clock.now()
        key = alice(kit, logins=("root", "deploy"), extensions=("permit-pty",), source_addr="203.0.113.7")
        issued = await ask(relay(host.id, proof(key)))
        assert issued.server_names == [host.id]
        blob = line_to_blob(issued.ssh_cert)
        facts = unverified_facts(blob)
        assert facts.principals == ("root",) and facts.key_id == "alice"
        assert now < facts.valid_before <= now + limits.OPENSSH_CERT_TTL_S

        def taken(where: str, source: str = "203.0.113.7", login: str | None = "root") -> Any:
            return verify_user_cert(
                blob, trust=trust, login=login, source_addr=source, now=now, relayed_to=where
            )

        identity = taken(host.id)
        assert identity.relayed_by and identity.roles == ("lab",)
        assert set(identity.extensions) == {"permit-pty"}
        # What goes on ends with the certificate of the user, not with this one.
        assert identity.previous_expires_at == pytest.approx(now + 3600, abs=60)
        for where in ("", str(uuid.uuid4())):  # a proxy, the Auth Service, another agent
            with pytest.raises(TrustError):
                taken(where)
        with pytest.raises(DeniedError):
            taken(host.id, source="203.0.113.8")
        with pytest.raises(DeniedError):
            taken(host.id, login="deploy")
        with pytest.raises(InputError):
            spec_from_identity(identity, valid_after=now)
        # Nor does it prove a login, to get another one.
        again = msgspec.structs.replace(proof(key), certificate=blob)
        await refused(ask, relay(host.id, again), TrustError)
        lease = AcquireLease(
            lease_id=str(uuid.uuid4()), certificate=blob, login="root", client_addr="203.0.113.7"
        )
        assert (await kit.as_host(host).call(lease)).granted
        await refused(kit.as_host(await agent(kit)).call, lease, TrustError)

    with_proxy(short_tmp, body)


def test_a40_it_takes_a_login_that_is_proven_now_once_and_may_be(short_tmp: Path) -> None:
    async def body(kit: Kit, ask: Ask, host: Host) -> None:
        good = proof(alice(kit))
        await refused(ask, relay(host.id, msgspec.structs.replace(good, signature=b"")), TrustError)
        await ask(relay(host.id, good))
        await refused(ask, relay(host.id, good))
        await refused(ask, relay((await agent(kit, env="prod")).id, proof(alice(kit))))
        await refused(ask, relay(str(uuid.uuid4()), proof(alice(kit))))
        lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="alice")))
        await kit.admin.call(PutResource(resource=lock))
        await refused(ask, relay(host.id, proof(alice(kit))))

    with_proxy(short_tmp, body)


def test_a40_proxies_get_nothing_for_agents_unless_they_record(short_tmp: Path) -> None:
    async def body(kit: Kit, ask: Ask, host: Host) -> None:
        line = new_ssh_key().public_line
        issued = await ask(IssueOpensshHostCert(node=host.id, ssh_public_key=line))
        names = unverified_facts(line_to_blob(issued.ssh_cert)).principals
        cluster = kit.service.cluster_name
        assert set(names) == {
            host.id, f"{host.id}.{cluster}", "web1", f"web1.{cluster}", "web1.example.com"
        }  # fmt: skip
        await refused(ask, relay(await server(kit, env="lab"), proof(alice(kit))))
        await refused(ask, asking(host.id, proof(alice(kit))))  # which other servers would take
        for name in ("node", "node-sync", "off"):
            await mode(kit, name)
            await refused(ask, relay(host.id, proof(alice(kit))))
            await refused(ask, IssueOpensshHostCert(node=host.id, ssh_public_key=line))

    with_proxy(short_tmp, body)


def test_a39_an_agent_tells_of_the_session_that_is_passed_on_to_it_and_of_no_other(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            proxy = await kit.join(SystemRole.PROXY)
            host, other = [await kit.join(SystemRole.NODE) for _ in range(2)]
            sid, mine = str(uuid.uuid4()), str(uuid.uuid4())

            async def tells(who: Host, kind: codes.Kind, session: str, **fields: str) -> None:
                told = event(kit, kind, sid=session, user="alice", **fields)
                await kit.as_host(who).call(EmitEvents(events=[told]))

            await tells(proxy, codes.SESSION_START, sid, relayed_to=host.id)
            await tells(proxy, codes.SESSION_START, mine)
            await tells(host, codes.sftp_kind("open", ok=True)[0], sid)
            await tells(host, codes.SESSION_JOIN, sid)
            for who, kind, session in (
                (other, codes.SESSION_JOIN, sid),
                (host, codes.SESSION_JOIN, mine),
                (host, codes.SESSION_END, sid),
                (host, codes.SESSION_DATA, sid),
                (host, codes.SESSION_START, sid),
            ):
                with pytest.raises(InputError):
                    await tells(who, kind, session, relayed_to=who.id)

    run(main)


PROXY_ID = "99999999-8888-4777-8666-555555555555"
RECORDED_AS = "4f6e2a10-9b1c-4c53-8a51-0d8a1f1f2b77"


@pytest.mark.needs("ssh")
def test_a40_an_agent_believes_a_certificate_and_not_a_word_that_a_proxy_records(tmp_path: Path) -> None:
    named = ("-o", f"SetEnv=TELEPORT_SESSION_RECORDED_AS={RECORDED_AS}")
    command = ("echo $SSH_SESSION_ID",)
    with SshNode(tmp_path) as node:
        relayed = node.user(relayed_to=HOST_ID, relayed_by=PROXY_ID)
        own = node.user()

        def told(kind: str) -> int:
            return len(node.events.named(kind))

        node.record("proxy")
        assert relayed.ssh(*named, *command).stdout.decode().strip() == RECORDED_AS
        assert relayed.ssh(*named, "-tt", *command).stdout.decode().strip() == RECORDED_AS
        assert told("session.start") == told("session.end") == told("exec") == 0
        # What is not the certificate's word, or not the mode's, changes nothing; nor does no id.
        cases = (
            ("proxy", own, named),
            ("proxy", relayed, ()),
            ("node", relayed, named),
            ("node-sync", relayed, named),
        )
        for expected, (mode_now, user, flags) in enumerate(cases, 1):
            node.record(mode_now)
            done = user.ssh(*flags, *command)
            sid = done.stdout.decode().strip()
            assert sid and sid != RECORDED_AS
            wait_for(lambda: told("session.end") == expected, what="the end")  # noqa: B023
            assert node.events.named("session.start")[-1].fields["sid"] == sid
            wait_for(lambda: sid in node.uploads.finished, what="its recording")  # noqa: B023
        node.record("proxy")
        assert relayed.ssh("-o", "SetEnv=TELEPORT_SESSION_RECORDED_AS=../x", *command).stdout == b""

        # An id in use: nobody but such a proxy is told so.
        with at_terminal(own, "cat"):
            used = ("-o", f"SetEnv=TELEPORT_SESSION_RECORDED_AS={live(node, 'alice')}")
            for flags in (used, (*used, "-tt")):
                assert own.ssh(*flags, *command).stdout.strip()
                assert relayed.ssh(*flags, *command).stdout == b""

        elsewhere = node.user(relayed_to=PROXY_ID, relayed_by=PROXY_ID)
        assert elsewhere.ssh(*named, *command).stdout == b""


@pytest.mark.needs("ssh")
def test_a40_a_session_that_a_proxy_records_does_not_go_on_without_it(tmp_path: Path) -> None:
    """Left behind, it would run on where nobody records it, and its owner could come back to it."""
    with SshNode(tmp_path) as node:
        prepare(node)
        node.record("proxy")
        relayed = node.user(relayed_to=HOST_ID, relayed_by=PROXY_ID)
        with at_terminal(relayed, "echo here; cat", TELEPORT_SESSION_RECORDED_AS=RECORDED_AS) as terminal:
            terminal.expect("here")
            session = node.table.find(live(node, "alice"))
            node.run(session.detach("alice"))
            terminal.expect("recorded by the proxy")
            assert not session.detached
            terminal.type("still")
            terminal.expect("still")
        wait_for(lambda: not node.call(node.table.all), what="the session to be over")


@pytest.mark.needs("ssh")
def test_a40_a_locked_proxy_passes_nobody_on(tmp_path: Path) -> None:
    """Not with the certificates that it still holds, and what it passes on already ends (attack A14)."""
    with SshNode(tmp_path) as node:
        prepare(node)
        node.record("proxy")
        relayed, own = node.user(relayed_to=HOST_ID, relayed_by=PROXY_ID), node.user()
        with at_terminal(relayed, "echo here; cat", TELEPORT_SESSION_RECORDED_AS=RECORDED_AS) as terminal:
            terminal.expect("here")
            node.lock(server_id=PROXY_ID)
            assert terminal.end() != 0
        assert relayed.ssh("echo in").stdout == b""
        assert own.ssh("echo in").stdout == b"in\n"


@pytest.mark.needs("ssh", "sshd")
def test_a40_openssh_takes_no_relayed_certificate(tmp_path: Path) -> None:
    users = Authority()
    with Sshd(tmp_path, users.line) as sshd:
        host = Pinned(host_line(sshd))
        connect(sshd.dial(), "root", users.user(), host).close()
        with pytest.raises(AccessError):
            connect(sshd.dial(), "root", users.user(relayed_to=HOST_ID, relayed_by=PROXY_ID), host)


def host_line(sshd: Sshd) -> str:
    """Of the key that the server has."""
    signer = SshSigner.load((sshd.folder / "host_key").read_bytes())
    return signer.public_line
