"""Paths of unix sockets: which text is one; and the service's side, told things no honest process says."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.ssh.destinations import refusal_of_socket
from pkgs.agents.ssh.limits import MAX_SOCKET_PATH
from pkgs.agents.ssh.sockets import paths
from pkgs.agents.ssh.sockets.forwards import SocketForwards
from pkgs.agents.ssh.sockets.messages import (
    ListenOnSocket,
    OpenSocket,
    SocketAnswer,
    SocketClosed,
    SocketStream,
)
from pkgs.common.access.options.forwarding import Destinations
from pkgs.common.errors import InputError, ProtocolError
from pkgs.common.ssh.limits import MAX_CHANNELS
from pkgs.common.ssh.service.gate import ForwardingRights


@pytest.mark.parametrize(
    "raw",
    [b"", b"/", b"x", b"./x", b"/run/../x", b"/run/..", b"/run/./x", b"/run//x", b"//x", b"/run/x/", b"/x\0y",
     b"\0x", b"/x\n", b"/x\x1b[2J", b"/\xff", "/\u202e".encode(), b"/" + b"x" * MAX_SOCKET_PATH, b"~/x"],
)  # fmt: skip
def test_a56_paths_that_are_none_are_refused(raw: bytes) -> None:
    with pytest.raises(InputError):
        paths.checked(raw)


def test_paths_that_are_some() -> None:
    for raw in (b"/run/x.sock", b"/a b/..c/.d", "/tmp/ü".encode(), b"/" + b"x" * (MAX_SOCKET_PATH - 1)):
        assert paths.checked(raw) == raw.decode()


@pytest.mark.fuzz
@given(raw=st.binary(max_size=120) | st.lists(st.sampled_from([b"/", b".", b"a", b"\0"])).map(b"".join))
def test_any_bytes_are_a_plain_path_or_an_error(raw: bytes) -> None:
    assert len(paths.shown(raw).encode()) >= min(len(raw), 1)
    try:
        path = paths.checked(raw)
    except InputError:
        return
    assert path.encode() == raw
    assert paths.is_plain(path)
    assert len(raw) <= MAX_SOCKET_PATH


def test_a20_the_services_own_folder() -> None:
    for path, own in (("/var/lib/t/debug.sock", True), ("/var/lib/t", False), ("/var/lib/tx/y", False)):
        assert bool(refusal_of_socket(path, "/var/lib/t")) is own
        assert not refusal_of_socket(path, "")


class Asked:
    """A `SocketForwards` and what became of its questions."""

    def __init__(self, rights: ForwardingRights) -> None:
        self.rights = rights
        self.events: list[tuple[str, str, str]] = []
        self.answers: list[SocketAnswer] = []
        self.forwards = SocketForwards(lambda: self.rights, self._audit, "/own", logging.getLogger("test"))

    async def _audit(self, kind: Any, addr: str, error: str) -> None:
        self.events.append((kind.code, addr, error))

    async def _answer(self, answer: SocketAnswer) -> None:
        self.answers.append(answer)

    def __call__(self, message: Any) -> SocketAnswer | None:
        asyncio.run(self.forwards.handle(message, self._answer))
        return self.answers[-1] if self.answers else None


def open_at(path: str, channel: int = 1, **spec: str) -> OpenSocket:
    return OpenSocket(channel=channel, path=path, **{"real": path, **spec})


ALL = ForwardingRights(local=True, remote=True)


@pytest.mark.parametrize(
    "messages",
    [
        [open_at("/run/x", real="/run/../own/x")],
        [open_at("/run/x", real="")],
        [open_at("/run/x", real="/" + "x" * 5000)],
        [ListenOnSocket(path="/x", real="x")],
        [ListenOnSocket(path="/x", real="/x"), ListenOnSocket(path="/y", real="/x")],
        [ListenOnSocket(path="/x", real=f"/{number}") for number in range(17)],
        [open_at("/x", number) for number in range(MAX_CHANNELS + 1)],
        [SocketStream(channel=1, what="started")],
        [SocketStream(channel=1, what="stopped")],
        [SocketClosed(real="/x")],
    ],
)
def test_a_process_that_lies_ends(messages: list[Any]) -> None:
    asked = Asked(ALL)
    for message in messages[:-1]:
        asked(message)
    with pytest.raises(ProtocolError):
        asked(messages[-1])


def test_what_leads_nowhere_is_told_only_to_those_who_might_go_there() -> None:
    problem = {"real": "", "problem": "No such file or directory"}
    answer = Asked(ALL)(open_at("/run/x", **problem))
    assert answer == SocketAnswer(refusal=problem["problem"], unreachable=True)
    confined = ForwardingRights(local=True, to=Destinations(confined=frozenset({"local"})))
    for rights in (confined, ForwardingRights()):
        answer = Asked(rights)(open_at("/run/x", **problem))
        assert answer is not None
        assert not answer.unreachable
        assert answer.refusal not in ("", problem["problem"])


def test_what_was_in_use_when_the_process_died_is_audited_as_over() -> None:
    asked = Asked(ALL)
    asked(open_at("/run/a"))
    asked(open_at("/run/b", 2))
    asked(SocketStream(channel=1, what="started"))
    asked(ListenOnSocket(path="/run/link", real="/run/c"))
    assert not asked.forwards.too_much(ALL)
    assert asked.forwards.too_much(ForwardingRights(local=True))
    assert asked.forwards.too_much(ForwardingRights(remote=True))
    asyncio.run(asked.forwards.close())
    assert [(code, addr) for code, addr, _ in asked.events] == [
        ("T3003I", "/run/a"),
        ("T3003I", "remote /run/link"),
        ("T3003S", "/run/a"),
        ("T3003S", "remote /run/link"),
    ]
