"""Packets under AES-GCM: what one side sends the other reads, however the network cuts it, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from paramiko.ssh_exception import SSHException

from pkgs.common.ssh.limits import MAX_PACKET
from pkgs.common.ssh.packets import BoundedPacketizer, RawMessage

KEY, IV = b"k" * 16, b"i" * 12


class Wire:
    """Takes what is sent, and gives it back in pieces."""

    def __init__(self, sizes: list[int] | None = None) -> None:
        self.data = b""
        self._sizes = sizes or []

    def sendmsg(self, parts: tuple[bytes, ...]) -> int:
        self.data += b"".join(parts)
        return sum(map(len, parts))

    def send(self, data: bytes) -> int:
        return self.sendmsg((data,))

    def recv(self, most: int) -> bytes:
        size = min(most, self._sizes.pop(0) if self._sizes else most)
        got, self.data = self.data[:size], self.data[size:]
        return got


def packetizer(wire: Wire) -> Any:
    made = BoundedPacketizer(wire)
    made.set_outbound_cipher(AESGCM(KEY), 16, None, 16, None, aead=True, iv_out=IV)
    made.set_inbound_cipher(AESGCM(KEY), 16, None, 16, None, aead=True, iv_in=IV)
    return made


def sealed(plain: bytes) -> bytes:
    length = len(plain).to_bytes(4, "big")
    return length + AESGCM(KEY).encrypt(IV, plain, length)


@given(
    st.lists(st.binary(min_size=1, max_size=3000), max_size=6),
    st.lists(st.integers(1, 2000), max_size=40),
)
def test_what_is_sent_is_read_however_it_is_cut(payloads: list[bytes], sizes: list[int]) -> None:
    wire = Wire(sizes)
    both = packetizer(wire)
    for number, payload in enumerate(payloads):
        if number % 2:
            both.send_data(payload[:1], payload[1:])
        else:
            both.send_message(RawMessage(payload))
    for number, payload in enumerate(payloads):
        kind, message = both.read_message()
        assert bytes((kind,)) + message.asbytes() == payload
        assert message.seqno == number
    with pytest.raises(EOFError):
        both.read_message()


@given(st.binary(max_size=600))
def test_nothing_made_up_is_read(data: bytes) -> None:
    wire = Wire()
    wire.data = data
    with pytest.raises((EOFError, SSHException, InvalidTag)):
        packetizer(wire).read_message()


@pytest.mark.parametrize(
    "packet",
    [
        (MAX_PACKET).to_bytes(4, "big") + b"x" * 100,
        (1).to_bytes(4, "big") + b"x" * 17,
        sealed(b"\x0f" + b"x" * 15),
        sealed(b"\xff" + b"x" * 15),
    ],
    ids=["too long", "too short", "all of it padding", "more padding than packet"],
)
def test_a54_lengths_that_cannot_be_end_the_connection(packet: bytes) -> None:
    wire = Wire()
    wire.data = packet
    with pytest.raises(SSHException):
        packetizer(wire).read_message()


def test_new_keys_are_asked_for_once_and_may_not_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedPacketizer, "REKEY_PACKETS", 3)
    monkeypatch.setattr(BoundedPacketizer, "REKEY_PACKETS_OVERFLOW_MAX", 2)
    wire = Wire()
    reader, sender = packetizer(wire), packetizer(wire)
    for _ in range(5):
        sender.send_message(RawMessage(b"\x02abc"))
    asked = []
    for _ in range(4):
        reader.read_message()
        asked.append(reader.need_rekey())
    assert asked == [False, False, True, True]
    with pytest.raises(SSHException):
        reader.read_message()
