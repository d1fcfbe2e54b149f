"""The full check of a resource before it is stored: fields, and the languages inside roles."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pkgs.common.access import dbobjects
from pkgs.common.access.contexts.labelexpr import parse_label_expression
from pkgs.common.access.contexts.participants import parse_filter
from pkgs.common.access.impersonation import check_impersonation
from pkgs.common.access.matching import patterns
from pkgs.common.access.matching.matchers import compile_matcher
from pkgs.common.access.matching.traits import parse_template
from pkgs.common.access.options.commands import check_command
from pkgs.common.access.options.forwarding import compile_rule
from pkgs.common.access.requests.conditions import check_requests
from pkgs.common.access.rolemap import check_mappings
from pkgs.common.access.roleset import PROTOCOLS, compile_roles
from pkgs.common.access.rules import VERBS
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import DbObjectImportRule, Resource, StaticHostUser, TrustedCluster
from pkgs.common.resources.role import Conditions, Labels, Role
from pkgs.common.resources.strict import suggest
from pkgs.common.resources.validate import check_fields
from pkgs.common.resources.validate.words import short

T = TypeVar("T")

_TEMPLATED = (
    "logins",
    "windows_desktop_logins",
    "linux_desktop_logins",
    "aws_role_arns",
    "azure_identities",
    "gcp_service_accounts",
    "kubernetes_groups",
    "kubernetes_users",
    "db_names",
    "db_users",
    "db_roles",
    "host_groups",
    "host_sudoers",
    "desktop_groups",
)


def validate(resource: Resource) -> None:
    """Raises InputError for anything that would be wrong, or that is not understood and so could not be
    enforced. Whatever passes can be decided upon."""
    check_fields(resource)
    if isinstance(resource, Role):
        _validate_role(resource)
    elif isinstance(resource, DbObjectImportRule):
        _validate_import_rule(resource)
    elif isinstance(resource, StaticHostUser):
        for index, matcher in enumerate(resource.spec.matchers):
            if matcher.node_labels_expression:
                at = f"static_host_user/{resource.name}: spec.matchers[{index}].node_labels_expression"
                _checked(parse_label_expression, matcher.node_labels_expression, at)
    elif isinstance(resource, TrustedCluster):
        check_mappings(resource.spec.role_map, f"trusted_cluster/{resource.name}: spec.role_map")


def _validate_role(role: Role) -> None:
    where = f"role/{role.name}"
    for index, extension in enumerate(role.spec.options.cert_extensions):
        _checked(parse_template, extension.value, f"{where}: spec.options.cert_extensions[{index}].value")
    for side, conditions in (("allow", role.spec.allow), ("deny", role.spec.deny)):
        _check_languages(conditions, f"{where}: spec.{side}")
    try:
        compiled = compile_roles([role], {})
        for protocol in dict.fromkeys(PROTOCOLS.values()):
            compiled.grants(protocol)
        check_requests(role)
        check_impersonation(role)
    except InputError as error:
        message = error.message.removeprefix(f"role {role.name}: ")
        if message.startswith(("allow.", "deny.")):
            message = f"spec.{message}"
        raise InputError(f"{where}: {message}", hint=error.hint) from None


def _validate_import_rule(rule: DbObjectImportRule) -> None:
    where = f"db_object_import_rule/{rule.name}: spec"
    for index, label in enumerate(rule.spec.database_labels):
        for number, text in enumerate(label.values):
            _checked(_check_matcher, text, f"{where}.database_labels[{index}].values[{number}]")
    for index, mapping in enumerate(rule.spec.mappings):
        for field, part in (("match", mapping.match), ("scope", mapping.scope)):
            for name in part.__struct_fields__:
                for number, text in enumerate(getattr(part, name)):
                    at = f"{where}.mappings[{index}].{field}.{name}[{number}]"
                    _checked(patterns.compile_pattern, text, at)
        for key, text in mapping.add_labels.items():
            _checked(dbobjects.parse_label, text, f"{where}.mappings[{index}].add_labels.{key}")


def _check_languages(conditions: Conditions, where: str) -> None:
    """Every template, pattern and expression for itself, so that an error names its place."""
    for field in _TEMPLATED:
        for index, entry in enumerate(getattr(conditions, field)):
            _checked(parse_template, entry, f"{where}.{field}[{index}]")
    for field in conditions.__struct_fields__:
        value = getattr(conditions, field)
        if field.endswith("_labels"):
            _check_selector(value, f"{where}.{field}")
        elif field.endswith("_labels_expression") and value:
            _checked(parse_label_expression, value, f"{where}.{field}")
    for index, entry in enumerate(conditions.ssh.commands):
        _checked(check_command, entry, f"{where}.ssh.commands[{index}]")
    for index, forward in enumerate(conditions.ssh.forward):
        _checked(compile_rule, forward, f"{where}.ssh.forward[{index}]")
    for number, rule in enumerate(conditions.rules):
        for index, verb in enumerate(rule.verbs):
            if verb not in VERBS:
                at = f"{where}.rules[{number}].verbs[{index}]"
                raise InputError(f"{at}: verb {short(verb)!r} does not exist", hint=suggest(verb, VERBS))
    for index, permission in enumerate(conditions.db_permissions):
        _check_selector(permission.match, f"{where}.db_permissions[{index}].match")
    for index, item in enumerate(conditions.kubernetes_resources):
        for name in ("namespace", "name", "api_group"):
            at = f"{where}.kubernetes_resources[{index}].{name}"
            _checked(_check_matcher, getattr(item, name), at)
    if conditions.request is not None:
        _check_matchers(conditions.request.roles, f"{where}.request.roles")
        for name, texts in conditions.request.annotations.items():
            for index, text in enumerate(texts):
                _checked(parse_template, text, f"{where}.request.annotations.{name}[{index}]")
    if conditions.review_requests is not None:
        _check_matchers(conditions.review_requests.roles, f"{where}.review_requests.roles")
    for number, joining in enumerate(conditions.join_sessions):
        _check_matchers(joining.roles, f"{where}.join_sessions[{number}].roles")
    for number, required in enumerate(conditions.require_session_join):
        if required.filter.strip():
            _checked(parse_filter, required.filter, f"{where}.require_session_join[{number}].filter")
    if conditions.impersonate is not None:
        for name, texts in (("users", conditions.impersonate.users), ("roles", conditions.impersonate.roles)):
            _check_matchers(texts, f"{where}.impersonate.{name}", templates=True)


def _check_matchers(entries: list[str], where: str, *, templates: bool = False) -> None:
    def compiles(entry: str) -> None:
        compile_matcher([entry], {} if templates else None)

    for index, text in enumerate(entries):
        _checked(compiles, text, f"{where}[{index}]")


def _check_selector(labels: Labels, where: str) -> None:
    for key, given in labels.items():
        _checked(parse_template, key, f"{where}.{key}")
        values = [given] if isinstance(given, str) else given
        for index, text in enumerate(values):
            at = f"{where}.{key}" if isinstance(given, str) else f"{where}.{key}[{index}]"
            _checked(parse_template, text, at)
            _checked(_check_matcher, text, at)


def _check_matcher(text: str) -> None:
    """A glob or a regular expression; templates are for others to read."""
    if "{{" not in text and patterns.is_pattern(text):
        patterns.compile_pattern(text)


def _checked(check: Callable[[T], object], value: T, where: str) -> None:
    try:
        check(value)
    except InputError as error:
        why = f" ({short(error.detail)})" if error.detail else ""
        raise InputError(f"{where}: {error.message}{why}", hint=error.hint) from None
