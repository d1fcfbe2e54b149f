"""`tctl access explain`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT, commas
from pkgs.clients.tctl.verbs.access.words import ROLES, USER, WITH_MFA, login_and_node
from pkgs.common.api.access import AccessStep, ExplainAccess, Explained
from pkgs.common.errors import InputError
from pkgs.common.output import formats
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec(
    "Say whether a user may do something and by which role and field; for a denial also the least that would"
    " have to change. Decides as if the user had just logged in. The exit status is 0 also for a denial.",
    USER,
    ROLES,
    WITH_MFA,
    FORMAT,
    usage="ssh LOGIN@NODE | resource KIND VERB [NAME]",
    least=2,
    most=4,
)


def run(args: Parsed) -> int:
    """Ask and tell."""
    request = request_of(args)
    with connect(args) as client:
        found = client.call(request)
    if args.text("format") != "text":
        formats.write(found, args.text("format"))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines(found)))
    return 0


def request_of(args: Parsed) -> ExplainAccess:
    """The question that the words ask."""
    user, roles, mfa = args.text("user"), commas(args.text("roles")), args.on("with-mfa")
    if not user:
        raise InputError("--user is required", hint="for example --user=alice")
    action, rest = args.words[0], args.words[1:]
    if action == "ssh" and len(rest) == 1:
        login, node = login_and_node(rest[0])
        return ExplainAccess(user=user, roles=roles, with_mfa=mfa, action="ssh", login=login, node=node)
    if action == "resource" and len(rest) in (2, 3):
        kind, verb, name = (*rest, "")[:3]
        return ExplainAccess(
            user=user, roles=roles, with_mfa=mfa, action="resource", kind=kind, verb=verb, name=name
        )
    raise InputError(
        f"{' '.join(args.words)[:80]!r} is no action",
        hint="write ssh LOGIN@NODE, or resource KIND VERB [NAME]",
    )


def lines(found: Explained) -> list[str]:
    """The text form; everything that came from outside is inert."""
    verdict = "allowed" if found.allowed else "denied"
    told = [f"{verdict}: {inert(found.user)}, {inert(found.action)}"]
    told += [f"  {inert(reason)}" for reason in found.reasons]
    told.append(f"roles of {inert(found.user)}: {inert(', '.join(found.roles)) or 'none'}")
    told += [f"  role {inert(finding.role)} {inert(finding.text)}" for finding in found.findings]
    if found.conditions:
        told.append("conditions:")
        told += [f"  {inert(condition)}" for condition in found.conditions]
    if found.missing:
        told.append("missing:")
        told += [f"  {inert(_step(step))}" for step in found.missing]
    return told


def _step(step: AccessStep) -> str:
    role = f"role {step.role}" if step.role else "some role"
    if step.change == "add":
        return f"{role}: add to {step.field}: {step.value}"
    if step.change == "remove":
        return f"{role}: remove from {step.field}: {step.value}"
    return f"role {step.role}: {step.value}" if step.role else step.value
