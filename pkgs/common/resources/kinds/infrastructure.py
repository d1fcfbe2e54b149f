"""What is protected beside servers: `app`, `db`, `kube_cluster` and desktops, and which agents serve it."""

from typing import Any, Literal

import msgspec

from pkgs.common.resources.kinds.servers import CommandLabel
from pkgs.common.resources.metadata import Base, Spec
from pkgs.common.resources.role import Labels, LabelValues


class Header(Spec, frozen=True, kw_only=True):
    name: str
    value: str


class Rewrite(Spec, frozen=True, kw_only=True):
    headers: list[Header] = []
    redirect: list[str] = []
    jwt_claims: Literal["", "roles-and-traits", "roles", "traits", "none"] = ""


class RolesAnywhereProfile(Spec, frozen=True, kw_only=True):
    profile_arn: str = ""
    accept_role_session_name: bool = False


class AppAws(Spec, frozen=True, kw_only=True):
    external_id: str = ""
    roles_anywhere_profile: RolesAnywhereProfile | None = None


class Cors(Spec, frozen=True, kw_only=True):
    allowed_origins: list[str] = []
    allowed_methods: list[str] = []
    allowed_headers: list[str] = []
    exposed_headers: list[str] = []
    allow_credentials: bool = False
    max_age: int = 0
    """Seconds."""


class PortRange(Spec, frozen=True, kw_only=True):
    port: int
    end_port: int = 0


class Mcp(Spec, frozen=True, kw_only=True):
    command: str
    args: list[str] = []
    run_as_host_user: str = ""


class AppTls(Spec, frozen=True, kw_only=True):
    mode: str = ""
    server_name: str = ""
    allowed_cas: list[str] = []
    client_cert_mode: str = ""
    server_spiffe_id: str = ""


class AppSpec(Spec, frozen=True, kw_only=True):
    uri: str = ""
    public_addr: str = ""
    """Empty: `<name>.<proxy host>`."""
    dynamic_labels: dict[str, CommandLabel] = {}
    insecure_skip_verify: bool = False
    rewrite: Rewrite | None = None
    aws: AppAws | None = None
    cloud: str = ""
    integration: str = ""
    required_app_names: list[str] = []
    cors: Cors | None = None
    tcp_ports: list[PortRange] = []
    use_any_proxy_public_addr: bool = False
    mcp: Mcp | None = None
    tls: AppTls | None = None
    user_groups: list[str] = msgspec.field(default_factory=list, name="UserGroups")


class App(Base, frozen=True, kw_only=True, tag="app"):
    version: str = "v3"
    spec: AppSpec


class DbTls(Spec, frozen=True, kw_only=True):
    mode: Literal["verify-full", "verify-ca", "insecure"] = "verify-full"
    ca_cert: str = ""
    server_name: str = ""
    trust_system_cert_pool: bool = False


class DbAdmin(Spec, frozen=True, kw_only=True):
    name: str = ""
    default_database: str = ""


class DbMysql(Spec, frozen=True, kw_only=True):
    server_version: str = ""


class DbAtlas(Spec, frozen=True, kw_only=True):
    name: str = ""


class DbOracle(Spec, frozen=True, kw_only=True):
    audit_user: str = ""
    retry_count: int = 2
    shuffle_hostnames: bool = False


class DbAd(Spec, frozen=True, kw_only=True):
    keytab_file: str = ""
    krb5_file: str = "/etc/krb5.conf"
    domain: str = ""
    spn: str = ""
    ldap_cert: str = ""
    kdc_host_name: str = ""
    ldap_service_account_name: str = ""
    ldap_service_account_sid: str = ""


class AwsSecretStore(Spec, frozen=True, kw_only=True):
    key_prefix: str = ""
    kms_key_id: str = ""


class DbAws(Spec, frozen=True, kw_only=True):
    region: str = ""
    account_id: str = ""
    assume_role_arn: str = ""
    external_id: str = ""
    session_tags: dict[str, str] = {}
    secret_store: AwsSecretStore | None = None
    iam_policy_status: str = ""
    rds: dict[str, Any] = {}
    """The blocks of AWS products are facts that discovery writes; they are kept as they are."""
    rdsproxy: dict[str, Any] = {}
    redshift: dict[str, Any] = {}
    redshift_serverless: dict[str, Any] = {}
    elasticache: dict[str, Any] = {}
    elasticache_serverless: dict[str, Any] = {}
    memorydb: dict[str, Any] = {}
    opensearch: dict[str, Any] = {}
    docdb: dict[str, Any] = {}


class AlloyDb(Spec, frozen=True, kw_only=True):
    endpoint_type: Literal["", "private", "public", "psc"] = ""
    endpoint_override: str = ""


class DbGcp(Spec, frozen=True, kw_only=True):
    project_id: str = ""
    instance_id: str = ""
    alloydb: AlloyDb | None = None


