"""Every call of the Auth Service against every kind of caller: who is admitted, and that nobody else is.

A call without a row here fails the test. A caller is admitted when the call succeeds; whoever is not must be
refused with a denial (or, where the row says so, be answered as if the thing did not exist).
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pkgs.auth import limits
from pkgs.auth.headless import calls
from pkgs.auth.headless.waiting import Waiting
from pkgs.common.api import (
    access,
    accesslists,
    audit,
    bots,
    databases,
    encryption,
    headless,
    join,
    login,
    openssh,
    recordings,
    requests,
    resources,
    semaphores,
    sessions,
    system,
)
from pkgs.common.errors import AccessError
from pkgs.common.events import codes
from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.keys import new_ssh_key
from pkgs.common.pki.sshcert import line_to_blob, sign_user_cert
from pkgs.common.resources.kinds import (
    Bot,
    DatabaseService,
    Lock,
    LockSpec,
    LockTarget,
    Node,
    Proxy,
    RecordingConfig,
    RecordingSpec,
    ServerSpec,
    Token,
    TokenSpec,
    User,
    UserSpec,
)
from pkgs.common.resources.kinds.machines import BotSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions
from pkgs.common.rpc.calls import StreamRequest, UploadRequest
from tests.integration.auth_kit import PASSWORD, TOKEN, auth, chunks, event, new_keys, role, run
from tests.integration.databases_kit import database_server
from tests.integration.lists_kit import access_list, member
from tests.security.callers_kit import CLUSTER, HOSTS, Peer, World, world
from tests.security.openssh_kit import asking as asking_for
from tests.security.openssh_kit import certificate, proof
from tests.security.openssh_kit import server as openssh_server

LOCKED_OUT = frozenset({"locked", "gone", "for a database"})
"""The last holds a certificate that is good for that database, and so for no call (attacks A22, A34)."""
PEOPLE = frozenset({"plain", "restricted", "impersonated", "boss"})
MACHINES = frozenset({"bot", "bot's output"})
USERS = PEOPLE | MACHINES
HOST = frozenset(HOSTS.values())
CACHING = HOST - {HOSTS[SystemRole.BOT], HOSTS[SystemRole.MDM]}
NODE, PROXY = HOSTS[SystemRole.NODE], HOSTS[SystemRole.PROXY]
DB = HOSTS[SystemRole.DB]
ADMIN, NOBODY = frozenset({"admin"}), frozenset({"nobody"})
EVERY_KIND = USERS | HOST | ADMIN | NOBODY | LOCKED_OUT
BY_RULE = frozenset({"impersonated", "boss", "bot's output", "admin"})
"""Whoever has the rules in an unrestricted certificate."""
SELF = frozenset({"boss", "admin"})
"""Whoever has them and is here in person."""
IN_PERSON = PEOPLE - {"impersonated", "restricted"}
"""Users with a whole login of their own."""
PROVING = NOBODY | {PROXY} | USERS | ADMIN

REFUSALS = frozenset({"denied", "locked", "untrusted"})
HIDING = frozenset({"not-found"})

Made = Callable[[World, Peer], Awaitable[Any]]


class Row(NamedTuple):
    call: str
    make: Made
    admitted: frozenset[str]
    hidden: bool = False
    """Whether a refusal is the answer for a thing that does not exist."""

    @property
    def refusals(self) -> frozenset[str]:
        return REFUSALS | HIDING if self.hidden else REFUSALS


def fixed(request: Any) -> Made:
    async def make(_: World, __: Peer) -> Any:
        return request

    return make


def each(made: Callable[[World, Peer], Any]) -> Made:
    async def make(w: World, peer: Peer) -> Any:
        return made(w, peer)

    return make


def row(request: Any, admitted: frozenset[str], *, hidden: bool = False) -> Row:
    """The same request for all."""
    return Row(type(request).__name__, fixed(request), admitted, hidden)


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


def leasing(w: World, _: Peer) -> Any:
    """With the certificate of somebody who may log in."""
    now = w.kit.clock.now()
    spec = UserCertSpec(
        user="noor",
        cluster=CLUSTER,
        roles=("access",),
        logins=("root",),
        valid_after=now - 60,
        valid_before=now + 3600,
    )
    line = sign_user_cert(w.kit.service.authorities.user_ssh, spec, new_keys()["ssh_public_key"])
    return semaphores.AcquireLease(
        lease_id=str(uuid.uuid4()), certificate=line_to_blob(line), login="root", client_addr="127.0.0.1"
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


def announcing(w: World, peer: Peer) -> databases.AnnounceDatabases:
    return databases.AnnounceDatabases(
        service=DatabaseService(metadata=named(peer.name or str(uuid.uuid4())))
    )


async def database_cert(w: World, peer: Peer) -> Any:
    """For a database that this very host has announced."""
    await w.kit.service.store.put(database_server("orders", peer.name or str(uuid.uuid4())))
    return databases.SignDatabaseCert(
        database="orders", user="alice", public_key=new_keys()["tls_public_key"]
    )


def rehearsal(resource: Any, admitted: frozenset[str]) -> Row:
    return row(resources.PutResource(resource=resource, dry_run=True), admitted)


def named(name: str) -> Metadata:
    return Metadata(name=name)


USER_CA = {"kind": "cert_authority", "name": CLUSTER, "sub_kind": "user"}
SOMEBODY = access.Somebody(user="noor")
ROWS: list[Row] = [
    row(system.Ping(), EVERY_KIND - LOCKED_OUT),
    row(system.GetHostCa(), EVERY_KIND - LOCKED_OUT),
    row(system.GetClusterStatus(), USERS | HOST | ADMIN),
    row(system.GetTrustAnchors(), USERS | HOST | ADMIN),
    Row("Login", login_of, PROVING),
    Row("StartHeadless", each(starting), PROVING),
    Row("GetHeadless", each(own_headless), IN_PERSON),
    Row(
        "DecideHeadless",
        each(lambda w, p: headless.DecideHeadless(headless_id=own_headless(w, p).headless_id, approve=False)),
        IN_PERSON,
    ),
    Row("GetSignup", signup, PROVING),
    Row("FinishSignup", accepting, PROVING),
    Row("CreateUser", each(lambda w, p: login.CreateUser(name=w.fresh("made"), roles=["access"])), BY_RULE),
    row(login.ResetUser(name="noor"), BY_RULE),
    Row("ReissueUserCerts", each(lambda w, p: login.ReissueUserCerts(**new_keys())), PEOPLE),
    Row("SignUserCerts", each(lambda w, p: login.SignUserCerts(user="noor", **new_keys())), SELF),
    Row(
        "SignHostCert",
        each(
            lambda w, p: login.SignHostCert(
                principals=["svc.example"], ssh_public_key=new_keys()["ssh_public_key"]
            )
        ),
        BY_RULE,
    ),
    Row(
        "Join",
        each(
            lambda w, p: join.Join(
                token=TOKEN, role=SystemRole.NODE, host_id=str(uuid.uuid4()), node_name="n", **new_keys()
            )
        ),
        NOBODY | HOST | ADMIN,
    ),
    Row(
        "RenewHostCerts",
        each(lambda w, p: join.RenewHostCerts(node_name="node-1", **new_keys())),
        HOST - {HOSTS[SystemRole.BOT]},
    ),
    Row("Heartbeat", each(heartbeat), frozenset({NODE, PROXY})),
    row(resources.GetResource(kind="role", name="editor"), BY_RULE | CACHING | {"restricted"}),
    row(resources.GetResource(kind="user", name="noor"), BY_RULE),
    row(resources.GetResource(kind="user", name="boss"), BY_RULE | {"restricted"}),
    row(resources.GetResource(kind="token", name=TOKEN), BY_RULE),
    row(
        resources.GetResource(**USER_CA),
        USERS | HOST | ADMIN,
    ),
    row(
        resources.GetResource(
            kind="cert_authority", name="alpha.example", sub_kind="user", with_secrets=True
        ),
        ADMIN,
    ),
    row(resources.GetResource(kind="access_list", name="team"), BY_RULE),
    row(resources.GetResource(kind="bot", name="ci"), BY_RULE),
    row(resources.ListResources(kind="token"), BY_RULE),
    row(resources.ListResources(kind="user"), BY_RULE),
    row(resources.ListResources(kind="lock"), BY_RULE | CACHING),
    row(resources.ListResources(kind="node"), USERS | {PROXY} | ADMIN),
    row(resources.ListResources(kind="access_request"), BY_RULE),
    row(resources.ListResources(kind="access_list_member"), BY_RULE),
    row(resources.ListResources(kind="bot_instance"), BY_RULE),
    rehearsal(role("made", Conditions()), BY_RULE),
    rehearsal(User(metadata=named("made"), spec=UserSpec(roles=["access"])), BY_RULE),
    rehearsal(Lock(metadata=named("made"), spec=LockSpec(target=LockTarget(user="noor"))), BY_RULE),
    rehearsal(Token(metadata=named("made"), spec=TokenSpec(roles=["Node"])), BY_RULE),
    rehearsal(Token(metadata=named("made"), spec=TokenSpec(roles=["Bot"], bot_name="ci")), BY_RULE),
    rehearsal(Bot(metadata=named("made"), spec=BotSpec(roles=["deploy"])), BY_RULE),
    rehearsal(access_list("made", "deploy", owners=("lena",)), BY_RULE),
    rehearsal(member("team", "noor"), BY_RULE),
    row(resources.DeleteResource(kind="user", name="noor", dry_run=True), BY_RULE),
    row(resources.DeleteResource(kind="lock", name="l", dry_run=True), BY_RULE),
    row(resources.DeleteResource(kind="bot", name="ci", dry_run=True), BY_RULE),
    row(resources.DeleteResource(kind="access_list", name="team", dry_run=True), BY_RULE),
    row(resources.CreateToken(roles=["node"]), BY_RULE),
    row(resources.WatchResources(kinds=["role"]), CACHING | ADMIN),
    row(resources.WatchResources(kinds=["access_request"]), ADMIN),
    row(resources.WatchResources(kinds=["static_host_user"]), frozenset({NODE}) | ADMIN),
    row(access.ExplainAccess(who=SOMEBODY, words=["resource", "role", "read"]), BY_RULE),
    row(access.WhoCan(words=["ssh", "root@db1"]), BY_RULE),
    row(access.WhatCan(who=SOMEBODY), BY_RULE),
    Row("CreateBot", each(lambda w, p: bots.CreateBot(name=w.fresh("made"), roles=["deploy"])), BY_RULE),
    row(bots.AddBotInstance(bot="ci"), BY_RULE),
    Row("JoinBot", joining_bot, NOBODY | {PROXY} | ADMIN),
    Row(
        "ImpersonateRoles",
        each(lambda w, p: bots.ImpersonateRoles(roles=["deploy"], **new_keys())),
        SELF - ADMIN,
    ),
    row(bots.BotHeartbeat(), frozenset({"bot"})),
    row(accesslists.ListAccessLists(), BY_RULE),
    row(accesslists.GetAccessList(name="team"), BY_RULE),
    row(accesslists.SummarizeLists(), BY_RULE),
    row(accesslists.SummarizeLists(name="team"), BY_RULE),
    row(accesslists.ListMembers(access_list="team"), BY_RULE),
    Row("AddMember", letting_in, BY_RULE),
    Row("RemoveMember", letting_go, BY_RULE),
    row(accesslists.ReviewList(access_list="team"), BY_RULE),
    row(accesslists.ListReviews(access_list="team"), BY_RULE),
    row(accesslists.ExplainLists(user="noor"), BY_RULE),
    Row("CreateAccessRequest", each(asking), SELF),
    Row("GetAccessRequest", seeing, BY_RULE, hidden=True),
    row(requests.ListAccessRequests(), USERS | ADMIN),
    Row("ReviewAccessRequest", reviewing, SELF, hidden=True),
    Row("SetAccessRequestState", deciding, BY_RULE),
    Row("DeleteAccessRequest", deleting, BY_RULE),
    row(requests.SearchRequestable(kind="node"), frozenset({"plain", "boss"})),
    row(requests.GetRequestCapabilities(user="noor"), BY_RULE),
    Row("IssueOpensshUserCert", logging_in, frozenset({PROXY})),
    Row("IssueRelayCert", passing_on, frozenset({PROXY})),
    Row("IssueOpensshHostCert", standing_for, frozenset({PROXY})),
    Row("PutOpensshServer", without_agent, frozenset({NODE})),
    Row("AcquireLease", each(leasing), frozenset({NODE})),
    Row("AnnounceDatabases", each(announcing), frozenset({DB})),
    Row("SignDatabaseCert", database_cert, frozenset({DB})),
    Row(
        "SignDatabaseServerCert",
        each(
            lambda w, p: databases.SignDatabaseServerCert(
                names=["db.example"], public_key=new_keys()["tls_public_key"], ttl_s=3600
            )
        ),
        SELF | {"bot's output", "impersonated"},
    ),
    row(semaphores.RenewLeases(leases=[]), frozenset({NODE})),
    row(semaphores.ReleaseLeases(leases=[]), frozenset({NODE})),
    Row(
        "EmitEvents",
        each(lambda w, p: audit.EmitEvents(events=[event(w.kit, codes.CLIENT_DISCONNECT, user="plain")])),
        HOST,
    ),
    row(audit.SearchEvents(), BY_RULE),
    row(audit.VerifyAudit(), BY_RULE),
    Row("UploadRecording", uploading, HOST),
    Row(
        "DownloadRecording",
        each(lambda w, p: recordings.DownloadRecording(session_id=w.recording)),
        BY_RULE | {"plain"},
        hidden=True,
    ),
    row(recordings.ListRecordings(), USERS | ADMIN),
    row(recordings.SearchRecordings(pattern="recorded"), USERS | ADMIN),
    row(recordings.PruneRecordings(ended_before=1.0), ADMIN),
    row(encryption.GetRecordingEncryption(), BY_RULE),
    Row("RotateRecordingKeys", rotating(False, encryption.RotateRecordingKeys()), BY_RULE),
    Row("RollBackRecordingRotation", rotating(True, encryption.RollBackRecordingRotation()), BY_RULE),
    Row("CompleteRecordingRotation", rotating(True, encryption.CompleteRecordingRotation()), BY_RULE),
    row(sessions.ReportSessions(sessions=[]), frozenset({NODE})),
    row(sessions.SessionOrders(), frozenset({NODE})),
    row(sessions.ListSessions(), USERS | ADMIN),
    Row("KillSession", killing, BY_RULE),
    Row("DetachSession", detaching, frozenset({"plain"}), hidden=True),
    Row("AskTransfer", asking_to_copy, frozenset({"plain"}), hidden=True),
    Row("ProvePresence", proving, frozenset({"plain"}), hidden=True),
    # Last: it makes an earlier certificate of the machine worthless.
    Row("RenewBotCerts", each(lambda w, p: bots.RenewBotCerts(**new_keys())), frozenset({"bot"})),
]


async def outcome(peer: Peer, request: Any) -> str:
    """`ok`, or the code of the error."""
    try:
        if isinstance(request, resources.WatchResources | sessions.SessionOrders):
            stream = peer.client.stream(request)
            await anext(stream)
            await stream.aclose()
        elif isinstance(request, StreamRequest):
            async for _ in peer.client.stream(request):
                pass
        elif isinstance(request, UploadRequest):
            await peer.client.upload(request, chunks(b"x"))
        else:
            await peer.client.call(request)
    except AccessError as error:
        return error.code
    return "ok"


def test_every_call_has_a_row(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            assert sorted({each.call for each in ROWS}) == kit.service.rpc.registry.names()

    run(main)


def test_each_call_is_for_those_it_is_for(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            monkeypatch.setattr(calls, "WAIT_S", 0.01)
            monkeypatch.setattr(limits, "HEADLESS_OF_SOURCE", 100)
            monkeypatch.setattr(limits, "HEADLESS_OF_USER", 100)
            # Many requests of one user, and of all callers one source.
            monkeypatch.setattr(limits, "PENDING_REQUESTS_PER_USER", limits.REQUESTS_PER_USER)
            w = await world(kit)
            assert {peer.kind for peer in w.peers} == EVERY_KIND
            wrong = []
            for number, case in enumerate(ROWS):
                for peer in w.peers:
                    found = await outcome(peer, await case.make(w, peer))
                    right = {"ok"} if peer.kind in case.admitted else case.refusals
                    if found not in right:
                        wrong.append(f"{number} {case.call} {peer.kind}: {found}")
            assert "\n".join(wrong) == ""

    run(main, 120)
