"""What callers of every kind ask of the Auth Service: each request is made anew, so that it could succeed."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from pkgs.auth.headless.waiting import Waiting
from pkgs.common.api import (
    accesslists,
    audit,
    bots,
    databases,
    encryption,
    headless,
    login,
    openssh,
    recordings,
    requests,
    resources,
    semaphores,
    sessions,
)
from pkgs.common.events import codes
from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.pki.identity import RouteToDatabase
from pkgs.common.pki.keys import new_ssh_key
from pkgs.common.pki.sshcert import line_to_blob, sign_user_cert
from pkgs.common.pki.x509 import sign_user_tls
from pkgs.common.resources.kinds import (
    DatabaseService,
    Node,
    Proxy,
    RecordingConfig,
    RecordingSpec,
    ServerSpec,
)
from pkgs.common.resources.metadata import Metadata
from tests.integration.auth_kit import PASSWORD, event, new_keys
from tests.integration.databases_kit import database_server
from tests.security.callers_kit import CLUSTER, NODE, Peer, World
from tests.security.openssh_kit import asking as asking_for
from tests.security.openssh_kit import certificate, proof
from tests.security.openssh_kit import server as openssh_server

Made = Callable[[World, Peer], Awaitable[Any]]


def named(name: str) -> Metadata:
    return Metadata(name=name)


async def login_of(w: World, _: Peer) -> Any:
    assert w.plain is not None
    return login.Login(user="plain", password=PASSWORD, otp=w.plain.code(w.kit.clock), **new_keys())


async def signup(w: World, _: Peer) -> Any:
    return login.GetSignup(token=await w.invitation())


async def accepting(w: World, peer: Peer) -> Any:
    token = await w.invitation()
    form = await w.admin.call(login.GetSignup(token=token))
    code = w.code_for(form.otp_secret)
    return login.FinishSignup(token=token, password=PASSWORD, otp=code)


async def joining_bot(w: World, _: Peer) -> Any:
    return bots.JoinBot(token=await w.bot_token(), **new_keys())


async def letting_in(w: World, _: Peer) -> Any:
    return accesslists.AddMember(access_list="team", name=await w.user())


async def letting_go(w: World, _: Peer) -> Any:
    return accesslists.RemoveMember(access_list="team", name=await w.member())


async def seeing(w: World, _: Peer) -> Any:
    return requests.GetAccessRequest(id=await w.request())


async def reviewing(w: World, peer: Peer) -> Any:
    author = "lena" if peer.kind == "admin" else ""
    return requests.ReviewAccessRequest(id=await w.request(), proposed_state="APPROVED", author=author)


async def deciding(w: World, _: Peer) -> Any:
    return requests.SetAccessRequestState(id=await w.request(), state="APPROVED")


def own_headless(w: World, peer: Peer) -> headless.GetHeadless:
    """A headless login that waits for this peer."""
    key = new_keys()["ssh_public_key"]
    waiting = Waiting(headless.headless_id(key), peer.name, key, "", "", w.kit.clock.now())
    w.kit.service.handlers.headless._waiting._all[waiting.id] = waiting
    return headless.GetHeadless(headless_id=waiting.id)


def starting(_: World, __: Peer) -> Any:
    keys = new_keys()
    return headless.StartHeadless(
        user="noor", headless_id=headless.headless_id(keys["ssh_public_key"]), **keys
    )


async def deleting(w: World, _: Peer) -> Any:
    return requests.DeleteAccessRequest(id=await w.request())


def heartbeat(_: World, peer: Peer) -> Any:
    kind = Node if peer.kind == NODE else Proxy
    name = peer.name if peer.is_host else str(uuid.uuid4())
    return resources.Heartbeat(server=kind(metadata=Metadata(name=name), spec=ServerSpec(hostname="h")))


async def uploading(w: World, peer: Peer) -> Any:
    """Of a session of its own."""
    sid = str(uuid.uuid4())
    if peer.is_host:
        start = event(w.kit, codes.SESSION_START, sid=sid, user="plain", login="root")
        await peer.client.call(audit.EmitEvents(events=[start]))
    return recordings.UploadRecording(session_id=sid)


def asking(_: World, peer: Peer) -> Any:
    return requests.CreateAccessRequest(
        user="asker" if peer.kind == "admin" else "", roles=["dba"], reason="x", dry_run=True
    )


def tracked(sid: str) -> sessions.SessionTracker:
    return sessions.SessionTracker(
        session_id=sid,
        state="running",
        created=1.0,
        host_user="plain",
        owner_cluster=CLUSTER,
        host_roles=["nothing"],
        login="root",
        cluster_name=CLUSTER,
        target_hostname="node-1",
    )


def rotating(wanted: bool, request: Any) -> Made:
    """`request` while a rotation of the recordings' keys goes on, or while none does."""

    async def make(w: World, _: Peer) -> Any:
        if (await w.kit.admin.call(encryption.GetRecordingEncryption())).rotating != wanted:
            step = encryption.RotateRecordingKeys if wanted else encryption.RollBackRecordingRotation
            await w.kit.admin.call(step())
        return request

    return make


