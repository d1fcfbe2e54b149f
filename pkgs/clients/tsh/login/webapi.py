"""The proxy's web API: the part of a login that needs no certificate yet. JSON over HTTPS."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from typing import Any, TypeVar

import msgspec

from pkgs.common.errors import (
    BY_CODE,
    DeniedError,
    InputError,
    InternalError,
    NotFoundError,
    ProtocolError,
    TrustError,
    UnavailableError,
)
from pkgs.common.runtime.version import VERSION

T = TypeVar("T")

DEFAULT_PORTS = (443, 3080)
DEADLINE_S = 30.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024


class PingAuth(msgspec.Struct, frozen=True, kw_only=True):
    second_factor: str = "otp"
    has_motd: bool = False
    allow_headless: bool = False


class PingSsh(msgspec.Struct, frozen=True, kw_only=True):
    listen_addr: str = ""
    public_addr: str = ""
    ssh_public_addr: str = ""


class PingDatabases(msgspec.Struct, frozen=True, kw_only=True):
    mysql_listen_addr: str = ""
    mysql_public_addr: str = ""


class PingProxy(msgspec.Struct, frozen=True, kw_only=True):
    ssh: PingSsh = PingSsh()
    db: PingDatabases = PingDatabases()


class Pong(msgspec.Struct, frozen=True, kw_only=True):
    """What a proxy says about its cluster to anybody."""

    cluster_name: str
    server_version: str = ""
    auth: PingAuth = PingAuth()
    proxy: PingProxy = PingProxy()


class Motd(msgspec.Struct, frozen=True, rename={"text": "Text"}):
    text: str = ""


class HostSigner(msgspec.Struct, frozen=True, kw_only=True):
    """One certificate authority's public keys, in base64."""

    type: str
    domain_name: str
    checking_keys: list[str] = []
    tls_certs: list[str] = []


class LoginAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Certificates in base64."""

    username: str
    cluster_name: str = ""
    cert: str
    tls_cert: str
    host_signers: list[HostSigner] = []


class HeadlessAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`certs` is there once the login is approved."""

    state: str = ""
    certs: LoginAnswer | None = None


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """What an invitation or reset link stands for."""

    user: str
    cluster_name: str = ""
    kind: str = "invite"
    second_factor: str = "otp"
    otp_secret: str = ""
    otp_url: str = ""


class SignedUp(msgspec.Struct, frozen=True, kw_only=True):
    user: str = ""


class WebApi:
    """One proxy's web API. `insecure` skips the check of its web certificate, and only that."""

    def __init__(self, addr: str, *, insecure: bool) -> None:
        self.addr = addr
        self._context = ssl.create_default_context()
        if insecure:
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE

    def ping(self) -> Pong:
        """Facts about the cluster."""
        return self._get("/webapi/ping", Pong)

    def motd(self) -> str:
        """The message of the day."""
        return self._get("/webapi/motd", Motd).text

    def login(
        self, *, user: str, password: str, otp: str, ssh_public: str, tls_public: str, ttl_s: int
    ) -> LoginAnswer:
        """Password and one-time code against certificates."""
        body = {
            "user": user,
            "password": password,
            "totp_code": otp,
            "ssh_pub_key": base64.b64encode(ssh_public.encode()).decode(),
            "tls_pub_key": base64.b64encode(tls_public.encode()).decode(),
            "ttl": ttl_s * 1_000_000_000,
        }
        return self._send("POST", "/webapi/mfa/login/finish", body, LoginAnswer)

    def headless_login(
        self, *, user: str, headless_id: str, ssh_public: str, tls_public: str
    ) -> HeadlessAnswer:
        """Certificates, once they are approved; waits a little."""
        body = {
            "user": user,
            "headless_id": headless_id,
            "ssh_pub_key": base64.b64encode(ssh_public.encode()).decode(),
            "tls_pub_key": base64.b64encode(tls_public.encode()).decode(),
        }
        return self._send("POST", "/webapi/headless/login", body, HeadlessAnswer)

    def invitation(self, token: str) -> Invitation:
        """What a token is for, and the new second factor's secret."""
        return self._get(f"/webapi/users/password/token/{token}", Invitation)

    def finish_signup(self, token: str, password: str, otp: str) -> SignedUp:
        """Set the password; the token is used up."""
        body = {"token": token, "password": password, "second_factor_token": otp}
        return self._send("PUT", "/webapi/users/password/token", body, SignedUp)

    def _get(self, path: str, answer: type[T]) -> T:
        return self._send("GET", path, None, answer)

    def _send(self, method: str, path: str, body: dict[str, Any] | None, answer: type[T]) -> T:
        host, _, port = self.addr.rpartition(":")
        connection = http.client.HTTPSConnection(
            host.strip("[]"), int(port), timeout=DEADLINE_S, context=self._context
        )
        headers = {"User-Agent": f"tsh/{VERSION}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            data = response.read(MAX_ANSWER_BYTES + 1)
        except ssl.SSLCertVerificationError as error:
            raise TrustError(
                f"the web certificate of {self.addr} is not trusted: {error.verify_message}",
                hint="if you know why (a test cluster), add --insecure",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(
                f"cannot reach the proxy {self.addr}: {_reason(error)}", hint="check --proxy"
            ) from error
        finally:
            connection.close()
        if len(data) > MAX_ANSWER_BYTES:
            raise ProtocolError(f"the answer of {self.addr} is too long")
        if response.status != 200:
            raise _error(response.status, data, self.addr)
        try:
            return msgspec.json.decode(data, type=answer)
        except msgspec.MsgspecError as error:
            raise ProtocolError(
                f"{self.addr} does not answer like a proxy of this platform", detail=str(error)
            ) from error


class _ErrorBody(msgspec.Struct, frozen=True):
    message: str = ""
    code: str = ""


class _ErrorAnswer(msgspec.Struct, frozen=True):
    error: _ErrorBody = _ErrorBody()


_BY_STATUS: dict[int, type[Exception]] = {400: InputError, 403: DeniedError, 404: NotFoundError}


def _error(status: int, data: bytes, addr: str) -> Exception:
    try:
        body = msgspec.json.decode(data, type=_ErrorAnswer).error
    except msgspec.MsgspecError:
        body = _ErrorBody()
    message = body.message or f"{addr} answered with HTTP status {status}"
    kind = BY_CODE.get(body.code) or _BY_STATUS.get(status, InternalError)
    error = kind(message)
    if isinstance(error, InputError):
        # Wrong usage is what the user typed as flags; what a server refuses is a failure.
        return DeniedError(message)
    return error


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "the host name is not known"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", "") or type(error).__name__


def connect(addr: str, *, insecure: bool) -> tuple[WebApi, Pong]:
    """The proxy at `host:port`; without a port the usual ones are tried."""
    host, _, port = addr.rpartition(":")
    if port.isdigit() and host and (":" not in host or host.endswith("]")):
        api = WebApi(addr, insecure=insecure)
        return api, api.ping()
    failed: UnavailableError | None = None
    for number in DEFAULT_PORTS:
        name = f"[{addr.strip('[]')}]" if addr.count(":") > 1 else addr
        api = WebApi(f"{name}:{number}", insecure=insecure)
        try:
            return api, api.ping()
        except UnavailableError as error:
            failed = error
    assert failed is not None
    raise failed
