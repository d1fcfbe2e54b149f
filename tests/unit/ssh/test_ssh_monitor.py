"""The service's side of a connection against a process that does not keep to the order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Any

import msgspec
import pytest

from pkgs.common.errors import DeniedError
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.ssh.owner import HostKey
from pkgs.common.ssh.process.messages import (
    Message,
    Offer,
    OfferAnswer,
    Prove,
    Refused,
    Sign,
    Signature,
    Start,
)
from pkgs.common.ssh.process.monitor import Answer, Monitor, Verdict

HASH = b"h" * 32
START = Start(number=1, client_addr="192.0.2.1:5", host_keys=[HostKey(algorithm="ssh-ed25519", blob=b"k")])
ALICE = Identity(kind=PeerKind.USER, name="alice", cluster="demo")


class Own(Message, frozen=True, kw_only=True):
    """A message of the service's own."""


class Service:
    def __init__(self) -> None:
        self.refusals: list[tuple[str, Verdict]] = []
        self.handled: list[Message] = []
        self.over = 0
        self.identity: Identity | None = ALICE
        self.text = ""

    def decide(self, user: str, blob: bytes) -> Verdict:
        return Verdict(self.identity, "no", "alice", self.text)

    async def refused(self, user: str, verdict: Verdict) -> None:
        self.refusals.append((user, verdict))

    async def authenticated(self, user: str, identity: Identity, blob: bytes) -> Message:
        if user == "late":
            raise DeniedError("changed my mind")
        return Own()

    async def handle(self, message: Message, answer: Answer) -> None:
        self.handled.append(message)

    async def closed(self) -> None:
        self.over += 1


def talk(
    service: Service,
    messages: list[Message | bytes],
    monkeypatch: pytest.MonkeyPatch,
    *,
    verifies: bool = True,
) -> list[Message]:
    """What the monitor answers to these, until it or the conversation ends."""
    monkeypatch.setattr("pkgs.common.ssh.process.monitor.verify_login", lambda *_: verifies)

    async def run() -> list[Message]:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        monitor = Monitor(ours, START, service, Own, lambda algorithm, data: b"sig", logging.getLogger("t"))
        running = asyncio.create_task(monitor.run())
        decoder: Any = msgspec.msgpack.Decoder(Signature | OfferAnswer | Refused | Own)
        answers: list[Message] = []

        async def listen() -> None:
            # A reset: the connection ended with messages of ours unread.
            with contextlib.suppress(ConnectionResetError):
                while data := await loop.sock_recv(theirs, 65536):
                    answers.append(decoder.decode(data))

        listening = asyncio.create_task(listen())
        with theirs:
            with contextlib.suppress(BrokenPipeError):
                for message in messages:
                    data = message if isinstance(message, bytes) else msgspec.msgpack.encode(message)
                    await loop.sock_sendall(theirs, data)
                theirs.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(20):
                await asyncio.gather(running, listening)
        assert service.over == 1
        return answers

    return asyncio.run(run())


def sign() -> Sign:
    return Sign(algorithm="ssh-ed25519", exchange_hash=HASH)


def offer(user: str = "root") -> Offer:
    return Offer(user=user, blob=b"c")


def prove(user: str = "root") -> Prove:
    return Prove(user=user, algorithm="a", blob=b"c", signature=b"s")


def test_the_legal_order(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    answers = talk(service, [sign(), offer(), prove(), Own(), sign()], monkeypatch)
    assert [type(answer) for answer in answers] == [Signature, OfferAnswer, Own, Signature]
    assert len(service.handled) == 1
    assert service.refusals == []


@pytest.mark.parametrize(
    "messages",
    [
        [offer()],
        [prove()],
        [Own()],
        [sign(), Own()],
        [sign(), offer(), Own()],
        [sign(), b"\xff garbage"],
        [sign(), b"\x81\xa4type\xa4Nope"],
        [Sign(algorithm="ssh-rsa", exchange_hash=HASH)],
        [Sign(algorithm="ssh-ed25519", exchange_hash=b"")],
        [Sign(algorithm="ssh-ed25519", exchange_hash=b"x" * 1000)],
    ],
)
def test_anything_out_of_order_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, messages: list[Message | bytes]
) -> None:
    service = Service()
    answers = talk(service, [*messages, sign(), sign()], monkeypatch)
    assert len([answer for answer in answers if isinstance(answer, Signature)]) <= 1
    assert service.handled == []


def test_a08_an_offer_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    answers = talk(service, [sign(), offer("root"), prove("root"), Own()], monkeypatch, verifies=False)
    assert [type(answer) for answer in answers] == [Signature, OfferAnswer, Refused]
    assert service.handled == []
    assert service.refusals[0][1].reason == "signature does not verify"


def test_a14_what_an_offer_was_told_is_decided_anew_at_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock may have been placed in between."""

    class Locking(Service):
        def decide(self, user: str, blob: bytes) -> Verdict:
            verdict = super().decide(user, blob)
            self.identity = None
            return verdict

    service = Locking()
    answers = talk(service, [sign(), offer(), offer(), prove(), Own()], monkeypatch)
    assert answers[1:] == [OfferAnswer(acceptable=True)] * 2 + [Refused(text="")]
    assert service.handled == []


def test_a_second_login_is_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = talk(Service(), [sign(), prove(), prove()], monkeypatch)
    assert len(answers) == 2


def test_a_refusal_after_the_proof_is_audited_once(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    answers = talk(service, [sign(), prove("late")], monkeypatch)
    assert isinstance(answers[1], Refused)
    assert [(user, verdict.reason) for user, verdict in service.refusals] == [("late", "changed my mind")]


def test_a_refused_offer_is_audited_once_when_nothing_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    service.identity = None
    answers = talk(service, [sign(), offer(), offer()], monkeypatch)
    assert answers[1:] == [OfferAnswer(acceptable=False)] * 2
    assert len(service.refusals) == 1


def test_a_refusal_with_a_text_lets_its_holder_prove_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    service.identity, service.text = None, "access denied to root"
    answers = talk(service, [sign(), offer(), prove()], monkeypatch)
    assert answers[1:] == [OfferAnswer(acceptable=True), Refused(text="access denied to root")]
    assert len(service.refusals) == 1


def test_key_exchanges_and_attempts_are_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(talk(Service(), [sign() for _ in range(20)], monkeypatch)) == 20
    talk(Service(), [sign() for _ in range(60)], monkeypatch)
    assert "too many key exchanges" in caplog.text
    service = Service()
    service.identity = None
    talk(service, [sign(), *(prove(f"u{i}") for i in range(100))], monkeypatch)
    assert "login request out of order" in caplog.text
    assert len(service.refusals) == 40
