"""Reading what programs print."""

from __future__ import annotations

import os

import pytest

from pkgs.agents.ssh.session.terminal import read_available


def test_pieces_that_are_there_come_as_one_and_an_end_comes_after_them() -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    try:
        with pytest.raises(BlockingIOError):
            read_available(reading, 10)
        os.write(writing, b"one ")
        os.write(writing, b"two")
        assert read_available(reading, 5) == b"one t"
        os.close(writing)
        assert read_available(reading, 10) == b"wo"
        assert read_available(reading, 10) == b""
    finally:
        os.close(reading)
