"""`tsh request search`."""

from __future__ import annotations

import shlex
import sys

from pkgs.clients.tsh.flags import FORMAT, VERBOSE
from pkgs.clients.tsh.profile.login import Login, current
from pkgs.clients.tsh.requests import calls
from pkgs.clients.tsh.servers import nodes
from pkgs.common.access.contexts.fields import name_of
from pkgs.common.access.contexts.query import compile_query
from pkgs.common.access.matching.labels import labels_of
from pkgs.common.access.matching.resource_ids import format_id
from pkgs.common.api.requests import SearchRequestable
from pkgs.common.errors import InputError
from pkgs.common.output import formats
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.output.table import render, terminal_width
from pkgs.common.resources.codec import to_builtins
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.kinds.requests import ResourceId

KINDS = ("node", "kube_cluster", "db", "app", "windows_desktop")
SPEC = Spec(
    "Find what you could reach by an access request: resources of a kind, perhaps only those with some"
    " labels, or roles.",
    Flag("kind", "Kind of resource", choices=("", *KINDS), metavar="KIND"),
    Flag("roles", "List the roles that you can request", is_bool=True),
    *nodes.FILTERS,
    VERBOSE,
    FORMAT,
    usage="[LABELS]",
    most=1,
)
SHOWN_IDS = 5
"""Ids in the command that is suggested."""


def run(args: Parsed) -> int:
    """Search and print."""
    kind = args.text("kind")
    if bool(kind) == args.on("roles"):
        raise InputError("search for what?", hint=f"give --kind={'|'.join(KINDS)} or --roles")
    login = current(args)
    return _resources(args, login, kind) if kind else _roles(args, login)


def _roles(args: Parsed, login: Login) -> int:
    found = calls.capabilities(login).requestable_roles
    if args.text("format") != "text":
        formats.write(found, args.text("format"))
    else:
        sys.stdout.write(render(("Role",), [(name,) for name in found]))
    return 0


def _resources(args: Parsed, login: Login, kind: str) -> int:
    wanted = compile_query(args.text("query"), kind) if args.text("query") else None
    request = SearchRequestable(
        kind=kind,
        labels=nodes.parse_labels(args.words[0]) if args.words else {},
        search=nodes.split_commas(args.text("search")),
    )
    found: list[tuple[str, Resource]] = []
    with calls.connected(login) as client:
        for chunk in client.stream(request, deadline_s=calls.LIST_DEADLINE_S):
            found += [(_id(login, each), each) for each in chunk.resources if wanted is None or wanted(each)]
    found.sort(key=lambda pair: (name_of(pair[1]), pair[0]))
    if args.text("format") != "text":
        formats.write_list([{"id": text, **to_builtins(each)} for text, each in found], args.text("format"))
        return 0
    rows = [(name_of(each), nodes.label_text(dict(labels_of(each))), text) for text, each in found]
    width = None if args.on("verbose") else terminal_width()
    sys.stdout.write(render(("Name", "Labels", "Resource ID"), rows, width=width))
    if found:
        ids = " ".join(f"--resource={inert(shlex.quote(text))}" for text, _ in found[:SHOWN_IDS])
        sys.stdout.write(f"\nTo ask for them:\n> tsh request create {ids} --reason=<why>\n")
    return 0


def _id(login: Login, resource: Resource) -> str:
    return format_id(ResourceId(cluster=login.cluster, kind=resource.kind, name=resource.name))
