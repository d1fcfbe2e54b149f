"""The question and the answer of the one decision function.

A question is a subject (a verified identity with its current roles), a target and an environment. The
answer carries its reasons, so that explaining costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pkgs.common.access.dbobjects import ObjectPermissions
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import (
    App,
    AuthPreference,
    Database,
    DynamicWindowsDesktop,
    KubeCluster,
    Lock,
    Node,
    RemoteCluster,
    Resource,
    WindowsDesktop,
)
from pkgs.common.resources.role import UNRESTRICTED, DbConditions, Role


@dataclass(frozen=True, slots=True)
class Subject:
    """A verified identity with the roles it holds now (not as they were when it was issued)."""

    identity: Identity
    roles: Sequence[Role]


@dataclass(frozen=True, slots=True)
class Environment:
    """What else the answer depends on; given by the caller, never looked up."""

    now: float
    """Unix seconds."""
    cluster: str = ""
    """The cluster that decides; empty: that of the identity. Resource ids name it."""
    source_addr: str = ""
    """The client's IP address as far as the asking service knows it for certain."""
    server_id: str = ""
    """Host id of the service that asks, for locks on servers."""
    locks: Sequence[Lock] = ()
    locks_stale_s: float = 0.0
    """Age of the view of the locks; in strict locking mode an old one refuses everything."""
    auth_preference: AuthPreference | None = None
    live: bool = False
    """Asked again for what was allowed before and goes on: an expired certificate alone does not end it."""
    accompanied: bool = False
    """Whoever asks sees to the company that a role requires: nothing runs before it is there."""


@dataclass(frozen=True, slots=True)
class SshLogin:
    """Open an SSH session (shell, exec, file transfer) on a node as an OS login."""

    node: Node
    login: str


@dataclass(frozen=True, slots=True)
class ConnectDatabase:
    """Open a session on a database as one of its users."""

    db: Database
    user: str
    name: str = ""
    """Database inside the server, where its protocol has such."""
    roles: tuple[str, ...] | None = None
    """Database roles wanted for a user that is made on demand; None: all that are granted."""


@dataclass(frozen=True, slots=True)
class ConnectApp:
    """Reach an application; with an identity of a cloud, use its console or API as that identity."""

    app: App
    aws_role_arn: str = ""
    azure_identity: str = ""
    gcp_service_account: str = ""
    mcp_tool: str = ""


@dataclass(frozen=True, slots=True)
class KubeObject:
    """An object of a Kubernetes cluster and what is done to it, as the Kubernetes API names them."""

    kind: str
    """Plural: `pods`, `deployments`."""
    verb: str
    namespace: str = ""
    """Empty: the kind has none."""
    name: str = ""
    """Empty: all of the kind."""
    api_group: str = ""


@dataclass(frozen=True, slots=True)
class UseKube:
    """Use a Kubernetes cluster, as a user and groups of it; with `object`, do that there."""

    kube: KubeCluster
    user: str = ""
    groups: tuple[str, ...] = ()
    """Those to impersonate; none: all that are granted."""
    object: KubeObject | None = None


@dataclass(frozen=True, slots=True)
class OpenDesktop:
    """Open a session on a Windows desktop as a login."""

    desktop: WindowsDesktop | DynamicWindowsDesktop
    login: str


@dataclass(frozen=True, slots=True)
class EnterCluster:
    """Be routed into a leaf cluster, which then decides by its own roles."""

    remote: RemoteCluster


@dataclass(frozen=True, slots=True)
class See:
    """List a resource, or be routed to it."""

    resource: Resource
    login: str = ""
    """What for, where it is known and locks may name it. It gives nothing and needs no role."""


@dataclass(frozen=True, slots=True)
class HostCert:
    """A host certificate that is asked for, as conditions of rules may know it."""

    principals: tuple[str, ...]
    cluster_name: str
    ttl: str
    """A duration, `1h0m0s`."""
    host_id: str = ""
    node_name: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True)
class UseRule:
    """Act on a kind of resource through the API: verb `read`, `list`, `create`, ..."""

    kind: str
    verb: str
    resource: Resource | None = None
    """The object, where it is known: `where` may ask about it."""
    owner: str = ""
    """User that the object belongs to: whose session it is."""
    participants: tuple[str, ...] = ()
    """Users who took part in the session that is asked for."""
    login: str = ""
    server_hostname: str = ""
    """Of that session."""
    host_cert: HostCert | None = None
    any_object: bool = False
    """Ask whether it could be allowed for some object that is not one's own session; each object is
    then asked for again. Conditions of allow rules count as true, of deny rules as false."""

    @property
    def knows_session(self) -> bool:
        return bool(self.owner or self.participants)

    @property
    def everyone(self) -> tuple[str, ...]:
        """Those who took part, the owner included."""
        if self.owner and self.owner not in self.participants:
            return (*self.participants, self.owner)
        return self.participants


Access = SshLogin | ConnectDatabase | ConnectApp | UseKube | OpenDesktop | EnterCluster
"""Using a resource, as somebody on it."""
Target = Access | See | UseRule


def resource_of(target: Access | See) -> Resource:
    """What it is that would be used or seen."""
    match target:
        case SshLogin():
            return target.node
        case See():
            return target.resource
        case ConnectDatabase():
            return target.db
        case ConnectApp():
            return target.app
        case UseKube():
            return target.kube
        case OpenDesktop():
            return target.desktop
        case EnterCluster():
            return target.remote


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed or not, and why. Deny unless a rule of this set of roles says otherwise."""

    allowed: bool
    reasons: tuple[str, ...] = field(default=())
    """For the log and for those entitled: role and field that decided."""
    needs: tuple[str, ...] = ()
    """Of a no that would be a yes with it: `mfa`, `device`."""
    principals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of a yes, what is granted on the resource beyond what was asked for, by field of the role:
    `kubernetes_groups`, `db_roles`, ..."""
    objects: ObjectPermissions | None = None
    """Of a yes to a database, what is granted on the objects inside it to a user made on demand; None: that
    is not for us to grant."""
    restrictions: DbConditions = UNRESTRICTED
    """Of a yes to a database session, what it is held to."""
    text: str = ""
    """What the refused one may read about it, a lock's message say; empty: only that it is refused."""

    log: tuple[tuple[str, str], ...] = ()
    """Level and line of each action of the rule that decided."""

    def __bool__(self) -> bool:
        return self.allowed
