"""The service's side of one connection: a state machine that accepts only the legal next message.

    fresh --Sign--> signed --Offer*--> signed --Prove(yes)--> authenticated --(the service's own)--> end
                    any state but fresh: Sign again (a new key exchange), within a rate

The session id is the first exchange hash signed here. `Prove` verifies the user's signature over exactly
that id, that user and that certificate, and only then fixes the identity (attack A08): an `Offer` leaves
nothing behind but the cached answer for the same bytes. Anything out of order ends the connection.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import msgspec

from pkgs.common.errors import AccessError, ProtocolError
from pkgs.common.pki.identity import Identity
from pkgs.common.ssh.limits import KEX_BURST, KEX_PER_S, MAX_AUTH_ATTEMPTS, MAX_MESSAGE, REKEY_PER_S
from pkgs.common.ssh.process.messages import (
    End,
    Message,
    Offer,
    OfferAnswer,
    Prove,
    Refused,
    Sign,
    Signature,
    Start,
)
from pkgs.common.ssh.signature import verify_login

Signer = Callable[[str, bytes], bytes]
"""Algorithm and exchange hash to a signature in wire form."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the service thinks of one certificate for one login name."""

    identity: Identity | None
    """None: refused."""
    reason: str = ""
    """For the log and the audit; the peer learns nothing."""
    user: str = ""
    """Name in a certificate that verified but may not log in; empty when nothing is certain."""
    text: str = ""
    """For the peer, who is then known to hold a good certificate; empty otherwise."""


class Service(Protocol):
    """What a service does with a connection. One instance per connection."""

    def decide(self, user: str, blob: bytes) -> Verdict:
        """Pure: asked for offers too."""

    async def refused(self, user: str, verdict: Verdict) -> None:
        """A signed request was refused: audit it."""

    async def authenticated(self, user: str, identity: Identity, blob: bytes) -> Message:
        """The login is proven, by the holder of this certificate; the answer goes to the process. Raises
        AccessError to refuse after all."""

    async def handle(self, message: Message, answer: Answer) -> None:
        """One message of the service's own."""

    async def closed(self) -> None:
        """The process is gone. Called once, whatever happened."""


@runtime_checkable
class Pushing(Protocol):
    """A service that tells its process things unasked."""

    def can_push(self, push: Callable[[Message], bool]) -> None:
        """`push` sends one message at once; False: the process does not take any now, or is gone."""


@runtime_checkable
class Witnessing(Protocol):
    """A service that has to show somebody else that its user logged in."""

    def witness(self, session_id: bytes, algorithm: str, signature: bytes) -> None:
        """The proof of the login that `authenticated` is about to be asked for."""


Answer = Callable[..., Awaitable[None]]
"""`await answer(message, fds=())`."""


