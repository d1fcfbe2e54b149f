"""Access beyond roles: locks, access requests and lists, login and monitoring rules."""

from datetime import datetime
from typing import Literal

from pkgs.common.resources.metadata import Base, Spec
from pkgs.common.resources.role import Threshold


class LockTarget(Spec, frozen=True, kw_only=True):
    """What is locked: all the set fields must match."""

    user: str = ""
    role: str = ""
    login: str = ""
    server_id: str = ""
    mfa_device: str = ""
    windows_desktop: str = ""
    linux_desktop: str = ""
    access_request: str = ""
    device: str = ""
    bot_instance_id: str = ""
    join_token: str = ""


class LockSpec(Spec, frozen=True, kw_only=True):
    target: LockTarget
    message: str = ""
    expires: datetime | None = None
    created_at: datetime | None = None
    created_by: str = ""


class Lock(Base, frozen=True, kw_only=True, tag="lock"):
    version: str = "v2"
    spec: LockSpec


class ResourceId(Spec, frozen=True, kw_only=True):
    cluster: str
    kind: str
    name: str
    sub_resource: str = ""


class IndexSet(Spec, frozen=True, kw_only=True):
    indexes: list[int] = []


class RoleThresholds(Spec, frozen=True, kw_only=True):
    sets: list[IndexSet] = []


RequestState = Literal["PENDING", "APPROVED", "DENIED", "PROMOTED"]


class Review(Spec, frozen=True, kw_only=True):
    author: str
    proposed_state: RequestState
    roles: list[str] = []
    reason: str = ""
    created: datetime | None = None
    annotations: dict[str, list[str]] = {}
    assume_start_time: datetime | None = None
    threshold_indexes: list[int] = []


class AccessRequestSpec(Spec, frozen=True, kw_only=True):
    user: str
    roles: list[str] = []
    resource_ids: list[ResourceId] = []
    state: RequestState = "PENDING"
    created: datetime | None = None
    expires: datetime | None = None
    """How long it waits for its reviewers."""
    session_ttl: datetime | None = None
    """End of a certificate that was taken out when the request was made: the length of each one."""
    max_duration: datetime | None = None
    """When what it gives is over."""
    assume_start_time: datetime | None = None
    request_reason: str = ""
    resolve_reason: str = ""
    suggested_reviewers: list[str] = []
    thresholds: list[Threshold] = []
    rtm: dict[str, RoleThresholds] = {}
    """For each role the sets of thresholds that must be met."""
    reviews: list[Review] = []
    system_annotations: dict[str, list[str]] = {}
    resolve_annotations: dict[str, list[str]] = {}
    login_hint: str = ""
    dry_run: bool = False


class AccessRequest(Base, frozen=True, kw_only=True, tag="access_request"):
    """Made and resolved by calls of their own, never by the generic verbs."""

    version: str = "v3"
    spec: AccessRequestSpec


class ListOwner(Spec, frozen=True, kw_only=True):
    name: str
    description: str = ""
    ineligible_status: str = ""
    membership_kind: Literal["", "MEMBERSHIP_KIND_USER", "MEMBERSHIP_KIND_LIST"] = ""


class AuditRecurrence(Spec, frozen=True, kw_only=True):
    frequency: Literal["1", "3", "6", "12", "1 month", "3 months", "6 months", "1 year"] = "6"
    """Months."""
    day_of_month: Literal["1", "15", "last", "31"] = "1"


class AuditNotifications(Spec, frozen=True, kw_only=True):
    start: str = "336h0m0s"


class ListAudit(Spec, frozen=True, kw_only=True):
    next_audit_date: datetime | None = None
    recurrence: AuditRecurrence = AuditRecurrence()
    notifications: AuditNotifications = AuditNotifications()


class ScopedRoleGrant(Spec, frozen=True, kw_only=True):
    role: str
    scope: str


class Requires(Spec, frozen=True, kw_only=True):
    roles: list[str] = []
    traits: dict[str, list[str]] = {}


class Grants(Spec, frozen=True, kw_only=True):
    roles: list[str] = []
    traits: dict[str, list[str]] = {}
    scoped_roles: list[ScopedRoleGrant] = []


class AccessListSpec(Spec, frozen=True, kw_only=True):
    title: str
    description: str = ""
    type: Literal["", "static", "scim"] = ""
    owners: list[ListOwner] = []
    audit: ListAudit = ListAudit()
    membership_requires: Requires = Requires()
    ownership_requires: Requires = Requires()
    grants: Grants = Grants()
    owner_grants: Grants = Grants()


class AccessListStatus(Spec, frozen=True, kw_only=True):
    member_count: int | None = None
    member_list_count: int | None = None
    owner_of: list[str] = []
    member_of: list[str] = []


class AccessList(Base, frozen=True, kw_only=True, tag="access_list"):
    version: str = "v1"
    spec: AccessListSpec
    status: AccessListStatus | None = None


class ListMemberSpec(Spec, frozen=True, kw_only=True):
    access_list: str
    name: str
    joined: datetime | None = None
    expires: datetime | None = None
    reason: str = ""
    added_by: str = ""
    membership_kind: Literal["", "MEMBERSHIP_KIND_USER", "MEMBERSHIP_KIND_LIST"] = ""
    ineligible_status: str = ""


class AccessListMember(Base, frozen=True, kw_only=True, tag="access_list_member"):
    """Stored under its list: `access_list_member/<list>/<name>`."""

    version: str = "v1"
    spec: ListMemberSpec


class LoginRuleSpec(Spec, frozen=True, kw_only=True):
    priority: int = 0
    traits_map: dict[str, list[str]] = {}
    traits_expression: str = ""


class LoginRule(Base, frozen=True, kw_only=True, tag="login_rule"):
    version: str = "v1"
    spec: LoginRuleSpec


class MonitoringNotification(Spec, frozen=True, kw_only=True):
    name: str
    recipients: list[str] = []


class AutomaticReview(Spec, frozen=True, kw_only=True):
    integration: str = ""
    decision: Literal["", "APPROVED", "DENIED"] = ""


class MonitoringRuleSpec(Spec, frozen=True, kw_only=True):
    subjects: list[str]
    condition: str
    states: list[str] = []
    desired_state: Literal["", "reviewed"] = ""
    notification: MonitoringNotification | None = None
    automatic_review: AutomaticReview | None = None


class AccessMonitoringRule(Base, frozen=True, kw_only=True, tag="access_monitoring_rule"):
    version: str = "v1"
    spec: MonitoringRuleSpec
