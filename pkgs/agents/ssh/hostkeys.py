"""The host key as connections use it."""

from __future__ import annotations

from pkgs.common.membership.member import Member
from pkgs.common.pki.signer import SshSigner
from pkgs.common.pki.sshcert import line_to_blob
from pkgs.common.ssh import wire
from pkgs.common.ssh.owner import HostKey


class HostKeys:
    """The host key in the membership's keeping: public halves out, signatures in."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._load()
        member.on_identity_change(self._load)

    def _load(self, *_: object) -> None:
        identity = self._member.identity
        self._signer = SshSigner.load(identity.ssh_private_pem)
        self._certificate = line_to_blob(identity.ssh_cert)
        self._keys = [
            HostKey(algorithm=wire.Reader(blob).text(), blob=blob)
            for blob in (self._certificate, self._signer.public_blob)
        ]

    def offered(self) -> list[HostKey]:
        return self._keys

    def sign(self, algorithm: str, exchange_hash: bytes) -> bytes:
        return self._signer.sign(exchange_hash)
