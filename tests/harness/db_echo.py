"""A protocol of a few lines that stands in for a database's, and a server that speaks it.

    client: hello <user> <database>\n      agent: ok\n, or: error <text>\n
    then the client's lines are statements; the server answers each with <its user> <line>\n

As a program it is the Database Service with this protocol: `python -m tests.harness.db_echo -c FILE`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pkgs.agents.db.engine import Asked, Failed, Outcome, Secure, Session, Statement, Step
from pkgs.common.errors import AccessError, ProtocolError
from pkgs.common.net.stream import Stream
from pkgs.common.net.tls import server_context
from pkgs.common.resources.kinds import Database


class EchoConversation:
    def __init__(self) -> None:
        self._line = b""

    def from_client(self, data: memoryview) -> Step:
        facts = []
        *lines, self._line = (self._line + bytes(data)).split(b"\n")
        for line in lines:
            if line.startswith(b"\0"):
                raise ProtocolError("a line begins with NUL")
            if line == b"a fault of ours":
                raise IndexError
            facts.append(Statement(line.decode("utf-8", "replace")))
        return Step(onward=bytes(data), facts=facts)

    def from_server(self, data: memoryview) -> Step:
        failed = bytes(data).startswith(b"error")
        fact = Failed(bytes(data).decode("utf-8", "replace").strip()) if failed else Outcome(1)
        return Step(onward=bytes(data), facts=[fact])

    def refusal(self, text: str) -> bytes:
        return f"error {text}\n".encode()


class EchoEngine:
    protocols: tuple[str, ...] = ("echo",)
    restricts = False

    async def serve(self, client: Stream, session: Session) -> None:
        words = (await _line(client)).split(" ")
        try:
            await session.authorize(Asked(words[1], words[2], "echo client"))
            server = await session.secure(await session.dial())
        except AccessError as problem:
            client.write(EchoConversation().refusal(problem.message))
            await client.close()
            raise
        client.write(b"ok\n")
        await session.relay(client, server, EchoConversation())

    async def probe(self, server: Stream, database: Database, secure: Secure) -> None:
        await secure(server)


class EchoServer:
    """Demands a client certificate, and answers each line with its common name and the line."""

    def __init__(self, folder: Path, name: str) -> None:
        """With the files that `tctl auth sign --format=db` wrote."""
        self._context = server_context(
            cert_pem=(folder / f"{name}.crt").read_text(),
            key_pem=(folder / f"{name}.key").read_text(),
            client_roots_pem=(folder / f"{name}.cas").read_text(),
            require_client_cert=True,
        )
        self.users: list[str] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """The port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subject = dict(pair[0] for pair in writer.get_extra_info("peercert")["subject"])
        self.users.append(subject["commonName"])
        try:
            while line := await reader.readline():
                writer.write(subject["commonName"].encode() + b" " + line)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


async def _line(stream: Stream) -> str:
    line = b""
    while not line.endswith(b"\n"):
        line += await stream.read_exactly(1)
    return line.decode().rstrip("\n")


def main() -> int:
    from pkgs.agents.db.service import start
    from pkgs.common.runtime.process import service_main

    return service_main("db", sys.argv[1:], lambda process: start(process, [EchoEngine()]))


if __name__ == "__main__":
    raise SystemExit(main())
