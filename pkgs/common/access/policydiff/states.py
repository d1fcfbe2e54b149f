"""One side of a comparison: a user as they would be after logging in, and what they may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pkgs.common.access.decide import decide
from pkgs.common.access.policytests.world import Person, World
from pkgs.common.access.protocols.dbpolicy import terms
from pkgs.common.access.roleset import RoleSet, roles_of
from pkgs.common.access.types import Decision, Environment, Subject, Target, UseKube, UseRule
from pkgs.common.errors import InputError


@dataclass(frozen=True, slots=True)
class State:
    """What is decided about one question."""

    allowed: bool
    reasons: tuple[str, ...]
    needs: tuple[str, ...] = ()
    """Of a yes, what the session must be verified by: `mfa`, `device`; `some`: it depends on the object."""
    principals: Mapping[str, tuple[str, ...]] | None = None
    """Of a yes what is granted with it, or the conditions that it depends on."""

    def same(self, other: State) -> bool:
        """Whether nobody would notice a difference; reasons do not matter."""
        return (self.allowed, self.needs, self.principals or {}) == (
            other.allowed,
            other.needs,
            other.principals or {},
        )


class Side:
    """A user before or after. Without a subject they cannot log in, and may nothing."""

    def __init__(self, world: World, person: Person | None, env: Environment) -> None:
        self._world = world
        self._person = None if person is None else world.holding(person, env.now)
        self._env = env
        self._verified: dict[tuple[bool, bool], Subject] = {}
        self.subject: Subject | None = None
        self.roles: RoleSet | None = None
        self.refusal = "there is no such user"
        if person is None:
            return
        try:
            self.subject = self._as(mfa=False, device=False)
            self.roles = roles_of(self.subject)
        except InputError as error:
            self.subject = None
            self.refusal = error.message

    def ask(self, target: Target) -> State:
        """What is decided, as far as it depends on no second factor and no device."""
        if self.subject is None:
            return State(False, (self.refusal,))
        if isinstance(target, UseRule):
            return self._rule(self.subject, target)
        decision = decide(self.subject, target, self._env)
        if decision or not decision.needs:
            return _state(decision, target)
        for needs in (("mfa",), ("device",), ("mfa", "device")):
            verified = decide(self._as(mfa="mfa" in needs, device="device" in needs), target, self._env)
            if verified:
                return _state(verified, target, needs)
        return _state(decision, target)

    def _as(self, *, mfa: bool, device: bool) -> Subject:
        key = (mfa, device)
        found = self._verified.get(key)
        if found is None:
            assert self._person is not None
            person = replace(self._person, mfa=mfa, device=device, requests=(), allowed_resources=None)
            found = self._verified[key] = self._world.subject(person, self._env)
        return found

    def _rule(self, subject: Subject, target: UseRule) -> State:
        decision = decide(subject, target, self._env)
        if decision or target.knows_session:
            return State(decision.allowed, _in_general(decision, target))
        some = decide(subject, replace(target, any_object=True), self._env)
        if not some:
            return State(False, _in_general(decision, target))
        return State(True, _in_general(some, target), ("some",), {"where": self._conditions(target)})

    def _conditions(self, target: UseRule) -> tuple[str, ...]:
        assert self.roles is not None
        found = set()
        for role in self.roles.compiled:
            for side, rules in (("allow", role.allow_rules), ("deny", role.deny_rules)):
                found |= {f"{side} where {r.where.text}" for r in rules if r.where and r.covers(target)}
        return tuple(sorted(found))


def _state(decision: Decision, target: Target, needs: tuple[str, ...] = ()) -> State:
    # Users and groups of Kubernetes are questions of their own.
    principals = None if isinstance(target, UseKube) else terms(decision)
    return State(decision.allowed, decision.reasons, needs if decision else (), principals)


def _in_general(decision: Decision, target: UseRule) -> tuple[str, ...]:
    """The reasons without kind and verb, so that those that change alike can be told together."""
    return tuple(reason.removesuffix(f" {target.kind} {target.verb}") for reason in decision.reasons)
