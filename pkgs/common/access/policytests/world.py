"""The people, roles and things that tests of policy are about, and whoever asks in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from pkgs.common.access.explaining.explain import as_if
from pkgs.common.access.lists.membership import ListGraph
from pkgs.common.access.lists.membership import Person as ListPerson
from pkgs.common.access.policytests import limits
from pkgs.common.access.policytests.document import PolicyFile, Resources, ThingEntry, UserEntry
from pkgs.common.access.policytests.reading import Place, Placed
from pkgs.common.access.roleset import PROTOCOLS
from pkgs.common.access.types import Environment, Subject
from pkgs.common.access.validate import validate
from pkgs.common.errors import InputError
from pkgs.common.resources.bots import bot_of
from pkgs.common.resources.defaults import IMPLICIT_ROLE
from pkgs.common.resources.kinds import (
    AccessList,
    AccessListMember,
    App,
    AuthPreference,
    Database,
    KubeCluster,
    Lock,
    Node,
    RemoteCluster,
    Resource,
    ServerSpec,
    User,
    WindowsDesktop,
)
from pkgs.common.resources.kinds.infrastructure import AppSpec, DatabaseSpec, WindowsDesktopSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.presets import preset_roles
from pkgs.common.resources.registry import ALIASES, NOT_KEPT, TYPES
from pkgs.common.resources.role import Role
from pkgs.common.resources.strict import suggest

_CHECKED = (Role, User, Lock, AuthPreference)
"""What decides must be as the Auth Service would take it; of the rest only name and labels are read."""
_ONCE = frozenset({*PROTOCOLS, "role", "user", "lock", "cluster_auth_preference"})
"""Kinds of which the name says which one it is. Of others, such as authorities, a name may be there twice."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user, and by what their session is verified."""

    name: str
    roles: tuple[str, ...]
    traits: dict[str, tuple[str, ...]]
    mfa: bool = False
    device: bool = False
    requests: tuple[str, ...] = ()
    allowed_resources: tuple[str, ...] | None = None
    machine: bool = False
    """Of a bot: access lists give it nothing."""


@dataclass(frozen=True, slots=True)
class World:
    """A cluster without a cluster."""

    cluster: str
    roles: Mapping[str, Role]
    people: Mapping[str, Person]
    things: Mapping[str, Mapping[str, Resource]]
    """Every document, by kind and name."""
    locks: tuple[Lock, ...] = ()
    auth_preference: AuthPreference | None = None
    servers: Mapping[str, tuple[Node, ...]] = field(default_factory=dict)
    """By host name."""
    rule_kinds: frozenset[str] = frozenset()
    """Kinds that exist, and those that some role speaks of."""
    lists: tuple[AccessList, ...] = ()
    members: tuple[AccessListMember, ...] = ()
    graph: ListGraph = field(default_factory=ListGraph)
    """Of these lists and members."""

    def holding(self, person: Person, now: float) -> Person:
        """The user with what access lists give them then."""
        if person.machine:
            return person
        asked = ListPerson(person.name, frozenset(person.roles), person.traits)
        given = self.graph.standing(asked, now, self.roles.__contains__)
        traits = dict(person.traits)
        for name, values in given.traits.items():
            traits[name] = tuple(dict.fromkeys((*traits.get(name, ()), *values)))
        return replace(person, roles=tuple(dict.fromkeys((*person.roles, *given.roles))), traits=traits)

    def with_lists(self, lists: Iterable[AccessList], members: Iterable[AccessListMember]) -> World:
        """The same world with these, which replace those of the same name."""
        every = {one.name: one for one in (*self.lists, *lists)}
        inside = {(one.spec.access_list, one.name): one for one in (*self.members, *members)}
        return replace(
            self,
            lists=tuple(every.values()),
            members=tuple(inside.values()),
            graph=ListGraph(every.values(), inside.values()),
        )

    def held(self, names: Sequence[str]) -> tuple[Role, ...]:
        """The roles of these names. Raises InputError for one that does not exist: nobody can hold it."""
        for name in names:
            if name not in self.roles:
                raise InputError(
                    f"there is no role {name[:80]!r}", hint=suggest(name, sorted(self.roles)[:1000])
                )
        return tuple(self.roles[name] for name in names)

    def subject(self, person: Person, env: Environment) -> Subject:
        """Somebody who has just logged in. Raises InputError for a role that does not exist."""
        roles = self.held(person.roles)
        identity = as_if(
            person.name, roles, person.traits, self.cluster, env, mfa=person.mfa, device=person.device
        )
        if person.requests or person.allowed_resources is not None:
            identity = msgspec.structs.replace(
                identity, active_requests=person.requests, allowed_resources=person.allowed_resources
            )
        return Subject(identity, roles)


def person_of(name: str, entry: UserEntry) -> Person:
    return Person(
        name,
        tuple(entry.roles),
        {trait: tuple(values) for trait, values in entry.traits.items()},
        entry.mfa,
        entry.device,
        tuple(entry.requests),
        None if entry.allowed_resources is None else tuple(entry.allowed_resources),
    )


