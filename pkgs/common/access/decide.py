"""The one decision function. Every path to a power asks here, with the same values; the answer is no
unless a role says yes and nothing refuses.
"""

from __future__ import annotations

from pkgs.common.access.joining import Kind
from pkgs.common.access.locks import STALE_TEXT, Interaction, is_stale, lock_reason, lock_text, matching_lock
from pkgs.common.access.matching import resource_ids
from pkgs.common.access.matching.labels import labels_of
from pkgs.common.access.options import lock_mode
from pkgs.common.access.options.merge import serving
from pkgs.common.access.protocols import app, cluster, db, dbpolicy, desktop, kube, ssh
from pkgs.common.access.protocols.grants import NEEDS_DEVICE, NEEDS_MFA, check, requires_mfa, see
from pkgs.common.access.roleset import PROTOCOLS, RoleSet, roles_of
from pkgs.common.access.types import (
    Access,
    ConnectApp,
    ConnectDatabase,
    Decision,
    EnterCluster,
    Environment,
    OpenDesktop,
    See,
    SshLogin,
    Subject,
    Target,
    UseKube,
    UseRule,
    resource_of,
)
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity, PeerKind, RouteToDatabase
from pkgs.common.pki.source import same_address
from pkgs.common.resources.kinds import DynamicWindowsDesktop, Node, RemoteCluster, WindowsDesktop

_NOT_A_USER = Decision(False, ("only users have roles",))
_EXPIRED = Decision(False, ("the certificate has expired",))
_NOT_YET = Decision(False, ("the certificate is not valid yet",))
_SOURCE = Decision(False, ("the certificate is pinned to another address",))
_ALONE = Decision(
    False, ("a role requires others to be present, which only a shell or a command on a terminal waits for",)
)
_STALE = Decision(False, ("the view of the locks is too old for strict locking",), text=STALE_TEXT)
_RESTRICTED = Decision(False, ("the certificate is restricted to other resources",))
_ROUTED = Decision(False, ("the certificate is for one database only",))
_CLUSTER_MFA = Decision(False, (NEEDS_MFA,), ("mfa",))
_CLUSTER_DEVICE = Decision(False, (NEEDS_DEVICE,), ("device",))
_NO_RULE = Decision(False, ("no role has a rule that allows this",))
_CLOCK_TOLERANCE_S = 30.0


def decide(subject: Subject, target: Target, env: Environment) -> Decision:
    """Whether `subject` may do this now. Never raises for what a peer or a role says; denies instead.

    Checked for every target: expiry, source address, locks, the restriction to resources."""
    refusal = barred(subject, target, env)
    if refusal is not None:
        return refusal
    identity = subject.identity
    try:
        roles = roles_of(subject)
        if isinstance(target, UseRule):
            return _decide_rule(identity, roles, target, env)
        if isinstance(target, See):
            return _decide_see(roles, target, env)
        return _decide_access(identity, roles, target, env)
    except InputError as error:
        return Decision(False, (str(error),))


def barred(subject: Subject, target: Target, env: Environment) -> Decision | None:
    """What refuses before any role is asked; None: nothing."""
    identity = subject.identity
    if identity.kind is not PeerKind.USER:
        return _NOT_A_USER
    if not env.live and env.now >= identity.expires_at:
        return _EXPIRED
    if env.now + _CLOCK_TOLERANCE_S < identity.valid_after:
        return _NOT_YET
    if identity.source_addr and not same_address(identity.source_addr, env.source_addr):  # attack A12
        return _SOURCE
    if identity.route_to_database is not None and not _is_routed_to(identity.route_to_database, target):
        return _ROUTED
    refusal = _locked(subject, target, env)
    if refusal is not None or isinstance(target, UseRule):
        return refusal
    if identity.allowed_resources is not None and not _is_allowed_resource(identity, target, env):
        return _RESTRICTED
    return None


def _is_routed_to(route: RouteToDatabase, target: Target) -> bool:
    """A certificate for a database opens that database and nothing else (attack A22)."""
    if not isinstance(target, ConnectDatabase):
        return False
    db = target.db
    return (route.service, route.protocol) == (db.name, db.spec.protocol)


def barred_access(identity: Identity, roles: RoleSet, target: Access, env: Environment) -> Decision | None:
    """What refuses this use of a resource whatever the roles grant; None: nothing."""
    refusal = None
    if isinstance(target, SshLogin):
        refusal = ssh.barred(identity, target)
    elif isinstance(target, OpenDesktop):
        refusal = desktop.barred(target)
    alone = not (env.accompanied and isinstance(target, SshLogin))
    if refusal is None and alone and roles.needs_company and _session_of(target) in roles.needs_company:
        refusal = _ALONE  # attack A30
    if refusal is not None or isinstance(target, EnterCluster):
        return refusal
    preference = env.auth_preference
    if preference is None:
        return None
    if requires_mfa(preference.spec.require_session_mfa) and not identity.session_mfa:
        return _CLUSTER_MFA
    device_trust = preference.spec.device_trust
    if device_trust is not None and device_trust.mode == "required" and not identity.device_id:
        return _CLUSTER_DEVICE
    return None