class Monitor:
    """Runs one connection's protocol until its process is gone."""

    def __init__(
        self,
        sock: socket.socket,
        start: Start,
        service: Service,
        messages: Any,
        sign: Signer,
        log: logging.Logger,
        source: str = "",
    ) -> None:
        sock.setblocking(False)
        self.source = source
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._arrival: asyncio.Future[None]
        self._watched = False
        self._start = start
        self._service = service
        self._sign = sign
        self._log = log
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(
            Sign | Offer | Prove | messages if messages is not None else Sign | Offer | Prove
        )
        self._encoder = msgspec.msgpack.Encoder()
        self._session_id = b""
        self._attempts = 0
        self._cached: dict[tuple[str, bytes], Verdict] = {}
        self._tokens = float(KEX_BURST)
        self._refilled = 0.0
        self._unproven: tuple[str, Verdict] | None = None
        """The last offer that was refused: clients do not sign after that, so it is all there is to audit."""
        self.authenticated = False
        if isinstance(service, Pushing):
            service.can_push(self._push)

    async def run(self) -> None:
        """Until the process is gone. Never raises for what the process does."""
        try:
            while data := await self._receive():
                await self._handle(self._decoder.decode(data))
        except (AccessError, msgspec.DecodeError, msgspec.ValidationError) as problem:
            self._log.warning("ending a connection: %s", problem, extra={"addr": self._start.client_addr})
        except ConnectionError as problem:
            self._log.debug("connection's process is gone: %s", problem)
        except Exception:
            self._log.exception("ending a connection", extra={"addr": self._start.client_addr})
        finally:
            self._unwatch()
            self._sock.close()
            await self._close_service()

    async def _receive(self) -> bytes:
        """The next message; empty when the process is gone. Waits even for one that is there: a process that
        never stops telling must not keep the loop from others."""
        while True:
            # Watched from one message to the next: to begin and to end that would cost more than the message.
            self._arrival = self._loop.create_future()
            if not self._watched:
                self._watched = True
                self._loop.add_reader(self._sock, self._arrived)
            await self._arrival
            try:
                return self._sock.recv(MAX_MESSAGE)
            except BlockingIOError:
                continue
            except OSError as problem:
                self._log.debug("connection's process is gone: %s", problem)
                return b""

    def _arrived(self) -> None:
        if not self._arrival.done():
            self._arrival.set_result(None)
        else:
            # An earlier message is still being worked on.
            self._unwatch()

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_reader(self._sock)

    async def _close_service(self) -> None:
        try:
            if self._unproven is not None and not self.authenticated:
                await self._service.refused(*self._unproven)
        except AccessError as problem:
            self._log.error("a refused login is not audited: %s", problem)
        finally:
            await self._service.closed()

    def end(self, text: str) -> None:
        """Have the process tell its peer and hang up. It is killed by the pool if it does not."""
        try:
            self._sock.send(self._encoder.encode(End(text=text)))
        except OSError:
            self._log.debug("connection's process is gone before it could be told to end")

    def _push(self, message: Message) -> bool:
        try:
            self._sock.send(self._encoder.encode(message))
        except OSError:  # its queue is full, or it is gone
            return False
        return True

    async def answer(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        data = self._encoder.encode(message)
        if fds:
            socket.send_fds(self._sock, [data], list(fds))
        else:
            await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def _handle(self, message: Message) -> None:
        if isinstance(message, Sign):
            await self._pace()
            await self.answer(Signature(blob=self._signed(message)))
        elif not self._session_id:
            raise ProtocolError("message before the key exchange")
        elif isinstance(message, Offer):
            self._expect_login()
            verdict = self._verdict(message.user, message.blob)
            if verdict.identity is None and not verdict.text:
                self._unproven = (message.user, verdict)
            # A refusal with a text is for a proven holder: let them prove it, to be told.
            await self.answer(OfferAnswer(acceptable=verdict.identity is not None or bool(verdict.text)))
        elif isinstance(message, Prove):
            self._expect_login()
            await self._prove(message)
        elif not self.authenticated:
            raise ProtocolError("message before the login")
        else:
            await self._service.handle(message, self.answer)

    async def _pace(self) -> None:
        """Keep key exchanges within their rate: a user's wait, a stranger's end the connection."""
        now = asyncio.get_running_loop().time()
        rate = REKEY_PER_S if self.authenticated else KEX_PER_S
        if self._refilled:
            self._tokens = min(KEX_BURST, self._tokens + (now - self._refilled) * rate)
        self._refilled = now
        self._tokens -= 1
        if self._tokens < 0:
            if not self.authenticated:
                raise ProtocolError("too many key exchanges")
            await asyncio.sleep(-self._tokens / rate)

    def _signed(self, message: Sign) -> bytes:
        if message.algorithm not in {key.algorithm for key in self._start.host_keys}:
            raise ProtocolError("host key algorithm was not offered")
        if not 20 <= len(message.exchange_hash) <= 64:
            raise ProtocolError("exchange hash is out of bounds")
        if not self._session_id:
            self._session_id = message.exchange_hash
        return self._sign(message.algorithm, message.exchange_hash)

    def _expect_login(self) -> None:
        self._attempts += 1
        if self.authenticated or self._attempts > 2 * MAX_AUTH_ATTEMPTS:
            raise ProtocolError("login request out of order")

    def _verdict(self, user: str, blob: bytes) -> Verdict:
        key = (user, blob)
        if key not in self._cached:
            self._cached[key] = self._service.decide(user, blob)
        return self._cached[key]

    async def _prove(self, message: Prove) -> None:
        user, blob = message.user, message.blob
        # Decided again, not from the cache of offers: time has passed and a lock may be new.
        verdict = self._service.decide(user, blob)
        if not verify_login(self._session_id, user, message.algorithm, blob, message.signature):
            verdict = Verdict(None, "signature does not verify")
        if verdict.identity is None:
            self._unproven = None
            await self._service.refused(user, verdict)
            await self.answer(Refused(text=verdict.text))
            return
        if isinstance(self._service, Witnessing):
            self._service.witness(self._session_id, message.algorithm, message.signature)
        try:
            account = await self._service.authenticated(user, verdict.identity, blob)
        except AccessError as problem:
            await self._service.refused(user, Verdict(None, problem.message, verdict.identity.name))
            await self.answer(Refused(text=problem.message))
            return
        self.authenticated = True
        self._cached.clear()
        await self.answer(account)
