"""`tsh play`."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.recordings.remote import download
from pkgs.clients.tsh.recordings.source import open_recording
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Replay a recorded session. At a terminal: space pauses, left and right move ten seconds, g and G go to"
    " the beginning and the end, + and - change the speed, q ends. Into a pipe or a file it prints plain"
    " text, in which no escape sequence survives.",
    Flag("format", "pty (as it looked), text, json or yaml (its events), asciicast (for asciinema), html",
         short="f", default="pty", choices=("pty", "text", "json", "yaml", "asciicast", "html"),
         metavar="FORMAT"),
    Flag("speed", "Speed of the replay", default="1x", choices=("0.5x", "1x", "2x", "4x", "8x"),
         metavar="SPEED"),
    Flag("skip-idle-time", "Shorten pauses", is_bool=True),
    CLUSTER,
    usage="SESSION_ID|FILE",
    least=1,
    most=1,
)  # fmt: skip


def run(args: Parsed) -> int:
    """Play or convert."""
    with open_recording(args, download) as file:
        if args.text("format") == "pty" and sys.stdout.isatty():
            from pkgs.clients.tsh.recordings.screen import play

            play(file, speed=float(args.text("speed")[:-1]), skip_idle=args.on("skip-idle-time"))
        else:
            from pkgs.clients.tsh.recordings.convert import convert

            form = "text" if args.text("format") == "pty" else args.text("format")
            sys.stdout.writelines(convert(file, form))
    return 0
