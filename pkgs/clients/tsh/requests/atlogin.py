"""Requests that belong to a log-in: those asked for by flags, and those that a role asks for by itself."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.profile.login import Login
from pkgs.clients.tsh.requests import asking, calls, flags
from pkgs.clients.tsh.servers.nodes import split_commas
from pkgs.common.access.requests.limits import MAX_REASON_CHARS
from pkgs.common.api.requests import CreateAccessRequest, RequestCapabilities
from pkgs.common.errors import AccessError, InputError
from pkgs.common.output.argv import Parsed
from pkgs.common.output.sanitize import inert


def wanted(args: Parsed) -> bool:
    """Whether the flags ask for a request; InputError when they contradict each other."""
    roles, name = args.text("request-roles"), args.text("request-id")
    if roles and name:
        raise InputError("use only one of --request-roles and --request-id")
    if (args.text("request-reviewers") or args.text("request-reason")) and name:
        raise InputError("--request-id uses a request as it was made, with its reason and reviewers")
    flags.reason(args, "request-reason")
    return bool(roles or name)


def by_flags(args: Parsed, login: Login) -> Login:
    """What --request-roles or --request-id ask for."""
    nowait = args.on("request-nowait")
    if args.text("request-id"):
        return asking.resume(login, args.text("request-id"), nowait=nowait)
    roles = split_commas(args.text("request-roles"))
    return asking.ask(login, _request(args, roles, flags.reason(args, "request-reason")), nowait=nowait)


def by_role(args: Parsed, login: Login) -> Login:
    """What the role option `request_access` asks for after every log-in: all roles that can be requested."""
    try:
        found = calls.capabilities(login)
    except AccessError as error:
        # The log-in itself is done and holds.
        sys.stderr.write(f"Not known whether your roles ask for an access request: {inert(error.message)}\n")
        return login
    if found.strategy == "optional" or not found.requestable_roles:
        return login
    roles = ", ".join(found.requestable_roles)
    sys.stderr.write(f"Your roles ask for an access request at log-in, for: {inert(roles)}\n")
    return asking.ask(login, _request(args, ["*"], _reason(args, found)), nowait=args.on("request-nowait"))


def _request(args: Parsed, roles: list[str], reason: str) -> CreateAccessRequest:
    reviewers = split_commas(args.text("request-reviewers"))
    return CreateAccessRequest(roles=roles, reason=reason, suggested_reviewers=reviewers)


def _reason(args: Parsed, found: RequestCapabilities) -> str:
    """The flag, or what is typed when a reason is needed."""
    reason = flags.reason(args, "request-reason")
    if reason or not found.reason_required:
        return reason
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError("you are logged in, but your roles need a reason", hint="add --request-reason")
    for prompt in found.prompts:
        sys.stderr.write(inert(prompt) + "\n")
    sys.stderr.write("Reason: ")
    sys.stderr.flush()
    typed = sys.stdin.readline(MAX_REASON_CHARS + 2).strip()
    if not typed or len(typed) > MAX_REASON_CHARS:
        raise InputError(f"a reason has 1 to {MAX_REASON_CHARS} characters")
    return typed
