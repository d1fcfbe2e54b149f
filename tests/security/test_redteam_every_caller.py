"""Every call of the Auth Service against every kind of caller: who is admitted, and that nobody else is.

A call without a row here fails the test. A caller is admitted when the call succeeds; whoever is not must be
refused with a denial (or, where the row says so, be answered as if the thing did not exist).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pkgs.auth import limits
from pkgs.auth.headless import calls
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
    recordings,
    requests,
    resources,
    semaphores,
    sessions,
    system,
)
from pkgs.common.errors import AccessError
from pkgs.common.events import codes
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import (
    Bot,
    Lock,
    LockSpec,
    LockTarget,
    Token,
    TokenSpec,
    User,
    UserSpec,
)
from pkgs.common.resources.kinds.machines import BotSpec
from pkgs.common.resources.role import Conditions
from pkgs.common.rpc.calls import StreamRequest, UploadRequest
from tests.integration.auth_kit import TOKEN, auth, chunks, event, new_keys, role, run
from tests.integration.lists_kit import access_list, member
from tests.security import calls_kit as asked
from tests.security.callers_kit import CLUSTER, HOSTS, NODE, PROXY, Peer, World, world

LOCKED_OUT = frozenset({"locked", "gone", "for a database"})
"""The last holds a certificate that is good for that database, and so for no call (attacks A22, A34)."""
PEOPLE = frozenset({"plain", "restricted", "impersonated", "boss"})
MACHINES = frozenset({"bot", "bot's output"})
USERS = PEOPLE | MACHINES
HOST = frozenset(HOSTS.values())
DB = HOSTS[SystemRole.DB]
CACHING = HOST - {HOSTS[SystemRole.BOT], HOSTS[SystemRole.MDM]}
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


class Row(NamedTuple):
    call: str
    make: asked.Made
    admitted: frozenset[str]
    hidden: bool = False
    """Whether a refusal is the answer for a thing that does not exist."""

    @property
    def refusals(self) -> frozenset[str]:
        return REFUSALS | HIDING if self.hidden else REFUSALS


def fixed(request: Any) -> asked.Made:
    async def make(_: World, __: Peer) -> Any:
        return request

    return make


def each(made: Callable[[World, Peer], Any]) -> asked.Made:
    async def make(w: World, peer: Peer) -> Any:
        return made(w, peer)

    return make


def row(request: Any, admitted: frozenset[str], *, hidden: bool = False) -> Row:
    """The same request for all."""
    return Row(type(request).__name__, fixed(request), admitted, hidden)


def rehearsal(resource: Any, admitted: frozenset[str]) -> Row:
    return row(resources.PutResource(resource=resource, dry_run=True), admitted)


USER_CA = {"kind": "cert_authority", "name": CLUSTER, "sub_kind": "user"}
SOMEBODY = access.Somebody(user="noor")
ROWS: list[Row] = [
    row(system.Ping(), EVERY_KIND - LOCKED_OUT),
    row(system.GetHostCa(), EVERY_KIND - LOCKED_OUT),
    row(system.GetClusterStatus(), USERS | HOST | ADMIN),
    row(system.GetTrustAnchors(), USERS | HOST | ADMIN),
    Row("Login", asked.login_of, PROVING),
    Row("StartHeadless", each(asked.starting), PROVING),
    Row("GetHeadless", each(asked.own_headless), IN_PERSON),
    Row(
        "DecideHeadless",
        each(
            lambda w, p: headless.DecideHeadless(
                headless_id=asked.own_headless(w, p).headless_id, approve=False
            )
        ),
        IN_PERSON,
    ),
    Row("GetSignup", asked.signup, PROVING),
    Row("FinishSignup", asked.accepting, PROVING),
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
    Row("Heartbeat", each(asked.heartbeat), frozenset({NODE, PROXY})),
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
    rehearsal(User(metadata=asked.named("made"), spec=UserSpec(roles=["access"])), BY_RULE),
    rehearsal(Lock(metadata=asked.named("made"), spec=LockSpec(target=LockTarget(user="noor"))), BY_RULE),
    rehearsal(Token(metadata=asked.named("made"), spec=TokenSpec(roles=["Node"])), BY_RULE),
    rehearsal(Token(metadata=asked.named("made"), spec=TokenSpec(roles=["Bot"], bot_name="ci")), BY_RULE),
    rehearsal(Bot(metadata=asked.named("made"), spec=BotSpec(roles=["deploy"])), BY_RULE),
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
    Row("JoinBot", asked.joining_bot, NOBODY | {PROXY} | ADMIN),
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
    Row("AddMember", asked.letting_in, BY_RULE),
    Row("RemoveMember", asked.letting_go, BY_RULE),
    row(accesslists.ReviewList(access_list="team"), BY_RULE),
    row(accesslists.ListReviews(access_list="team"), BY_RULE),
    row(accesslists.ExplainLists(user="noor"), BY_RULE),
    Row("CreateAccessRequest", each(asked.asking), SELF),
    Row("GetAccessRequest", asked.seeing, BY_RULE, hidden=True),
    row(requests.ListAccessRequests(), USERS | ADMIN),
    Row("ReviewAccessRequest", asked.reviewing, SELF, hidden=True),
    Row("SetAccessRequestState", asked.deciding, BY_RULE),
    Row("DeleteAccessRequest", asked.deleting, BY_RULE),
    row(requests.SearchRequestable(kind="node"), frozenset({"plain", "boss"})),
    row(requests.GetRequestCapabilities(user="noor"), BY_RULE),
    Row("IssueOpensshUserCert", asked.logging_in, frozenset({PROXY})),
    Row("IssueRelayCert", asked.passing_on, frozenset({PROXY})),
    Row("IssueOpensshHostCert", asked.standing_for, frozenset({PROXY})),
    Row("PutOpensshServer", asked.without_agent, frozenset({NODE})),
    Row("AcquireLease", each(asked.leasing), frozenset({NODE})),
    Row("AnnounceDatabases", each(asked.announcing), frozenset({DB})),
    Row("PrepareDatabaseSession", asked.preparing_database, BY_RULE - ADMIN, hidden=True),
    Row("SignDatabaseCert", asked.database_cert, frozenset({DB})),
    Row(
        "SignDatabaseServerCert",
        each(
            lambda w, p: databases.SignDatabaseServerCert(
                names=["db.example"], public_key=new_keys()["tls_public_key"], ttl_s=3600
            )
        ),
        SELF | {"bot's output", "impersonated"},
    ),
    Row("AcquireDatabaseLease", asked.leasing_database, frozenset({DB})),
    row(semaphores.RenewLeases(leases=[]), frozenset({NODE, DB})),
    row(semaphores.ReleaseLeases(leases=[]), frozenset({NODE, DB})),
    Row(
        "EmitEvents",
        each(lambda w, p: audit.EmitEvents(events=[event(w.kit, codes.CLIENT_DISCONNECT, user="plain")])),
        HOST,
    ),
    row(audit.SearchEvents(), BY_RULE),
    row(audit.VerifyAudit(), BY_RULE),
    Row("UploadRecording", asked.uploading, HOST),
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
    Row("RotateRecordingKeys", asked.rotating(False, encryption.RotateRecordingKeys()), BY_RULE),
    Row("RollBackRecordingRotation", asked.rotating(True, encryption.RollBackRecordingRotation()), BY_RULE),
    Row("CompleteRecordingRotation", asked.rotating(True, encryption.CompleteRecordingRotation()), BY_RULE),
    Row("ForgetRecordingKey", asked.rotated, ADMIN),
    row(sessions.ReportSessions(sessions=[]), frozenset({NODE})),
    row(sessions.SessionOrders(), frozenset({NODE})),
    row(sessions.ListSessions(), USERS | ADMIN),
    Row("KillSession", asked.killing, BY_RULE),
    Row("DetachSession", asked.detaching, frozenset({"plain"}), hidden=True),
    Row("AskTransfer", asked.asking_to_copy, frozenset({"plain"}), hidden=True),
    Row("ProvePresence", asked.proving, frozenset({"plain"}), hidden=True),
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
