"""Which handler answers which call, and who may make it: the whole Auth API on one page."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from pkgs.auth.accesslists.calls import AccessListHandlers
from pkgs.auth.accounts.login import LoginHandler
from pkgs.auth.accounts.signup import SignupHandlers
from pkgs.auth.audit.calls import AuditHandlers
from pkgs.auth.audit.keeping import Keeping
from pkgs.auth.audit.recordings import RecordingHandlers
from pkgs.auth.audit.searching import SearchHandlers
from pkgs.auth.bots.machines import MachineHandlers
from pkgs.auth.bots.manage import BotHandlers
from pkgs.auth.databases.calls import DatabaseHandlers
from pkgs.auth.encryption.calls import EncryptionHandlers
from pkgs.auth.explaining import ExplainHandlers
from pkgs.auth.headless.calls import HeadlessHandlers
from pkgs.auth.issuing.impersonating import ImpersonationHandlers
from pkgs.auth.issuing.join import JoinHandlers
from pkgs.auth.issuing.signing import SigningHandlers
from pkgs.auth.openssh.calls import OpensshHandlers
from pkgs.auth.openssh.servers import OpensshServers
from pkgs.auth.permissions import Permissions
from pkgs.auth.requests.calls import RequestHandlers
from pkgs.auth.requests.deciding import DecidingHandlers
from pkgs.auth.resources.calls import ResourceHandlers
from pkgs.auth.resources.inventory import InventoryHandlers
from pkgs.auth.resources.watch import WatchHandler
from pkgs.auth.semaphores.calls import SemaphoreHandlers
from pkgs.auth.sessions.calls import SessionHandlers
from pkgs.auth.sessions.presence import PresenceHandlers
from pkgs.auth.status import StatusHandlers
from pkgs.auth.whole import Whole
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
from pkgs.common.rpc.calls import Caller, Callers, Request, StreamRequest, UploadRequest
from pkgs.common.rpc.server import Registry

ANYBODY = Callers.NOBODY | Callers.USER | Callers.HOST | Callers.ADMIN
MEMBERS = Callers.USER | Callers.HOST | Callers.ADMIN
PEOPLE = Callers.USER | Callers.ADMIN
PROVING = Callers.NOBODY | Callers.PROXY | Callers.USER | Callers.ADMIN
"""Those who prove who they are inside the call, and proxies that pass the proof on."""


Observe = Callable[[str, str, float], None]
"""Told how a call ended: its method, `ok` or the code of the error, and the seconds it took."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """What the service puts behind the calls, by area."""

    login: LoginHandler
    signup: SignupHandlers
    signing: SigningHandlers
    join: JoinHandlers
    inventory: InventoryHandlers
    resources: ResourceHandlers
    watch: WatchHandler
    audit: AuditHandlers
    recordings: RecordingHandlers
    searching: SearchHandlers
    keeping: Keeping
    encryption: EncryptionHandlers
    status: StatusHandlers
    explaining: ExplainHandlers
    impersonation: ImpersonationHandlers
    bots: BotHandlers
    machines: MachineHandlers
    lists: AccessListHandlers
    requests: RequestHandlers
    deciding: DecidingHandlers
    sessions: SessionHandlers
    presence: PresenceHandlers
    semaphores: SemaphoreHandlers
    openssh: OpensshHandlers
    openssh_servers: OpensshServers
    headless: HeadlessHandlers
    databases: DatabaseHandlers


class Guarded:
    """Registers handlers so that none can be reached without `Permissions.admit`."""

    def __init__(self, permissions: Permissions, observe: Observe, whole: Whole) -> None:
        self.registry = Registry()
        self._permissions = permissions
        self._observe = observe
        self._whole = whole

    def add(
        self,
        request: type[Any],
        handler: Callable[..., Any],
        callers: Callers,
        *,
        stale_requests: bool = False,
    ) -> None:
        """With `stale_requests` the handler itself sorts out access requests that are over."""
        if issubclass(request, StreamRequest):
            self.registry.register(request, self._stream(request, handler), callers=callers)
        elif issubclass(request, UploadRequest):
            self.registry.register(request, self._upload(request, handler), callers=callers)
        else:
            self.registry.register(request, self._call(request, handler, stale_requests), callers=callers)

    def _done(self, method: str, started: float, error: BaseException | None) -> None:
        outcome = "ok" if error is None else error.code if isinstance(error, AccessError) else "internal"
        self._observe(method, outcome, time.monotonic() - started)

    def _call(
        self, request: type[Any], handler: Callable[..., Coroutine[Any, Any, Any]], stale_requests: bool
    ) -> Callable[..., Any]:
        async def call(caller: Caller, message: Request[Any]) -> Any:
            started, failure = time.monotonic(), None
            try:
                self._permissions.admit(caller, stale_requests=stale_requests)
                # What has begun comes to its end, whether the caller waits for it or not.
                return await self._whole.run(handler(caller, message))
            except BaseException as error:
                failure = error
                raise
            finally:
                self._done(request.method(), started, failure)

        return call

    def _upload(self, request: type[Any], handler: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def upload(caller: Caller, message: UploadRequest[Any], chunks: AsyncIterator[bytes]) -> Any:
            started, failure = time.monotonic(), None
            try:
                self._permissions.admit(caller)
                return await handler(caller, message, chunks)
            except BaseException as error:
                failure = error
                raise
            finally:
                self._done(request.method(), started, failure)

        return upload

    def _stream(self, request: type[Any], handler: Callable[..., Any]) -> Callable[..., Any]:
        async def stream(caller: Caller, message: StreamRequest[Any]) -> AsyncIterator[Any]:
            started, failure = time.monotonic(), None
            try:
                self._permissions.admit(caller)
                async with aclosing(handler(caller, message)) as items:
                    async for item in items:
                        yield item
            except AccessError as error:
                failure = error
                raise
            finally:
                self._done(request.method(), started, failure)

        return stream


def build_registry(handlers: Handlers, permissions: Permissions, observe: Observe, whole: Whole) -> Registry:
    guarded = Guarded(permissions, observe, whole)
    add = guarded.add

    add(system.Ping, handlers.status.ping, ANYBODY)
    add(system.GetHostCa, handlers.status.host_ca, ANYBODY)
    add(system.GetClusterStatus, handlers.status.status, MEMBERS)
    add(system.GetTrustAnchors, handlers.status.trust_anchors, MEMBERS)

    add(login.Login, handlers.login.login, PROVING)
    add(headless.StartHeadless, handlers.headless.start, PROVING)
    add(headless.GetHeadless, handlers.headless.get, Callers.USER)
    add(headless.DecideHeadless, handlers.headless.decide, Callers.USER)
    add(login.GetSignup, handlers.signup.get_signup, PROVING)
    add(login.FinishSignup, handlers.signup.finish_signup, PROVING)
    add(login.CreateUser, handlers.signup.create_user, PEOPLE)
    add(login.ResetUser, handlers.signup.reset_user, PEOPLE)
    add(login.ReissueUserCerts, handlers.signing.reissue, Callers.USER, stale_requests=True)
    add(login.SignUserCerts, handlers.signing.sign_user, PEOPLE)
    add(login.SignHostCert, handlers.signing.sign_host, PEOPLE)

    add(join.Join, handlers.join.join, Callers.NOBODY | Callers.HOST | Callers.ADMIN)
    add(join.RenewHostCerts, handlers.join.renew, Callers.HOST)
    add(resources.Heartbeat, handlers.inventory.heartbeat, Callers.HOST)

    add(resources.GetResource, handlers.resources.get, MEMBERS)
    add(resources.ListResources, handlers.resources.list, MEMBERS)
    add(resources.PutResource, handlers.resources.put, PEOPLE)
    add(resources.DeleteResource, handlers.resources.delete, PEOPLE)
    add(resources.CreateToken, handlers.resources.create_token, PEOPLE)
    add(resources.WatchResources, handlers.watch.watch, Callers.HOST | Callers.ADMIN)

    add(access.ExplainAccess, handlers.explaining.explain, PEOPLE)
    add(access.WhoCan, handlers.explaining.who, PEOPLE)
    add(access.WhatCan, handlers.explaining.what, PEOPLE)

    add(bots.CreateBot, handlers.bots.create, PEOPLE)
    add(bots.AddBotInstance, handlers.bots.add_instance, PEOPLE)
    add(bots.JoinBot, handlers.machines.join, Callers.NOBODY | Callers.PROXY | Callers.ADMIN)
    add(bots.RenewBotCerts, handlers.machines.renew, Callers.USER)
    add(bots.BotHeartbeat, handlers.machines.heartbeat, Callers.USER)
    add(bots.ImpersonateRoles, handlers.impersonation.impersonate_roles, Callers.USER)
    add(accesslists.ListAccessLists, handlers.lists.list, PEOPLE)
    add(accesslists.GetAccessList, handlers.lists.get, PEOPLE)
    add(accesslists.SummarizeLists, handlers.lists.summarize, PEOPLE)
    add(accesslists.ListMembers, handlers.lists.members, PEOPLE)
    add(accesslists.AddMember, handlers.lists.add_member, PEOPLE)
    add(accesslists.RemoveMember, handlers.lists.remove_member, PEOPLE)
    add(accesslists.ReviewList, handlers.lists.review, PEOPLE)
    add(accesslists.ListReviews, handlers.lists.reviews, PEOPLE)
    add(accesslists.ExplainLists, handlers.lists.explain, PEOPLE)
    add(requests.CreateAccessRequest, handlers.requests.create, PEOPLE)
    add(requests.GetAccessRequest, handlers.requests.get, PEOPLE)
    add(requests.ListAccessRequests, handlers.requests.list, PEOPLE)
    add(requests.DeleteAccessRequest, handlers.requests.delete, PEOPLE)
    add(requests.SearchRequestable, handlers.requests.search, Callers.USER)
    add(requests.GetRequestCapabilities, handlers.requests.capabilities, PEOPLE)
    add(requests.ReviewAccessRequest, handlers.deciding.review, PEOPLE)
    add(requests.SetAccessRequestState, handlers.deciding.set_state, PEOPLE)

    add(openssh.IssueOpensshUserCert, handlers.openssh.user_cert, Callers.PROXY)
    add(openssh.IssueOpensshHostCert, handlers.openssh.host_cert, Callers.PROXY)
    add(openssh.IssueRelayCert, handlers.openssh.relay_cert, Callers.PROXY)
    add(openssh.PutOpensshServer, handlers.openssh_servers.put, Callers.NODE)

    add(databases.AnnounceDatabases, handlers.databases.announce, Callers.DB)
    add(databases.SignDatabaseCert, handlers.databases.sign_client, Callers.DB)
    add(databases.PrepareDatabaseSession, handlers.signing.prepare_database, Callers.USER)
    add(databases.SignDatabaseServerCert, handlers.databases.sign_server, PEOPLE)

    add(semaphores.AcquireLease, handlers.semaphores.acquire, Callers.NODE)
    add(semaphores.AcquireDatabaseLease, handlers.semaphores.acquire_database, Callers.DB)
    add(semaphores.RenewLeases, handlers.semaphores.renew, Callers.NODE | Callers.DB)
    add(semaphores.ReleaseLeases, handlers.semaphores.release, Callers.NODE | Callers.DB)

    add(audit.EmitEvents, handlers.audit.emit, Callers.HOST)
    add(audit.SearchEvents, handlers.audit.search, PEOPLE)
    add(audit.VerifyAudit, handlers.audit.verify, PEOPLE)

    add(recordings.UploadRecording, handlers.recordings.upload, Callers.HOST)
    add(recordings.DownloadRecording, handlers.recordings.download, PEOPLE)
    add(recordings.ListRecordings, handlers.recordings.list, PEOPLE)
    add(recordings.SearchRecordings, handlers.searching.search, PEOPLE)
    add(recordings.PruneRecordings, handlers.keeping.prune, PEOPLE)

    add(encryption.GetRecordingEncryption, handlers.encryption.status, PEOPLE)
    add(encryption.RotateRecordingKeys, handlers.encryption.rotate, PEOPLE)
    add(encryption.CompleteRecordingRotation, handlers.encryption.complete, PEOPLE)
    add(encryption.RollBackRecordingRotation, handlers.encryption.roll_back, PEOPLE)
    add(encryption.ForgetRecordingKey, handlers.encryption.forget, PEOPLE)

    add(sessions.ReportSessions, handlers.sessions.report, Callers.NODE)
    add(sessions.SessionOrders, handlers.sessions.orders, Callers.NODE)
    add(sessions.ListSessions, handlers.sessions.list, PEOPLE)
    add(sessions.KillSession, handlers.sessions.kill, PEOPLE)
    add(sessions.DetachSession, handlers.sessions.detach, Callers.USER)
    add(sessions.AskTransfer, handlers.sessions.ask_transfer, Callers.USER)
    add(sessions.ProvePresence, handlers.presence.prove, Callers.USER)
    return guarded.registry
