"""What tokens, bots, devices and workload identities may look like."""

from __future__ import annotations

import re

from pkgs.common.errors import InputError
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import (
    Bot,
    Device,
    SpiffeFederation,
    Token,
    WorkloadIdentity,
    WorkloadIdentityIssuerOverride,
    WorkloadIdentityRevocation,
)
from pkgs.common.resources.names import TOKEN_ROLES, valid_cluster_name, valid_host_id
from pkgs.common.resources.strict import suggest
from pkgs.common.resources.validate import words

MAX_BOT_TTL_S = 168 * 3600.0
MAX_X509_TTL_S = 14 * 86400.0
MAX_JWT_TTL_S = 86400.0
_BOT_NAME = re.compile(r"[A-Za-z0-9+_.-]{1,50}", re.ASCII)
_SERIAL = re.compile(r"[0-9a-f]{1,64}", re.ASCII)

_ALLOW: dict[str, frozenset[str]] = {
    method: frozenset(keys.split())
    for method, keys in {
        "azure": "subscription resource_groups tenant",
        "azure_devops": "sub project_name pipeline_name project_id definition_id repository_uri"
        " repository_version repository_ref",
        "gcp": "project_ids locations service_accounts",
        "github": "sub repository repository_owner workflow environment actor ref ref_type",
        "gitlab": "sub ref ref_type namespace_path project_path pipeline_source environment user_login"
        " user_id user_email ref_protected environment_protected ci_config_sha ci_config_ref_uri"
        " deployment_tier project_visibility",
        "circleci": "project_id context_id",
        "bitbucket": "workspace_uuid repository_uuid deployment_environment_uuid branch_name",
        "kubernetes": "service_account",
        "spacelift": "space_id caller_id caller_type scope",
        "terraform_cloud": "organization_id organization_name project_id project_name workspace_id"
        " workspace_name run_phase",
        "tpm": "description ek_public_hash ek_certificate_serial",
        "oracle": "tenancy parent_compartments regions",
    }.items()
}
"""Join method to the keys that an entry of its `allow` may have."""


def check_token(token: Token, where: str) -> None:
    # The name of a token may be its secret: no error says it.
    del where
    spec = token.spec
    known = {role.lower() for role in TOKEN_ROLES}
    allowed = f"allowed: {', '.join(TOKEN_ROLES)}"
    if not spec.roles:
        raise InputError("token: spec.roles: missing", hint=allowed)
    for role in spec.roles:
        if role.lower() not in known:
            raise InputError(f"token: spec.roles: {words.short(role)!r} is no system role", hint=allowed)
    is_bot = any(role.lower() == "bot" for role in spec.roles)
    if is_bot and not spec.bot_name:
        raise InputError("token: spec.bot_name: missing", hint="role Bot joins as one named bot")
    if spec.bot_name and not is_bot:
        raise InputError("token: spec.bot_name: only with role Bot")
    if spec.join_method in {"ec2", "iam"}:
        words.filled(spec.allow, "token: spec.allow", f"method {spec.join_method} needs one entry or more")
    elif spec.allow:
        raise InputError("token: spec.allow: only for methods ec2 and iam")
    parse_duration(spec.aws_iid_ttl, "token: spec.aws_iid_ttl")
    for index, entry in enumerate(spec.allow):
        if not entry.aws_account and not entry.aws_arn:
            raise InputError(f"token: spec.allow[{index}]: neither aws_account nor aws_arn")
    _check_method(token)


