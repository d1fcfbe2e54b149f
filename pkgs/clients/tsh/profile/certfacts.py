"""What the user's own certificate says, read without any crypto library: for display and for noticing
that it has expired. Nothing is verified here and nothing is decided by it; servers do both."""

from __future__ import annotations

import binascii

from pkgs.common.errors import InputError
from pkgs.common.pki.ssh.wire import Reader, WireError

_KEY_FIELDS = {
    "ssh-ed25519-cert-v01@openssh.com": 1,
    "ecdsa-sha2-nistp256-cert-v01@openssh.com": 2,
    "ssh-rsa-cert-v01@openssh.com": 2,
}
"""Public key fields between the nonce and the serial number, by certificate type."""


class CertFacts:
    """Fields of an SSH user certificate."""

    __slots__ = ("extensions", "key_id", "principals", "valid_after", "valid_before")

    def __init__(
        self,
        key_id: str,
        principals: list[str],
        valid_after: int,
        valid_before: int,
        extensions: dict[str, str],
    ) -> None:
        self.key_id = key_id
        self.principals = principals
        self.valid_after = valid_after
        self.valid_before = valid_before
        self.extensions = extensions

    def roles(self) -> list[str]:
        """Role names of the certificate."""
        return self._names("teleport-roles", "roles")

    def requests(self) -> list[str]:
        """Ids of the access requests that it holds."""
        return self._names("teleport-active-requests", "access_requests")

    def resources(self) -> list[str] | None:
        """Ids of the resources that it is restricted to; None: it is not."""
        import json

        if "teleport-allowed-resources" not in self.extensions:
            return None
        try:
            ids = json.loads(self.extensions["teleport-allowed-resources"])
        except ValueError:
            return []
        return [text for text in ids if isinstance(text, str)] if isinstance(ids, list) else []

    def _names(self, extension: str, key: str) -> list[str]:
        import json

        try:
            document = json.loads(self.extensions.get(extension, "") or "{}")
        except ValueError:
            return []
        names = document.get(key, []) if isinstance(document, dict) else []
        return [name for name in names if isinstance(name, str)]

    def traits(self) -> dict[str, list[str]]:
        """Traits of the certificate."""
        import json

        try:
            document = json.loads(self.extensions.get("teleport-traits", "") or "{}")
        except ValueError:
            return {}
        if not isinstance(document, dict):
            return {}
        return {
            str(key): [str(v) for v in values] for key, values in document.items() if isinstance(values, list)
        }

    def logins(self) -> list[str]:
        """OS logins, without the principals that only the platform itself uses."""
        return [p for p in self.principals if not p.startswith(("-teleport-", "no-login-"))]


def read_cert(line: str, where: str) -> CertFacts:
    """Parse the authorized_keys form of a certificate; `where` names it in errors."""
    try:
        words = line.split()
        blob = Reader(binascii.a2b_base64(words[1], strict_mode=True))
        kind = blob.text()
        blob.string()
        for _ in range(_KEY_FIELDS[kind]):
            blob.string()
        blob.uint64()
        blob.uint32()
        key_id = blob.text()
        principals = []
        names = Reader(blob.string())
        while not names.at_end:
            principals.append(names.text())
        valid_after, valid_before = blob.uint64(), blob.uint64()
        blob.string()
        extensions = {}
        pairs = Reader(blob.string())
        while not pairs.at_end:
            name, value = pairs.text(), pairs.string()
            extensions[name] = Reader(value).text() if value else ""
    except (WireError, IndexError, KeyError, ValueError) as error:
        raise InputError(f"{where} holds no certificate", hint="run 'tsh login' again") from error
    return CertFacts(key_id, principals, valid_after, valid_before, extensions)
