"""`role`: what its holders may do. Field facts and defaults: the field's own role documentation."""

from typing import Literal

import msgspec

from pkgs.common.resources.metadata import Base, Spec

Labels = dict[str, str | list[str]]
"""Label selector: a value or a list of values per key; `'*': '*'` matches everything."""


class LabelValues(Spec, frozen=True, kw_only=True):
    """A label and its values, as the newer kinds write a selector: a list of these."""

    name: str
    values: list[str]


class PortForwardingMode(Spec, frozen=True, kw_only=True):
    enabled: bool | None = None
    """None: this role does not say."""


class SshPortForwarding(Spec, frozen=True, kw_only=True):
    local: PortForwardingMode = PortForwardingMode()
    remote: PortForwardingMode = PortForwardingMode()


class RecordSession(Spec, frozen=True, kw_only=True):
    default: Literal["best_effort", "strict"] = "best_effort"
    ssh: Literal["", "best_effort", "strict"] = ""
    desktop: bool = True


class CertExtension(Spec, frozen=True, kw_only=True):
    """A custom extension of SSH user certificates."""

    name: str
    value: str
    type: Literal["ssh"] = "ssh"
    mode: Literal["extension"] = "extension"


class SamlIdpOption(Spec, frozen=True, kw_only=True):
    enabled: bool = True


class IdpOptions(Spec, frozen=True, kw_only=True):
    saml: SamlIdpOption = SamlIdpOption()


class RoleOptions(Spec, frozen=True, kw_only=True):
    max_session_ttl: str = "30h0m0s"
    cert_format: Literal["standard", "oldssh"] = "standard"
    forward_agent: bool = False
    port_forwarding: bool | None = None
    ssh_port_forwarding: SshPortForwarding | None = None
    ssh_file_copy: bool = True
    permit_x11_forwarding: bool = False
    client_idle_timeout: str = ""
    disconnect_expired_cert: bool = False
    max_sessions: int = 0
    max_connections: int = 0
    max_kubernetes_connections: int = 0
    max_db_connections: int = 0
    enhanced_recording: tuple[Literal["command", "disk", "network"], ...] = ("command", "network")
    record_session: RecordSession = RecordSession()
    lock: Literal["", "strict", "best_effort"] = ""
    require_session_mfa: bool | str = False
    pin_source_ip: bool = False
    mfa_verification_interval: str = ""
    device_trust_mode: Literal["", "off", "optional", "required"] = ""
    request_access: Literal["", "optional", "reason", "always"] = ""
    request_prompt: str = ""
    cert_extensions: list[CertExtension] = []
    desktop_clipboard: bool = True
    desktop_directory_sharing: bool = True
    web_terminal_clipboard_mode: Literal["", "unrestricted", "no-copy"] = ""
    create_desktop_user: bool = False
    create_host_user: bool | None = None
    create_host_user_mode: Literal["", "off", "keep", "insecure-drop"] = ""
    create_host_user_default_shell: str = ""
    force_command: str = ""
    """Run instead of whatever is asked for over SSH. Not of the field."""
    create_db_user: bool | None = None
    create_db_user_mode: Literal["", "off", "keep", "best_effort_drop"] = ""
    idp: IdpOptions = IdpOptions()


class Rule(Spec, frozen=True, kw_only=True):
    """Permission on the API's resources by kind and verb."""

    resources: list[str]
    verbs: list[str]
    where: str = ""
    actions: list[str] = []


class KubernetesResource(Spec, frozen=True, kw_only=True):
    kind: str
    namespace: str = ""
    name: str = ""
    api_group: str = ""
    verbs: list[str] = []


class DbPermission(Spec, frozen=True, kw_only=True):
    """Permissions on the database objects whose labels match."""

    match: Labels = {}
    permissions: list[str]


class AccountAssignment(Spec, frozen=True, kw_only=True):
    account: str
    permission_set: str


class GithubPermission(Spec, frozen=True, kw_only=True):
    orgs: list[str] = []


class McpPermission(Spec, frozen=True, kw_only=True):
    tools: list[str] = []


class Impersonate(Spec, frozen=True, kw_only=True):
    users: list[str] = []
    roles: list[str] = []
    where: str = ""


SessionKind = Literal["ssh", "k8s", "db", "app", "desktop", "*"]
SessionMode = Literal["observer", "moderator", "peer", "*"]


class JoinPolicy(Spec, frozen=True, kw_only=True):
    """Whose sessions the holder may join, and how."""

    name: str
    roles: list[str]
    kinds: list[SessionKind]
    modes: list[SessionMode] = []


class RequirePolicy(Spec, frozen=True, kw_only=True):
    """Who must be present while the holder has a session."""

    name: str
    filter: str = ""
    kinds: list[SessionKind]
    modes: list[SessionMode] = []
    count: int = 1
    on_leave: Literal["", "terminate", "pause"] = ""


class ClaimToRoles(Spec, frozen=True, kw_only=True):
    claim: str
    value: str
    roles: list[str]


class Threshold(Spec, frozen=True, kw_only=True):
    name: str = ""
    filter: str = ""
    approve: int = 1
    deny: int = 1


class RequestKind(Spec, frozen=True, kw_only=True):
    kind: str
    api_group: str = ""


class RequestReason(Spec, frozen=True, kw_only=True):
    mode: Literal["", "required", "optional"] = ""
    prompt: str = ""


