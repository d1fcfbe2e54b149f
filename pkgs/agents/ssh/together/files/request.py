"""Whether the owner of a session that needs company may copy files beside it (reference 10.4).

    none --the owner asks--> asked --enough moderators approve--> approved --the owner opens sftp--> used
    asked --one moderator denies, or COPY_ANSWER_S--> none        approved --COPY_USE_S--> none
    used --its sftp session is over--> none

What is approved is one sftp session, whose operations are all audited and shown. Other ways to copy are
commands, which could do anything else. It goes on while those who approved are there and the session runs.
"""

from __future__ import annotations

from typing import Literal

from pkgs.agents.ssh.together.limits import COPY_ANSWER_S, COPY_SHOWN, COPY_USE_S
from pkgs.common.pki.identity import Identity

Stage = Literal["none", "asked", "approved", "used"]


class CopyRequest:
    """Of one session; one at a time."""

    def __init__(self) -> None:
        self._stage: Stage = "none"
        self._until = 0.0
        self._approvals: dict[tuple[str, str], Identity] = {}
        self._shown = 0
        self.reason = ""

    def stage(self, now: float) -> Stage:
        if self._stage in ("asked", "approved") and now >= self._until:
            self.drop()
        return self._stage

    @property
    def approved_by(self) -> tuple[Identity, ...]:
        return tuple(self._approvals.values())

    def ask(self, now: float, reason: str) -> None:
        self.drop()
        self._stage, self._until, self.reason = "asked", now + COPY_ANSWER_S, reason

    def approve(self, who: Identity) -> None:
        self._approvals[(who.name, who.cluster)] = who

    def grant(self, now: float) -> None:
        """Enough of them approve."""
        self._stage, self._until = "approved", now + COPY_USE_S

    def use(self) -> None:
        self._stage = "used"

    def drop(self) -> None:
        """Denied, or over."""
        self._stage, self._approvals, self._shown, self.reason = "none", {}, 0, ""

    def notice(self, operation: str) -> str:
        """What everybody reads of one operation on a file; the audit log has them all."""
        self._shown += 1
        if self._shown > COPY_SHOWN:
            return ""
        return operation + ("; what follows is in the audit log" if self._shown == COPY_SHOWN else "")
