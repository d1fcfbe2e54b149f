"""Keys while a session waits, and keys of peers: bounded, uncounted, and going nowhere when they should."""

from __future__ import annotations

import os

from pkgs.agents.ssh.session.stdin import Stdin
from pkgs.agents.ssh.together.messages import GaveUp
from pkgs.agents.ssh.together.room import Room
from pkgs.common.ssh.sessions.messages import OpenSession


def test_while_waiting_only_ctrl_c_is_heard_and_once() -> None:
    room = Room(3)
    assert not room.is_closed
    assert room.keys(b"\x03") is None
    assert room.give_up() is None
    room.waiting = OpenSession(channel=3, kind="shell")
    assert room.is_closed
    assert room.keys(b"rm -rf /\n") is None
    assert room.keys(b"x\x03y") == GaveUp(channel=3)
    assert room.keys(b"\x03") is None
    assert room.give_up() is None


def test_while_held_nothing_is_heard() -> None:
    room = Room(3)
    room.held = True
    assert room.is_closed
    assert room.keys(b"\x03") is None


def test_input_of_peers_is_bounded_and_opens_no_window_of_the_owner() -> None:
    consumed: list[int] = []
    stdin = Stdin(consumed.append)
    stdin.inject(b"a" * 60, limit=100)
    stdin.inject(b"b" * 60, limit=100)
    stdin.inject(b"c" * 40, limit=100)
    stdin.write(b"owner")
    read_end, write_end = os.pipe()
    try:
        stdin.attach(write_end)
        stdin.flush()
        assert os.read(read_end, 1000) == b"owner" + b"a" * 60 + b"c" * 40
        assert sum(consumed) == len(b"owner")
        stdin.inject(b"late", limit=100)
        stdin.detach()
        assert not stdin.pending
    finally:
        os.close(read_end)
        os.close(write_end)
