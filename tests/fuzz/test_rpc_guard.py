"""Fuzz the guard as it stands: a running server on a unix socket, valid conversations bent at random.

Whatever is sent, the server answers in well-formed frames or closes, no handler runs for a broken
handshake, and an honest peer is served afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

import msgspec
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pkgs.common.rpc import envelope
from pkgs.common.rpc.client import Endpoint, RpcClient
from pkgs.common.rpc.limits import ServerLimits, WireLimits
from pkgs.common.rpc.wire import GREETING, ZmtpReader, encode_message, encode_ping, encode_ready
from tests.harness.examples import examples
from tests.harness.wait import until
from tests.integration.rpc_kit import Cluster, Echo, WhoAmI, cluster

pack = msgspec.msgpack.encode
LIMITS = ServerLimits(handshake_s=1.0, stall_s=1.0, tick_s=0.1)

header = st.one_of(
    st.builds(
        lambda kind, call_id, number, method: pack((kind, call_id, number, method)),
        st.integers(0, 11),
        st.integers(0, 4),
        st.integers(0, 2000),
        st.sampled_from(["Echo", "WhoAmI", "Numbers", "Collect", "Missing", "", "Nothing"]),
    ),
    st.binary(max_size=20),
)
body = st.one_of(
    st.sampled_from([pack({"text": "a"}), pack({}), pack({"upto": 3}), b""]), st.binary(max_size=40)
)
message = st.builds(lambda head, tail: encode_message((head, tail)), header, body)
piece = st.one_of(message, st.just(encode_ping(b"x")), st.binary(max_size=12))


async def play(c: Cluster, data: bytes, cuts: list[int]) -> None:
    loop = asyncio.get_running_loop()
    parser = ZmtpReader(WireLimits(), accept="ROUTER")
    with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(ConnectionError):
        sock.setblocking(False)
        await loop.sock_connect(sock, str(c.unix_path))
        async with asyncio.timeout(5):
            at = 0
            for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
                await loop.sock_sendall(sock, data[at:cut])
                await asyncio.sleep(0)
                at = cut
            sock.shutdown(socket.SHUT_WR)
            while got := await loop.sock_recv(sock, 65536):
                for event in parser.feed(got):
                    if isinstance(event, list):
                        assert envelope.parse_header(event[0]).kind in range(envelope.CREDIT, 11)


@pytest.mark.fuzz
def test_bent_conversations() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = contextlib.AsyncExitStack()
        c = runner.run(stack.enter_async_context(cluster(LIMITS)))
        honest = RpcClient(Endpoint(unix_path=str(c.unix_path)))

        @given(
            pieces=st.lists(piece, max_size=6),
            keep=st.one_of(st.none(), st.integers(0, 120)),
            cuts=st.lists(st.integers(0, 300), max_size=4),
        )
        @settings(max_examples=examples(80), deadline=None, suppress_health_check=list(HealthCheck))
        def bend(pieces: list[bytes], keep: int | None, cuts: list[int]) -> None:
            hello = GREETING + encode_ready("DEALER")
            before = c.parts.started
            runner.run(play(c, hello[:keep] + b"".join(pieces), cuts))
            if keep is not None and keep < 11:
                assert c.parts.started == before

        try:
            bend()
            assert runner.run(honest.call(WhoAmI())).text == "admin"
            assert runner.run(honest.call(Echo(text="still here"))).text == "still here"
            runner.run(until(lambda: c.server.connections == 1))
        finally:
            runner.run(honest.close())
            runner.run(stack.aclose())
