"""What the fields of a role may hold beyond their types. Its languages are checked in the access room."""

from __future__ import annotations

from pkgs.common.errors import InputError
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds.discovery import EVERY_PERMISSION, OBJECT_PERMISSIONS
from pkgs.common.resources.names import SYSTEM_ROLES, valid_extension_name
from pkgs.common.resources.role import (
    CertExtension,
    Conditions,
    DbConditions,
    KubernetesResource,
    RequestConditions,
    Role,
    SpiffeCondition,
    Threshold,
)
from pkgs.common.resources.strict import suggest
from pkgs.common.resources.validate import rulekinds, words
from pkgs.common.resources.versions import MFA_MODES

MAX_REQUEST_S = 14 * 86400.0
"""Longest life of what an access request gives."""
MAX_POLICY_COUNT = 1000
MAX_DB_MASKS = 100
"""Of one role; each is asked about at the start of a session."""
MAX_DB_MASK_PATTERN = 256
MAX_DB_MASK_TEXT = 64
_OBJECT_PERMISSIONS = (*sorted(frozenset().union(*OBJECT_PERMISSIONS.values())), EVERY_PERMISSION)
_NO_WILDCARD = ("logins", "linux_desktop_logins", "db_roles")
_NO_WILDCARD_CLOUD = ("aws_role_arns", "azure_identities", "gcp_service_accounts")
KUBE_KINDS = frozenset(
    {
        *("*", "pod", "secret", "configmap", "namespace", "service", "serviceaccount", "kube_node"),
        *("persistentvolume", "persistentvolumeclaim", "deployment", "replicaset", "statefulset"),
        *("daemonset", "clusterrole", "kube_role", "clusterrolebinding", "rolebinding", "cronjob", "job"),
        *("certificatesigningrequest", "ingress"),
    }
)
_KUBE_VERBS = frozenset(
    {
        *("*", "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "exec"),
        "portforward",
    }
)


def check_role(role: Role, where: str) -> None:
    if role.name != role.name.strip() or not role.name.isprintable():
        # It would look like another role, in every listing and in every approval.
        raise InputError(f"{where}: metadata.name: begins or ends with a space, or has invisible characters")
    if role.name in {*SYSTEM_ROLES, "default-implicit-role"}:
        raise InputError(f"{where}: metadata.name: reserved for the system")
    _check_options(role, where)
    for side, conditions in (("allow", role.spec.allow), ("deny", role.spec.deny)):
        _check_conditions(role, conditions, side, f"{where}: spec.{side}")


def _check_options(role: Role, where: str) -> None:
    options = role.spec.options
    for name in ("max_session_ttl", "client_idle_timeout", "mfa_verification_interval"):
        parse_duration(getattr(options, name), f"{where}: spec.options.{name}")
    for name in ("max_sessions", "max_connections", "max_kubernetes_connections", "max_db_connections"):
        words.at_least(getattr(options, name), 0, f"{where}: spec.options.{name}")
    if options.force_command and not (options.force_command.strip() and options.force_command.isprintable()):
        raise InputError(f"{where}: spec.options.force_command: not one printable line")
    words.prose(options.request_prompt, f"{where}: spec.options.request_prompt")
    check_mfa(options.require_session_mfa, f"{where}: spec.options.require_session_mfa")
    names = [extension.name for extension in options.cert_extensions]
    for index, extension in enumerate(options.cert_extensions):
        _check_extension(extension, names, f"{where}: spec.options.cert_extensions[{index}]")


def check_mfa(value: bool | str, where: str) -> None:
    if not isinstance(value, bool) and value not in MFA_MODES:
        allowed = ", ".join(sorted(MFA_MODES - {""}))
        raise InputError(f"{where}: found {words.short(value)!r}", hint=f"allowed: {allowed}")


def _check_extension(extension: CertExtension, names: list[str], where: str) -> None:
    if not valid_extension_name(extension.name):
        raise InputError(
            f"{where}.name: not a name for an SSH extension of one's own", hint="for example login@github.com"
        )
    words.filled(extension.value, f"{where}.value")
    if names.count(extension.name) > 1:
        raise InputError(f"{where}.name: {words.short(extension.name)!r} is given twice")


def _check_conditions(role: Role, found: Conditions, side: str, where: str) -> None:
    allow = side == "allow"
    for name in found.__struct_fields__:
        if name.endswith("_labels"):
            words.selector(getattr(found, name), f"{where}.{name}")
    for name in (*_NO_WILDCARD, *_NO_WILDCARD_CLOUD) if allow else ():
        entries = getattr(found, name)
        if "*" in entries:
            hint = "name the logins, or {{internal.logins}}" if name == "logins" else "name each one"
            raise InputError(f"{where}.{name}[{entries.index('*')}]: '*' is not allowed", hint=hint)
    for index, rule in enumerate(found.rules):
        words.filled(rule.resources, f"{where}.rules[{index}].resources")
        words.filled(rule.verbs, f"{where}.rules[{index}].verbs")
    if not allow:
        rulekinds.check_denied(found.rules, where)
    for index, item in enumerate(found.kubernetes_resources):
        _check_kubernetes(role.version, item, f"{where}.kubernetes_resources[{index}]")
    if found.db_permissions and found.db_roles:
        raise InputError(f"{where}: db_permissions and db_roles exclude each other")
    for index, permission in enumerate(found.db_permissions):
        at = f"{where}.db_permissions[{index}]"
        words.selector(permission.match, f"{at}.match")
        words.filled(permission.permissions, f"{at}.permissions")
        if allow and EVERY_PERMISSION in permission.permissions:
            raise InputError(f"{at}.permissions: '*' is only allowed in deny")
        for number, name in enumerate(permission.permissions):
            if name.upper() not in _OBJECT_PERMISSIONS:
                raise InputError(
                    f"{at}.permissions[{number}]: {words.short(name)!r} is no permission on an object",
                    hint=suggest(name.upper(), _OBJECT_PERMISSIONS),
                )
        words.filled(permission.match, f"{at}.match", "{'*': '*'} is every object")
    if found.db is not None:
        _check_db(found.db, allow, f"{where}.db")
    impersonate = found.impersonate
    if impersonate is not None:
        if impersonate.where and not allow:
            raise InputError(f"{where}.impersonate.where: not allowed in deny")
        if impersonate.users and not impersonate.roles:
            raise InputError(f"{where}.impersonate.roles: missing", hint="users are impersonated with roles")
    for index, workload in enumerate(found.spiffe):
        _check_spiffe(workload, f"{where}.spiffe[{index}]")
    _check_sessions(found, where)
    _check_requests(found, where)


def _check_db(found: DbConditions, allow: bool, where: str) -> None:
    if not allow:
        raise InputError(
            f"{where}: not allowed in deny",
            hint="in allow it restricts, though other roles do not",
        )
    for name in ("rows_max", "bytes_max"):
        words.at_least(getattr(found, name), 0, f"{where}.{name}")
    if len(found.mask) > MAX_DB_MASKS:
        raise InputError(f"{where}.mask: {len(found.mask)} entries, at most {MAX_DB_MASKS}")
    for index, mask in enumerate(found.mask):
        at = f"{where}.mask[{index}]"
        for name in ("column", "table"):
            _check_mask_pattern(getattr(mask, name), f"{at}.{name}")
        if mask.table.count(".") > 1 or "" in mask.table.split("."):
            raise InputError(
                f"{at}.table: found {words.short(mask.table)!r}", hint="a table, or schema.table"
            )
        if len(mask.text) > MAX_DB_MASK_TEXT or not mask.text.isprintable():
            raise InputError(f"{at}.text: at most {MAX_DB_MASK_TEXT} printable characters")


def _check_mask_pattern(text: str, where: str) -> None:
    words.filled(text, where)
    if len(text) > MAX_DB_MASK_PATTERN or not text.isprintable():
        raise InputError(f"{where}: at most {MAX_DB_MASK_PATTERN} printable characters")
    if "{{" in text or (text.startswith("^") and text.endswith("$")):
        raise InputError(
            f"{where}: found {words.short(text)!r}",
            hint="a name, in which * stands for any text; neither a template nor a regular expression",
        )


def _check_kubernetes(version: str, item: KubernetesResource, where: str) -> None:
    words.filled(item.kind, f"{where}.kind")
    if version != "v8":
        if item.kind not in KUBE_KINDS:
            allowed = ", ".join(sorted(KUBE_KINDS))
            raise InputError(f"{where}.kind: found {words.short(item.kind)!r}", hint=f"allowed: {allowed}")
        if item.api_group:
            raise InputError(f"{where}.api_group: only from role version v8 on")
    for index, verb in enumerate(item.verbs):
        if verb not in _KUBE_VERBS:
            allowed = ", ".join(sorted(_KUBE_VERBS))
            raise InputError(
                f"{where}.verbs[{index}]: found {words.short(verb)!r}", hint=f"allowed: {allowed}"
            )


def _check_spiffe(item: SpiffeCondition, where: str) -> None:
    path = item.path
    if not path.startswith("/") and not (path.startswith("^") and path.endswith("$") and len(path) > 1):
        raise InputError(f"{where}.path: starts with / or stands between ^ and $")
    for index, text in enumerate(item.ip_sans):
        words.network(text, f"{where}.ip_sans[{index}]")


def _check_sessions(found: Conditions, where: str) -> None:
    for index, join in enumerate(found.join_sessions):
        at = f"{where}.join_sessions[{index}]"
        words.filled(join.name, f"{at}.name")
        words.filled(join.roles, f"{at}.roles")
        words.filled(join.kinds, f"{at}.kinds")
    for index, policy in enumerate(found.require_session_join):
        at = f"{where}.require_session_join[{index}]"
        words.filled(policy.name, f"{at}.name")
        words.filled(policy.kinds, f"{at}.kinds")
        words.between(policy.count, 0, MAX_POLICY_COUNT, f"{at}.count")


def _check_requests(found: Conditions, where: str) -> None:
    if found.request is not None:
        _check_request(found.request, f"{where}.request")
    review = found.review_requests
    if review is not None:
        for text in (*review.roles, *review.preview_as_roles):
            words.pattern(text, f"{where}.review_requests")


def _check_request(request: RequestConditions, where: str) -> None:
    longest = parse_duration(request.max_duration, f"{where}.max_duration")
    if longest > MAX_REQUEST_S:
        raise InputError(f"{where}.max_duration: at most 14d")
    for text in request.roles:
        words.pattern(text, f"{where}.roles")
    for text in request.search_as_roles:
        words.filled(text, f"{where}.search_as_roles")
    for index, claim in enumerate(request.claims_to_roles):
        words.filled(claim.claim, f"{where}.claims_to_roles[{index}].claim")
        words.filled(claim.roles, f"{where}.claims_to_roles[{index}].roles")
    check_thresholds(request.thresholds, f"{where}.thresholds")
    words.prose(request.reason.prompt, f"{where}.reason.prompt")


def check_thresholds(thresholds: list[Threshold], where: str) -> None:
    for index, threshold in enumerate(thresholds):
        words.at_least(threshold.approve, 0, f"{where}[{index}].approve")
        words.at_least(threshold.deny, 0, f"{where}[{index}].deny")
        if threshold.approve == threshold.deny == 0:
            raise InputError(f"{where}[{index}]: neither approve nor deny", hint="it could decide nothing")
