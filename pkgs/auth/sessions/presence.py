"""Moderators who show that they are there, where a second factor is demanded (attacks A30, A51).

The proof is a one-time code, given by its user to this service alone: neither the server that runs the
session nor the proxy between sees it. It is used up here, written into the audit log, and only then told to
the server, for one session and one user.
"""

from __future__ import annotations

from pkgs.auth.accounts.codes import WRONG_CODE, CodeCheck
from pkgs.auth.audit.journal import Journal
from pkgs.auth.sessions.door import Door
from pkgs.auth.sessions.trackers import Trackers
from pkgs.common.api.sessions import (
    PRESENCE_ANSWER_S,
    PRESENCE_EVERY_S,
    Proven,
    ProvePresence,
    SessionOrder,
    SessionTracker,
)
from pkgs.common.errors import DeniedError, NotFoundError, UnavailableError
from pkgs.common.events.codes import MFA_VALIDATE, MFA_VALIDATE_FAIL, Kind
from pkgs.common.events.types import FieldValue
from pkgs.common.pki.identity import PeerKind
from pkgs.common.recording.ids import require_session_id
from pkgs.common.rpc.calls import Caller

SCOPE = "CHALLENGE_SCOPE_USER_SESSION"


class PresenceHandlers:
    def __init__(self, trackers: Trackers, door: Door, codes: CodeCheck, journal: Journal) -> None:
        self._trackers = trackers
        self._door = door
        self._codes = codes
        self._journal = journal

    async def prove(self, caller: Caller, request: ProvePresence) -> Proven:
        """Raises NotFoundError for a session that they may not moderate, UnavailableError while its server
        is not connected: then the code is not used, unless it was lost meanwhile. A wrong code counts as at
        login."""
        name = _person(caller)
        session = self._trackers.find(require_session_id(request.session_id))  # attack A60
        if session is None or "moderator" not in self._door.modes(
            caller, self._door.roles_of(caller), session
        ):
            raise NotFoundError(
                "there is no such session, or you may not moderate it",
                hint="'tsh sessions ls' lists those you may join",
            )
        if not self._trackers.reachable(session.host_id):
            raise UnavailableError("the server of this session is not connected to the Auth Service now")

        async def failed() -> None:
            await self._write(MFA_VALIDATE_FAIL, name, session, success=False, error=WRONG_CODE)

        device = await self._codes.prove(name, request.otp, failed, "moderating this session")
        await self._write(
            MFA_VALIDATE,
            name,
            session,
            success=True,
            mfa_device={"mfa_device_uuid": device, "mfa_device_type": "TOTP"},
        )
        at = self._trackers.now()
        order = SessionOrder(session_id=session.session_id, what="present", by=name, at=at)
        self._trackers.order(session.host_id, order)
        return Proven(for_s=PRESENCE_EVERY_S + PRESENCE_ANSWER_S)

    async def _write(self, kind: Kind, name: str, session: SessionTracker, **fields: FieldValue) -> None:
        await self._journal.write(
            self._journal.event(
                kind,
                user=name,
                sid=session.session_id,
                server_id=session.host_id,
                challenge_scope=SCOPE,
                **fields,
            )
        )


def _person(caller: Caller) -> str:
    """Whoever has the second factor: no machine, and nobody under another's name."""
    identity = caller.identity
    if identity is None or identity.kind is not PeerKind.USER or identity.bot_name or identity.impersonator:
        raise DeniedError("only people show that they are there, under their own name")
    return identity.name
