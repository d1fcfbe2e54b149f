"""What roles say about requests, compiled for somebody's traits. What is not understood refuses all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pkgs.common.access.contexts.reviewing import parse_review_where, parse_threshold_filter
from pkgs.common.access.matching.circumstances import compile_circumstances
from pkgs.common.access.matching.matchers import Entry, compile_entry
from pkgs.common.access.matching.traits import Traits, expand, parse_template
from pkgs.common.access.protocols.grants import applies_here
from pkgs.common.access.requests.claims import check_claims, claim_matchers
from pkgs.common.access.types import Environment
from pkgs.common.errors import InputError
from pkgs.common.resources.role import Conditions, RequestConditions, ReviewConditions, Role, Threshold

DEFAULT_THRESHOLD = Threshold(name="default", approve=1, deny=1)


@dataclass(frozen=True, slots=True)
class RequestSide:
    """`request` of one role's allow or deny."""

    roles: tuple[Entry, ...] = ()
    search: tuple[Entry, ...] = ()
    spec: RequestConditions = field(default_factory=RequestConditions)
    annotations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def thresholds(self) -> list[Threshold]:
        return self.spec.thresholds or [DEFAULT_THRESHOLD]


@dataclass(frozen=True, slots=True)
class ReviewSide:
    """`review_requests` of one role's allow or deny."""

    roles: tuple[Entry, ...] = ()
    where: str = ""
    preview: tuple[str, ...] = ()


def request_side(role: Role, side: str, traits: Traits, env: Environment) -> RequestSide:
    """Raises InputError naming the role and the field."""
    conditions = _conditions(role, side)
    found = conditions.request
    if found is None:
        return RequestSide()
    with _at(f"role {role.name}"):
        # Also where it does not count now: what is not understood refuses.
        _check_request(found, f"{side}.request")
        if not _counts(conditions, side, env):
            return RequestSide()
        # In an allow these are names, whatever they look like; a deny is meant however it is written.
        search = map(Entry, found.search_as_roles)
        return RequestSide(
            roles=(*map(compile_entry, found.roles), *claim_matchers(found.claims_to_roles, traits)),
            search=tuple(search) if side == "allow" else tuple(map(compile_entry, found.search_as_roles)),
            spec=found,
            annotations={name: _expanded(values, traits) for name, values in found.annotations.items()},
        )


def review_side(role: Role, side: str, traits: Traits, env: Environment) -> ReviewSide:
    """Raises InputError naming the role and the field."""
    conditions = _conditions(role, side)
    found = conditions.review_requests
    if found is None:
        return ReviewSide()
    with _at(f"role {role.name}"):
        _check_review(found, f"{side}.review_requests")
        if not _counts(conditions, side, env):
            return ReviewSide()
        return ReviewSide(
            roles=(*map(compile_entry, found.roles), *claim_matchers(found.claims_to_roles, traits)),
            where=found.where,
            preview=tuple(found.preview_as_roles),
        )


def check_requests(role: Role) -> None:
    """Raises InputError for what a role says about requests and could not be followed, naming the field."""
    for side in ("allow", "deny"):
        conditions = _conditions(role, side)
        if conditions.request is not None:
            _check_request(conditions.request, f"{side}.request")
        if conditions.review_requests is not None:
            _check_review(conditions.review_requests, f"{side}.review_requests")


def _check_request(found: RequestConditions, place: str) -> None:
    with _at(f"{place}.roles"):
        for text in found.roles:
            compile_entry(text)
    if place.startswith("deny"):
        with _at(f"{place}.search_as_roles"):
            for text in found.search_as_roles:
                compile_entry(text)
    with _at(f"{place}.claims_to_roles"):
        check_claims(found.claims_to_roles)
    for number, threshold in enumerate(found.thresholds):
        if threshold.filter.strip():
            with _at(f"{place}.thresholds[{number}].filter"):
                parse_threshold_filter(threshold.filter)
    for name, values in found.annotations.items():
        with _at(f"{place}.annotations.{name}"):
            for value in values:
                parse_template(value)


def _check_review(found: ReviewConditions, place: str) -> None:
    with _at(f"{place}.roles"):
        for text in found.roles:
            compile_entry(text)
    with _at(f"{place}.claims_to_roles"):
        check_claims(found.claims_to_roles)
    if found.where.strip():
        with _at(f"{place}.where"):
            parse_review_where(found.where)


def _counts(conditions: Conditions, side: str, env: Environment) -> bool:
    """Whether this side of the role counts at this hour and from this address."""
    if side == "allow" and not applies_here(conditions):
        return False
    found = compile_circumstances(conditions, side)
    return found is None or found.hold(env.now, env.source_addr, unknown=side == "deny")


def _conditions(role: Role, side: str) -> Conditions:
    return role.spec.allow if side == "allow" else role.spec.deny


def _expanded(values: Sequence[str], traits: Traits) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for value in values for text in expand(value, traits).values if text))


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Say where in the role it is."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error.message}", hint=error.hint) from None