class AzureRedis(Spec, frozen=True, kw_only=True):
    clustering_policy: str = ""


class DbAzure(Spec, frozen=True, kw_only=True):
    name: str = ""
    resource_id: str = ""
    redis: AzureRedis | None = None
    is_flexi_server: bool = False


class DatabaseSpec(Spec, frozen=True, kw_only=True):
    protocol: str
    uri: str
    tls: DbTls = DbTls()
    dynamic_labels: dict[str, CommandLabel] = {}
    admin_user: DbAdmin | None = None
    mysql: DbMysql | None = None
    mongo_atlas: DbAtlas | None = None
    oracle: DbOracle | None = None
    ad: DbAd | None = None
    aws: DbAws | None = None
    gcp: DbGcp | None = None
    azure: DbAzure | None = None


class Database(Base, frozen=True, kw_only=True, tag="db"):
    version: str = "v3"
    spec: DatabaseSpec


class TargetHealth(Spec, frozen=True, kw_only=True):
    """What an agent's last health check of a server came to."""

    status: Literal["", "unknown", "healthy", "unhealthy"] = ""
    message: str = ""
    """Why; for an unhealthy one."""


class DatabaseServerSpec(Spec, frozen=True, kw_only=True):
    version: str = ""
    """Of the agent."""
    hostname: str = ""
    host_id: str
    database: Database
    proxy_ids: list[str] = []
    target_health: TargetHealth = TargetHealth()


class DatabaseServer(Base, frozen=True, kw_only=True, tag="db_server"):
    """An agent serving a database: presence with a TTL. `sub_kind` is the agent's host id, for several agents
    may serve databases of one name; the name is the database's."""

    version: str = "v3"
    spec: DatabaseServerSpec


class DatabaseMatcher(Spec, frozen=True, kw_only=True):
    labels: Labels = {}


class DatabaseServiceSpec(Spec, frozen=True, kw_only=True):
    resources: list[DatabaseMatcher] = []
    """Which dynamic databases the agent takes."""
    hostname: str = ""
    version: str = ""


class DatabaseService(Base, frozen=True, kw_only=True, tag="db_service"):
    """A Database Service that runs; the name is its host id."""

    version: str = "v1"
    spec: DatabaseServiceSpec = DatabaseServiceSpec()


class KubeAzure(Spec, frozen=True, kw_only=True):
    resource_name: str = ""
    resource_group: str = ""
    tenant_id: str = ""
    subscription_id: str = ""


class KubeAws(Spec, frozen=True, kw_only=True):
    region: str = ""
    account_id: str = ""
    name: str = ""


class KubeGcp(Spec, frozen=True, kw_only=True):
    location: str = ""
    project_id: str = ""
    name: str = ""


class KubeClusterSpec(Spec, frozen=True, kw_only=True):
    kubeconfig: str = ""
    """Base64; a secret."""
    dynamic_labels: dict[str, CommandLabel] = {}
    azure: KubeAzure | None = None
    aws: KubeAws | None = None
    gcp: KubeGcp | None = None


class KubeCluster(Base, frozen=True, kw_only=True, tag="kube_cluster"):
    version: str = "v3"
    spec: KubeClusterSpec = KubeClusterSpec()


class ScreenSize(Spec, frozen=True, kw_only=True):
    width: int
    height: int


class DynamicDesktopSpec(Spec, frozen=True, kw_only=True):
    addr: str
    domain: str = ""
    non_ad: bool = False
    screen_size: ScreenSize | None = None


class DynamicWindowsDesktop(Base, frozen=True, kw_only=True, tag="dynamic_windows_desktop"):
    """Picked up by the desktop services whose matchers fit its labels."""

    version: str = "v1"
    spec: DynamicDesktopSpec


class WindowsDesktopSpec(DynamicDesktopSpec, frozen=True, kw_only=True):
    host_id: str = ""


class WindowsDesktop(Base, frozen=True, kw_only=True, tag="windows_desktop"):
    version: str = "v3"
    spec: WindowsDesktopSpec


class HealthMatch(Spec, frozen=True, kw_only=True):
    db_labels: list[LabelValues] = []
    db_labels_expression: str = ""
    kubernetes_labels: list[LabelValues] = []
    kubernetes_labels_expression: str = ""
    disabled: bool = False


class HealthCheckSpec(Spec, frozen=True, kw_only=True):
    match: HealthMatch = HealthMatch()
    interval: str = "30s"
    timeout: str = "5s"
    healthy_threshold: int = 2
    unhealthy_threshold: int = 1


class HealthCheckConfig(Base, frozen=True, kw_only=True, tag="health_check_config"):
    version: str = "v1"
    spec: HealthCheckSpec = HealthCheckSpec()
