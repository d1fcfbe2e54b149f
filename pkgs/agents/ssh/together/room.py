"""The owner's side of a session of several people, in the process of their connection.

    waiting --keys: nothing but Ctrl-C--> gave up        waiting --SessionStarted--> running <--Held--> held

What is typed while waiting or held goes nowhere; nothing is executed before `SessionStarted`.
"""

from __future__ import annotations

from pkgs.agents.ssh.together.messages import GaveUp
from pkgs.common.ssh.process.messages import Message
from pkgs.common.ssh.sessions.messages import OpenSession

_INTERRUPT = b"\x03"


class Room:
    """Whether one channel's session waits, is held, or neither. Fields are set in the loop's thread and read
    in the reading one."""

    def __init__(self, channel: int) -> None:
        self.waiting: OpenSession | None = None
        """What runs when the company is there."""
        self.held = False
        self._channel = channel
        self._gave_up = False

    @property
    def is_closed(self) -> bool:
        """Nothing of the owner's goes in now."""
        return self.waiting is not None or self.held

    def keys(self, data: bytes) -> Message | None:
        """What the service must hear of keys that go nowhere."""
        if self.waiting is None or _INTERRUPT not in data:
            return None
        return self.give_up()

    def give_up(self) -> Message | None:
        """Wait no longer; said once."""
        if self.waiting is None or self._gave_up:
            return None
        self._gave_up = True
        return GaveUp(channel=self._channel)