async def rotated(w: World, _: Peer) -> Any:
    """To drop a key that was rotated out."""
    state = await w.kit.admin.call(encryption.GetRecordingEncryption())
    if all(key.state != "rotated" for key in state.keys):
        if not state.rotating:
            await w.kit.admin.call(encryption.RotateRecordingKeys())
        state = await w.kit.admin.call(encryption.CompleteRecordingRotation())
    old = next(key for key in state.keys if key.state == "rotated")
    return encryption.ForgetRecordingKey(public_key=old.public_key)


async def killing(w: World, _: Peer) -> Any:
    """A session on an agent that listens for orders."""
    node = next(peer for peer in w.peers if peer.kind == NODE)
    sid = str(uuid.uuid4())
    await node.client.call(sessions.ReportSessions(sessions=[tracked(sid)]))
    if w.orders is None:
        w.orders = node.client.stream(sessions.SessionOrders())
        await anext(w.orders)
    return sessions.KillSession(session_id=sid, reason="x")


async def detaching(w: World, peer: Peer) -> Any:
    """The session of `plain`."""
    killed = await killing(w, peer)
    return sessions.DetachSession(session_id=killed.session_id)


async def asking_to_copy(w: World, peer: Peer) -> Any:
    killed = await killing(w, peer)
    return sessions.AskTransfer(session_id=killed.session_id)


async def proving(w: World, peer: Peer) -> Any:
    """Of the session of `plain`, with a code of theirs."""
    assert w.plain is not None
    killed = await killing(w, peer)
    return sessions.ProvePresence(session_id=killed.session_id, otp=w.plain.code(w.kit.clock))


def _noor(w: World, **fields: Any) -> UserCertSpec:
    """Of somebody who may log in."""
    now = w.kit.clock.now()
    return UserCertSpec(
        user="noor",
        cluster=CLUSTER,
        roles=("access",),
        logins=("root",),
        valid_after=now - 60,
        valid_before=now + 3600,
        **fields,
    )


def leasing(w: World, _: Peer) -> Any:
    line = sign_user_cert(w.kit.service.authorities.user_ssh, _noor(w), new_keys()["ssh_public_key"])
    return semaphores.AcquireLease(
        lease_id=str(uuid.uuid4()), certificate=line_to_blob(line), login="root", client_addr="127.0.0.1"
    )


async def leasing_database(w: World, peer: Peer) -> Any:
    """For a database that this very host has announced."""
    await w.kit.service.store.put(database_server("orders", peer.name or str(uuid.uuid4())))
    route = RouteToDatabase(service="orders", protocol="postgres")
    spec, key = _noor(w, route_to_database=route), new_keys()["tls_public_key"]
    pem = sign_user_tls(w.kit.service.authorities.user_tls, spec, key)
    return semaphores.AcquireDatabaseLease(
        lease_id=str(uuid.uuid4()), certificate=ssl.PEM_cert_to_DER_cert(pem), client_addr="127.0.0.1"
    )


async def logging_in(w: World, _: Peer) -> Any:
    """Somebody who is there, and may."""
    key = certificate(w.kit, new_ssh_key(), "noor", traits={"logins": ("root",)})
    return asking_for(await openssh_server(w.kit), proof(key), "127.0.0.1:1")


async def passing_on(w: World, _: Peer) -> Any:
    """Somebody who is there, on their way to an agent, while proxies record."""
    spec = RecordingSpec(mode="proxy")
    config = RecordingConfig(metadata=named("session-recording-config"), spec=spec)
    await w.admin.call(resources.PutResource(resource=config, mode="upsert"))
    agent = Node(metadata=named(str(uuid.uuid4())), spec=ServerSpec(hostname="agent"))
    await w.kit.service.store.put(agent)
    key = certificate(w.kit, new_ssh_key(), "noor", traits={"logins": ("root",)})
    asked = asking_for(agent.name, proof(key), "127.0.0.1:1")
    return openssh.IssueRelayCert(**{f: getattr(asked, f) for f in asked.__struct_fields__})


async def standing_for(w: World, _: Peer) -> Any:
    return openssh.IssueOpensshHostCert(
        node=await openssh_server(w.kit), ssh_public_key=new_keys()["ssh_public_key"]
    )


async def without_agent(w: World, peer: Peer) -> Any:
    """From a host whose agent, if it had one, has gone."""
    store = w.kit.service.store
    if (agent := store.get("node", peer.name)) is not None:
        await store.remove(agent)
    return openssh.PutOpensshServer(hostname="box9.example.com", addr="10.0.0.9:22")


def announcing(_: World, peer: Peer) -> databases.AnnounceDatabases:
    return databases.AnnounceDatabases(
        service=DatabaseService(metadata=named(peer.name or str(uuid.uuid4())))
    )


async def preparing_database(w: World, peer: Peer) -> Any:
    await w.kit.service.store.put(database_server("orders", str(uuid.uuid4())))
    route = RouteToDatabase(service="orders", protocol="postgres", user="alice")
    return databases.PrepareDatabaseSession(route=route)


async def database_cert(w: World, peer: Peer) -> Any:
    """For a database that this very host has announced."""
    await w.kit.service.store.put(database_server("orders", peer.name or str(uuid.uuid4())))
    return databases.SignDatabaseCert(
        database="orders", user="alice", public_key=new_keys()["tls_public_key"]
    )
