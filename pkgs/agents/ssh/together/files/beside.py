"""One connection's copying of files beside a session of its user, which moderators approved of."""

from __future__ import annotations

from pkgs.agents.ssh.together.shared import SharedSession
from pkgs.agents.ssh.together.table import Table
from pkgs.common.output.sanitize import inert
from pkgs.common.pki.identity import Identity
from pkgs.common.ssh.sessions.messages import FileOperation, OpenSession

_SHOWN = 200
"""Characters of a path on the terminals of those who watch."""
HOW = "files are copied beside a session of yours, once its moderators approve: tsh sessions ask-transfer"


class Beside:
    """Of one connection: at most one sftp session at a time, of one approval."""

    def __init__(self, table: Table, identity: Identity, login: str) -> None:
        self._table = table
        self._identity = identity
        self._login = login
        self._session: SharedSession | None = None
        self._channel = -1

    def take(self, request: OpenSession) -> bool:
        """Whether this request is one that moderators approved; their approval is used up."""
        if request.kind != "subsystem" or request.command != "sftp" or self._session is not None:
            return False
        for session in self._table.all():
            if session.is_of(self._identity, self._login) and session.copying.take():
                self._session, self._channel = session, request.channel
                return True
        return False

    def holds(self, channel: int) -> bool:
        """Whether this channel copies by an approval."""
        return self._session is not None and channel == self._channel

    @property
    def may_go_on(self) -> bool:
        """Asked again and again while it lasts."""
        return self._session is None or self._session.copying.goes_on

    def operation(self, done: FileOperation) -> None:
        """Everybody in the session sees what is done."""
        if self._session is not None and self.holds(done.channel):
            words = [
                done.operation,
                *(inert(path[:_SHOWN]) for path in (done.path, done.target_path) if path),
            ]
            failed = " (failed)" if done.error else ""
            self._session.copying.show(f"{inert(self._identity.name)} by sftp: {' '.join(words)}{failed}")

    def ended(self, channel: int) -> None:
        """The channel is over, or never opened."""
        if self.holds(channel):
            self.close()

    def close(self) -> None:
        """The connection is over."""
        if self._session is not None:
            self._session.copying.over()
            self._session, self._channel = None, -1
