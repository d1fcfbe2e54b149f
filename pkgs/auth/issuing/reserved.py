"""Names that a host certificate may not claim: the cluster's own, and those of other hosts."""

from __future__ import annotations

from collections.abc import Sequence

from pkgs.auth.gate import bare_address
from pkgs.auth.state.store import Store
from pkgs.common.errors import InputError
from pkgs.common.pki.certspec import check_host_principals
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import ClusterName, Proxy
from pkgs.common.resources.names import valid_host_id


def check_principals(
    names: Sequence[str], store: Store, *, own_host_id: str, role: SystemRole | None = None
) -> None:
    """Refuse a host id that is not the holder's own, with or without the cluster's name behind it, the
    cluster's name itself, and the public names of proxies for everybody who is none."""
    check_host_principals(names)
    clusters = {r.spec.cluster_name.lower() for r in store.all("cluster_name") if isinstance(r, ClusterName)}
    proxies = _proxy_names(store, own_host_id) if role is not SystemRole.PROXY else set()
    for name in names:
        lowered = name.lower().rstrip(".")
        first = lowered.partition(".")[0]
        if valid_host_id(first) and first != own_host_id:
            raise InputError(f"{name!r} is the name of another host")
        if any(lowered.endswith(f".db.{cluster}") for cluster in clusters):
            raise InputError(f"{name!r} is reserved for the cluster's databases")
        if lowered in clusters or lowered in proxies:
            raise InputError(f"{name!r} is reserved for the cluster's proxies")


def _proxy_names(store: Store, own_host_id: str) -> set[str]:
    """Public names of proxies; one on the same host shares its names."""
    return {
        bare_address(addr).lower()
        for proxy in store.all("proxy")
        if isinstance(proxy, Proxy) and proxy.name != own_host_id
        for addr in proxy.spec.public_addrs
    } - {"localhost", "127.0.0.1", "::1"}
