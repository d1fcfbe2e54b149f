"""Channels: windows kept on both sides, order kept at the end."""

from __future__ import annotations

import pytest

from pkgs.common.ssh.channel import Channel, Reply
from pkgs.common.ssh.limits import WINDOW, WINDOW_STEP
from pkgs.common.ssh.requests import ChannelRequest, ShellRequest
from pkgs.common.ssh.wire import WireError


class Owner:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def opened(self) -> None:
        self.seen.append("opened")

    def data(self, data: bytes) -> None:
        self.seen.append(f"data {len(data)}")

    def eof(self) -> None:
        self.seen.append("eof")

    def writable(self) -> None:
        self.seen.append("writable")

    def request(self, request: ChannelRequest, reply: Reply) -> None:
        self.seen.append("request")

    def closed(self) -> None:
        self.seen.append("closed")


def channel(window: int = 100, packet: int = 32768) -> tuple[Channel, Owner, list[bytes]]:
    sent: list[bytes] = []
    made = Channel(lambda head, data=b"": sent.append(head + data), 3, 7, window, packet)
    made.owner = owner = Owner()
    return made, owner, sent


def kinds(sent: list[bytes]) -> list[int]:
    return [message[0] for message in sent]


def test_sending_stops_at_the_window_and_goes_on_when_told() -> None:
    made, owner, sent = channel(window=10)
    assert made.send(b"x" * 25) == 10
    assert made.send(b"x" * 15) == 0
    assert made.room() == 0
    made.take_adjust(100)
    assert owner.seen == ["writable"]
    assert made.send(b"x" * 15) == 15
    assert [len(message) - 9 for message in sent] == [10, 15]


def test_a_packet_is_never_longer_than_the_peer_takes() -> None:
    made, _, _ = channel(window=10_000, packet=1064)
    assert made.send(b"x" * 5000) == 1000


def test_end_of_data_status_and_close_follow_the_data_and_nothing_follows_them() -> None:
    made, _, sent = channel()
    made.send(b"data")
    made.exit_status(3)
    made.send_eof()
    made.close()
    made.send(b"late")
    made.exit_status(4)
    made.close()
    assert kinds(sent) == [0x5E, 0x62, 0x60, 0x61]


def test_received_data_is_counted_against_the_window() -> None:
    made, owner, sent = channel()
    made.take_data(b"x" * WINDOW)
    with pytest.raises(WireError):
        made.take_data(b"x")
    made, owner, sent = channel()
    made.take_data(b"x" * WINDOW_STEP)
    made.consumed(WINDOW_STEP)
    assert kinds(sent) == [0x5D]
    assert owner.seen == [f"data {WINDOW_STEP}"]


def test_data_after_its_end_and_an_overflowing_window_are_refused() -> None:
    made, owner, _ = channel()
    made.take_eof()
    made.take_eof()
    assert owner.seen == ["eof"]
    with pytest.raises(WireError):
        made.take_data(b"x")
    with pytest.raises(WireError):
        made.take_adjust(0xFFFFFFFF)


def test_a_request_nobody_answers_is_refused() -> None:
    made, _, sent = channel()
    made.take_request(ShellRequest(), True)
    made.take_request(ShellRequest(), False)
    assert kinds(sent) == [0x64]


def test_vanishing_is_told_once_and_answered_with_a_close() -> None:
    made, owner, sent = channel()
    made.vanish()
    made.vanish()
    assert owner.seen == ["closed"]
    assert kinds(sent) == [0x61]


def test_a_silenced_channel_says_and_hears_nothing_more_until_its_end() -> None:
    made, owner, sent = channel()
    assert made.send(b"why", stderr=True) == 3
    made.silence()
    assert made.send(b"more") == 4
    made.exit_status(0)
    made.send_eof()
    made.close()
    made.take_data(b"late")
    made.take_request(ShellRequest(), False)
    made.take_eof()
    assert len(sent) == 1
    assert owner.seen == []
    made.vanish()
    assert len(sent) == 1
    assert owner.seen == ["closed"]


def test_data_that_is_none_is_not_kept_for_anybody() -> None:
    made, owner, _ = channel()
    for _ in range(3):  # each would cost a place in some queue, and nothing of the window
        made.take_data(b"")
    made.take_data(b"x")
    assert owner.seen == ["data 1"]
    made.take_eof()
    with pytest.raises(WireError):
        made.take_data(b"")
