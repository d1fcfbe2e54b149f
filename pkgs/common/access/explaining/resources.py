"""What each role says about a resource, and the least that would have to change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from pkgs.common.access.decide import barred_access, decide
from pkgs.common.access.explaining.story import Finding, Missing, Story, step_of
from pkgs.common.access.matching.labels import LabelSelector, labels_of
from pkgs.common.access.protocols import app, cluster, db, dbpolicy, desktop, kube, ssh
from pkgs.common.access.protocols.grants import (
    Demand,
    Grant,
    Grants,
    Protocol,
    applies_here,
    compile_grant,
    singular,
)
from pkgs.common.access.roleset import PROTOCOLS, RoleSet
from pkgs.common.access.types import (
    Access,
    ConnectApp,
    ConnectDatabase,
    Decision,
    EnterCluster,
    Environment,
    OpenDesktop,
    See,
    SshLogin,
    Subject,
    resource_of,
)
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.defaults import IMPLICIT_ROLE
from pkgs.common.resources.kinds import RemoteCluster

_MAX_SHOWN = 5
_NO_GROUP = (
    "a role that allows the labels must name a group in allow.kubernetes_groups, or a user in"
    " allow.kubernetes_users"
)


def about_resource(subject: Subject, roles: RoleSet, target: Access | See, env: Environment) -> Story:
    resource = resource_of(target)
    protocol = PROTOCOLS.get(resource.kind)
    if protocol is None:
        return Story((), (), (Missing("meet", "", "", f"{resource.kind} is not seen by labels"),))
    try:
        grants = roles.grants(protocol)
    except InputError as error:
        return Story((), (), (Missing("meet", "", "roles", str(error)),))
    about = _About(
        subject.identity, protocol, labels_of(resource), _demands(subject, grants, target, env), env
    )
    findings: list[Finding] = []
    steps: list[Missing] = []
    conditions: list[str] = []
    best: list[Missing] | None = None
    granted = False
    for grant in grants.every:
        denied = list(about.denials(grant))
        steps += denied
        findings += [
            Finding(grant.role, "denies", f"denies by {step.field}: {step.value}") for step in denied
        ]
        if grant.source is IMPLICIT_ROLE:
            continue
        conditions += about.restrictions(grant) if isinstance(target, ConnectDatabase) else ()
        gaps = list(about.gaps(grant))
        unmet = [] if isinstance(target, See | EnterCluster) else _unmet(grant, subject.identity)
        if not gaps:
            granted = True
            findings.append(Finding(grant.role, "allows", f"allows the labels{about.principals('and')}"))
            conditions += () if isinstance(target, See | EnterCluster) else _conditions(grant)
            steps += unmet
            continue
        findings.append(Finding(grant.role, "lacks", about.shortfall(gaps)))
        if best is None or _cost(gaps + unmet, protocol) < _cost(best, protocol):
            best = gaps + unmet
    if not granted and not _open(target, grants, about.labels, env):
        steps += best if best is not None else about.from_nothing()
    if not isinstance(target, See):
        _add_bars(steps, conditions, subject, roles, grants, target, env)
    if granted and not steps:
        steps += _last_word(subject, target, env)
    steps = [_named(step) for step in steps]
    return Story(tuple(findings), tuple(dict.fromkeys(conditions)), tuple(dict.fromkeys(steps)))


def _demands(subject: Subject, grants: Grants, target: Access | See, env: Environment) -> tuple[Demand, ...]:
    match target:
        case SshLogin():
            return ssh.demands(target)
        case OpenDesktop():
            return desktop.demands(target)
        case ConnectApp():
            return app.demands(target)
        case ConnectDatabase():
            auto = db.auto_user(grants, labels_of(target.db), env)
            asked = db.named(target, subject.identity, auto)
            return db.demands(target if isinstance(asked, Decision) else asked, auto)
        case _:
            return ()


def _open(target: Access | See, grants: Grants, labels: Mapping[str, str], env: Environment) -> bool:
    """A leaf cluster that no labels protect needs no role."""
    return isinstance(resource_of(target), RemoteCluster) and bool(cluster.enter(grants, labels, env))


def _add_bars(
    steps: list[Missing],
    conditions: list[str],
    subject: Subject,
    roles: RoleSet,
    grants: Grants,
    target: Access,
    env: Environment,
) -> None:
    bar = barred_access(subject.identity, roles, target, env)
    if bar is None:
        return
    earned = isinstance(target, SshLogin) and (
        any(grant.allows((0, target.login)) for grant in grants.every)
        and not any(grant.denies((0, target.login)) for grant in grants.every)
    )
    if earned or bar is not ssh.NOT_IN_CERT:
        # A login that no role gives is in no certificate either: that is said once.
        steps.insert(0, step_of(bar))
    if "mfa" in bar.needs:
        conditions.insert(0, "the cluster requires MFA for every session")
    if "device" in bar.needs:
        conditions.insert(0, "the cluster requires a trusted device")


def _last_word(subject: Subject, target: Access | See, env: Environment) -> list[Missing]:
    """What is decided beyond labels and principals: the objects of Kubernetes, roles of made users."""
    decision = decide(subject, target, env)
    if decision:
        return []
    if decision.reasons == kube.NOBODY.reasons:
        return [Missing("meet", "", "allow.kubernetes_groups", _NO_GROUP)]
    return [step_of(decision)]


def _named(step: Missing) -> Missing:
    """Nothing can be added for a principal that the question left out: it has to be named first."""
    if step.change != "add" or step.value:
        return step
    what = singular(step.field.removeprefix("allow."))
    return Missing("meet", "", "", f"the question names no {what}")


@dataclass(frozen=True, slots=True)
class _About:
    """One question about one resource, as the roles are asked it one by one."""

    identity: Identity
    protocol: Protocol
    labels: Mapping[str, str]
    demands: tuple[Demand, ...]
    env: Environment

    def principals(self, joining: str) -> str:
        """` and the login root`."""
        return "".join(f" {joining} {self._called(demand)}" for demand in self.demands)

    def _called(self, demand: Demand) -> str:
        index, value = demand
        return f"the {self._noun(index)} {value}" if value else f"the {self._noun(index)} (none is named)"

    def _noun(self, index: int) -> str:
        return singular(self.protocol.principals[index].field)

    def restrictions(self, grant: Grant) -> Iterator[str]:
        """What the role holds database sessions to, whether or not it grants them."""
        found = dbpolicy.says(grant, self.labels, self.demands)
        if found is not None and (words := ", ".join(dbpolicy.told(found))):
            yield f"role {grant.role} restricts what the session may do: {words}"

    def denials(self, grant: Grant) -> Iterator[Missing]:
        if not grant.deny_in_force(self.env):
            return
        field = self.protocol.labels
        if grant.deny_labels.matches(self.labels):
            shown = "* = *" if grant.deny_labels.everything else _shown(self.labels, grant.deny_labels)
            yield Missing("remove", grant.role, f"deny.{field}", shown)
        if grant.deny_expression is not None and grant.deny_expression(self.labels):
            text = getattr(grant.source.spec.deny, self.protocol.expression)
            yield Missing("remove", grant.role, f"deny.{self.protocol.expression}", text)
        for demand in self.demands:
            if grant.denies(demand):
                principal = self.protocol.principals[demand[0]]
                for value in (demand[1], "*"):
                    if grant.denies((demand[0], value)):
                        yield Missing("remove", grant.role, f"deny.{principal.field}", value)

    def gaps(self, grant: Grant) -> Iterator[Missing]:
        """What the role's allow side lacks."""
        allow = grant.source.spec.allow
        if not applies_here(allow):
            yield Missing("add", grant.role, "allow.namespaces", "default")
            # What is missing besides, were it not for the namespace.
            there = msgspec.structs.replace(allow, namespaces=())
            spec = msgspec.structs.replace(grant.source.spec, allow=there)
            role = msgspec.structs.replace(grant.source, spec=spec)
            grant = compile_grant(
                role, self.protocol, self.identity.traits, grant.allow_when, grant.deny_when
            )
        if grant.allow_when is not None:
            for field, wanted in grant.allow_when.lacking(self.env.now, self.env.source_addr):
                yield Missing("meet", grant.role, f"allow.{field}", wanted)
        selector = grant.allow_labels
        if not selector.matches(self.labels):
            wrong = [key for key, matcher in selector.keys if not matcher.matches(self.labels.get(key, ""))]
            wrong = wrong or [key for key, _ in selector.keys if key not in self.labels]
            yield Missing(
                "add", grant.role, f"allow.{self.protocol.labels}", _labels_text(self.labels, wrong)
            )
        if grant.allow_expression is not None and not grant.allow_expression(self.labels):
            yield Missing(
                "add",
                grant.role,
                f"allow.{self.protocol.expression}",
                f"true for {_labels_text(self.labels, list(self.labels))}",
            )
        for demand in self.demands:
            if not grant.allows(demand):
                field = self.protocol.principals[demand[0]].field
                yield Missing("add", grant.role, f"allow.{field}", demand[1])

    def shortfall(self, gaps: Sequence[Missing]) -> str:
        """`allows the labels but not the login deploy`."""
        fields = {gap.field for gap in gaps}
        if "allow.namespaces" in fields:
            return "is for another namespace"
        elsewhen = [gap for gap in gaps if gap.change == "meet"]
        if elsewhen:
            # Both are conditions of the whole side; what else it lacks is among the steps.
            words = {"allow.when": "counts only", "allow.from": "counts only from"}
            return " and ".join(f"{words[gap.field]} {gap.value}" for gap in elsewhen)
        labels = next((gap for gap in gaps if gap.field.startswith(f"allow.{self.protocol.labels}")), None)
        wanted = [
            (self._called(demand), f"allow.{self.protocol.principals[demand[0]].field}" in fields)
            for demand in self.demands
        ]
        text = f"the labels ({labels.value})" if labels is not None else "the labels"
        parts = [(text, labels is not None), *wanted]
        lacking = [part for part, missing in parts if missing]
        having = [part for part, missing in parts if not missing]
        if not having:
            return (
                f"allows neither {' nor '.join(lacking)}"
                if len(lacking) > 1
                else f"does not allow {lacking[0]}"
            )
        return f"allows {' and '.join(having)} but not {' nor '.join(lacking)}"

    def from_nothing(self) -> list[Missing]:
        """For somebody without any role."""
        text = _labels_text(self.labels, list(self.labels))
        steps = [Missing("add", "", f"allow.{self.protocol.labels}", text)]
        for index, value in self.demands:
            steps.append(Missing("add", "", f"allow.{self.protocol.principals[index].field}", value))
        return steps


