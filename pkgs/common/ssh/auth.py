# mypy: disallow-subclassing-any=False
"""User authentication on the server: certificates only, nothing believed before a verified signature.

In place of the library's handler, which hangs up on the first key type it does not know (a FIDO key in
the user's agent) and takes the last key offered for the one that signed.
"""

from __future__ import annotations

from typing import Any

from paramiko.auth_handler import AuthHandler
from paramiko.common import (
    MSG_SERVICE_ACCEPT,
    MSG_USERAUTH_BANNER,
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_INFO_REQUEST,
    MSG_USERAUTH_SUCCESS,
)
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from pkgs.common.ssh import wire
from pkgs.common.ssh.limits import MAX_AUTH_ATTEMPTS, MAX_CERT_BLOB, MAX_LOGIN_NAME
from pkgs.common.ssh.owner import LoginRefused
from pkgs.common.ssh.packets import RawMessage
from pkgs.common.ssh.signature import is_certificate_offer

_SUCCESS = b"\x34"
_FAILURE = b"\x33"
_PK_OK = b"\x3c"
_BANNER = b"\x35"
_SERVICE_ACCEPT = b"\x06"
_NO_MORE_AUTH = 14

_Base: Any = AuthHandler


class CertificateAuth(_Base):
    """Certificates only. The library's own handler hangs up on the first key type it does not know."""

    auth_username: str | None
    authenticated: bool

    def __init__(self, transport: Any) -> None:
        super().__init__(transport)
        self._login = transport.login
        self._attempts = 0

    @property
    def _server_handler_table(self) -> dict[int, Any]:
        forbidden = (
            MSG_SERVICE_ACCEPT,
            MSG_USERAUTH_SUCCESS,
            MSG_USERAUTH_FAILURE,
            MSG_USERAUTH_BANNER,
            MSG_USERAUTH_INFO_REQUEST,
        )
        table: dict[int, Any] = dict(super()._server_handler_table)
        table.update(dict.fromkeys(forbidden, self._parse_forbidden))
        return table

    def _parse_forbidden(self, _: Message) -> None:
        raise SSHException("a client does not send this message")  # attack A10

    def _parse_service_request(self, m: Message) -> None:
        if wire.Reader(m.get_remainder()).text() != "ssh-userauth":
            raise SSHException("unknown service")
        self._send(_SERVICE_ACCEPT + wire.string("ssh-userauth"))

    def _parse_userauth_info_response(self, m: Message) -> None:
        self._parse_forbidden(m)

    def _parse_userauth_request(self, m: Message) -> None:
        if self.authenticated:
            return
        reader = wire.Reader(m.get_remainder())
        user, service, method = reader.text(), reader.text(), reader.text()
        self._attempts += 1
        if service != "ssh-connection" or len(user) > MAX_LOGIN_NAME:
            raise SSHException("login request is out of bounds")
        if self.auth_username is not None and self.auth_username != user:
            raise SSHException("login name changed between requests")
        self.auth_username = user
        if self._attempts > MAX_AUTH_ATTEMPTS:
            self.transport.disconnect(_NO_MORE_AUTH, "too many login attempts")
            raise SSHException("too many login attempts")
        if method == "publickey":
            self._publickey(user, reader)
        else:
            self._fail()

    def _publickey(self, user: str, reader: wire.Reader) -> None:
        signed, algorithm, blob = reader.boolean(), reader.text(), reader.string()
        if len(blob) > MAX_CERT_BLOB or not is_certificate_offer(algorithm, blob):
            self._fail()
        elif not signed:
            # Nothing is proven yet: no state may change here (attack A08).
            if self._login.acceptable(user, blob):
                self._send(_PK_OK + wire.string(algorithm) + wire.string(blob))
            else:
                self._fail()
        else:
            self._prove(user, algorithm, blob, reader.string())

    def _prove(self, user: str, algorithm: str, blob: bytes, signature: bytes) -> None:
        try:
            self._login.prove(user, algorithm, blob, signature)
        except LoginRefused as refusal:
            if refusal.final:
                self.transport.disconnect(_NO_MORE_AUTH, refusal.text)
                raise SSHException("login refused") from None
            if refusal.text:
                text = refusal.text.replace("\n", "\r\n") + "\r\n"
                self._send(_BANNER + wire.string(text) + wire.string("en"))
            self._fail()
            return
        self.authenticated = True
        self._send(_SUCCESS)
        self.transport._auth_trigger()

    def _fail(self) -> None:
        self._send(_FAILURE + wire.string("publickey") + wire.boolean(False))

    def _send(self, data: bytes) -> None:
        self.transport._send_message(RawMessage(data))
