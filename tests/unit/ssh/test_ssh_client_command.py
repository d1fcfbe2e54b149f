"""The input of one command on a server, fed from two threads."""

from __future__ import annotations

import threading

from pkgs.common.ssh.client.command import Capture

PIECE = 4


class Slow:
    """A channel on which the first `send` is slow enough for the other thread to come."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.within = threading.Event()
        self.go_on = threading.Event()

    def send(self, data: bytes) -> int:
        taken = data[:PIECE]
        if not self.within.is_set():
            self.within.set()
            assert self.go_on.wait(10)
        self.sent += taken
        return len(taken)

    def send_eof(self) -> None:
        """Nothing more comes."""


def test_room_that_comes_while_input_is_being_sent_repeats_none_of_it() -> None:
    data = bytes(range(64))
    channel = Slow()
    capture = Capture(lambda _: None, data)
    capture.opened()
    sender = threading.Thread(target=capture.bind, args=(channel,))
    sender.start()
    assert channel.within.wait(10)
    reader = threading.Thread(target=capture.writable)
    reader.start()
    reader.join(0.2)  # long enough to do harm, were it not kept waiting
    channel.go_on.set()
    sender.join(10)
    reader.join(10)
    assert bytes(channel.sent) == data