def _shown(labels: Mapping[str, str], selector: LabelSelector) -> str:
    keys = [key for key, _ in selector.keys]
    return ", ".join(f"{key}={labels[key]}" for key in keys[:_MAX_SHOWN] if key in labels)


def _labels_text(labels: Mapping[str, str], keys: Sequence[str]) -> str:
    """The labels of the resource that a selector would have to match."""
    found = [f"{key}={labels[key]}" if key in labels else f"no {key}" for key in (keys or sorted(labels))]
    more = ", ..." if len(found) > _MAX_SHOWN else ""
    return ", ".join(found[:_MAX_SHOWN]) + more if found else "no labels"


def _unmet(grant: Grant, identity: Identity) -> list[Missing]:
    found = grant.unmet(identity)
    return [Missing("meet", grant.role, "options", found[1])] if found is not None else []


def _conditions(grant: Grant) -> Iterator[str]:
    if grant.requires_mfa:
        yield f"role {grant.role} requires MFA for every session"
    if grant.requires_device:
        yield f"role {grant.role} requires a trusted device"


def _cost(steps: Sequence[Missing], protocol: Protocol) -> tuple[int, int, str]:
    """Fewest steps first, then a principal rather than labels, then by name: never by the order of roles."""
    labels = sum(step.field.startswith(f"allow.{protocol.labels}") for step in steps)
    return len(steps), labels, min((step.role for step in steps), default="")
