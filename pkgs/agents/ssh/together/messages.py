"""What the service and a connection's process say to each other about sessions of several people. Data only.

owner's process    OpenSession -> Waiting, then SessionStarted or SessionOver; at any time Notice, Held,
                   PeerInput, Redraw, Detach, Resize, SessionOver; from the process GaveUp
visitor's process  JoinSession -> Joined or Refused; then JoinOutput and JoinOver; from it Typed, Taken, Left
"""

from __future__ import annotations

from pkgs.common.ssh.process.messages import Message
from pkgs.common.ssh.sessions.messages import SessionOpened


class Waiting(Message, frozen=True, kw_only=True):
    """The session may not run yet: nothing is executed, and what is typed goes nowhere."""

    session_id: str
    text: str
    """For the owner: what is waited for, and how to give up."""


class GaveUp(Message, frozen=True, kw_only=True):
    """The owner does not wait any longer."""

    channel: int


class SessionStarted(Message, frozen=True, kw_only=True):
    """What was waited for is there: run it."""

    channel: int
    opened: SessionOpened


class Notice(Message, frozen=True, kw_only=True):
    """Show the owner this line."""

    channel: int
    text: str


class Held(Message, frozen=True, kw_only=True):
    """Input goes nowhere and output waits, until the opposite is said."""

    channel: int
    held: bool


class PeerInput(Message, frozen=True, kw_only=True):
    """Somebody else types."""

    channel: int
    data: bytes


class Redraw(Message, frozen=True, kw_only=True):
    """Have the program paint its screen anew: somebody came who has not seen it."""

    channel: int


class Detach(Message, frozen=True, kw_only=True):
    """The owner leaves, and the session goes on: let their client go with this text."""

    channel: int
    text: str


class Resize(Message, frozen=True, kw_only=True):
    """The session's terminal has another size: its owner has come back at another one."""

    channel: int
    columns: int
    rows: int


class SessionOver(Message, frozen=True, kw_only=True):
    """End this session now; the text is for its owner."""

    channel: int
    text: str


class JoinSession(Message, frozen=True, kw_only=True):
    """A visitor's channel asks to be let in."""

    channel: int
    session_id: str
    mode: str
    columns: int = 0
    rows: int = 0


class Joined(Message, frozen=True, kw_only=True):
    session_id: str


class JoinOutput(Message, frozen=True, kw_only=True):
    """For the visitor's terminal. Counts against their credit until `Taken`."""

    channel: int
    data: bytes


class Taken(Message, frozen=True, kw_only=True):
    """The visitor's client has room again for so many bytes."""

    channel: int
    size: int


class Typed(Message, frozen=True, kw_only=True):
    """Keys of a visitor, whatever their mode: what they mean is the service's to say (attack A31)."""

    channel: int
    data: bytes


class Left(Message, frozen=True, kw_only=True):
    """The visitor's channel is gone."""

    channel: int


class JoinOver(Message, frozen=True, kw_only=True):
    """The visit is over; the text is for the visitor."""

    channel: int
    text: str
    status: int = 0


FromTogether = GaveUp | JoinSession | Taken | Typed | Left
ToTogether = (
    Waiting
    | SessionStarted
    | Notice
    | Held
    | PeerInput
    | Redraw
    | Detach
    | Resize
    | SessionOver
    | Joined
    | JoinOutput
    | JoinOver
)
PUSHED = (SessionStarted, Notice, Held, PeerInput, Redraw, Detach, Resize, SessionOver, JoinOutput, JoinOver)
"""What answers no call."""
