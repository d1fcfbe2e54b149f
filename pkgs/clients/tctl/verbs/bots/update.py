"""`tctl bots update`."""

from __future__ import annotations

import sys

import msgspec

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import commas, duration
from pkgs.clients.tctl.verbs.bots.add import MAX_TTL_S
from pkgs.common.api.resources import GetResource, PutResource
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.resources.kinds import Bot
from pkgs.common.resources.kinds.machines import BotSpec
from pkgs.common.resources.role import LabelValues

SPEC = Spec(
    "Change the roles, logins or lifetime of a bot. Machines that joined see it with what they ask for next.",
    Flag("set-roles", "Replace the roles, comma separated", metavar="ROLES"),
    Flag("add-roles", "Add roles", metavar="ROLES"),
    Flag("set-logins", "Replace the logins; ',' alone takes them all away", metavar="LOGINS"),
    Flag("add-logins", "Add logins", metavar="LOGINS"),
    Flag("set-max-session-ttl", "Longest life of its certificates, at most 168h", metavar="DURATION"),
    usage="NAME",
    least=1,
    most=1,
)
CHANGES = ("set-roles", "add-roles", "set-logins", "add-logins", "set-max-session-ttl")


def run(args: Parsed) -> int:
    """Read, change, write back if nobody else has in between."""
    if not any(name in args.given for name in CHANGES):
        raise InputError("nothing to update", hint=f"use one of --{', --'.join(CHANGES)}")
    with connect(args) as client:
        bot = client.call(GetResource(kind="bot", name=args.words[0])).resource
        assert isinstance(bot, Bot)
        changed = msgspec.structs.replace(bot, spec=changed_spec(args, bot.spec))
        client.call(PutResource(resource=changed, mode="update"))
    sys.stdout.write(f'Bot "{inert(bot.name)}" has been updated. Roles: ')
    sys.stdout.write(f"{inert(','.join(changed.spec.roles)) or '(none)'}\n")
    return 0


def changed_spec(args: Parsed, spec: BotSpec) -> BotSpec:
    """What the flags make of a bot."""
    before = [value for trait in spec.traits if trait.name == "logins" for value in trait.values]
    logins = _list(args, "logins", before)
    others = [trait for trait in spec.traits if trait.name != "logins"]
    life = spec.max_session_ttl
    if "set-max-session-ttl" in args.given:
        life = f"{duration(args, 'set-max-session-ttl', most_s=MAX_TTL_S)}s"
    return BotSpec(
        roles=_list(args, "roles", spec.roles),
        traits=[*others, LabelValues(name="logins", values=logins)] if logins else others,
        max_session_ttl=life,
    )


def _list(args: Parsed, name: str, before: list[str]) -> list[str]:
    kept = commas(args.text(f"set-{name}")) if f"set-{name}" in args.given else before
    return list(dict.fromkeys([*kept, *commas(args.text(f"add-{name}"))]))
