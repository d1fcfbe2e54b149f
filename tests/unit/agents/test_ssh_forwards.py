"""What a connection's process may say about the ports it forwards to."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from pkgs.agents.ssh.forwards import Forwards
from pkgs.agents.ssh.messages import ForwardAnswer, ForwardEnded, OpenForward
from pkgs.common.errors import ProtocolError
from pkgs.common.pki.identity import Identity
from pkgs.common.ssh.limits import MAX_CHANNELS
from pkgs.common.ssh.service.gate import ForwardingRights, Gate


class _Allowing:
    own_folder = ""

    def forwarding(self, *_: Any, **__: Any) -> ForwardingRights:
        return ForwardingRights(local=True)


class Asked:
    """A `Forwards` and what became of its questions."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.answers: list[ForwardAnswer] = []
        gate, nobody = cast(Gate, _Allowing()), cast(Identity, None)
        self.forwards = Forwards(gate, nobody, "root", "192.0.2.9", self._emit, logging.getLogger("test"))

    async def _emit(self, kind: Any, fields: Any) -> None:
        self.events.append((kind.code, fields["addr"]))

    async def _answer(self, answer: ForwardAnswer) -> None:
        self.answers.append(answer)

    def __call__(self, message: Any) -> None:
        asyncio.run(self.forwards.handle(message, self._answer))


def open_to(host: str, channel: int = 1) -> OpenForward:
    return OpenForward(channel=channel, host=host, port=80, addresses=["192.0.2.1"])


@pytest.mark.parametrize(
    "messages",
    [
        [open_to("a", number) for number in range(MAX_CHANNELS + 1)],
        [ForwardEnded(channel=1, what="started")],
        [open_to("a"), ForwardEnded(channel=2, what="stopped")],
        [open_to("a"), ForwardEnded(channel=1, what="failed"), ForwardEnded(channel=1, what="failed")],
    ],
)
def test_a_process_that_lies_ends(messages: list[Any]) -> None:
    asked = Asked()
    for message in messages[:-1]:
        asked(message)
    with pytest.raises(ProtocolError):
        asked(messages[-1])


def test_what_was_in_use_when_the_process_died_is_audited_as_over() -> None:
    asked = Asked()
    asked(open_to("a"))
    asked(open_to("b", 2))
    asked(ForwardEnded(channel=1, what="started"))
    asyncio.run(asked.forwards.close())
    assert asked.events == [("T3003I", "a:80"), ("T3003S", "a:80")]
