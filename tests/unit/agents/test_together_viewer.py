"""Output on its way to a visitor, and the newest of what was shown: bounded, in order, nothing invented."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.ssh.together.limits import REPLAY, VIEWER_CREDIT, VIEWER_QUEUE
from pkgs.agents.ssh.together.messages import JoinOutput, JoinOver
from pkgs.agents.ssh.together.viewer import Viewer
from pkgs.agents.ssh.together.words import Replay
from pkgs.common.ssh.process.messages import Message


class Process:
    """A visitor's process that takes what it is given, or nothing."""

    def __init__(self) -> None:
        self.output = b""
        self.over: list[str] = []
        self.takes = True

    def push(self, message: Message) -> bool:
        if not self.takes:
            return False
        match message:
            case JoinOutput(data=data):
                assert not self.over
                self.output += data
            case JoinOver(text=text):
                self.over.append(text)
        return True


@given(
    st.lists(
        st.one_of(st.binary(min_size=1, max_size=VIEWER_CREDIT), st.integers(0, 2 * VIEWER_CREDIT)),
        max_size=40,
    )
)
def test_within_the_limits_everything_arrives_once_and_in_order(steps: list[bytes | int]) -> None:
    process = Process()
    viewer = Viewer(0, process.push, lambda: b"NEWEST")
    shown, taken = b"", 0
    for step in steps:
        if isinstance(step, int):
            step = min(step, len(process.output) - taken)
            taken += step
            viewer.taken(step)
        elif viewer.queued + len(step) <= VIEWER_QUEUE:
            viewer.show(step)
            shown += step
        assert len(process.output) - taken <= VIEWER_CREDIT
        assert shown.startswith(process.output)
        assert len(shown) == len(process.output) + viewer.queued
    while viewer.queued:
        viewer.taken(VIEWER_CREDIT)
    assert process.output == shown


def test_who_does_not_read_skips_to_the_newest_and_holds_a_bounded_amount() -> None:
    process = Process()
    viewer = Viewer(0, process.push, lambda: b"NEWEST")
    for _ in range(1000):
        viewer.show(b"x" * 1000)
        assert viewer.queued <= VIEWER_QUEUE
    assert len(process.output) == VIEWER_CREDIT
    while viewer.queued:
        viewer.taken(VIEWER_CREDIT)
    assert b"bytes were skipped" in process.output
    assert b"NEWEST" in process.output


def test_credit_is_never_more_than_was_given() -> None:
    process = Process()
    viewer = Viewer(0, process.push, lambda: b"")
    viewer.taken(1 << 40)
    viewer.taken(-(1 << 40))
    viewer.show(b"x" * (2 * VIEWER_CREDIT))
    assert len(process.output) == VIEWER_CREDIT


def test_the_last_word_is_said_once_after_everything() -> None:
    process = Process()
    viewer = Viewer(0, process.push, lambda: b"")
    viewer.show(b"x" * (2 * VIEWER_CREDIT))
    viewer.close("bye")
    viewer.close("again")
    viewer.show(b"more")
    assert process.over == []
    viewer.taken(VIEWER_CREDIT)
    viewer.taken(VIEWER_CREDIT)
    assert len(process.output) == 2 * VIEWER_CREDIT
    assert process.over == ["bye"]


def test_a_process_that_takes_nothing_now_is_asked_again() -> None:
    async def main() -> Process:
        process, said = Process(), asyncio.Event()
        process.takes = False

        def push(message: Message) -> bool:
            if isinstance(message, JoinOver):
                said.set()
            return process.push(message)

        viewer = Viewer(0, push, lambda: b"")
        viewer.show(b"late")
        viewer.close("bye")
        process.takes = True
        await asyncio.wait_for(said.wait(), 10)
        return process

    process = asyncio.run(main())
    assert (process.output, process.over) == (b"late", ["bye"])


@given(st.lists(st.binary(max_size=REPLAY), max_size=12))
def test_the_replay_is_a_bounded_end_of_what_was_shown(pieces: list[bytes]) -> None:
    replay = Replay()
    for piece in pieces:
        replay.add(piece)
    newest, everything = replay.newest(), b"".join(pieces)
    assert len(newest) <= REPLAY
    assert everything.endswith(newest)
    if len(everything) <= REPLAY:
        assert newest == everything


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_full_screen_program_is_noticed_wherever_the_pieces_are_cut(cut: int) -> None:
    replay = Replay()
    enter, leave = b"\x1b[?1049h", b"\x1b[?1049l"
    for order, expected in ((enter, True), (leave, False), (enter + leave, False), (leave + enter, True)):
        replay.add(b"text" + order[:cut])
        replay.add(order[cut:] + b"text")
        assert replay.full_screen is expected
