"""What locks, access requests, lists, login and monitoring rules may look like."""

from __future__ import annotations

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


def check_lock(lock: Lock, where: str) -> None:
    if lock.spec.target == type(lock.spec.target)():
        raise InputError(f"{where}: spec.target: nothing is locked", hint="set user, role, login, ...")
    words.prose(lock.spec.message, f"{where}: spec.message")


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
    names = [owner.name for owner in spec.owners]
    if len(set(names)) != len(names) or "" in names:
        raise InputError(f"{where}: spec.owners: a name is empty or given twice")
    parse_duration(spec.audit.notifications.start, f"{where}: spec.audit.notifications.start")
    if not spec.grants.roles and not spec.grants.traits and not spec.grants.scoped_roles:
        raise InputError(f"{where}: spec.grants: nothing is granted", hint="set roles or traits")


def check_member(member: AccessListMember, where: str) -> None:
    words.filled(member.spec.access_list, f"{where}: spec.access_list")
    words.prose(member.spec.reason, f"{where}: spec.reason")
    if member.spec.name != member.name:
        raise InputError(f"{where}: spec.name: expected the same as metadata.name")
    if member.sub_kind not in ("", member.spec.access_list):
        raise InputError(f"{where}: sub_kind: expected the name of the list")


def check_login_rule(rule: LoginRule, where: str) -> None:
    given: dict[str, object] = {
        "traits_map": rule.spec.traits_map,
        "traits_expression": rule.spec.traits_expression,
    }
    words.exactly_one(given, f"{where}: spec")


def check_monitoring(rule: AccessMonitoringRule, where: str) -> None:
    words.filled(rule.spec.subjects, f"{where}: spec.subjects")
    words.filled(rule.spec.condition, f"{where}: spec.condition")
