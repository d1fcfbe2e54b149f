"""ALPN `teleport-dial`: a user's stream to a server, named in its first frame.

TLS with the user's certificate -> UserDial -> (checks, route) -> UserDialReply -> the agent's bytes
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable

from pkgs.common.access.types import Decision
from pkgs.common.api.tunnel import UserDial, UserDialReply
from pkgs.common.errors import AccessError, DeniedError, TrustError, UnavailableError
from pkgs.common.membership.reviews import Reviews
from pkgs.common.net.framing import encode_frame, read_frame
from pkgs.common.net.handshake import accept_tls
from pkgs.common.net.listener import Accepted
from pkgs.common.net.relay import relay
from pkgs.common.net.stream import Stream
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.proxy import limits
from pkgs.proxy.connections.connector import Connected, Connector
from pkgs.proxy.connections.passing import UNTRUSTED, pass_on


class DialGate:
    def __init__(
        self,
        *,
        connector: Connector,
        context: Callable[[], ssl.SSLContext],
        verify: Callable[[bytes], Identity],
        still_trusts: Callable[[bytes, Identity], bool],
        reviews: Reviews,
        log: logging.Logger,
    ) -> None:
        self._connector = connector
        self._context = context
        self._verify = verify
        self._still_trusts = still_trusts
        self._reviews = reviews
        self._log = log

    async def serve(self, accepted: Accepted) -> None:
        """Serve one user's stream until it is over. Never raises for what the peer does."""
        try:
            async with asyncio.timeout(limits.USER_DIAL_S):
                stream = await accept_tls(accepted.sock, self._context())
        except (AccessError, TimeoutError):
            accepted.sock.close()
            return
        try:
            await self._serve(stream, accepted)
        finally:
            await stream.close()

    async def _serve(self, stream: Stream, accepted: Accepted) -> None:
        try:
            identity, dial, connected = await self._connect(stream, accepted)
        except AccessError as exc:
            self._log.info(
                "dial refused",
                extra={"addr": accepted.remote_ip, "reason": exc.message, "detail": exc.detail},
            )
            await _reply(stream, UserDialReply(error=exc.message, hint=exc.hint, code=exc.code))
            return
        try:
            node = connected.node
            stream.write(encode_frame(UserDialReply(host_id=node.name, hostname=node.spec.hostname)))
        except AccessError:
            connected.stream.abort()
            return
        await self._relay(stream, connected, identity, dial.login, accepted)

    async def _relay(
        self, stream: Stream, connected: Connected, identity: Identity, login: str, accepted: Accepted
    ) -> None:
        """Until either side ends, or it is no longer allowed."""
        node, der, addr = connected.node, stream.peer_der or b"", accepted.remote_addr

        def ask(authorities: bool) -> Decision:
            if authorities and not self._still_trusts(der, identity):
                return UNTRUSTED
            return self._connector.still_allows(identity, node, client_addr=addr, login=login)

        relaying = relay(stream, connected.stream, answer_s=limits.AGENT_ANSWER_S)
        counts, cut = await pass_on(relaying, ask, self._reviews)
        if cut:
            await self._connector.emit_cut(identity, addr, login, cut)
        elif counts is not None and not counts.b_to_a:
            self._log.info(
                "a server did not answer", extra={"host_id": node.name, "addr": accepted.remote_ip}
            )

    async def _connect(self, stream: Stream, accepted: Accepted) -> tuple[Identity, UserDial, Connected]:
        der = stream.peer_der
        if der is None:
            raise TrustError("a user certificate is needed here", hint="log in with `tsh login`")
        # Whether it may be used from this address is checked, and audited, by the connector.
        identity = self._verify(der)
        if identity.kind is not PeerKind.USER:
            raise DeniedError("this port is for users")
        try:
            async with asyncio.timeout(limits.USER_DIAL_S):
                dial = await read_frame(stream, UserDial)
        except TimeoutError as exc:
            raise UnavailableError("no dial request came in time") from exc
        connected = await self._connector.connect_user(
            identity,
            dial.target,
            client_addr=accepted.remote_addr,
            service=dial.service,
            cluster=dial.cluster,
            login=dial.login,
        )
        return identity, dial, connected


async def _reply(stream: Stream, reply: UserDialReply) -> None:
    try:
        stream.write(encode_frame(reply))
        await stream.drain()
    except AccessError:
        # The peer has gone; there is nobody left to tell.
        return
