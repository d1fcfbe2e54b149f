"""The port for MySQL clients that do their own TLS: in their protocol the server speaks first.

    greet    we: a greeting that offers TLS     client: a request for TLS
    serve    the client's hello and all after it: by its name to an agent, as on the public port

The agent, who is told that there was a greeting, goes on with the login inside TLS. Until its hello a client
has said nothing but capabilities, which it repeats to the agent: nothing that was said in plain is believed.
Who cannot be passed on is told so in the protocol's shape: before TLS when there is to be none, else inside,
with our own certificate. What such a client says there is thrown away unread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable, Collection

from pkgs.common.dbwire.mysql import answers, handshake, opening
from pkgs.common.dbwire.mysql.flags import OFFERED, Capability
from pkgs.common.dbwire.mysql.packets import HEADER, frame
from pkgs.common.errors import AccessError, ProtocolError
from pkgs.common.net.handshake import accept_tls
from pkgs.common.net.listener import Accepted
from pkgs.common.net.peek import peek
from pkgs.common.net.relay import relay
from pkgs.common.net.stream import adopt
from pkgs.proxy import limits
from pkgs.proxy.connections.databases import DatabaseDoor, database_in

_WITHOUT_TLS = (
    "this port is for TLS with the client certificate of a database: 'tsh db config' names the files;"
    " 'tsh db connect' and 'tsh proxy db --tunnel' do it for any client"
)
_WITHOUT_NAME = (
    "the client named no database in its TLS hello (SNI): connect to the host <database>.db.<cluster> of"
    " 'tsh db config'; clients that send no host name, as MariaDB's of some versions, connect by"
    " 'tsh db connect' or 'tsh proxy db --tunnel'"
)


class MysqlDoor:
    def __init__(
        self,
        *,
        databases: DatabaseDoor,
        own_names: Collection[str],
        context: Callable[[], ssl.SSLContext],
        version: str,
        log: logging.Logger,
    ) -> None:
        """`version` is that of the greeting; `context` shows our own certificate and asks for none."""
        self._databases = databases
        self._own_names = own_names
        self._context = context
        self._version = version or opening.DEFAULT_VERSION
        self._log = log

    async def greet(self, sock: socket.socket) -> int:
        """The plain beginning, until the client has asked for TLS. A `Listener` bounds its time."""
        random = os.urandom(opening.RANDOM_SIZE)
        said = opening.own_greeting(random, self._version, OFFERED | Capability.SSL)
        sock.send(frame(0, handshake.greeting(said)))
        size = opening.packet_size((await peek(sock, HEADER, b""))[:HEADER], 1)
        if size > limits.MYSQL_REQUEST_MAX:
            raise ProtocolError("a MySQL client's first packet is too long")
        packet = (await peek(sock, size, b""))[:size]
        if not opening.asks_for_tls(packet):
            sock.send(frame(2, answers.error(answers.TLS_NEEDED, _WITHOUT_TLS)))
            await _wait_for_end(sock)
            raise ProtocolError("a MySQL client that does not ask for TLS")
        sock.recv(size)
        return said.thread

    async def serve(self, accepted: Accepted) -> None:
        """One connection from the client's hello on, until it is over. Never raises for what it does."""
        hello = accepted.hello
        assert hello is not None
        name = database_in(hello.sni, self._own_names)
        if not name:
            await self._explain(accepted.sock, _WITHOUT_NAME)
            return
        try:
            agent = await self._databases.dial(accepted, name)
        except AccessError as problem:
            await self._explain(accepted.sock, str(problem))
            return
        except BaseException:
            accepted.sock.close()
            raise
        await relay(await adopt(accepted.sock), agent, answer_s=limits.AGENT_ANSWER_S)

    async def _explain(self, sock: socket.socket, text: str) -> None:
        """The error inside TLS, in answer to the login, which nobody looks at."""
        try:
            stream = await accept_tls(sock, self._context())
        except AccessError as problem:
            self._log.debug("a MySQL client could not be told why: %s", problem)
            return
        try:
            async with asyncio.timeout(limits.MYSQL_EXPLAIN_S):
                size = opening.packet_size(await stream.read_exactly(HEADER), 2)
                await stream.read_exactly(size - HEADER)
                stream.write(frame(3, answers.error(answers.UNKNOWN_ERROR, text)))
                await stream.close()
        except (AccessError, TimeoutError) as problem:
            self._log.debug("a MySQL client could not be told why: %s", problem)
        finally:
            stream.abort()


async def _wait_for_end(sock: socket.socket) -> None:
    """Leave the client time to read: bytes of its own that are unread here would make the kernel throw away
    what it has not read yet."""
    sock.shutdown(socket.SHUT_WR)
    loop, left = asyncio.get_running_loop(), limits.MYSQL_REQUEST_MAX
    with contextlib.suppress(OSError):
        async with asyncio.timeout(limits.MYSQL_EXPLAIN_S):
            while left > 0 and (got := await loop.sock_recv(sock, left)):
                left -= len(got)
