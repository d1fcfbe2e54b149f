"""The gate for those who are nobody yet: where a call came from, and how often that source may try."""

from __future__ import annotations

from pkgs.common.errors import LimitExceededError
from pkgs.common.net.penalties import RateLimit, source_of
from pkgs.common.pki.identity import SystemRole
from pkgs.common.rpc.calls import Caller


def client_address(caller: Caller, claimed: str) -> str:
    """The client's address: what a proxy says of its client, otherwise where the connection comes from.

    Nobody but a proxy of this cluster is believed about an address that is not their own."""
    if caller.identity is not None and caller.identity.is_host(SystemRole.PROXY):
        return bare_address(claimed)
    return caller.remote_addr


def bare_address(text: str) -> str:
    """`203.0.113.7:50112` or `[2001:db8::1]:22` without the port."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text


class Gate:
    """Counts tries per source for one purpose. The administrator on the Auth host is not slowed down."""

    def __init__(self, per_minute: float, burst: int) -> None:
        self._rate = RateLimit(per_minute, burst)

    def enter(self, caller: Caller, claimed: str) -> str:
        """The client's address, or LimitExceededError when it tried too often."""
        address = client_address(caller, claimed)
        if not caller.admin and not self._rate.allow(source_of(address)):
            raise LimitExceededError("too many attempts from your address", hint="try again in a minute")
        return address
