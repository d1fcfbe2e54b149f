# mypy: disallow-subclassing-any=False
"""The library's packet layer with bounds, and a finished message in the form it takes."""

from __future__ import annotations

from typing import Any

from paramiko import packet
from paramiko.ssh_exception import SSHException

from pkgs.common.ssh.limits import MAX_BANNER_LINE, MAX_PACKET

# The library's type stubs leave out what this room builds on.
_Base: Any = packet.Packetizer


class RawMessage:
    """A finished message for the library's packetizer."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def asbytes(self) -> bytes:
        return self._data


class BoundedPacketizer(_Base):
    """Bounds what a peer may announce before a byte of it is stored (attack A54)."""

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        if not 0 <= n <= MAX_PACKET:
            raise SSHException("packet length is out of bounds")
        out: bytes = super().read_all(n, check_rekey)
        return out

    def readline(self, timeout: float) -> str:
        buffer = b""
        while b"\n" not in buffer:
            if len(buffer) > MAX_BANNER_LINE:
                raise SSHException("banner line is too long")
            buffer += self._read_timeout(timeout)
        line, _, rest = buffer.partition(b"\n")
        self._Packetizer__remainder = rest
        return line.rstrip(b"\r").decode("ascii", "replace")

    def start_handshake(self, timeout: float) -> None:
        """The whole login has one deadline, kept by the process; no timer thread."""
