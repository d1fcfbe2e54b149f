"""One-time codes (RFC 6238: SHA-1, six digits, thirty seconds), for `signup` run by a script."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from pkgs.common.errors import ProtocolError

PERIOD_S = 30
DIGITS = 6


def code(secret_base32: str, now: float) -> str:
    """The code an authenticator shows at `now`."""
    try:
        key = base64.b32decode(secret_base32 + "=" * (-len(secret_base32) % 8), casefold=True)
    except binascii.Error as error:
        raise ProtocolError("the one-time code's secret is not valid base32") from error
    digest = hmac.new(key, int(now // PERIOD_S).to_bytes(8, "big"), hashlib.sha1).digest()
    start = digest[-1] & 0x0F
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"
