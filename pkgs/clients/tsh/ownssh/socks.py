"""The server's side of SOCKS version 5, sans-IO (RFC 1928): no authentication, CONNECT only.

greeting --> request --> asked --(answer)--> relayed
    \\-----------\\--> failed
"""

from __future__ import annotations

import ipaddress

VERSION = 5
_NO_AUTHENTICATION, _NONE_ACCEPTABLE = 0, 0xFF
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
GRANTED, REFUSED, BAD_COMMAND, BAD_ADDRESS = 0, 5, 7, 8


class Socks:
    """One client's negotiation. It holds at most one message, and no message has more than 262 bytes."""

    def __init__(self) -> None:
        self.target: tuple[str, int] | None = None
        """Where the client wants to go, once it is known."""
        self.failed = False
        """It is over; what `feed` answered is still to be sent."""
        self._greeted = False
        self._data = b""

    @property
    def rest(self) -> bytes:
        """What came behind the request."""
        return self._data

    def feed(self, data: bytes) -> bytes:
        """The answer to send now."""
        self._data += data
        answer = b""
        if not self._greeted and not self.failed:
            answer += self._greeting()
        if self._greeted and not self.failed and self.target is None:
            answer += self._request()
        return answer

    def _greeting(self) -> bytes:
        if self._data[:1] not in (b"", bytes([VERSION])):
            return self._fail(b"")
        if len(self._data) < 2 or len(self._data) < 2 + self._data[1]:
            return b""
        methods, self._data = self._data[2 : 2 + self._data[1]], self._data[2 + self._data[1] :]
        if _NO_AUTHENTICATION not in methods:
            return self._fail(bytes([VERSION, _NONE_ACCEPTABLE]))
        self._greeted = True
        return bytes([VERSION, _NO_AUTHENTICATION])

    def _request(self) -> bytes:
        data = self._data
        if len(data) < 5:
            return b""
        if data[0] != VERSION or data[2] != 0:
            return self._fail(b"")
        if data[1] != _CONNECT:
            return self._fail(answer(BAD_COMMAND))
        sizes = {_IPV4: 4, _IPV6: 16, _NAME: 1 + data[4]}
        if data[3] not in sizes:
            return self._fail(answer(BAD_ADDRESS))
        end = 4 + sizes[data[3]]
        if len(data) < end + 2:
            return b""
        address = data[4:end]
        if data[3] == _NAME:
            try:
                host = address[1:].decode("ascii")
            except UnicodeDecodeError:
                host = ""
            if not host or not host.isprintable():
                return self._fail(answer(BAD_ADDRESS))
        else:
            host = str(ipaddress.ip_address(address))
        self.target = (host, int.from_bytes(data[end : end + 2], "big"))
        self._data = data[end + 2 :]
        return b""

    def _fail(self, last: bytes) -> bytes:
        self.failed = True
        self._data = b""
        return last


def answer(code: int) -> bytes:
    """The answer to a request. The address is not told: it is the server's business."""
    return bytes([VERSION, code, 0, _IPV4, 0, 0, 0, 0, 0, 0])
