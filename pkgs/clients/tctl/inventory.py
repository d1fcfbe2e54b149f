"""What several verbs fetch: resources of a kind, the cluster's proxies and pins, the text of a join."""

from __future__ import annotations

from typing import TypeVar

from pkgs.common.api.resources import ListResources
from pkgs.common.api.system import GetClusterStatus
from pkgs.common.resources.kinds import Proxy, Resource
from pkgs.common.rpc.calls import BlockingClient

R = TypeVar("R", bound=Resource)

LIST_DEADLINE_S = 120.0
DEFAULT_PROXY = "<proxy address>"

PROGRAMS = {"Node": "teleport-ssh", "Proxy": "teleport-proxy", "Db": "teleport-db"}
"""System role to the program that joins with it."""


def fetch_all(
    client: BlockingClient,
    kind: str,
    *,
    with_secrets: bool = False,
    labels: dict[str, str] | None = None,
    search: list[str] | None = None,
) -> list[Resource]:
    """All resources of a kind that the caller may see, in key order."""
    request = ListResources(kind=kind, with_secrets=with_secrets, labels=labels or {}, search=search or [])
    found: list[Resource] = []
    for chunk in client.stream(request, deadline_s=LIST_DEADLINE_S):
        found += chunk.resources
    return found


def proxy_address(client: BlockingClient) -> str:
    """The public address of a proxy of the cluster; a placeholder when none is known."""
    for proxy in fetch_all(client, "proxy"):
        if isinstance(proxy, Proxy):
            address = next(iter(proxy.spec.public_addrs), "") or proxy.spec.addr
            if address:
                return address
    return DEFAULT_PROXY


def join_text(client: BlockingClient, token: str, roles: list[str], ttl_s: int) -> str:
    """What a person who adds a host needs to read."""
    status = client.call(GetClusterStatus())
    proxy = proxy_address(client)
    pins = "".join(f" \\\n   --ca-pin={pin}" for pin in status.ca_pins)
    minutes = max(1, round(ttl_s / 60))
    text = f"The invite token: {token}\nThis token will expire in {minutes} minutes.\n"
    for role in roles:
        program = PROGRAMS.get(role)
        if program is None:
            continue
        address = f"--proxy-server={proxy}" if role in ("Node", "Db") else "--auth-server=<auth address>"
        text += (
            f"\nRun this on the new {role.lower()} to join the cluster:\n\n"
            f"> {program} \\\n   --token={token}{pins} \\\n   {address}\n"
        )
    return text + (
        "\nPlease note:\n\n"
        f"  - This invitation token will expire in {minutes} minutes\n"
        f"  - {proxy} must be reachable from the new host\n"
        "  - Who has the token can join: hand it over like a password\n"
    )
