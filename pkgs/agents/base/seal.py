"""The host's signature at the end of a recording, with the keys of the membership."""

from __future__ import annotations

from pkgs.common.membership.member import Member
from pkgs.common.pki.signer import SshSigner
from pkgs.common.pki.sshcert import line_to_blob
from pkgs.common.recording.seal import Signed


class Sealer:
    """Signs with the key that the host has at that moment."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._load()
        member.on_identity_change(self._load)

    def _load(self, *_: object) -> None:
        identity = self._member.identity
        self._signer = SshSigner.load(identity.ssh_private_pem)
        self._certificate = line_to_blob(identity.ssh_cert)

    def seal(self, message: bytes) -> Signed:
        """Sign the end of a recording."""
        signer, certificate = self._signer, self._certificate
        return Signed(certificate, signer.sign(message))
