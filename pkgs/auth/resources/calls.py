"""The generic verbs over resources: get, list, put, delete, and making join tokens."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal

from pkgs.auth import limits
from pkgs.auth.accesslists.events import write_all
from pkgs.auth.accesslists.generic import NOTHING_CLEARED, Cleared, GenericLists
from pkgs.auth.accounts.attempts import AttemptLog
from pkgs.auth.accounts.credentials import Accounts
from pkgs.auth.accounts.users import request_removal
from pkgs.auth.audit.journal import Journal
from pkgs.auth.backend.interface import Operation
from pkgs.auth.bots.owned import check_not_owned, companions, forget_belongings
from pkgs.auth.bots.owned import remove as remove_bot
from pkgs.auth.chunks import chunked
from pkgs.auth.permissions import Permissions
from pkgs.auth.resources.changes import change_events
from pkgs.auth.resources.plan import Plan, check_mode, check_prunable, check_revision
from pkgs.auth.resources.prepare import prepare, with_own_status
from pkgs.auth.resources.search import matcher
from pkgs.auth.state.bootstrap import CONFIG_FILE, ORIGIN, SETTINGS, system_role
from pkgs.auth.state.planned import PlannedStore
from pkgs.auth.state.store import Store, with_expiry, with_revision
from pkgs.common.api.login import Done
from pkgs.common.api.resources import (
    Chunk,
    CreateToken,
    DeleteResource,
    GetResource,
    Got,
    ListResources,
    PutResource,
    Stored,
)
from pkgs.common.errors import AlreadyExistsError, ConflictError, DeniedError, InputError, NotFoundError
from pkgs.common.pki.identity import PeerKind
from pkgs.common.resources.defaults import default_singletons
from pkgs.common.resources.documents.owned import located
from pkgs.common.resources.documents.warnings import warnings_of
from pkgs.common.resources.kinds import Bot, Node, Resource, Token, TokenSpec, User
from pkgs.common.resources.kinds.servers import OPENSSH
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.registry import OWN, PRESENCE, SINGLETONS, Ref, canonical_kind
from pkgs.common.resources.role import Role
from pkgs.common.resources.secrets import SECRETS, secrets_in, without_secrets
from pkgs.common.rpc.calls import Caller

UNTOUCHABLE = OWN
"""Made by the cluster itself; changing them by hand would change whom everybody trusts."""
HEARTBEAT_ONLY = PRESENCE
"""Presence, which hosts tell of themselves; the administrator may restore a node from a dump."""


READ_ONLY = frozenset({"access_request", "autoupdate_agent_rollout"})
"""Kept by calls and services of their own."""
WITH_SECRETS = frozenset({"cert_authority", "recording_encryption", *SECRETS})
NEVER_DELETED = UNTOUCHABLE | READ_ONLY | {"recording_encryption"}


class ResourceHandlers:
    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        attempts: AttemptLog,
        permissions: Permissions,
        journal: Journal,
        on_lock: Callable[[], None],
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._attempts = attempts
        self._permissions = permissions
        self._journal = journal
        self._on_lock = on_lock
        self._lists = GenericLists(store, permissions, journal)

    # Reading.

    async def get(self, caller: Caller, request: GetResource) -> Got:
        kind = canonical_kind(request.kind)
        self._check_secrets(caller, request.with_secrets)
        resource = self._store.get(kind, self._name(kind, request.name), request.sub_kind)
        # A node that may not be seen answers like one that does not exist.
        hidden = isinstance(resource, Node) and not self._permissions.node_filter(caller)(resource)
        if kind == "node":
            may_read = self._permissions.denials(caller, kind, "read")
            hidden = hidden or (
                may_read is not None and isinstance(resource, Node) and not may_read(resource)
            )
        sees = self._permissions.filter(caller, kind)
        hidden = hidden or (resource is not None and sees is not None and not sees(resource))
        if not hidden and not self._may_see(caller, kind, request.name):
            rule, ruled = self._lists.ruled(kind, resource, request.sub_kind)
            self._permissions.require(caller, rule, _read_verb(kind), resource=ruled)
        if resource is None or hidden:
            raise NotFoundError(f'{kind} "{request.name}" not found')
        return Got(_shown(resource, request.with_secrets))

    async def list(self, caller: Caller, request: ListResources) -> AsyncIterator[Chunk]:
        kind = canonical_kind(request.kind)
        self._check_secrets(caller, request.with_secrets)
        resources = self._store.all(kind)
        if kind == "node":
            if not self._permissions.host_may_read(caller, kind) and caller.identity is not None:
                if caller.identity.kind is not PeerKind.USER:
                    raise _denied("list", kind)
                sees = self._permissions.node_filter(caller)
                may_list = self._permissions.denials(caller, kind, "list", "read")
                resources = [r for r in resources if isinstance(r, Node) and sees(r)]
                if may_list is not None:
                    resources = [r for r in resources if isinstance(r, Node) and may_list(r)]
        elif not self._permissions.host_may_read(caller, kind) and not self._public(caller, kind):
            verbs = ("list", _read_verb(kind))
            rule, _ = self._lists.ruled(kind, None)
            self._permissions.require(caller, rule, *verbs, any_object=True)
            may = self._permissions.rule_filter(caller, rule, *verbs)
            resources = [r for r in resources if self._lists.may(may, r)]
        visible = self._permissions.filter(caller, kind)
        if visible is not None:
            resources = [r for r in resources if visible(r)]
        wanted = matcher(request.labels, request.search)
        if wanted is not None:
            resources = [r for r in resources if wanted(r)]
        if kind in WITH_SECRETS:
            resources = [_shown(r, request.with_secrets) for r in resources]
        for part in chunked(resources):
            yield Chunk(part)

    def _name(self, kind: str, name: str) -> str:
        """A singleton is found whatever name it is asked for by."""
        return SINGLETONS.get(kind, name)

    def _check_secrets(self, caller: Caller, with_secrets: bool) -> None:
        if with_secrets and not caller.admin:
            raise DeniedError("secrets are shown on the Auth host only", hint="run tctl there, as root")

    def _public(self, caller: Caller, kind: str) -> bool:
        """What everybody with a certificate of the cluster may list."""
        return caller.identity is not None and kind in ("cert_authority", "cluster_name")

    def _may_see(self, caller: Caller, kind: str, name: str) -> bool:
        """Without a rule: what a host's cache needs; for a user themselves, their roles, nodes they see."""
        if caller.admin or self._permissions.host_may_read(caller, kind) or self._public(caller, kind):
            return True
        identity = caller.identity
        if identity is None or identity.kind is not PeerKind.USER:
            return False
        own_user = kind == "user" and name == identity.name
        return kind == "node" or own_user or (kind == "role" and name in identity.roles)

    # Writing.

    async def put(self, caller: Caller, request: PutResource) -> Stored:
        tries = limits.WRITE_TRIES if request.mode == "upsert" else 1
        while True:
            plan = self._plan(caller, request)
            if request.dry_run:
                return plan.answer(caller)
            tries -= 1
            try:
                stored, cleared = await self._write(plan, self._journal.actor(caller))
                break
            except (AlreadyExistsError, ConflictError, NotFoundError):
                # Somebody else wrote since the plan was checked: their state has to be checked anew.
                if tries <= 0:
                    raise
        if stored.kind == "lock":
            # At once, whatever becomes of the audit event: it is in force already.
            self._on_lock()
        before = plan.before
        await self._journal.write(*change_events(self._journal, self._journal.actor(caller), before, stored))
        await write_all(self._journal, cleared.events)
        if plan.unlocks:
            await self._attempts.clear(stored.name)
        change: Literal["created", "updated"] = "created" if before is None else "updated"
        shown = without_secrets(stored) if not caller.admin else stored
        return Stored(shown, change=change, warnings=warnings_of(stored))

    def _plan(self, caller: Caller, request: PutResource) -> Plan:
        """Everything that is checked, on one view of the store: nothing is awaited in here."""
        kind = request.resource.kind
        if kind in UNTOUCHABLE:
            raise InputError(f"creating resources of type {kind!r} is not supported")
        if kind in HEARTBEAT_ONLY and not (
            kind == "node" and (caller.admin or request.resource.sub_kind == OPENSSH)
        ):
            maker = "when its bot joins" if kind == "bot_instance" else "by its own heartbeats"
            raise InputError(f"a {kind} is made {maker} and cannot be created by hand")
        if kind in READ_ONLY:
            raise InputError(f"resources of type {kind!r} are read only")
        if kind == "recording_encryption" and not caller.admin:
            raise DeniedError("keys of recordings are restored on the Auth host only", hint="run tctl there")
        verbs = {"create": ("create",), "upsert": ("create", "update"), "update": ("update",)}[request.mode]
        wanted = located(request.resource)
        rule, verbs = self._lists.rule_of(kind, verbs)
        store = PlannedStore(self._store, request.assume) if request.dry_run else self._store
        before = self._store.get(kind, self._name(kind, wanted.name), wanted.sub_kind)
        # A condition must hold for what there was and for what there will be.
        for version in (wanted, before):
            if version is not None:
                self._permissions.require(caller, rule, *verbs, resource=self._lists.ruled(kind, version)[1])
        if kind == "remote_cluster" and not caller.admin and request.mode != "update":
            raise InputError("a remote_cluster is made when a leaf cluster joins")
        if before is not None and before.metadata.labels.get(ORIGIN) == CONFIG_FILE:
            raise InputError(
                f"{kind} is managed by the configuration file of the Auth Service",
                hint="change teleport.yaml there, or remove the setting from it",
            )
        check_not_owned(wanted, before)
        if isinstance(wanted, Token) and wanted.spec.bot_name:
            # Whoever can make a token for a bot can be it.
            self._permissions.require(
                caller, "bot", "update", resource=self._store.get("bot", wanted.spec.bot_name)
            )
        actor = self._journal.actor(caller)
        now = store.backend.clock()
        resource = prepare(wanted, before, store, actor, now, restoring=caller.admin)
        resource = self._lists.checked(caller, resource, before, actor, now, store)
        self._permissions.require(caller, rule, *verbs, resource=self._lists.ruled(kind, resource)[1])
        check_mode(request.mode, resource, before)
        return Plan(resource, before, secrets_in(wanted))

    async def _write(self, plan: Plan, actor: str) -> tuple[Resource, Cleared]:
        """What was planned, if the store is still as it was then; and what was cleared away for it."""
        resource, before = plan.resource, plan.before
        if isinstance(resource, Bot) and before is None:
            await forget_belongings(resource.name, self._store)
        old: list[Operation] = companions(resource, self._store) if isinstance(resource, Bot) else []
        if before is not None:
            # Also an upsert: what it may overwrite is what its permission was asked for.
            return await self._store.update(
                with_revision(resource, before.metadata.revision), *old
            ), NOTHING_CLEARED
        if isinstance(resource, User):
            # Nothing secret of an earlier user of this name may come to life again.
            old = await self._accounts.removal(resource.name)
            old += request_removal(self._store, resource.name)
        cleared = await self._lists.before_creating(resource, actor)
        return await self._store.create(resource, *old, *cleared.operations), cleared

    async def delete(self, caller: Caller, request: DeleteResource) -> Done:
        tries = limits.WRITE_TRIES
        while True:
            resource = self._deletable(caller, request)
            if request.dry_run:
                return Done()
            tries -= 1
            try:
                stored, cleared = await self._remove(resource, self._journal.actor(caller))
                break
            except (ConflictError, NotFoundError) as error:
                # It changed, or something that goes with it went by itself: whether it is gone is looked at
                # anew, so that nobody takes for gone what is still there.
                if tries <= 0:
                    raise ConflictError(
                        f'{resource.kind} "{resource.name}" is being changed', hint="try again"
                    ) from error
        actor = self._journal.actor(caller)
        await self._journal.write(*change_events(self._journal, actor, resource, stored))
        await write_all(self._journal, cleared.events)
        return Done()

    def _deletable(self, caller: Caller, request: DeleteResource) -> Resource:
        """The resource, if this caller may delete it now; nothing is awaited in here."""
        kind = canonical_kind(request.kind)
        if kind in NEVER_DELETED:
            raise InputError(f"resources of type {kind!r} cannot be deleted")
        resource = self._store.get(kind, self._name(kind, request.name), request.sub_kind)
        rule, verbs = self._lists.rule_of(kind, ("delete",))
        ruled = self._lists.ruled(kind, resource, request.sub_kind)[1]
        self._permissions.require(caller, rule, *verbs, resource=ruled)
        if resource is None:
            raise NotFoundError(f'{kind} "{request.name}" not found')
        if resource.metadata.labels.get(ORIGIN) == CONFIG_FILE:
            raise InputError(
                f"this {kind} comes from the configuration file of the Auth Service",
                hint="remove it from teleport.yaml there",
            )
        check_not_owned(None, resource)
        if request.prune:
            check_prunable(resource, caller)
        check_revision(resource, request.revision)
        if isinstance(resource, Role):
            leaving = request.assume if request.dry_run else []
            self._check_unused(caller, resource.name, leaving)
            lists = {ref.name for ref in leaving if ref.kind == "access_list"}
            self._lists.check_role_unused(caller, resource.name, lists)
        return resource

    async def _remove(self, resource: Resource, actor: str) -> tuple[Resource | None, Cleared]:
        """Delete what was checked, if it is still that; answers what is there instead of it, and what was
        cleared away with it."""
        if resource.kind in SETTINGS:
            default = next(r for r in default_singletons("", "") if r.kind == resource.kind)
            default = with_own_status(default, resource)
            return await self._store.update(
                with_revision(default, resource.metadata.revision)
            ), NOTHING_CLEARED
        if isinstance(resource, Bot):
            await remove_bot(resource, self._store)
            return None, NOTHING_CLEARED
        secret: list[Operation] = []
        if isinstance(resource, User):
            secret = await self._accounts.removal(resource.name)
            secret += request_removal(self._store, resource.name)
        cleared = await self._lists.before_deleting(resource, actor)
        await self._store.remove(resource, *secret, *cleared.operations)
        return None, cleared

    def _check_unused(self, caller: Caller, role: str, leaving: Sequence[Ref]) -> None:
        """Users that may not be read are neither named nor assumed away, so that nobody learns who has a
        role by trying to delete it (attack A33)."""
        left = {(ref.kind, ref.name) for ref in leaving}
        users: list[str] = []
        for kind in ("user", "bot"):
            may_read = self._permissions.rule_filter(caller, kind, _read_verb(kind))
            for user in self._store.all(kind):
                if not isinstance(user, User | Bot) or role not in user.spec.roles:
                    continue
                if not may_read(user):
                    raise InputError(
                        f'role "{role}" is used by {kind}s that you may not read',
                        hint="ask somebody who may to take the role from them",
                    )
                if (user.kind, user.name) not in left:
                    users.append(user.name)
        if users:
            some = ", ".join(users[:5]) + (", ..." if len(users) > 5 else "")
            raise InputError(
                f'role "{role}" is used by {len(users)} user{"s" if len(users) > 1 else ""} ({some})',
                hint="take the role from them first",
            )

    async def create_token(self, caller: Caller, request: CreateToken) -> Got:
        self._permissions.require(caller, "token", "create", any_object=True)
        if not limits.TOKEN_TTL_MIN_S <= request.ttl_s <= limits.TOKEN_TTL_MAX_S:
            raise InputError("a join token lives between 1 second and 365 days")
        if not request.roles:
            raise InputError("a join token needs at least one role", hint="give --type=node")
        token = Token(
            metadata=Metadata(
                name=request.value or secrets.token_hex(limits.TOKEN_BYTES), labels=request.labels
            ),
            spec=TokenSpec(roles=[system_role(role).value for role in request.roles]),
        )
        now = self._store.backend.clock()
        token = with_expiry(token, now + request.ttl_s)
        actor = self._journal.actor(caller)
        checked = prepare(token, None, self._store, actor, now)
        self._permissions.require(caller, "token", "create", resource=checked)
        try:
            stored = await self._store.create(checked)
        except AlreadyExistsError:
            raise AlreadyExistsError(
                "failed to create token (it already exists), please use another name"
            ) from None
        await self._journal.write(*change_events(self._journal, actor, None, stored))
        return Got(stored)


def _read_verb(kind: str) -> str:
    return "readnosecrets" if kind in WITH_SECRETS and kind != "token" else "read"


def _denied(verb: str, kind: str) -> DeniedError:
    return DeniedError(f'access denied to perform action "{verb}" on "{kind}"')


def _shown(resource: Resource, with_secrets: bool) -> Resource:
    """Private keys only for the one who asked for them and may."""
    return resource if with_secrets else without_secrets(resource)
