"""Logging in with one certificate (RFC 4252 section 7): the client's side, sans-IO.

wait for service --accept--> signed request sent --success--> in
                                                 --failure--> refused
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pkgs.common.errors import InputError
from pkgs.common.pki.signer import SshSigner
from pkgs.common.pki.ssh.key import CERT_SUFFIX
from pkgs.common.pki.sshcert import line_to_blob
from pkgs.common.ssh import wire
from pkgs.common.ssh.client.limits import MAX_BANNER_BYTES, MAX_BANNERS
from pkgs.common.ssh.signature import CERT_ALGORITHMS

_SERVICE_REQUEST = b"\x05"
_USERAUTH_REQUEST = b"\x32"
_RSA_CERT, _RSA_SIGNED = "ssh-rsa" + CERT_SUFFIX, "rsa-sha2-512" + CERT_SUFFIX


@dataclass(frozen=True, slots=True, repr=False)
class UserKey:
    """A user certificate, and whatever signs with its key: a key in memory, a file's, an agent's."""

    certificate: bytes
    sign: Callable[[bytes], bytes]
    """Data to a signature in wire form; RSA with SHA-512."""

    @classmethod
    def load(cls, certificate_line: str, private_pem: bytes) -> UserKey:
        """Raises InputError."""
        return cls(line_to_blob(certificate_line), SshSigner.load(private_pem).sign)

    @property
    def algorithm(self) -> str:
        name = wire.Reader(self.certificate).text()
        name = _RSA_SIGNED if name == _RSA_CERT else name
        if name not in CERT_ALGORITHMS:
            raise InputError("not a user certificate of a kind that is accepted")
        return name


class Login:
    """What is sent to log in, and what has come back."""

    def __init__(self, user: str, key: UserKey) -> None:
        self.succeeded = False
        self.refused = False
        self.banner = ""
        self._user = user
        self._key = key
        self._algorithm = key.algorithm
        self._asked = False
        self._banners = 0

    @staticmethod
    def ask_service() -> bytes:
        return _SERVICE_REQUEST + wire.string("ssh-userauth")

    def request(self, session_id: bytes, accepted: wire.Reader) -> bytes:
        """The signed request, after the server's SERVICE_ACCEPT. Raises WireError."""
        if self._asked or accepted.text() != "ssh-userauth":
            raise wire.WireError("the server accepts a service that was not asked for")
        self._asked = True
        body = b"".join(
            (
                _USERAUTH_REQUEST,
                wire.string(self._user),
                wire.string("ssh-connection"),
                wire.string("publickey"),
                wire.boolean(True),
                wire.string(self._algorithm),
                wire.string(self._key.certificate),
            )
        )
        return body + wire.string(self._key.sign(wire.string(session_id) + body))

    def take_success(self) -> None:
        """Raises WireError for a success that answers nothing."""
        if not self._asked or self.refused:
            raise wire.WireError("the server sent a success out of order")
        self.succeeded = True

    def take_failure(self) -> None:
        """The one key was tried: there is no other way in."""
        if not self._asked or self.succeeded:
            raise wire.WireError("the server sent a failure out of order")
        self.refused = True

    def take_banner(self, text: bytes) -> None:
        """Raises WireError when there is no end of them."""
        self._banners += 1
        if self._banners > MAX_BANNERS:
            raise wire.WireError("too many banners")
        room = MAX_BANNER_BYTES - len(self.banner)
        self.banner += text[: max(room, 0)].decode(errors="replace")
