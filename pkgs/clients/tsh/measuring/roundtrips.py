"""Round trips: to the proxy, by opening a TCP connection to it; to the server, over an SSH connection."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from pkgs.clients.tsh.measuring.limits import ROUND_TRIP_S
from pkgs.clients.tsh.measuring.stats import percentile
from pkgs.clients.tsh.ownssh.link import Link, Target, log_in
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import UnavailableError
from pkgs.common.net.dial_blocking import dial_tcp
from pkgs.common.ssh.client.connection import Connection
from pkgs.common.ssh.transport import KEEP_ALIVE


@dataclass(slots=True)
class Times:
    """Seconds of each measurement."""

    client_proxy: list[float] = field(default_factory=list)
    proxy_host: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float | int]:
        """Medians in milliseconds, and of how many."""
        proxy, host = percentile(self.client_proxy, 50), percentile(self.proxy_host, 50)
        return {
            "client_proxy_ms": round(1000 * proxy, 2),
            "proxy_host_ms": round(1000 * host, 2),
            "samples": len(self.client_proxy),
        }


class Meter:
    """A connection to a server on which round trips are measured. A context manager."""

    def __init__(self, login: Login, target: Target) -> None:
        self._login = login
        self._target = target
        self.times = Times()

    def __enter__(self) -> Meter:
        """Raises AccessError when the server is not reached."""
        self._link = Link(self._login, self._target)
        try:
            self._connection: Connection = log_in(self._login, self._target, self._link.sock)
        except BaseException:
            self._link.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._connection.join(1)
        self._link.close()

    def measure(self) -> None:
        """One more. The way behind the proxy is what is left of the whole when the way to it is taken off."""
        began = time.monotonic()
        dial_tcp(self._login.proxy_addr).close()
        to_proxy = time.monotonic() - began
        answered = threading.Event()
        began = time.monotonic()
        self._connection.ask(KEEP_ALIVE, b"", lambda ok, reader: answered.set())
        if not answered.wait(ROUND_TRIP_S):
            raise UnavailableError(
                "the server does not answer", hint="see 'tsh ls' whether it is still there"
            )
        whole = time.monotonic() - began
        self.times.client_proxy.append(to_proxy)
        self.times.proxy_host.append(max(whole - to_proxy, 0.0))
