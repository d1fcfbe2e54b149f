# mypy: disallow-subclassing-any=False
"""The library's packet layer with bounds, and a finished message in the form it takes."""

from __future__ import annotations

from typing import Any

from paramiko import packet
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from pkgs.common.ssh.limits import MAX_BANNER_LINE, MAX_PACKET, READ_AHEAD

# The library's type stubs leave out what this room builds on.
_Base: Any = packet.Packetizer
_PADDING = b"\0" * 32
_TAG = 16
"""Bytes of AES-GCM's tag."""


class RawMessage:
    """A finished message for the library's packetizer."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def asbytes(self) -> bytes:
        return self._data


class BoundedPacketizer(_Base):
    """Bounds what a peer may announce before a byte of it is stored (attack A54).

    Reads ahead: small packets are answered one by one, and each system call is a good part of their cost.
    """

    _Packetizer__iv_out: bytes
    _Packetizer__iv_in: bytes
    _Packetizer__sequence_number_out: int
    _Packetizer__sequence_number_in: int
    _Packetizer__received_bytes_overflow: int
    _Packetizer__received_packets_overflow: int
    _ready = memoryview(b"")
    """What was read ahead."""

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        if not 0 <= n <= MAX_PACKET:
            raise SSHException("packet length is out of bounds")
        while len(self._ready) < n:
            got = self._receive(max(n - len(self._ready), READ_AHEAD))
            self._ready = memoryview(bytes(self._ready) + got)
        out, self._ready = bytes(self._ready[:n]), self._ready[n:]
        return out

    def _receive(self, most: int) -> bytes:
        try:
            got: bytes = self._Packetizer__socket.recv(most)
        except OSError:
            if self._Packetizer__closed:
                raise EOFError from None
            raise
        if not got:
            raise EOFError
        return got

    def read_message(self) -> tuple[int, Message]:
        """The next packet's type and what follows it. With AES-GCM as the library does it, but for most of
        the copies; for its names see `send_data`."""
        if not self._Packetizer__aead_in or self._Packetizer__compress_engine_in is not None:
            found: tuple[int, Message] = super().read_message()
            return found
        head = self.read_all(4)
        size = int.from_bytes(head, "big")
        if size < 2:
            raise SSHException("packet length is out of bounds")
        sealed = self.read_all(size + _TAG)
        nonce = self._Packetizer__iv_in
        plain = self._Packetizer__block_engine_in.decrypt(nonce, sealed, head)
        self._Packetizer__iv_in = self._inc_iv_counter(nonce)
        end = size - plain[0]
        if end < 2:
            raise SSHException("packet without a message")
        message = Message(plain[2:end])
        message.seqno = self._Packetizer__sequence_number_in
        self._count_received(4 + len(sealed))
        return plain[1], message

    def _count_received(self, size: int) -> None:
        self._Packetizer__sequence_number_in = (self._Packetizer__sequence_number_in + 1) & 0xFFFFFFFF
        if self._Packetizer__sequence_number_in == 0 and not self._initial_kex_done:
            raise SSHException("sequence number rolled over during the first key exchange")
        self._Packetizer__received_bytes += size
        self._Packetizer__received_packets += 1
        if self._Packetizer__need_rekey:
            # We asked for new keys; the peer may still send what was on its way.
            self._Packetizer__received_bytes_overflow += size
            self._Packetizer__received_packets_overflow += 1
            if (
                self._Packetizer__received_packets_overflow >= self.REKEY_PACKETS_OVERFLOW_MAX
                or self._Packetizer__received_bytes_overflow >= self.REKEY_BYTES_OVERFLOW_MAX
            ):
                raise SSHException("the peer does not exchange keys")
        elif (
            self._Packetizer__received_packets >= self.REKEY_PACKETS
            or self._Packetizer__received_bytes >= self.REKEY_BYTES
        ):
            self._Packetizer__received_bytes_overflow = 0
            self._Packetizer__received_packets_overflow = 0
            self._trigger_rekey()

    def readline(self, timeout: float) -> str:
        buffer = b""
        while b"\n" not in buffer:
            if len(buffer) > MAX_BANNER_LINE:
                raise SSHException("banner line is too long")
            buffer += self._read_timeout(timeout)
        line, _, rest = buffer.partition(b"\n")
        self._ready = memoryview(rest)
        return line.rstrip(b"\r").decode("ascii", "replace")

    def start_handshake(self, timeout: float) -> None:
        """The whole login has one deadline, kept by the process; no timer thread. From here on, after the
        banners, reading and writing wait until `abort` wakes them: with a timeout of the socket each would
        cost a system call more."""
        self._Packetizer__socket.settimeout(None)

    def send_data(self, head: bytes, data: bytes) -> None:
        """One packet of a header and bulk data, as `send_message` would send it, with a third of the copies.

        Only AES-GCM, which is what carries bulk; the library's own names are used because there is no other
        way to its keys and counters. An interop test with OpenSSH moves gigabytes through it, past rekeying.
        """
        if not self._Packetizer__aead_out:
            self.send_message(RawMessage(head + data))
            return
        size = len(head) + len(data)
        padding = 19 - (size + 4) % 16
        length = (size + padding + 1).to_bytes(4, "big")
        plain = b"".join((padding.to_bytes(1, "big"), head, data, _PADDING[:padding]))
        with self._Packetizer__write_lock:
            nonce = self._Packetizer__iv_out
            sealed = self._Packetizer__block_engine_out.encrypt(nonce, plain, length)
            self._Packetizer__iv_out = self._inc_iv_counter(nonce)
            self._Packetizer__sequence_number_out = (self._Packetizer__sequence_number_out + 1) & 0xFFFFFFFF
            self._write_parts(length, sealed)
            self._Packetizer__sent_packets += 1
            self._Packetizer__sent_bytes += 4 + len(sealed)
            too_much = (
                self._Packetizer__sent_bytes >= self.REKEY_BYTES
                or self._Packetizer__sent_packets >= self.REKEY_PACKETS
            )
            if too_much and not self._Packetizer__need_rekey:
                self._Packetizer__received_bytes_overflow = 0
                self._Packetizer__received_packets_overflow = 0
                self._trigger_rekey()

    def _write_parts(self, length: bytes, sealed: bytes) -> None:
        sock = self._Packetizer__socket
        try:
            sent = sock.sendmsg((length, sealed))
        except TimeoutError:
            sent = 0
        except OSError:
            raise EOFError from None
        if sent < 4 + len(sealed):
            self.write_all((length + sealed)[sent:] if sent < 4 else sealed[sent - 4 :])
