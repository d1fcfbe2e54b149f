"""The owner of a session that needs company asks to copy files beside it, and moderators answer.

All in the turn of the session: who answers is in it, counts, and is asked about anew when the copying begins
and every second while it lasts (attacks A30, A31).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkgs.agents.ssh.together.files.request import CopyRequest
from pkgs.agents.ssh.together.visit import Visit
from pkgs.agents.ssh.together.words import reason_of
from pkgs.common.access.joining import may_transfer
from pkgs.common.events import codes
from pkgs.common.output.sanitize import inert

if TYPE_CHECKING:
    from pkgs.agents.ssh.together.shared import SharedSession

_YES, _NO = b"y", b"n"


class Copying:
    """Of one session."""

    def __init__(self, session: SharedSession) -> None:
        self._session = session
        self._request = CopyRequest()

    async def ask(self, by: str, reason: str) -> None:
        """Nothing happens for the order of somebody else, or where nobody is asked, or
        while an earlier question or what came of it is not over. Raises AccessError."""
        session = self._session
        async with session.turn:
            allowed = session.detached.may(by, session.gate.cache.cluster_name)
            if not allowed or session.state != "running" or not session.demanding:
                return
            if self._request.stage(session.gate.now()) != "none":
                return
            await session.log.emit(codes.COPY_ASKED, reason=reason or None)
            await session.log.mark("note", f"{inert(by)} asks to copy files")
            self._request.ask(session.gate.now(), reason_of(reason))
            session.tell(self.asking())

    def asking(self) -> str:
        """For those who are to answer; empty when nothing is asked."""
        if self._request.stage(self._session.gate.now()) != "asked":
            return ""
        why = f": {self._request.reason}" if self._request.reason else "."
        return (
            f"{inert(self._session.owner)} asks to copy files by sftp{why} Moderators: y approves, n denies."
        )

    async def answered(self, visit: Visit, keys: bytes) -> None:
        """Keys of a moderator who counts. A no among them is a no."""
        if _YES not in keys and _NO not in keys:
            return
        session, yes = self._session, _NO not in keys
        async with session.turn:
            if visit not in session.visits or self._request.stage(session.gate.now()) != "asked":
                return
            await session.emit(codes.COPY_APPROVED if yes else codes.COPY_DENIED, visit)
            await session.log.mark(
                "note", f"{visit.name} {'approves' if yes else 'denies'} the copying of files"
            )
            if not yes:
                self._request.drop()
                session.tell(f"{visit.name} denied the copying of files.")
                return
            self._request.approve(visit.parties.identity)
            if self._is_approved():
                self._request.grant(session.gate.now())
                session.tell(
                    f"{visit.name} approved: {inert(session.owner)} may now start sftp or scp, once."
                )
            else:
                session.tell(f"{visit.name} approved; others must do so, too.")

    def _is_approved(self) -> bool:
        session = self._session
        return bool(may_transfer(session.rules, session.present(), self._request.approved_by))

    def take(self) -> bool:
        """Whether the owner may open sftp now; then they may not again."""
        session = self._session
        approved = session.state == "running" and self._request.stage(session.gate.now()) == "approved"
        if not approved or not self._is_approved():
            return False
        self._request.use()
        return True

    @property
    def goes_on(self) -> bool:
        """Whether what was begun may go on."""
        used = self._request.stage(self._session.gate.now()) == "used"
        return used and self._session.state == "running" and self._is_approved()

    def show(self, operation: str) -> None:
        """One operation on a file, to everybody."""
        if text := self._request.notice(operation):
            self._session.tell(text)

    def over(self) -> None:
        self._request.drop()
