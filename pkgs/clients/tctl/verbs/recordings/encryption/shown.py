"""How the keys of recordings are shown."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.common.api.encryption import RecordingEncryptionState
from pkgs.common.output import formats
from pkgs.common.output.argv import Parsed
from pkgs.common.output.table import render, terminal_width
from pkgs.common.rpc.calls import Request

_STATES = {
    "active": "active",
    "next": "being rotated in",
    "rotated": "opens older recordings",
}


def ask(args: Parsed, request: Request[RecordingEncryptionState], done: str = "") -> int:
    """Make the call, say what was done, and show the keys."""
    with connect(args) as client:
        state = client.call(request)
    if args.text("format") != "text":
        formats.write(state, args.text("format"))
        return 0
    if done:
        sys.stdout.write(f"{done}\n\n")
    enabled = "new recordings are encrypted" if state.enabled else "new recordings are not encrypted"
    rotating = "going on" if state.rotating else "none"
    sys.stdout.write(f"Encryption: {enabled}\nRotation:   {rotating}\n\n")
    rows = [(key.public_key, _STATES.get(key.state, key.state), key.created) for key in state.keys]
    sys.stdout.write(render(("Public Key", "State", "Created"), rows, width=terminal_width()))
    return 0
