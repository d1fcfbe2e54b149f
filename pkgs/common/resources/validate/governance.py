"""What locks, access requests, lists, login and monitoring rules may look like."""

from __future__ import annotations

from datetime import datetime

from pkgs.common.errors import InputError
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import (
    AccessList,
    AccessListMember,
    AccessMonitoringRule,
    AccessRequest,
    Lock,
    LoginRule,
)
from pkgs.common.resources.names import valid_host_id
from pkgs.common.resources.validate import words
from pkgs.common.resources.validate.roles import check_thresholds

MAX_LIST_OWNERS = 100
MAX_LIST_ROLES = 50
MAX_LIST_TRAITS = 50
MAX_LIST_TRAIT_VALUES = 500
MAX_LIST_TEXT = 1000
MAX_LOCK_MESSAGE = 1000
"""It is shown on terminals, and sent to every service."""
MAX_LOCK_TARGET = 1000
"""Of each name or id. No name here is longer; as with the message, every service holds it."""


def check_lock(lock: Lock, where: str) -> None:
    if lock.spec.target == type(lock.spec.target)():
        raise InputError(f"{where}: spec.target: nothing is locked", hint="set user, role, login, ...")
    for name in lock.spec.target.__struct_fields__:
        if len(getattr(lock.spec.target, name)) > MAX_LOCK_TARGET:
            raise InputError(f"{where}: spec.target.{name}: longer than {MAX_LOCK_TARGET} characters")
    if len(lock.spec.message) > MAX_LOCK_MESSAGE:
        raise InputError(f"{where}: spec.message: longer than {MAX_LOCK_MESSAGE} characters")


def check_request(request: AccessRequest, where: str) -> None:
    if not valid_host_id(request.name):
        raise InputError(f"{where}: metadata.name: expected a UUID")
    check_thresholds(request.spec.thresholds, f"{where}: spec.thresholds")
    words.prose(request.spec.request_reason, f"{where}: spec.request_reason")
    words.prose(request.spec.resolve_reason, f"{where}: spec.resolve_reason")
    for index, review in enumerate(request.spec.reviews):
        words.prose(review.reason, f"{where}: spec.reviews[{index}].reason")


def check_list(access_list: AccessList, where: str) -> None:
    spec = access_list.spec
    words.filled(spec.title, f"{where}: spec.title")
    words.prose(spec.description, f"{where}: spec.description")
    if spec.type == "":
        words.filled(spec.owners, f"{where}: spec.owners", "a list without owners is reviewed by nobody")
    words.between(len(spec.owners), 0, MAX_LIST_OWNERS, f"{where}: spec.owners")
    names = [(owner.membership_kind == "MEMBERSHIP_KIND_LIST", owner.name) for owner in spec.owners]
    if len(set(names)) != len(names) or any(not name for _, name in names):
        raise InputError(f"{where}: spec.owners: a name is empty or given twice")
    for field, text in (("title", spec.title), ("description", spec.description)):
        words.between(len(text), 0, MAX_LIST_TEXT, f"{where}: spec.{field}: characters")
    parse_duration(spec.audit.notifications.start, f"{where}: spec.audit.notifications.start")
    _check_zone(spec.audit.next_audit_date, f"{where}: spec.audit.next_audit_date")
    for field, grants in (("grants", spec.grants), ("owner_grants", spec.owner_grants)):
        _check_held(grants.roles, grants.traits, f"{where}: spec.{field}")
    for field, requires in (
        ("membership_requires", spec.membership_requires),
        ("ownership_requires", spec.ownership_requires),
    ):
        _check_held(requires.roles, requires.traits, f"{where}: spec.{field}")


def _check_held(roles: list[str], traits: dict[str, list[str]], where: str) -> None:
    words.between(len(roles), 0, MAX_LIST_ROLES, f"{where}.roles")
    if len(set(roles)) != len(roles) or "" in roles:
        raise InputError(f"{where}.roles: a name is empty or given twice")
    words.between(len(traits), 0, MAX_LIST_TRAITS, f"{where}.traits")
    for name, values in traits.items():
        words.between(len(values), 1, MAX_LIST_TRAIT_VALUES, f"{where}.traits.{words.short(name)}: values")
        if not name or any(not text or len(text) > MAX_LIST_TEXT for text in (name, *values)):
            raise InputError(f"{where}.traits: names and values have 1 to {MAX_LIST_TEXT} characters")


def _check_zone(moment: datetime | None, where: str) -> None:
    if moment is not None and moment.tzinfo is None:
        raise InputError(f"{where}: expected a time with its zone")


def check_member(member: AccessListMember, where: str) -> None:
    words.filled(member.spec.access_list, f"{where}: spec.access_list")
    words.prose(member.spec.reason, f"{where}: spec.reason")
    if member.spec.name != member.name:
        raise InputError(f"{where}: spec.name: expected the same as metadata.name")
    if member.sub_kind not in ("", member.spec.access_list):
        raise InputError(f"{where}: sub_kind: expected the name of the list")
    _check_zone(member.spec.expires, f"{where}: spec.expires")
    _check_zone(member.spec.joined, f"{where}: spec.joined")


def check_login_rule(rule: LoginRule, where: str) -> None:
    given: dict[str, object] = {
        "traits_map": rule.spec.traits_map,
        "traits_expression": rule.spec.traits_expression,
    }
    words.exactly_one(given, f"{where}: spec")


def check_monitoring(rule: AccessMonitoringRule, where: str) -> None:
    words.filled(rule.spec.subjects, f"{where}: spec.subjects")
    words.filled(rule.spec.condition, f"{where}: spec.condition")
