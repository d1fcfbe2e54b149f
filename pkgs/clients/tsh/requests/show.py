"""Requests as people read them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from pkgs.common.access.matching.resource_ids import format_id
from pkgs.common.api.requests import RequestShown
from pkgs.common.output.sanitize import inert
from pkgs.common.output.table import render, terminal_width
from pkgs.common.output.times import remaining, short
from pkgs.common.resources.kinds import AccessRequest


def resource_texts(request: AccessRequest, names: Mapping[str, str]) -> list[str]:
    """Ids, each with the name that people know."""
    ids = [format_id(found) for found in request.spec.resource_ids]
    return [f"{text} ({names[text]})" if text in names else text for text in ids]


def table(found: Sequence[RequestShown], *, cut: bool = True) -> str:
    """One line per request."""
    rows = []
    for shown in found:
        spec = shown.request.spec
        rows.append(
            (
                shown.request.name,
                spec.user,
                ",".join(spec.roles),
                ",".join(resource_texts(shown.request, shown.names)),
                short(spec.created.timestamp()) if spec.created else "",
                _left(shown.request),
                spec.state,
            )
        )
    headers = ("ID", "User", "Roles", "Resources", "Created At", "Expires In", "Status")
    return render(headers, rows, width=terminal_width() if cut else None)


def block(shown: RequestShown) -> str:
    """Everything about one request."""
    request, spec = shown.request, shown.request.spec
    rows: list[tuple[str, str]] = [
        ("Request ID", request.name),
        ("Username", spec.user),
        ("Roles", ", ".join(spec.roles)),
    ]
    rows += [("Resource", text) for text in resource_texts(request, shown.names)]
    rows += [
        ("Reason", spec.request_reason or "[none]"),
        ("Reviewers", ", ".join(spec.suggested_reviewers) or "[none] (suggested)"),
    ]
    if spec.assume_start_time is not None:
        rows.append(("Starts", short(spec.assume_start_time.timestamp())))
    if spec.max_duration is not None:
        rows.append(("Access Until", short(spec.max_duration.timestamp())))
    rows.append(("Expires In", _left(request)))
    rows.append(("Status", spec.state))
    if spec.resolve_reason:
        rows.append(("Resolved", spec.resolve_reason))
    for review in spec.reviews:
        told = f": {review.reason}" if review.reason else ""
        rows.append(("Review", f"{review.author} {review.proposed_state}{told}"))
    return "".join(f"{key + ':':<14}{inert(value)}\n" for key, value in rows)


def _left(request: AccessRequest) -> str:
    """How long it waits, or once approved how long the access lasts."""
    expires = request.metadata.expires
    return remaining(expires.timestamp() - time.time()) if expires else ""
