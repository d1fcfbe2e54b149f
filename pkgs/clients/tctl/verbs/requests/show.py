"""Requests as administrators read them."""

from __future__ import annotations

from pkgs.clients.tsh.requests.show import resource_texts
from pkgs.common.api.requests import RequestShown
from pkgs.common.output import times
from pkgs.common.output.sanitize import inert


def metadata(shown: RequestShown) -> str:
    """`roles=a,b resources=...`."""
    text = f"roles={','.join(shown.request.spec.roles)}"
    resources = resource_texts(shown.request, shown.names)
    return f"{text} resources={','.join(resources)}" if resources else text


def block(shown: RequestShown) -> str:
    """One request as lines of key and value."""
    spec = shown.request.spec
    rows = [
        ("Token", shown.request.name),
        ("Requestor", spec.user),
        ("Metadata", metadata(shown)),
        ("Created At (UTC)", times.short(spec.created.timestamp()) if spec.created else ""),
        ("Status", spec.state),
        ("Request Reason", spec.request_reason or "[none]"),
        ("Resolve Reason", spec.resolve_reason or "[none]"),
    ]
    for review in spec.reviews:
        told = f": {review.reason}" if review.reason else ""
        rows.append(("Review", f"{review.author} {review.proposed_state}{told}"))
    width = max(len(key) for key, _ in rows)
    return "".join(f"{key:<{width}} {inert(value)}\n" for key, value in rows)