class RequestConditions(Spec, frozen=True, kw_only=True):
    """What the holder may ask for."""

    roles: list[str] = []
    claims_to_roles: list[ClaimToRoles] = []
    search_as_roles: list[str] = []
    kubernetes_resources: list[RequestKind] = []
    thresholds: list[Threshold] = []
    suggested_reviewers: list[str] = []
    annotations: dict[str, list[str]] = {}
    max_duration: str = ""
    reason: RequestReason = RequestReason()


class ReviewConditions(Spec, frozen=True, kw_only=True):
    """Whose requests the holder may decide."""

    roles: list[str] = []
    claims_to_roles: list[ClaimToRoles] = []
    preview_as_roles: list[str] = []
    where: str = ""
    submit_for_users: list[str] = []


class SpiffeCondition(Spec, frozen=True, kw_only=True):
    path: str
    dns_sans: list[str] = []
    ip_sans: list[str] = []


class TimeWindow(Spec, frozen=True, kw_only=True):
    """Hours of a week, by the clocks of a time zone."""

    days: list[str] = []
    """`mon`, `sat-sun`; none: every day."""
    hours: str = ""
    """`08:00-18:00`; to an earlier hour: into the next day; empty: the whole day."""
    timezone: str = "UTC"
    """Name of the IANA time zone database: `Europe/Berlin`."""


class SshForwardRule(Spec, frozen=True, kw_only=True):
    """Where connections may be forwarded. Not of the field."""

    to: str = ""
    """An IP address or network, a host name, or a pattern of names."""
    unix: str = ""
    """In place of `to`: the path of a unix socket, or a pattern of paths."""
    ports: list[str] = []
    """`443`, `8000-8999`; none: all."""
    direction: Literal["local", "remote"] = "local"


class SshConditions(Spec, frozen=True, kw_only=True):
    """What SSH sessions may do beyond being opened. Not of the field."""

    commands: list[str] = []
    """Patterns of commands, and the words `shell` and `subsystem:NAME`."""
    forward: list[SshForwardRule] = []
    """Destinations of port forwarding."""


class DbMask(Spec, frozen=True, kw_only=True):
    """Columns whose values a database session does not get to see; `*` is any text. Not of the field."""

    column: str
    """A pattern of names."""
    table: str = "*"
    """A pattern: `table` of any schema, or `schema.table`."""
    text: str = "***"
    """Instead of a text; values of other types become NULL."""


class DbConditions(Spec, frozen=True, kw_only=True):
    """What database sessions may do beyond being opened. Not of the field."""

    read_only: bool = False
    mask: tuple[DbMask, ...] = ()
    mask_computed: bool = False
    """With masks: what a query computes is masked too, unless it is a number, a time or a yes or no."""
    rows_max: int = 0
    """Rows of one answer; 0: no limit."""
    bytes_max: int = 0
    """Bytes of rows of one answer; 0: no limit."""


UNRESTRICTED = DbConditions()


class Conditions(Spec, frozen=True, kw_only=True):
    """One side (allow or deny) of a role.

    Fields of protocols that no service speaks yet are accepted and kept, so that a role file written for
    the whole platform loads; they are decided upon, and nobody asks yet."""

    when: list[TimeWindow] = []
    """This side counts within these hours only; none: always. Not of the field."""
    source: list[str] = msgspec.field(default_factory=list, name="from")
    """This side counts for clients in these networks only, as IP addresses or CIDR; none: everywhere. Not of
    the field."""
    logins: list[str] = []
    node_labels: Labels = {}
    node_labels_expression: str = ""
    rules: list[Rule] = []
    namespaces: tuple[str, ...] = ("default",)
    app_labels: Labels = {}
    app_labels_expression: str = ""
    db_labels: Labels = {}
    db_labels_expression: str = ""
    db_service_labels: Labels = {}
    db_service_labels_expression: str = ""
    kubernetes_labels: Labels = {}
    kubernetes_labels_expression: str = ""
    windows_desktop_labels: Labels = {}
    windows_desktop_labels_expression: str = ""
    linux_desktop_labels: Labels = {}
    linux_desktop_labels_expression: str = ""
    linux_desktop_logins: list[str] = []
    cluster_labels: Labels = {}
    cluster_labels_expression: str = ""
    group_labels: Labels = {}
    group_labels_expression: str = ""
    workload_identity_labels: Labels = {}
    workload_identity_labels_expression: str = ""
    db_users: list[str] = []
    db_names: list[str] = []
    db_roles: list[str] = []
    kubernetes_groups: list[str] = []
    kubernetes_users: list[str] = []
    kubernetes_resources: list[KubernetesResource] = []
    windows_desktop_logins: list[str] = []
    desktop_groups: list[str] = []
    ssh: SshConditions = SshConditions()
    db: DbConditions | None = None
    """In allow only."""
    host_groups: list[str] = []
    host_sudoers: list[str] = []
    aws_role_arns: list[str] = []
    azure_identities: list[str] = []
    gcp_service_accounts: list[str] = []
    db_permissions: list[DbPermission] = []
    account_assignments: list[AccountAssignment] = []
    github_permissions: list[GithubPermission] = []
    mcp: McpPermission | None = None
    impersonate: Impersonate | None = None
    join_sessions: list[JoinPolicy] = []
    require_session_join: list[RequirePolicy] = []
    request: RequestConditions | None = None
    review_requests: ReviewConditions | None = None
    spiffe: list[SpiffeCondition] = []


class RoleSpec(Spec, frozen=True, kw_only=True):
    options: RoleOptions = RoleOptions()
    allow: Conditions = Conditions()
    deny: Conditions = Conditions()


class Role(Base, frozen=True, kw_only=True, tag="role"):
    version: str = "v7"
    spec: RoleSpec = RoleSpec()
