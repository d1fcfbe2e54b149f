"""A login in words, for `tsh status` and after `tsh login`."""

from __future__ import annotations

import time
from typing import Any

from pkgs.clients.tsh.profile.login import Login
from pkgs.common.output.sanitize import inert
from pkgs.common.output.times import remaining, rfc3339


def as_text(login: Login, *, active: bool) -> str:
    """The block that people read."""
    facts = login.facts
    left = remaining(login.expires_at - time.time())
    until = time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(login.expires_at))
    rows = {
        "Profile URL": f"https://{login.proxy_addr}",
        "Logged in as": login.user,
        "Cluster": login.cluster,
        "Roles": ", ".join(facts.roles()),
        "Logins": ", ".join(facts.logins()) or "none",
        "Kubernetes": "disabled",
        "Valid until": f"{until} [{'EXPIRED' if left == 'expired' else 'valid for ' + left}]",
        "Extensions": ", ".join(sorted(flags(login))),
    }
    requests, resources = facts.requests(), facts.resources()
    if requests:
        rows["Active requests"] = ", ".join(requests)
    if resources is not None:
        rows["Allowed resources"] = ", ".join(resources) or "none"
    mark = "> " if active else "  "
    lines = []
    for index, (key, value) in enumerate(rows.items()):
        lines.append(f"{mark if index == 0 else '  '}{key + ':':<19}{inert(value)}".rstrip())
    return "\n".join(lines) + "\n"


def as_data(login: Login) -> dict[str, Any]:
    """The same for programs."""
    return {
        "profile_url": f"https://{login.proxy_addr}",
        "username": login.user,
        "cluster": login.cluster,
        "roles": login.facts.roles(),
        "traits": login.facts.traits(),
        "logins": login.facts.logins(),
        "kubernetes_enabled": False,
        "valid_until": rfc3339(login.expires_at),
        "extensions": sorted(flags(login)),
        "active_requests": login.facts.requests(),
        "allowed_resources": login.facts.resources(),
    }


def flags(login: Login) -> list[str]:
    """Extensions of the certificate that are flags or say how it may be used."""
    return [name for name, value in login.facts.extensions.items() if not value]