def _session_of(target: Access) -> Kind | None:
    """The kind of session that this use is; None: it is none that others could watch. Of Kubernetes only
    what runs inside a container is."""
    match target:
        case SshLogin():
            return "ssh"
        case ConnectDatabase():
            return "db"
        case ConnectApp():
            return "app"
        case OpenDesktop():
            return "desktop"
        case UseKube(object=wanted) if wanted is not None and wanted.verb == "exec":
            return "k8s"
        case _:
            return None


def _locked(subject: Subject, target: Target, env: Environment) -> Decision | None:
    """Locks of this user, role, device, login or server; with strict locking also a stale view."""
    if is_stale(env.locks_stale_s):
        # A role that does not count now does not relax either.
        mode = lock_mode(subject.roles, env.auth_preference, serving(env))
        if mode == "strict":
            return _STALE
    if not env.locks:
        return None
    lock = matching_lock(env.locks, _interaction(subject.identity, target, env), env.now)
    return None if lock is None else Decision(False, (lock_reason(lock),), text=lock_text(lock))


def _interaction(identity: Identity, target: Target, env: Environment) -> Interaction:
    """What locks can name of this question."""
    if isinstance(target, UseRule):
        return Interaction(identity, (env.server_id,))
    login = target.login if isinstance(target, SshLogin | OpenDesktop | See) else ""
    match resource_of(target):
        case Node(metadata=metadata):
            return Interaction(identity, (metadata.name, env.server_id), login)
        case WindowsDesktop(metadata=metadata) | DynamicWindowsDesktop(metadata=metadata):
            return Interaction(identity, (env.server_id,), login, windows_desktop=metadata.name)
        case _:
            return Interaction(identity, (env.server_id,), login)


_ID_KINDS = {
    "app_server": "app",
    "db_server": "db",
    "kube_server": "kube_cluster",
    "dynamic_windows_desktop": "windows_desktop",
}
"""What is announced, and what its resource ids call it."""


def _is_allowed_resource(identity: Identity, target: Access | See, env: Environment) -> bool:
    """Attack A22: cluster, kind and name must be equal; an id of another kind lets nothing here pass. Ids of
    Kubernetes objects let their cluster be seen, and used for just these objects."""
    ids = identity.allowed_resources or ()
    resource, here = resource_of(target), env.cluster or identity.cluster
    kind = _ID_KINDS.get(resource.kind, resource.kind)
    if not resource_ids.allows(ids, here, kind, resource.name):
        return False
    return not isinstance(target, UseKube) or kube.within(ids, here, resource.name, target.object)


def _decide_see(roles: RoleSet, target: See, env: Environment) -> Decision:
    resource = target.resource
    protocol = PROTOCOLS.get(resource.kind)
    if protocol is None:
        return Decision(False, (f"{resource.kind} is not seen by labels",))
    grants, labels = roles.grants(protocol), labels_of(resource)
    return (
        cluster.enter(grants, labels, env)
        if isinstance(resource, RemoteCluster)
        else see(grants, labels, env)
    )


def _decide_access(identity: Identity, roles: RoleSet, target: Access, env: Environment) -> Decision:
    refusal = barred_access(identity, roles, target, env)
    if refusal is not None:
        return refusal
    resource = resource_of(target)
    grants, labels = roles.grants(PROTOCOLS[resource.kind]), labels_of(resource)
    match target:
        case SshLogin():
            return check(grants, labels, ssh.demands(target), identity, env)
        case OpenDesktop():
            return check(grants, labels, desktop.demands(target), identity, env)
        case ConnectApp():
            return check(grants, labels, app.demands(target), identity, env)
        case EnterCluster():
            return cluster.enter(grants, labels, env)
        case ConnectDatabase():
            auto = db.auto_user(grants, labels, env)
            asked = db.named(target, identity, auto)
            if isinstance(asked, Decision):
                return asked
            demands = db.demands(asked, auto)
            decision = db.with_roles(check(grants, labels, demands, identity, env), asked, auto)
            decision = db.with_objects(decision, asked, grants, env, roles.traits)
            return dbpolicy.restricted(decision, grants, labels, demands)
        case UseKube():
            decision = check(grants, labels, (), identity, env)
            if decision:
                decision = kube.as_principals(decision, target, kube.granted(grants, labels, env))
            if not decision or target.object is None:
                return decision
            about = kube.check_object(grants, labels, target.object, env)
            return (
                Decision(True, (*decision.reasons, *about.reasons), principals=decision.principals)
                if about
                else about
            )


def _decide_rule(identity: Identity, roles: RoleSet, target: UseRule, env: Environment) -> Decision:
    """A certificate restricted to resources keeps only the rules that everybody has."""
    compiled = roles.compiled
    what = f"{target.kind} {target.verb}"
    for role in compiled:
        for rule in role.deny_rules:
            if rule.denies(target, identity) and role.deny_in_force(env):
                reasons = (f"role {role.name}: deny.rules {what}",)
                return Decision(False, reasons, log=rule.lines(target, identity))
    if identity.allowed_resources is not None:
        compiled = compiled[-1:]
    for role in compiled:
        for rule in role.allow_rules:
            if rule.allows(target, identity) and role.in_force(env):
                reasons = (f"role {role.name}: allow.rules {what}",)
                return Decision(True, reasons, log=rule.lines(target, identity))
    return _NO_RULE
