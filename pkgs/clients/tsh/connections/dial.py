"""Dialling the cluster through its proxy, as a user. The host authority of the stored login verifies
every server; the web certificate plays no part here."""

from __future__ import annotations

from pkgs.clients.tsh.profile import home
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import DeniedError, LockedError, NotFoundError, TrustError
from pkgs.common.net.dial_blocking import client_context, dial_tcp, dial_tls

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from pkgs.clients.tsh.connections.splice import TlsStream
    from pkgs.common.rpc.calls import BlockingClient

ALPN_AUTH = "teleport-auth@"
ALPN_DIAL = "teleport-dial"
AUTH_NAME = "auth.teleport.cluster.local"
PROXY_NAME = "proxy.teleport.cluster.local"
DIAL_DEADLINE_S = 15.0
REFUSALS = frozenset(kind.code for kind in (DeniedError, LockedError, TrustError))
"""Codes of answers that stay the same however often one asks."""


def roots(login: Login) -> str:
    """The host authority's certificates of this login."""
    try:
        return home.read_text(login.ca_file)
    except FileNotFoundError:
        raise NotFoundError(f"{login.ca_file} is missing", hint=login.renew_hint()) from None


def auth_client(login: Login) -> BlockingClient:
    """The Auth API through the proxy. The connection is made before the heavier imports, so that the
    server works while we load."""
    sock = dial_tls(
        login.proxy_addr,
        roots_pem=roots(login),
        cert_file=login.tls_cert,
        key_file=login.tls_key,
        alpn=ALPN_AUTH + login.cluster,
        server_hostname=AUTH_NAME,
        deadline_s=DIAL_DEADLINE_S,
    )
    from pkgs.common.rpc.blocking import BlockingRpcClient

    return BlockingRpcClient(sock)


def user_stream(login: Login, target: str, os_login: str, deadline_s: float = DIAL_DEADLINE_S) -> TlsStream:
    """A stream to the target, open and authorised; the next bytes are the agent's. The deadline is for each
    step. Raises DeniedError, or what trying again may help with."""
    from pkgs.clients.tsh.connections.splice import TlsStream
    from pkgs.clients.tsh.connections.wire import decode_strings, encode_strings

    context = client_context(
        roots_pem=roots(login), cert_file=login.tls_cert, key_file=login.tls_key, alpn=ALPN_DIAL
    )
    stream = TlsStream(dial_tcp(login.proxy_addr, deadline_s=deadline_s), context, PROXY_NAME)
    try:
        stream.handshake()
        fields = {"service": "ssh", "target": target, "cluster": login.cluster, "login": os_login}
        stream.write_frame(encode_strings(fields))
        answer = decode_strings(stream.read_frame())
        if answer.get("error"):
            kind = DeniedError if answer.get("code") in REFUSALS else NotFoundError
            raise kind(answer["error"], hint=answer.get("hint", ""))
    except BaseException:
        stream.close()
        raise
    return stream
