"""What is worth asking about a resource: every principal that some role of either side allows or denies.

`*` stands for any that is not named. Resources that no role can tell apart are asked about once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pkgs.common.access.matching.labels import WILDCARD, labels_of
from pkgs.common.access.policytests.world import World
from pkgs.common.access.protocols import db, kube
from pkgs.common.access.protocols.grants import Grants
from pkgs.common.access.roleset import PROTOCOLS, RoleSet
from pkgs.common.access.types import (
    Access,
    ConnectApp,
    ConnectDatabase,
    EnterCluster,
    KubeObject,
    OpenDesktop,
    SshLogin,
    Subject,
    Target,
    UseKube,
)
from pkgs.common.resources.kinds import (
    App,
    Database,
    DynamicWindowsDesktop,
    KubeCluster,
    Node,
    RemoteCluster,
    Resource,
    WindowsDesktop,
)
from pkgs.common.resources.role import Role

WORDS: dict[str, tuple[str, ...]] = {
    "ssh": ("node",),
    "db": ("db",),
    "app": ("app",),
    "kube": ("kube_cluster",),
    "desktop": ("windows_desktop", "dynamic_windows_desktop"),
    "cluster": ("remote_cluster",),
}
"""Word of an action and the kinds that it is about."""
_APP = (
    ("aws-role", "aws_role_arn"),
    ("azure-identity", "azure_identity"),
    ("gcp-service-account", "gcp_service_account"),
    ("mcp-tool", "mcp_tool"),
)
"""How an action names it, and the field of `ConnectApp`, in the order of the protocol's principals."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question; about further resources too that have the same answer."""

    word: str
    begin: str
    """The action is written `word begin name end`."""
    end: str
    names: tuple[str, ...]
    target: Target

    def text(self, name: str) -> str:
        return f"{self.word} {self.begin}{name}{self.end}"


@dataclass(frozen=True, slots=True)
class Alike:
    """Resources that no role and no lock can tell apart."""

    word: str
    first: Resource
    names: tuple[str, ...]


def alike(world: World, words: Iterable[str]) -> list[Alike]:
    """All resources, grouped; in the order of their names."""
    singled_out = {lock.spec.target.server_id for lock in world.locks}
    found: dict[tuple[object, ...], tuple[str, list[Resource]]] = {}
    for word in words:
        for kind in WORDS[word]:
            for thing in world.things.get(kind, {}).values():
                protocol = thing.spec.protocol if isinstance(thing, Database) else ""
                own = thing.name if thing.name in singled_out else ""
                key = (kind, protocol, own, *sorted(labels_of(thing).items()))
                found.setdefault(key, (word, []))[1].append(thing)
    groups = []
    for word, things in found.values():
        things.sort(key=lambda thing: (called(thing), thing.name))
        groups.append(Alike(word, things[0], tuple(called(thing) for thing in things)))
    return groups


def called(thing: Resource) -> str:
    """Servers go by their host names."""
    return thing.spec.hostname if isinstance(thing, Node) else thing.name


def items(group: Alike, sides: Sequence[tuple[Subject, RoleSet]]) -> Iterator[Item]:
    """What to ask about a group. Raises InputError for roles that are not understood."""
    every = [roles.grants(PROTOCOLS[group.first.kind]) for _, roles in sides]
    for begin, end, target in _uses(group.first, sides, every):
        yield Item(group.word, begin, end, group.names, target)


def _uses(
    thing: Resource, sides: Sequence[tuple[Subject, RoleSet]], every: Sequence[Grants]
) -> Iterator[tuple[str, str, Access]]:
    match thing:
        case Node():
            logins = {login for subject, _ in sides for login in subject.identity.logins}
            for login in sorted(logins):
                yield f"{login}@", "", SshLogin(thing, login)
        case Database():
            # Users made on demand are called like their owners.
            users = {*_values(every, db.USERS), *(subject.identity.name for subject, _ in sides)}
            names = _values(every, db.NAMES) if thing.spec.protocol in db.WITH_NAMES else [""]
            for user in sorted(users):
                for name in names:
                    yield f"{user}@", f"/{name}" if name else "", ConnectDatabase(thing, user, name)
        case App():
            yield "", "", ConnectApp(thing)
            for index, (word, field) in enumerate(_APP):
                for value in _values(every, index):
                    yield "", f" {word}={value}", ConnectApp(thing, **{field: value})
        case KubeCluster():
            yield "", "", UseKube(thing)
            for user in _values(every, kube.USERS):
                yield "", f" user={user}", UseKube(thing, user=user)
            for group in _values(every, kube.GROUPS):
                yield "", f" group={group}", UseKube(thing, groups=(group,))
            for wanted in _objects(role for _, roles in sides for role in roles.plain):
                yield "", f" {_object_text(wanted)}", UseKube(thing, object=wanted)
        case WindowsDesktop() | DynamicWindowsDesktop():
            for login in _values(every, 0):
                yield f"{login}@", "", OpenDesktop(thing, login)
        case RemoteCluster():
            yield "", "", EnterCluster(thing)
        case _:
            return


def _values(every: Sequence[Grants], index: int) -> list[str]:
    """Of a principal all that is allowed or denied by name; patterns stand for themselves."""
    found: set[str] = set()
    for grants in every:
        principal = grants.protocol.principals[index]
        for grant in grants.every:
            for matcher in (grant.allowed[index], grant.denied[index]):
                found |= matcher.exact
                if matcher.anything:
                    found.add(WILDCARD)
            if principal.patterns:
                spec = grant.source.spec
                found.update(text for side in (spec.allow, spec.deny) for text in principal.entries(side))
    return sorted(found)


def _objects(roles: Iterable[Role]) -> list[KubeObject]:
    """Each rule about objects as a question: its own patterns are asked for, so that a rule that is as wide
    or wider says yes."""
    found: dict[KubeObject, None] = {}
    for role in roles:
        for side in (role.spec.allow, role.spec.deny):
            for rule in side.kubernetes_resources:
                kind, group = rule.kind, rule.api_group
                if not kube.is_plural(role):
                    kind, group = kube.plural_of(rule.kind)
                for verb in rule.verbs or ["*"]:  # a deny without any is of all
                    asked = KubeObject(
                        kind=kind, verb=verb, namespace=rule.namespace, name=rule.name, api_group=group
                    )
                    found[asked] = None
    return sorted(found, key=_object_text)


def _object_text(wanted: KubeObject) -> str:
    kind = f"{wanted.kind}.{wanted.api_group}" if wanted.api_group else wanted.kind
    name = f"{wanted.namespace}/{wanted.name}" if wanted.namespace else wanted.name
    return f"{wanted.verb} {kind} {name}".rstrip()