def _check_method(token: Token) -> None:
    spec = token.spec
    for method, keys in _ALLOW.items():
        block = getattr(spec, method)
        at = f"token: spec.{method}"
        if method != spec.join_method:
            if block is not None:
                raise InputError(f"{at}: the join method is {spec.join_method}")
            continue
        if block is None:
            raise InputError(f"{at}: missing", hint=f"join method {method} needs it")
        words.filled(block.allow, f"{at}.allow", "without an entry nobody could join")
        for index, entry in enumerate(block.allow):
            words.filled(entry, f"{at}.allow[{index}]", "an empty entry would let everybody join")
            for key, value in entry.items():
                if key not in keys:
                    raise InputError(
                        f"{at}.allow[{index}].{words.short(key)}: unknown key",
                        hint=suggest(key, sorted(keys)),
                    )
                words.filled(value is not None and value != "" and value != [], f"{at}.allow[{index}].{key}")
    if spec.join_method == "bound_keypair" and spec.bound_keypair is None:
        raise InputError("token: spec.bound_keypair: missing")
    if spec.github is not None and spec.github.enterprise_server_host and spec.github.enterprise_slug:
        raise InputError("token: spec.github: enterprise_server_host and enterprise_slug exclude each other")
    kube = spec.kubernetes
    if kube is not None:
        if kube.type == "static_jwks":
            words.filled(kube.static_jwks, "token: spec.kubernetes.static_jwks")
        if kube.type == "oidc":
            words.filled(kube.oidc, "token: spec.kubernetes.oidc")


def check_bot(bot: Bot, where: str) -> None:
    if not _BOT_NAME.fullmatch(bot.name):
        raise InputError(f"{where}: metadata.name: not the name of a bot", hint="letters, digits, + _ . -")
    ttl = parse_duration(bot.spec.max_session_ttl, f"{where}: spec.max_session_ttl")
    if ttl > MAX_BOT_TTL_S:
        raise InputError(f"{where}: spec.max_session_ttl: at most 168h")
    if any(not role for role in bot.spec.roles):
        raise InputError(f"{where}: spec.roles: an empty name")


def check_device(device: Device, where: str) -> None:
    if not valid_host_id(device.name):
        raise InputError(f"{where}: metadata.name: expected a UUID")
    words.filled(device.spec.asset_tag, f"{where}: spec.asset_tag")


def check_workload_identity(identity: WorkloadIdentity, where: str) -> None:
    spiffe = identity.spec.spiffe
    if not spiffe.id.startswith("/"):
        raise InputError(f"{where}: spec.spiffe.id: starts with /")
    for name, text, most in (
        ("x509", spiffe.x509.maximum_ttl, MAX_X509_TTL_S),
        ("jwt", spiffe.jwt.maximum_ttl, MAX_JWT_TTL_S),
    ):
        at = f"{where}: spec.spiffe.{name}.maximum_ttl"
        if parse_duration(text, at) > most:
            raise InputError(f"{at}: at most {int(most // 3600)}h")
    for index, rule in enumerate(identity.spec.rules.allow):
        at = f"{where}: spec.rules.allow[{index}]"
        words.exactly_one({"conditions": rule.conditions, "expression": rule.expression}, at)
        for number, condition in enumerate(rule.conditions):
            given: dict[str, object] = {
                "eq": condition.eq,
                "not_eq": condition.not_eq,
                "in": condition.in_,
                "not_in": condition.not_in,
            }
            words.exactly_one(given, f"{at}.conditions[{number}]")


def check_revocation(revocation: WorkloadIdentityRevocation, where: str) -> None:
    if not _SERIAL.fullmatch(revocation.name):
        raise InputError(f"{where}: metadata.name: expected a serial number in lower-case hex")


def check_issuer_override(override: WorkloadIdentityIssuerOverride, where: str) -> None:
    if override.name != "default":
        raise InputError(f"{where}: metadata.name: there is only one, named default")
    words.filled(override.spec.overrides, f"{where}: spec.overrides")


def check_federation(federation: SpiffeFederation, where: str) -> None:
    if not valid_cluster_name(federation.name):
        raise InputError(f"{where}: metadata.name: not a trust domain")
    source = federation.spec.bundle_source
    words.exactly_one(
        {"https_web": source.https_web, "static": source.static}, f"{where}: spec.bundle_source"
    )
    if source.https_web is not None:
        words.url(source.https_web.bundle_endpoint_url, ("https",), f"{where}: spec.bundle_source.https_web")
