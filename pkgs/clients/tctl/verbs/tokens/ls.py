"""`tctl tokens ls`."""

from __future__ import annotations

import sys

import msgspec

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.inventory import fetch_all
from pkgs.clients.tsh.servers.nodes import label_text, parse_labels
from pkgs.common.output import times
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.resources import write_list
from pkgs.common.output.sanitize import inert
from pkgs.common.output.table import render, terminal_width
from pkgs.common.resources.kinds import Token

SPEC = Spec(
    "List the tokens that are valid now, soonest to expire first. A token is a secret: it is shown masked"
    " unless --with-secrets is given.",
    Flag("format", "text prints only the names", choices=("text", "json", "yaml"), metavar="FORMAT"),
    Flag("with-secrets", "Show the tokens themselves", is_bool=True),
    Flag("labels", "Only tokens with these labels, k=v,...", metavar="LABELS"),
)
VISIBLE_PART = 4


def run(args: Parsed) -> int:
    """Ask and print."""
    with connect(args) as client:
        found = fetch_all(
            client,
            "token",
            with_secrets=args.on("with-secrets"),
            labels=parse_labels(args.text("labels")),
        )
    tokens = sorted((t for t in found if isinstance(t, Token)), key=_expiry)
    if not args.on("with-secrets"):
        tokens = [_masked(token) for token in tokens]
    if args.text("format") in ("json", "yaml"):
        write_list(tokens, args.text("format"), with_secrets=True)
    elif args.text("format") == "text":
        sys.stdout.writelines(inert(token.name) + "\n" for token in tokens)
    elif not tokens:
        sys.stdout.write("No active tokens found.\n")
    else:
        rows = [
            (
                token.name,
                ",".join(token.spec.roles),
                label_text(token.metadata.labels),
                times.short(_expiry(token)) if token.metadata.expires else "never",
            )
            for token in tokens
        ]
        headers = ("Token", "Type", "Labels", "Expiry Time (UTC)")
        sys.stdout.write(render(headers, rows, width=terminal_width()))
    return 0


def _expiry(token: Token) -> float:
    return token.metadata.expires.timestamp() if token.metadata.expires else float("inf")


def _masked(token: Token) -> Token:
    shown = len(token.name) // VISIBLE_PART
    name = "*" * (len(token.name) - shown) + token.name[len(token.name) - shown :]
    return msgspec.structs.replace(token, metadata=msgspec.structs.replace(token.metadata, name=name))
