"""`tctl bots instances show`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.common.api.resources import GetResource
from pkgs.common.errors import InputError
from pkgs.common.output import formats, times
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.resources.codec import to_builtins
from pkgs.common.resources.kinds import BotInstance

SPEC = Spec(
    "Show a machine that joined as a bot: how it proved itself, and what it told of itself.",
    FORMAT,
    usage="NAME/UUID",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Ask and print."""
    bot, slash, name = args.words[0].partition("/")
    if not slash or not bot or not name:
        raise InputError(
            f"{args.words[0][:80]!r} names no instance",
            hint="write <bot>/<uuid>, see `tctl bots instances ls`",
        )
    with connect(args) as client:
        found = client.call(GetResource(kind="bot_instance", sub_kind=bot, name=name)).resource
    assert isinstance(found, BotInstance)
    if args.text("format") != "text":
        formats.write(to_builtins(found), args.text("format"))
        return 0
    sys.stdout.write(text(found))
    return 0


def text(instance: BotInstance) -> str:
    """The instance as a person reads it, newest first."""
    lines = [f"Bot: {inert(instance.sub_kind)}", f"ID:  {inert(instance.name)}"]
    if instance.metadata.expires is not None:
        lines.append(f"Forgotten: {times.short(instance.metadata.expires.timestamp())} unless it renews")
    lines.append("\nAuthentications:")
    for proof in reversed(instance.status.latest_authentications):
        lines.append(
            f"  {times.short(proof.authenticated_at.timestamp())}  generation {proof.generation}"
            f"  by {proof.join_method}  from {inert(proof.remote_addr) or 'this host'}"
        )
    lines.append("\nHeartbeats:")
    for beat in reversed(instance.status.latest_heartbeats):
        lines.append(
            f"  {times.short(beat.recorded_at.timestamp())}  {inert(beat.hostname) or '-'}"
            f"  version {inert(beat.version) or '-'}  up {inert(beat.uptime) or '-'}"
        )
    if not instance.status.latest_heartbeats:
        lines.append("  none")
    return "\n".join(lines) + "\n"
