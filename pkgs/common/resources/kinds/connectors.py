"""Single sign-on: `github`, `oidc`, `saml`. Stored and checked; nobody logs in by them yet."""

from typing import Literal

from pkgs.common.resources.metadata import Base, Spec


class RedirectSettings(Spec, frozen=True, kw_only=True):
    allowed_https_hostnames: list[str] = []
    insecure_allowed_cidr_ranges: list[str] = []


class TeamRoles(Spec, frozen=True, kw_only=True):
    organization: str
    team: str
    roles: list[str]


class GithubSpec(Spec, frozen=True, kw_only=True):
    client_id: str
    client_secret: str = ""
    redirect_url: str = ""
    display: str = ""
    teams_to_roles: list[TeamRoles] = []
    endpoint_url: str = "https://github.com"
    api_endpoint_url: str = "https://api.github.com"
    client_redirect_settings: RedirectSettings | None = None
    user_matchers: list[str] = []


class Github(Base, frozen=True, kw_only=True, tag="github"):
    version: str = "v3"
    spec: GithubSpec


class ClaimRoles(Spec, frozen=True, kw_only=True):
    claim: str
    value: str
    roles: list[str]


class OidcMfa(Spec, frozen=True, kw_only=True):
    enabled: bool = False
    client_id: str = ""
    client_secret: str = ""
    acr_values: str = ""
    prompt: str = ""
    max_age: str = ""
    request_object_mode: str = ""


class OidcSpec(Spec, frozen=True, kw_only=True):
    issuer_url: str
    client_id: str
    client_secret: str = ""
    redirect_url: str | list[str] = []
    scope: list[str] = []
    display: str = ""
    claims_to_roles: list[ClaimRoles] = []
    username_claim: str = ""
    prompt: str | None = None
    """None: `select_account`; empty: left out."""
    acr_values: str = ""
    provider: str = ""
    allow_unverified_email: bool = False
    max_age: str = ""
    pkce_mode: Literal["", "enabled", "disabled"] = ""
    request_object_mode: Literal["", "none", "signed"] = ""
    google_admin_email: str = ""
    google_service_account: str = ""
    google_service_account_uri: str = ""
    entra_id_groups_provider: dict[str, str | bool] = {}
    mfa: OidcMfa | None = None
    client_redirect_settings: RedirectSettings | None = None
    user_matchers: list[str] = []


class Oidc(Base, frozen=True, kw_only=True, tag="oidc"):
    version: str = "v3"
    spec: OidcSpec


class AttributeRoles(Spec, frozen=True, kw_only=True):
    name: str
    value: str
    roles: list[str]


class CertKeyPair(Spec, frozen=True, kw_only=True):
    cert: str = ""
    private_key: str = ""


class SamlMfa(Spec, frozen=True, kw_only=True):
    enabled: bool = False
    entity_descriptor: str = ""
    entity_descriptor_url: str = ""
    force_reauth: str | bool = ""
    issuer: str = ""
    sso: str = ""
    cert: str = ""


class SamlSpec(Spec, frozen=True, kw_only=True):
    acs: str
    entity_descriptor: str = ""
    entity_descriptor_url: str = ""
    issuer: str = ""
    sso: str = ""
    cert: str = ""
    audience: str = ""
    service_provider_issuer: str = ""
    attributes_to_roles: list[AttributeRoles] = []
    display: str = ""
    provider: str = ""
    signing_key_pair: CertKeyPair | None = None
    assertion_key_pair: CertKeyPair | None = None
    allow_idp_initiated: bool = False
    single_logout_url: str = ""
    force_authn: str | bool = ""
    preferred_request_binding: Literal["", "http-redirect", "http-post"] = "http-redirect"
    mfa: SamlMfa | None = None
    client_redirect_settings: RedirectSettings | None = None
    user_matchers: list[str] = []


class Saml(Base, frozen=True, kw_only=True, tag="saml"):
    version: str = "v2"
    spec: SamlSpec
