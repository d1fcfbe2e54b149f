"""The errors that cross a room's border, on the wire or to a user; each class has a catcher.

`message` is for the user, `detail` for the log only, `hint` says what would be right. Codes are stable
lower-case words and part of the API. Tables map a code to an exit status and an HTTP status.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker: the library costs a command line more time than all it does itself.
    from typing import ClassVar


class AccessError(Exception):
    """Base of every error a peer or a user may see. Never raised itself."""

    code: ClassVar[str] = "internal"
    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        if not self.hint:
            return self.message
        # A message that shows a place ends with a line of its own.
        divider = "\n" if "\n" in self.message else "; "
        return f"{self.message}{divider}{self.hint}"


class InputError(AccessError):
    """Something from outside (flag, file, resource, message) does not parse or is not allowed."""

    code = "bad-input"
    exit_status = 2
    http_status = 400


class DeniedError(AccessError):
    """The decision was no. `reasons` go to the log and to those entitled to them, not to the peer."""

    code = "denied"
    http_status = 403

    def __init__(
        self, message: str, *, detail: str = "", hint: str = "", reasons: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.reasons = reasons


class LockedError(DeniedError):
    """Refused by a lock in force, whose text is the message. A host that reads this is cut off."""

    code = "locked"


class NotFoundError(AccessError):
    code = "not-found"
    http_status = 404


class AlreadyExistsError(AccessError):
    code = "exists"
    http_status = 409


class ConflictError(AccessError):
    """A conditional write carried a stale revision."""

    code = "conflict"
    http_status = 409


class UnavailableError(AccessError):
    """The peer is down, slow or full; trying again later may help."""

    code = "unavailable"
    http_status = 503


class LimitExceededError(AccessError):
    """A size, rate or count was over its limit; the message names the limit."""

    code = "limit"
    http_status = 429


class TrustError(AccessError):
    """A certificate, pin or host key is not to be trusted. Never retried automatically."""

    code = "untrusted"
    http_status = 403


class ProtocolError(AccessError):
    """The peer broke the protocol; the connection is closed."""

    code = "protocol"
    http_status = 400


class InternalError(AccessError):
    """Anything unexpected; the user sees an id, the log has the rest."""

    code = "internal"


BY_CODE: dict[str, type[AccessError]] = {
    cls.code: cls
    for cls in (
        InputError,
        DeniedError,
        LockedError,
        NotFoundError,
        AlreadyExistsError,
        ConflictError,
        UnavailableError,
        LimitExceededError,
        TrustError,
        ProtocolError,
        InternalError,
    )
}
