"""The two worlds that `tctl access diff` compares: as it is, and with new documents applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pkgs.clients.tctl.verbs.access.policyfiles import Documents, is_document, read_text
from pkgs.common.access.policydiff.compare import applied
from pkgs.common.access.policytests.document import PolicyFile
from pkgs.common.access.policytests.reading import Place, Placed, parse
from pkgs.common.access.policytests.world import World, check_document, world_of
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.output.argv import Parsed
from pkgs.common.output.progress import Progress
from pkgs.common.resources.kinds import AccessListMember, DatabaseServer, Resource

_NEEDED = ("role", "user")
_COMPARED = (*_NEEDED, "access_list", "access_list_member")
_FETCHED = (
    *_COMPARED,
    *("node", "app", "db", "db_server", "kube_cluster", "windows_desktop", "dynamic_windows_desktop"),
    *("remote_cluster", "lock", "cluster_auth_preference"),
)
_THE_CLUSTER = "the cluster"


@dataclass(frozen=True, slots=True)
class Worlds:
    before: World
    after: World
    notes: tuple[str, ...]

    @property
    def both(self) -> tuple[World, World]:
        return self.before, self.after


def of_files(documents: Documents, new: Sequence[Placed], base: str, beside: str) -> Worlds:
    """Offline. Raises InputError for what is malformed or there twice."""
    found = documents.below(Path(base)) if base else []
    file: PolicyFile | None = None
    if beside:
        path = Path(beside)
        if path.is_dir() or is_document(path):
            found += documents.below(path)
        else:
            parsed = parse(read_text(path), str(path))
            file = parsed.file
            found += [*parsed.documents, *documents.wanted_by(parsed)]
    return _worlds(world_of(beside or base, found, file), new, [])


def of_cluster(args: Parsed, new: Sequence[Placed]) -> Worlds:
    """What the cluster has, as far as the caller may see it."""
    from pkgs.clients.tctl.connect import connect, is_local
    from pkgs.clients.tctl.inventory import fetch_all

    found: list[Placed] = []
    notes: list[str] = []
    place = Place(_THE_CLUSTER)
    with connect(args) as client, Progress("Fetching") as progress:
        for kind in _FETCHED:
            progress.update(kind)
            try:
                fetched = fetch_all(client, kind)
            except DeniedError:
                # Without them people would seem to hold less than they do.
                if kind in _COMPARED:
                    raise
                notes.append(f"you may not list resources of the kind {kind}: they are left out")
                continue
            if kind == "db_server":
                fetched = _databases(
                    fetched, {resource.name for resource, _ in found if resource.kind == "db"}
                )
            found += [Placed(resource, place) for resource in fetched]
    if not is_local(args):
        notes.append("compared for what you may see; there may be more users and resources")
    return _worlds(world_of(_THE_CLUSTER, found, stored=True), new, notes)


def _databases(servers: Sequence[Resource], known: set[str]) -> list[Resource]:
    """Databases that agents have of their own files; of one that several have, what one of them says."""
    found = [server.spec.database for server in servers if isinstance(server, DatabaseServer)]
    return list({one.name: one for one in found if one is not None and one.name not in known}.values())


def _worlds(before: World, new: Sequence[Placed], notes: list[str]) -> Worlds:
    places: dict[tuple[str, str, str], Place] = {}
    for resource, place in new:
        parent = resource.spec.access_list if isinstance(resource, AccessListMember) else ""
        key = (resource.kind, parent, resource.name)
        if key in places:
            raise place.refuse(f"{key[0]} {key[2][:80]!r} is also defined in {places[key]}")
        places[key] = place
        if resource.kind in _COMPARED:
            check_document(resource, place)
    after, left_out = applied(before, [resource for resource, _ in new])
    if len(left_out) == len(new):
        raise InputError("there are no roles, users and access lists among the new documents")
    if left_out:
        kinds = ", ".join(sorted({resource.kind for resource in left_out}))
        notes.append(f"left out, for only roles, users and access lists are compared: {kinds}")
    return Worlds(before, after, tuple(notes))
