"""Which algorithms are offered, and why nothing else is.

AES-GCM only: it resists prefix truncation (Terrapin, attack A11) by itself, and is the fastest here by far
(measured). `aes256-ctr` is for clients older than OpenSSH 6.2 and comes without encrypt-then-MAC, the
combination that truncation needs. No CBC, no SHA-1, no MD5, no DSA, no `none`.
"""

from __future__ import annotations

from dataclasses import dataclass

_GCM = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
_CTR = ("aes256-ctr",)
_PLAIN_MACS = ("hmac-sha2-256", "hmac-sha2-512")
_ETM_MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")


@dataclass(frozen=True, slots=True)
class Algorithms:
    ciphers: tuple[str, ...]
    macs: tuple[str, ...]
    """With GCM a MAC is named but not used; some clients name only the -etm ones."""


def offered(allow_ctr: bool = False) -> Algorithms:
    """The ciphers and MACs of a connection."""
    if allow_ctr:
        return Algorithms(_GCM + _CTR, _PLAIN_MACS)
    return Algorithms(_GCM, _PLAIN_MACS + _ETM_MACS)


KEX = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
)
VERSION = "Teleport"
"""Software version in the banner; proxies of this family look for the prefix."""
