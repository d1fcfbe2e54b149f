"""Time-based one-time codes (RFC 6238: SHA-1, six digits, 30 seconds). Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from urllib.parse import quote

from pkgs.auth.limits import TOTP_DIGITS, TOTP_PERIOD_S, TOTP_SKEW


def code_at(secret: bytes, step: int) -> str:
    """The code of a 30-second step."""
    mac = hmac.digest(secret, struct.pack(">Q", step), hashlib.sha1)
    offset = mac[-1] & 15
    number = struct.unpack(">I", mac[offset : offset + 4])[0] & 0x7FFFFFFF
    return f"{number % 10**TOTP_DIGITS:0{TOTP_DIGITS}}"


def matching_step(secret: bytes, code: str, now: float, last_used: int) -> int | None:
    """The step `code` belongs to, one before or after `now` allowed; None for a wrong code or for one of
    a step that is not newer than the last used one. Takes the same time whatever matches."""
    current = int(now) // TOTP_PERIOD_S
    given = code.encode("utf-8", "replace")
    found: int | None = None
    for step in range(current - TOTP_SKEW, current + TOTP_SKEW + 1):
        equal = hmac.compare_digest(code_at(secret, step).encode(), given)
        if equal and step > last_used:
            found = step
    return found


def to_base32(secret: bytes) -> str:
    return base64.b32encode(secret).decode().rstrip("=")


def otpauth_url(secret: bytes, user: str, cluster: str) -> str:
    """What authenticator apps read from a QR code."""
    label = quote(f"{cluster}:{user}", safe=":@")
    return (
        f"otpauth://totp/{label}?secret={to_base32(secret)}&issuer={quote(cluster, safe='')}"
        f"&algorithm=SHA1&digits={TOTP_DIGITS}&period={TOTP_PERIOD_S}"
    )
