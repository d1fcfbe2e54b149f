"""May this caller do that through the API? The administrator may; users by the rules of their roles, hosts by
the table of their system roles. Asked once before every call (`admit`) and again for what the call does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from pkgs.auth.state.accesslists import AccessLists, together
from pkgs.auth.state.store import Store
from pkgs.common.access.decide import decide
from pkgs.common.access.explaining.explain import why_not
from pkgs.common.access.lists.membership import NOTHING, Standing
from pkgs.common.access.locks import Interaction, lock_reason, lock_text, matching_lock
from pkgs.common.access.requests.assuming import refusal
from pkgs.common.access.roleset import role_set
from pkgs.common.access.types import Decision, Environment, HostCert, See, Subject, Target, UseRule
from pkgs.common.errors import DeniedError, InputError, LockedError
from pkgs.common.pki.identity import Identity, PeerKind, SystemRole
from pkgs.common.pki.source import check_source
from pkgs.common.resources.kinds import AccessRequest, AuthPreference, Lock, Node, Resource, User
from pkgs.common.resources.role import Role
from pkgs.common.rpc.calls import Caller

_log = logging.getLogger(__name__)
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_EVERY_HOST = frozenset(
    {
        "role",
        "cert_authority",
        "lock",
        "cluster_name",
        "cluster_auth_preference",
        "cluster_networking_config",
        "session_recording_config",
        "proxy",
    }
)
_MORE_FOR: dict[SystemRole, frozenset[str]] = {
    SystemRole.PROXY: frozenset({"node", "auth_server", "db_server"}),
    SystemRole.NODE: frozenset({"static_host_user"}),
    SystemRole.DB: frozenset({"db", "db_object_import_rule", "health_check_config"}),
}
READABLE_BY_HOST: dict[SystemRole, frozenset[str]] = {
    role: _EVERY_HOST | _MORE_FOR.get(role, frozenset())
    for role in SystemRole
    if role not in (SystemRole.BOT, SystemRole.MDM)
}
"""What the cache of each kind of host needs, and so all that it may read. Never with secrets."""


LISTED_BY_LABELS = frozenset(
    {"app", "db", "db_server", "db_service", "kube_cluster", "windows_desktop", "remote_cluster"}
)
"""Kinds of which labels decide what a user sees. Everybody's implicit role may list them, but for
`db_service`, which takes a rule as well."""


class Holding(NamedTuple):
    """What a user holds by standing: what a login gives them, and the most that a renewal leaves them."""

    roles: tuple[str, ...]
    traits: dict[str, tuple[str, ...]]
    from_lists: Standing = NOTHING
    """What of it access lists give, and which lists give nothing though they should."""


class Permissions:
    def __init__(self, store: Store, cluster_name: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._cluster = cluster_name
        self._clock = clock
        self.lists = AccessLists(store)
        self._locks: tuple[Lock, ...] = ()

    def locks(self) -> tuple[Lock, ...]:
        """The same object for as long as they are the same locks: `matching_lock` keeps an index of it."""
        found = tuple(lock for lock in self._store.all("lock") if isinstance(lock, Lock))
        if found != self._locks:
            self._locks = found
        return self._locks

    def now(self) -> float:
        """Unix seconds, by the clock that decides."""
        return self._clock()

    def auth_preference(self) -> AuthPreference:
        for preference in self._store.all("cluster_auth_preference"):
            if isinstance(preference, AuthPreference):
                return preference
        # Never the permissive case: the built-in default asks for a second factor.
        raise DeniedError("the cluster has no authentication settings")

    def roles(self, names: tuple[str, ...] | list[str]) -> tuple[Role, ...]:
        """The roles as they are now; one that is missing fails the whole set, it is never skipped."""
        found = []
        for name in names:
            role = self._store.get("role", name)
            if not isinstance(role, Role):
                raise DeniedError(f'role "{name}" does not exist any more', hint="log in again")
            found.append(role)
        return tuple(found)

    def holding(self, user: User) -> Holding:
        """The one place that says which roles and traits are a user's, wherever they come from: their record
        and the access lists that they are in or own now."""
        standing = self.lists.standing(user, self._clock())
        roles, traits = together(user, standing)
        return Holding(roles, traits, standing)

    def admit(self, caller: Caller, *, stale_requests: bool = False) -> None:
        """Refuse every call of an identity that is locked, from elsewhere, of a user who is no more, or that
        holds an access request which is over. With `stale_requests` the last is for the call to sort out."""
        identity = caller.identity
        if identity is None:
            return
        if identity.cluster != self._cluster:
            raise DeniedError("this cluster does not know you")
        check_source(identity, caller.remote_addr)
        if identity.route_to_database is not None:
            # Nor may it be renewed: there is no way from it to another certificate (attack A34).
            raise DeniedError("a certificate for one database is good for nothing else")
        self.check_locks(Interaction(identity))
        if identity.kind is PeerKind.USER and not isinstance(self._store.get("user", identity.name), User):
            raise DeniedError("this user does not exist any more")
        if identity.impersonator and not isinstance(self._store.get("user", identity.impersonator), User):
            raise DeniedError("the user who took this identity on does not exist any more")
        if identity.bot_name:
            instance = self._store.get("bot_instance", identity.bot_instance_id, identity.bot_name)
            if instance is None:
                raise DeniedError("this instance of the bot does not exist any more")
        if not stale_requests:
            self._check_requests(identity)

    def _check_requests(self, identity: Identity) -> None:
        """What was denied or deleted after its approval opens nothing from that moment on (attack A32)."""
        for name in identity.active_requests:
            request = self._store.get("access_request", name)
            if not isinstance(request, AccessRequest) or refusal(request, identity.name, self._clock()):
                raise DeniedError(
                    "an access request of this certificate is not in force any more",
                    hint="`tsh request drop` gives it back",
                )

    def check_locks(self, interaction: Interaction) -> None:
        """LockedError with the text of a lock that is in force for this (attack A14)."""
        lock = matching_lock(self.locks(), interaction, self._clock())
        if lock is not None:
            raise LockedError(lock_text(lock), detail=lock_reason(lock))

    def subject(self, identity: Identity) -> Subject:
        return Subject(identity, self.roles(identity.roles))

    def environment(self, caller: Caller) -> Environment:
        return Environment(
            now=self._clock(),
            source_addr=caller.remote_addr,
            locks=self.locks(),
            auth_preference=self.auth_preference(),
        )

    def decide(self, caller: Caller, target: Target) -> Decision:
        """For users and the administrator; a host gets no."""
        if caller.admin:
            return Decision(True, ("administrator on the Auth host",))
        identity = caller.identity
        if identity is None or identity.kind is not PeerKind.USER:
            return Decision(False, ("only users have roles with rules",))
        decision = decide(self.subject(identity), target, self.environment(caller))
        for level, line in decision.log:
            _log.log(_LEVELS[level], "a rule says: %s", line, extra={"user": identity.name})
        return decision

    def forbidden(self, caller: Caller, target: UseRule) -> bool:
        """Whether a deny rule of a user refuses what needs no allow; also where their roles are unclear."""
        identity = caller.identity
        if identity is None or identity.kind is not PeerKind.USER:
            return False
        try:
            compiled = role_set(identity, self.roles(identity.roles)).compiled
            env = self.environment(caller)
        except (DeniedError, InputError):
            return True
        return any(
            rule.denies(target, identity) and role.deny_in_force(env)
            for role in compiled
            for rule in role.deny_rules
        )

    def require(
        self,
        caller: Caller,
        kind: str,
        *verbs: str,
        resource: Resource | None = None,
        any_object: bool = False,
        host_cert: HostCert | None = None,
    ) -> None:
        """All of the verbs on a kind, or DeniedError with the text the field's users know. Rules with a
        condition need the `resource`; with `any_object` every object must then be asked for (`may`)."""
        for verb in verbs:
            target = UseRule(
                kind=kind, verb=verb, resource=resource, any_object=any_object, host_cert=host_cert
            )
            decision = self.decide(caller, target)
            if not decision:
                flat = f'access denied to perform action "{verb}" on "{kind}"'
                raise DeniedError(flat + self._story(caller, target), reasons=decision.reasons)

    def _story(self, caller: Caller, target: UseRule) -> str:
        """Why, for those who may know; nothing for everybody else."""
        identity = caller.identity
        if identity is None or identity.kind is not PeerKind.USER:
            return ""
        env = self.environment(caller)
        story = why_not(self.subject(identity), target, env, f"resource {target.kind} {target.verb}")
        return f"\n{story}" if story else ""

    def require_insight(self, caller: Caller) -> None:
        """For those who may read every role and user: they may be told why, and about whom."""
        for kind in ("role", "user"):
            self.require(caller, kind, "read")

    def rule_filter(self, caller: Caller, kind: str, *verbs: str) -> Callable[[Resource], bool]:
        """Which objects of a kind the rules allow all of the verbs on; the roles are looked up once."""
        identity = caller.identity
        if caller.admin:
            return lambda resource: True
        if identity is None or identity.kind is not PeerKind.USER:
            return lambda resource: False
        subject, environment = self.subject(identity), self.environment(caller)
        return lambda resource: all(
            decide(subject, UseRule(kind=kind, verb=verb, resource=resource), environment) for verb in verbs
        )

    def node_filter(self, caller: Caller) -> Callable[[Node], bool]:
        """Which nodes this caller may see; the roles are looked up once for the whole listing."""
        if caller.admin or (caller.identity is not None and caller.identity.is_host(SystemRole.PROXY)):
            return lambda node: True
        identity = caller.identity
        if identity is None or identity.kind is not PeerKind.USER:
            return lambda node: False
        subject, environment = self.subject(identity), self.environment(caller)
        return lambda node: bool(decide(subject, See(node), environment))

    def denials(self, caller: Caller, kind: str, *verbs: str) -> Callable[[Resource], bool] | None:
        """Everybody's implicit role may list servers and what else labels decide about, so that only a deny
        rule refuses it: DeniedError, or a test where one has a condition; None: none has."""
        identity = caller.identity
        if caller.admin or identity is None or identity.kind is not PeerKind.USER:
            return None
        self.require(caller, kind, *verbs, any_object=True)
        if not any(rule.where for role in self.roles(identity.roles) for rule in role.spec.deny.rules):
            return None
        return self.rule_filter(caller, kind, *verbs)

    def filter(self, caller: Caller, kind: str) -> Callable[[Resource], bool] | None:
        """Which resources of a kind this caller may see, where labels decide it; None: where they do not."""
        if caller.admin or kind not in LISTED_BY_LABELS:
            return None
        identity = caller.identity
        if identity is None or identity.kind is not PeerKind.USER:
            return lambda resource: False
        subject, environment = self.subject(identity), self.environment(caller)
        return lambda resource: bool(decide(subject, See(resource), environment))

    def host_may_read(self, caller: Caller, kind: str) -> bool:
        identity = caller.identity
        if identity is None or identity.kind is not PeerKind.HOST:
            return False
        return any(kind in READABLE_BY_HOST.get(role, ()) for role in identity.system_roles)
