"""`token`: what lets a host, a bot or a cluster join, by any of the field's methods.

Only method `token` lets anybody in so far; the others are checked and stored."""

from datetime import datetime
from typing import Literal

from pkgs.common.resources.metadata import Base, Spec

JoinMethod = Literal[
    "token",
    "ec2",
    "iam",
    "azure",
    "azure_devops",
    "gcp",
    "github",
    "gitlab",
    "circleci",
    "bitbucket",
    "kubernetes",
    "spacelift",
    "terraform_cloud",
    "tpm",
    "oracle",
    "bound_keypair",
]
Allow = dict[str, str | bool | list[str]]
"""One entry of a method's `allow`: which keys it may have is said by the method's table in validate."""


class AwsAllow(Spec, frozen=True, kw_only=True):
    aws_account: str = ""
    aws_arn: str = ""
    aws_regions: list[str] = []
    aws_role: str = ""


class JoinRules(Spec, frozen=True, kw_only=True):
    """Methods that need nothing beside their `allow`: at least one entry must match."""

    allow: list[Allow]


class AzureDevopsRules(Spec, frozen=True, kw_only=True):
    organization_id: str
    allow: list[Allow]


class GithubRules(Spec, frozen=True, kw_only=True):
    enterprise_server_host: str = ""
    enterprise_slug: str = ""
    static_jwks: str = ""
    allow: list[Allow]


class GitlabRules(Spec, frozen=True, kw_only=True):
    domain: str = "gitlab.com"
    static_jwks: str = ""
    allow: list[Allow]


class CircleciRules(Spec, frozen=True, kw_only=True):
    organization_id: str
    allow: list[Allow]


class BitbucketRules(Spec, frozen=True, kw_only=True):
    audience: str
    identity_provider_url: str
    allow: list[Allow]


class StaticJwks(Spec, frozen=True, kw_only=True):
    jwks: str


class KubernetesOidc(Spec, frozen=True, kw_only=True):
    issuer: str
    insecure_allow_http_issuer: bool = False


class KubernetesRules(Spec, frozen=True, kw_only=True):
    type: Literal["in_cluster", "static_jwks", "oidc"] = "in_cluster"
    static_jwks: StaticJwks | None = None
    oidc: KubernetesOidc | None = None
    allow: list[Allow]


class SpaceliftRules(Spec, frozen=True, kw_only=True):
    hostname: str
    enable_glob_matching: bool = False
    allow: list[Allow]


class TerraformRules(Spec, frozen=True, kw_only=True):
    audience: str = ""
    hostname: str = "app.terraform.io"
    allow: list[Allow]


class TpmRules(Spec, frozen=True, kw_only=True):
    ekcert_allowed_cas: list[str] = []
    allow: list[Allow]


class Onboarding(Spec, frozen=True, kw_only=True):
    initial_public_key: str = ""
    registration_secret: str = ""
    must_register_before: datetime | None = None


class Recovery(Spec, frozen=True, kw_only=True):
    limit: int = 0
    mode: Literal["", "standard", "relaxed", "insecure"] = ""


class BoundKeypair(Spec, frozen=True, kw_only=True):
    onboarding: Onboarding = Onboarding()
    recovery: Recovery = Recovery()
    rotate_after: datetime | None = None


class TokenSpec(Spec, frozen=True, kw_only=True):
    roles: list[str]
    """System role names: Node, Proxy, ..."""
    join_method: JoinMethod = "token"
    bot_name: str = ""
    suggested_labels: dict[str, list[str]] = {}
    suggested_agent_matcher_labels: dict[str, list[str]] = {}
    allow: list[AwsAllow] = []
    """Of methods iam and ec2."""
    aws_iid_ttl: str = ""
    azure: JoinRules | None = None
    azure_devops: AzureDevopsRules | None = None
    gcp: JoinRules | None = None
    github: GithubRules | None = None
    gitlab: GitlabRules | None = None
    circleci: CircleciRules | None = None
    bitbucket: BitbucketRules | None = None
    kubernetes: KubernetesRules | None = None
    spacelift: SpaceliftRules | None = None
    terraform_cloud: TerraformRules | None = None
    tpm: TpmRules | None = None
    oracle: JoinRules | None = None
    bound_keypair: BoundKeypair | None = None


class Token(Base, frozen=True, kw_only=True, tag="token"):
    """A join token. With method `token` its name is the secret."""

    version: str = "v2"
    spec: TokenSpec
