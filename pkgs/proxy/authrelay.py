"""ALPN `teleport-auth@<cluster>`: the caller's TLS to the Auth Service, relayed untouched.

The proxy can't read the call. It only says, in a signed PROXY header before the first byte, which address
the caller came from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from pkgs.common.errors import AccessError, UnavailableError
from pkgs.common.net.dial import dial_tcp
from pkgs.common.net.listener import Accepted
from pkgs.common.net.proxyproto.signed import FOR_AUTH, HeaderSigner
from pkgs.common.net.relay import relay
from pkgs.common.net.sockets import peer_of
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.runtime.clock import Clock
from pkgs.proxy import limits


class AuthRelay:
    def __init__(
        self,
        *,
        addresses: Callable[[], Sequence[str]],
        signer: Callable[[], HeaderSigner],
        cluster: Callable[[], str],
        clock: Clock,
        log: logging.Logger,
    ) -> None:
        self._addresses = addresses
        self._signer = signer
        self._cluster = cluster
        self._clock = clock
        self._log = log

    async def serve(self, accepted: Accepted, cluster: str) -> None:
        """Relay one connection until it is over. Never raises for what either side does."""
        if cluster not in ("", self._cluster()):
            self._log.debug("unknown cluster asked for", extra={"addr": accepted.remote_ip})
            accepted.sock.close()
            return
        client = await adopt(accepted.sock)
        try:
            auth = await self._dial(accepted)
        except AccessError as exc:
            self._log.warning(
                "the Auth Service can't be reached", extra={"detail": exc.detail or exc.message}
            )
            client.abort()
            return
        except BaseException:
            client.abort()
            raise
        await relay(client, auth, half_closed_s=limits.LINGER_S)

    async def _dial(self, accepted: Accepted) -> Stream:
        failure: AccessError = UnavailableError("no address of the Auth Service is known")
        for address in self._addresses():
            try:
                sock = await dial_tcp(address, deadline_s=limits.AGENT_DIAL_S)
            except AccessError as exc:
                failure = exc
                continue
            stream = await adopt(sock)
            try:
                stream.write(
                    self._signer().sign(
                        source=(accepted.remote_ip, accepted.remote_port),
                        destination=peer_of(sock),
                        audience=FOR_AUTH,
                        now=self._clock.now(),
                    )
                )
            except BaseException:
                stream.abort()
                raise
            return stream
        raise failure
