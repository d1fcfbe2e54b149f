"""An open-loop load: logins with one command each, at the times of a fixed schedule."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from dataclasses import dataclass, field

from pkgs.clients.tsh.connections.dial import user_stream
from pkgs.clients.tsh.connections.splice import TlsStream
from pkgs.clients.tsh.measuring.limits import REQUEST_S
from pkgs.clients.tsh.measuring.stats import PERCENTILES, due, percentile
from pkgs.clients.tsh.ownssh.link import Target, log_in
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import AccessError
from pkgs.common.ssh.client.command import run


@dataclass(slots=True)
class Report:
    """What became of the requests."""

    originated: int = 0
    failed: int = 0
    last_error: str = ""
    times_s: list[float] = field(default_factory=list)
    """From when each was due to its end, failed ones included."""

    def as_json(self) -> dict[str, object]:
        """Milliseconds."""
        times = {str(p): round(1000 * percentile(self.times_s, p), 1) for p in PERCENTILES if self.times_s}
        return {
            "requests_originated": self.originated,
            "requests_failed": self.failed,
            "last_error": self.last_error,
            "percentiles_ms": times,
        }


class Load:
    """`concurrent` threads take the requests in turn. While all are busy a request waits, and its waiting
    counts."""

    def __init__(self, login: Login, target: Target, command: bytes, rate: float, requests: int) -> None:
        self._login = login
        self._target = target
        self._command = command
        self._rate = rate
        self._requests = requests
        self._next = itertools.count()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.report = Report()

    def run(self, concurrent: int) -> Report:
        """All of them. An interrupt ends it: those under way are waited for."""
        self._began = time.monotonic()
        threads = [
            threading.Thread(target=self._work, daemon=True) for _ in range(min(concurrent, self._requests))
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            self._stopping.set()
            for thread in threads:
                thread.join()
        return self.report

    def _work(self) -> None:
        while (index := next(self._next)) < self._requests:
            at = self._began + due(index, self._rate)
            if self._stopping.wait(max(at - time.monotonic(), 0)):
                return
            try:
                self._request(at)
            except (AccessError, OSError) as error:
                self._note(at, str(error))

    def _note(self, at: float, problem: str) -> None:
        """One request is over."""
        took = time.monotonic() - at
        with self._lock:
            self.report.originated += 1
            self.report.times_s.append(took)
            if problem:
                self.report.failed += 1
                self.report.last_error = problem

    def _request(self, at: float) -> None:
        """One login and one command."""
        name = self._target.host.removesuffix("." + self._login.cluster)
        stream = user_stream(self._login, name, self._target.user, REQUEST_S)
        ours, theirs = socket.socketpair()
        carrier = threading.Thread(target=_carry, args=(stream, theirs), daemon=True)
        carrier.start()
        connection = log_in(self._login, self._target, ours, deadline_s=REQUEST_S)
        try:
            status = run(connection, self._command, deadline_s=REQUEST_S).status
            # Hanging up is no part of the answer.
            self._note(at, f"the command's exit status was {status}" if status else "")
        finally:
            connection.close()
            connection.join(1)
            carrier.join(1)


def _carry(stream: TlsStream, sock: socket.socket) -> None:
    # The splice closes what it writes to.
    reader = sock.dup()
    sink = sock.detach()
    try:
        stream.splice(reader.fileno(), sink)
    except (AccessError, OSError):
        return  # whoever uses it finds the connection closed
    finally:
        reader.close()
