"""Idempotency keys: bounded, timed, per caller, and only lasting replies are kept."""

from __future__ import annotations

import asyncio

import pytest

from pkgs.common.errors import AlreadyExistsError, InputError, LimitExceededError
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.rpc import envelope
from pkgs.common.rpc.calls import Caller
from pkgs.common.rpc.limits import ServerLimits
from pkgs.common.rpc.serving.replay import Replays, Reply, scope_of

ALICE = Caller(identity=Identity(kind=PeerKind.USER, name="alice", cluster="demo"))
BOB = Caller(identity=Identity(kind=PeerKind.USER, name="bob", cluster="demo"))
ANSWER = Reply(envelope.ANSWER, b"done")
LIMITS = ServerLimits(replays=4, replays_per_identity=3, replay_ttl_s=10, replay_bytes=8)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def with_replays(check: object) -> None:
    async def main() -> None:
        clock = Clock()
        check(Replays(LIMITS, clock), clock)  # type: ignore[operator]

    asyncio.run(main())


def test_the_first_answer_is_given_again_until_it_is_too_old() -> None:
    def check(replays: Replays, clock: Clock) -> None:
        assert replays.begin(ALICE, "M", "k", b"x") is None
        replays.finish(ALICE, "M", "k", ANSWER)
        kept = replays.begin(ALICE, "M", "k", b"x")
        assert kept is not None
        assert kept.result() == ANSWER
        assert replays.begin(ALICE, "Other", "k", b"x") is None
        assert replays.begin(BOB, "M", "k", b"x") is None
        clock.now = 10.0
        assert replays.begin(ALICE, "M", "k", b"x") is None

    with_replays(check)


def test_another_request_under_the_same_key_is_refused() -> None:
    def check(replays: Replays, clock: Clock) -> None:
        replays.begin(ALICE, "M", "k", b"x")
        with pytest.raises(InputError):
            replays.begin(ALICE, "M", "k", b"y")

    with_replays(check)


def test_a_passing_failure_is_not_kept_but_told_to_who_joined() -> None:
    def check(replays: Replays, clock: Clock) -> None:
        replays.begin(ALICE, "M", "k", b"x")
        joined = replays.begin(ALICE, "M", "k", b"x")
        assert joined is not None
        failure = Reply(envelope.ERROR, b"later", lasting=False)
        replays.finish(ALICE, "M", "k", failure)
        assert joined.result() == failure
        assert replays.begin(ALICE, "M", "k", b"x") is None

    with_replays(check)


def test_a_long_answer_is_given_once_and_not_carried_out_again() -> None:
    def check(replays: Replays, clock: Clock) -> None:
        replays.begin(ALICE, "M", "k", b"x")
        joined = replays.begin(ALICE, "M", "k", b"x")
        assert joined is not None
        replays.finish(ALICE, "M", "k", Reply(envelope.ANSWER, b"x" * 9))
        assert joined.result().body == b"x" * 9
        with pytest.raises(AlreadyExistsError):
            replays.begin(ALICE, "M", "k", b"x")

    with_replays(check)


def test_running_ones_are_never_forgotten_finished_ones_make_room() -> None:
    def check(replays: Replays, clock: Clock) -> None:
        for key in ("1", "2", "3"):
            assert replays.begin(ALICE, "M", key, b"") is None
        with pytest.raises(LimitExceededError):
            replays.begin(ALICE, "M", "4", b"")
        assert replays.begin(BOB, "M", "1", b"") is None
        with pytest.raises(LimitExceededError):
            replays.begin(BOB, "M", "2", b"")
        replays.finish(ALICE, "M", "2", ANSWER)
        assert replays.begin(ALICE, "M", "4", b"") is None
        assert replays.begin(ALICE, "M", "1", b"") is not None

    with_replays(check)


def test_scopes_do_not_meet() -> None:
    callers = [
        ALICE,
        BOB,
        Caller(identity=None, remote_addr="192.0.2.1"),
        Caller(identity=None, remote_addr="192.0.2.2"),
        Caller(identity=None, admin=True, local_uid=0),
        Caller(identity=Identity(kind=PeerKind.HOST, name="alice", cluster="demo")),
        Caller(identity=Identity(kind=PeerKind.USER, name="alice", cluster="leaf")),
    ]
    assert len({scope_of(caller) for caller in callers}) == len(callers)