def person_of_user(user: User) -> Person:
    """A user by their document."""
    traits = {trait: tuple(values) for trait, values in user.spec.traits.items()}
    return Person(user.name, tuple(user.spec.roles), traits, machine=bool(bot_of(user)))


def world_of(
    source: str,
    documents: Iterable[Placed],
    file: PolicyFile | None = None,
    *,
    stored: bool = False,
) -> World:
    """Everything together. Raises InputError for what is there twice, and for what no cluster would take,
    unless it is `stored` in one: then it is taken as it is."""
    file = file or PolicyFile(tests=[])
    things: dict[str, dict[str, Resource]] = {}
    places: dict[tuple[str, str], Place] = {}
    lists: list[AccessList] = []
    members: list[AccessListMember] = []
    for number, (resource, place) in enumerate((*documents, *_short_forms(source, file.resources))):
        if number >= limits.MAX_DOCUMENTS:
            raise InputError(f"{source}: more than {limits.MAX_DOCUMENTS} documents")
        key = (resource.kind, resource.name)
        if key in places and resource.kind in _ONCE:
            raise place.refuse(f"{key[0]} {key[1][:80]!r} is also defined in {places[key]}")
        if isinstance(resource, _CHECKED) and not stored:
            check_document(resource, place)
        places[key] = place
        if isinstance(resource, AccessList):
            lists.append(resource)
        elif isinstance(resource, AccessListMember):
            members.append(resource)
        things.setdefault(resource.kind, {}).setdefault(resource.name, resource)
    roles = {role.name: role for role in things.get("role", {}).values() if isinstance(role, Role)}
    if file.presets:
        for role in preset_roles():
            roles.setdefault(role.name, role)
        things["role"] = {**roles}
    people = {
        user.name: person_of_user(user) for user in things.get("user", {}).values() if isinstance(user, User)
    }
    for name, entry in file.users.items():
        if name in people:
            raise InputError(f"{source}: users.{name}: is also defined in {places['user', name]}")
        people[name] = person_of(name, entry)
    if len(people) > limits.MAX_USERS:
        raise InputError(f"{source}: more than {limits.MAX_USERS} users")
    servers: dict[str, list[Node]] = {}
    for node in things.get("node", {}).values():
        if isinstance(node, Node):
            servers.setdefault(node.spec.hostname, []).append(node)
    preference = next(iter(things.get("cluster_auth_preference", {}).values()), None)
    return World(
        cluster=file.cluster,
        roles=roles,
        people=people,
        things=things,
        locks=tuple(lock for lock in things.get("lock", {}).values() if isinstance(lock, Lock)),
        auth_preference=preference if isinstance(preference, AuthPreference) else None,
        servers={name: tuple(nodes) for name, nodes in servers.items()},
        rule_kinds=_rule_kinds([*roles.values(), *preset_roles(), IMPLICIT_ROLE]),
    ).with_lists(lists, members)


def _rule_kinds(roles: Iterable[Role]) -> frozenset[str]:
    spoken = {
        ALIASES.get(kind, kind)
        for role in roles
        for side in (role.spec.allow, role.spec.deny)
        for rule in side.rules
        for kind in rule.resources
    }
    return frozenset({*TYPES, *NOT_KEPT, *spoken} - {"*"})


def check_document(resource: Resource, place: Place) -> None:
    """Raises InputError for what the Auth Service would not take."""
    try:
        validate(resource)
    except InputError as error:
        raise place.refuse(error.message, error.hint) from None


def _short_forms(source: str, found: Resources) -> Iterable[Placed]:
    def named(name: str, entry: ThingEntry) -> Metadata:
        return Metadata(name=name, labels=entry.labels)

    made: list[tuple[str, Resource]] = []
    for name, node in found.nodes.items():
        meta = Metadata(name=node.id or name, labels=node.labels)
        made.append((f"nodes.{name}", Node(metadata=meta, spec=ServerSpec(hostname=name))))
    for name, db in found.dbs.items():
        spec = DatabaseSpec(protocol=db.protocol, uri="")
        made.append((f"dbs.{name}", Database(metadata=Metadata(name=name, labels=db.labels), spec=spec)))
    for name, thing in found.apps.items():
        made.append((f"apps.{name}", App(metadata=named(name, thing), spec=AppSpec())))
    for name, thing in found.kube_clusters.items():
        made.append((f"kube_clusters.{name}", KubeCluster(metadata=named(name, thing))))
    for name, thing in found.desktops.items():
        desktop = WindowsDesktop(metadata=named(name, thing), spec=WindowsDesktopSpec(addr=""))
        made.append((f"desktops.{name}", desktop))
    for name, thing in found.leaf_clusters.items():
        made.append((f"leaf_clusters.{name}", RemoteCluster(metadata=named(name, thing))))
    return [Placed(resource, Place(source, 0, f"resources.{path}")) for path, resource in made]
