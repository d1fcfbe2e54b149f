"""What every connection's process does alike, whatever it serves: the login, and signs of life."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from pkgs.common.ssh.connection import Connection
from pkgs.common.ssh.owner import LoginRefused
from pkgs.common.ssh.process.link import Link
from pkgs.common.ssh.process.loop import Loop
from pkgs.common.ssh.process.messages import (
    Message,
    Offer,
    OfferAnswer,
    Prove,
    Refused,
    Sign,
    Signature,
    Start,
)

A = TypeVar("A", bound=Message)


class Login(Generic[A]):
    """A login that the service decides. Its yes is an `accepted`, of which `begin` makes what follows, before
    the client hears of it; it may raise LoginRefused. All in the connection's reading thread."""

    def __init__(self, link: Link, accepted: type[A], begin: Callable[[str, A], None]) -> None:
        self._link = link
        self._accepted = accepted
        self._begin = begin

    def sign(self, algorithm: str, exchange_hash: bytes) -> bytes:
        request = Sign(algorithm=algorithm, exchange_hash=exchange_hash)
        return self._link.call(request, Signature).blob

    def acceptable(self, user: str, blob: bytes) -> bool:
        return self._link.call(Offer(user=user, blob=blob), OfferAnswer).acceptable

    def prove(self, user: str, algorithm: str, blob: bytes, signature: bytes) -> None:
        request = Prove(user=user, algorithm=algorithm, blob=blob, signature=signature)
        answer: Message = self._link.call(request, self._accepted, Refused)
        if isinstance(answer, Refused):
            raise LoginRefused(answer.text)
        assert isinstance(answer, self._accepted)
        self._begin(user, answer)


def watch_alive(
    loop: Loop, start: Start, connection: Connection, others: Callable[[], int] = lambda: 0
) -> None:
    """Hang up on a client that gives no sign of life any more. `others` asks whoever else is needed, and says
    like `keep_alive` how often in vain."""

    def ask() -> None:
        if connection.is_over:
            return
        if max(connection.keep_alive(), others()) > start.keep_alive_count:
            connection.abort()
        else:
            loop.after(start.keep_alive_s, ask)

    if start.keep_alive_s > 0:
        loop.after(start.keep_alive_s, ask)


def watch_idle(loop: Loop, heard_at: Callable[[], float], timeout_s: float, tell: Callable[[], None]) -> None:
    """Tell once when nothing was heard for that long (`time.monotonic`); 0: never. In the loop's thread."""

    def check() -> None:
        left = timeout_s - (time.monotonic() - heard_at())
        if left <= 0:
            tell()
        else:
            loop.after(left, check)

    if timeout_s > 0:
        check()
