"""Ending a query of one's own: Ctrl-C in a client asks the server, over a second connection, to kill the
thread of the first by the number in its greeting. Our greeting came before the server was dialled, so the
number in it is ours, and is put right on its way to the server.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pkgs.common.dbwire.mysql.flags import Command
from pkgs.common.dbwire.mysql.packets import HEADER

Threads = Callable[[int], int | None]
"""From a number of ours to the server's, while that session lasts."""

_LONGEST = 64
"""Bytes of a command that may be such an order."""
_ORDERS = (Command.QUERY, Command.PROCESS_KILL)
_KILL = re.compile(
    rb"(\s*KILL\s+(?:(?:HARD|SOFT)\s+)?(?:(?:QUERY|CONNECTION)\s+)?)([0-9]{1,10})(\s*;?\s*)\Z", re.I
)


def order(thread: int) -> bytes:
    """The command that ends a thread of the server."""
    return bytes((Command.QUERY,)) + b"KILL %d" % thread


def is_cut(data: memoryview, pos: int) -> bool:
    """Whether the packet at `pos` may be such an order but is not all there."""
    if len(data) - pos <= HEADER or data[pos + HEADER] not in _ORDERS:
        return False
    size = int.from_bytes(data[pos : pos + 3], "little")
    return size <= _LONGEST and pos + HEADER + size > len(data)


def put_right(kept: bytearray, threads: Threads) -> bytes | None:
    """The order with the server's number; None when it is none, or not about a session of ours."""
    if len(kept) > _LONGEST or kept[0] not in _ORDERS:
        return None
    payload = bytes(kept)
    if payload[0] == Command.PROCESS_KILL:
        number = threads(int.from_bytes(payload[1:5], "little"))
        return None if number is None else payload[:1] + number.to_bytes(4, "little")
    order = _KILL.match(payload, 1)
    number = threads(int(order[2])) if order else None
    if order is None or number is None:
        return None
    return payload[:1] + order[1] + str(number).encode() + order[3]
