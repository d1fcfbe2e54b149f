"""What is found and how it is marked: discovery, integrations, object import rules, crown jewels."""

from typing import Any, Literal

from pkgs.common.resources.metadata import Base, Spec
from pkgs.common.resources.role import Labels, LabelValues


class AwsAssumeRole(Spec, frozen=True, kw_only=True):
    role_arn: str = ""
    external_id: str = ""
    role_name: str = ""


class InstallParams(Spec, frozen=True, kw_only=True):
    join_method: str = ""
    join_token: str = ""
    script_name: str = ""
    install_teleport: bool = True
    sshd_config: str = ""
    proxy_addr: str = ""
    enroll_mode: str | int = ""
    suffix: str = ""
    update_group: str = ""


class AwsMatcher(Spec, frozen=True, kw_only=True):
    types: list[str]
    regions: list[str] = []
    assume_role: AwsAssumeRole | None = None
    tags: Labels = {}
    install: InstallParams | None = None
    ssm: dict[str, str] = {}
    integration: str = ""
    kube_app_discovery: bool = False
    setup_access_for_arn: str = ""


class AzureMatcher(Spec, frozen=True, kw_only=True):
    types: list[str]
    subscriptions: list[str] = []
    resource_groups: list[str] = []
    regions: list[str] = []
    tags: Labels = {}
    install_params: InstallParams | None = None
    integration: str = ""


class GcpMatcher(Spec, frozen=True, kw_only=True):
    types: list[str]
    project_ids: list[str] = []
    locations: list[str] = []
    labels: Labels = {}
    service_accounts: list[str] = []
    install_params: InstallParams | None = None


class KubeMatcher(Spec, frozen=True, kw_only=True):
    types: list[str]
    namespaces: list[str] = []
    labels: Labels = {}


class DiscoveryConfigSpec(Spec, frozen=True, kw_only=True):
    discovery_group: str
    aws: list[AwsMatcher] = []
    azure: list[AzureMatcher] = []
    gcp: list[GcpMatcher] = []
    kube: list[KubeMatcher] = []
    access_graph: dict[str, Any] | None = None
    """Kept as it is: nothing here reads it."""


class DiscoveryConfig(Base, frozen=True, kw_only=True, tag="discovery_config"):
    version: str = "v1"
    spec: DiscoveryConfigSpec


class AwsOidcIntegration(Spec, frozen=True, kw_only=True):
    role_arn: str
    issuer_s3_uri: str = ""
    audience: str = ""


class AzureOidcIntegration(Spec, frozen=True, kw_only=True):
    tenant_id: str
    client_id: str


class GithubIntegration(Spec, frozen=True, kw_only=True):
    organization: str


class RolesAnywhereIntegration(Spec, frozen=True, kw_only=True):
    trust_anchor_arn: str


class IntegrationSpec(Spec, frozen=True, kw_only=True):
    aws_oidc: AwsOidcIntegration | None = None
    azure_oidc: AzureOidcIntegration | None = None
    github: GithubIntegration | None = None
    aws_ra: RolesAnywhereIntegration | None = None


class Integration(Base, frozen=True, kw_only=True, tag="integration"):
    sub_kind: Literal["aws-oidc", "azure-oidc", "github", "aws-ra"]
    version: str = "v1"
    spec: IntegrationSpec


_RELATION = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"})
OBJECT_PERMISSIONS = {"table": _RELATION, "view": _RELATION, "procedure": frozenset({"EXECUTE"})}
"""Kinds of objects inside databases, and what can be permitted on each, in PostgreSQL's words."""
EVERY_PERMISSION = "*"
"""In deny alone."""


class ObjectMatch(Spec, frozen=True, kw_only=True):
    table_names: list[str] = []
    view_names: list[str] = []
    procedure_names: list[str] = []


class ObjectScope(Spec, frozen=True, kw_only=True):
    database_names: list[str] = []
    schema_names: list[str] = []


class ObjectMapping(Spec, frozen=True, kw_only=True):
    match: ObjectMatch
    scope: ObjectScope = ObjectScope()
    add_labels: dict[str, str] = {}


class ImportRuleSpec(Spec, frozen=True, kw_only=True):
    priority: int = 0
    database_labels: list[LabelValues]
    mappings: list[ObjectMapping]


class DbObjectImportRule(Base, frozen=True, kw_only=True, tag="db_object_import_rule"):
    version: str = "v1"
    spec: ImportRuleSpec


class JewelMatcher(Spec, frozen=True, kw_only=True):
    kinds: list[str]
    names: list[str] = []
    labels: list[LabelValues] = []


class AwsJewelMatcher(Spec, frozen=True, kw_only=True):
    types: list[str]
    regions: list[str] = []
    arns: list[str] = []
    tags: list[dict[str, Any]] = []


class CrownJewelSpec(Spec, frozen=True, kw_only=True):
    teleport_matchers: list[JewelMatcher] = []
    aws_matchers: list[AwsJewelMatcher] = []
    query: str = ""


class CrownJewel(Base, frozen=True, kw_only=True, tag="crown_jewel"):
    version: str = "v1"
    spec: CrownJewelSpec
