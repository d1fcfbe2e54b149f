"""`tsh request create`."""

from __future__ import annotations

from pkgs.clients.tsh.profile.login import current
from pkgs.clients.tsh.requests import flags
from pkgs.clients.tsh.requests.asking import ask
from pkgs.clients.tsh.servers.nodes import split_commas
from pkgs.common.api.requests import CreateAccessRequest
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Ask for roles, or for single resources (see 'tsh request search'). Waits for the decision and then goes"
    " on with new certificates; interrupted, the request stays.",
    Flag("roles", "Roles to ask for: role,role; '*' for all that you can request", metavar="ROLES"),
    Flag("resource", "Resource id to ask for (repeatable)", is_list=True, metavar="ID"),
    Flag("reason", "Why it is needed", metavar="TEXT"),
    Flag("reviewers", "Who is asked to decide: user,user", metavar="USERS"),
    Flag("nowait", "Do not wait for the decision", is_bool=True),
    Flag("max-duration", "How long the access shall last, beyond this login where roles allow it (2d)",
         metavar="DURATION"),
    Flag("request-ttl", "How long the request waits for its decision", metavar="DURATION"),
    Flag("session-ttl", "How long certificates with the access live", metavar="DURATION"),
    Flag("assume-start-time", "When the access begins (RFC 3339)", metavar="TIME"),
)  # fmt: skip


def run(args: Parsed) -> int:
    """Ask, wait, renew."""
    roles, resources = split_commas(args.text("roles")), args.texts("resource")
    if not roles and not resources:
        raise InputError("ask for what?", hint="give --roles or --resource")
    request = CreateAccessRequest(
        roles=roles,
        resource_ids=resources,
        reason=flags.reason(args, "reason"),
        suggested_reviewers=split_commas(args.text("reviewers")),
        request_ttl_s=flags.seconds(args, "request-ttl"),
        session_ttl_s=flags.seconds(args, "session-ttl"),
        max_duration_s=flags.seconds(args, "max-duration"),
        assume_start_time=flags.moment(args, "assume-start-time"),
        # Only when it is typed: a login of the environment is meant for other commands.
        login_hint=args.text("login") if resources and "login" in args.given else "",
    )
    ask(current(args), request, nowait=args.on("nowait"))
    return 0
