"""`tctl bots instances ls`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.inventory import fetch_all
from pkgs.clients.tsh.servers.nodes import split_commas
from pkgs.common.access.contexts.query import compile_query
from pkgs.common.output import times
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.resources import write_list
from pkgs.common.output.table import render, terminal_width
from pkgs.common.resources.kinds import BotInstance

SPEC = Spec(
    "List the machines that joined as bots, or as one bot.",
    Flag(
        "search", "Words that must all appear in the id, the bot or the host name: foo,bar", metavar="WORDS"
    ),
    Flag("query", 'Predicate, such as resource.spec.bot_name == "ci"', metavar="QUERY"),
    FORMAT,
    usage="[NAME]",
    most=1,
)
HEADERS = ("ID", "Join Method", "Hostname", "Joined", "Last Seen", "Generation")


def run(args: Parsed) -> int:
    """Ask, filter, print."""
    wanted = compile_query(args.text("query"), "bot_instance") if args.text("query") else None
    words = [word.lower() for word in split_commas(args.text("search"))]
    with connect(args) as client:
        found = [one for one in fetch_all(client, "bot_instance") if isinstance(one, BotInstance)]
    instances = [
        one
        for one in found
        if (not args.words or one.sub_kind == args.words[0])
        and (wanted is None or wanted(one))
        and all(word in f"{one.sub_kind}/{one.name} {hostname(one)}".lower() for word in words)
    ]
    instances.sort(key=lambda one: (one.sub_kind, one.name))
    if args.text("format") != "text":
        write_list(instances, args.text("format"))
        return 0
    if not instances:
        sys.stdout.write("No bot instances found\n")
        return 0
    sys.stdout.write(render(HEADERS, [row(one) for one in instances], width=terminal_width()))
    return 0


def hostname(instance: BotInstance) -> str:
    beats = instance.status.latest_heartbeats
    return beats[-1].hostname if beats else ""


def row(instance: BotInstance) -> tuple[str, ...]:
    """The columns of an instance."""
    first, proofs = instance.status.initial_authentication, instance.status.latest_authentications
    newest = proofs[-1] if proofs else first
    seen = [proof.authenticated_at for proof in proofs[-1:]]
    seen += [beat.recorded_at for beat in instance.status.latest_heartbeats[-1:]]
    return (
        f"{instance.sub_kind}/{instance.name}",
        newest.join_method if newest else "-",
        hostname(instance) or "-",
        times.short(first.authenticated_at.timestamp()) if first else "-",
        times.short(max(seen).timestamp()) if seen else "-",
        str(newest.generation) if newest else "-",
    )
