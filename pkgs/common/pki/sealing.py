"""A text sealed by a passphrase, as text: what holds secrets leaves its host in this form only.

    -----BEGIN SEALED RESOURCES-----
    base64 of: magic, version, scrypt's log2(N), r and p, salt, nonce, ciphertext with its tag
    -----END SEALED RESOURCES-----

AES-256-GCM under a key that scrypt makes of passphrase and salt; everything before the ciphertext is
authenticated with it. As YAML it is one plain scalar, so that a reader who does not know it finds no resource
in it. A reader spends no more on the key than `limits` allow, whatever the text says.
"""

from __future__ import annotations

import base64
import binascii
import struct
import unicodedata
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from pkgs.common.errors import DeniedError, InputError, LimitExceededError
from pkgs.common.pki import limits

BEGIN = "-----BEGIN SEALED RESOURCES-----"
END = "-----END SEALED RESOURCES-----"
_MAGIC = b"sealed"
_VERSION = 1
_HEAD = struct.Struct(">6sBBBB16s12s")
_TAG_BYTES = 16
_COLUMNS = 76


def is_sealed(text: str) -> bool:
    """Whether a text says of itself that it is sealed."""
    return text.lstrip("\ufeff \t\r\n").startswith(BEGIN)


def seal(
    plain: bytes, passphrase: str, random: Callable[[int], bytes], *, log_n: int = limits.SEAL_LOG_N
) -> str:
    """The sealed text. `random` gives so many unpredictable bytes. Refuses a passphrase that is too short."""
    if len(passphrase) < limits.PASSPHRASE_MIN:
        raise InputError(f"a passphrase has {limits.PASSPHRASE_MIN} characters or more")
    if len(plain) > limits.MAX_SEALED_BYTES:
        raise LimitExceededError(f"at most {limits.MAX_SEALED_BYTES:,} bytes can be sealed")
    salt, nonce = random(16), random(12)
    head = _HEAD.pack(_MAGIC, _VERSION, log_n, limits.SEAL_R, limits.SEAL_P, salt, nonce)
    key = _key(passphrase, salt, log_n, limits.SEAL_R, limits.SEAL_P)
    body = base64.b64encode(head + AESGCM(key).encrypt(nonce, plain, head)).decode()
    lines = [body[at : at + _COLUMNS] for at in range(0, len(body), _COLUMNS)]
    return "\n".join([BEGIN, *lines, END, ""])


def unseal(text: str, passphrase: str) -> bytes:
    """What was sealed; InputError for a text that is none, DeniedError for one that does not open."""
    raw = _unarmored(text)
    if len(raw) < _HEAD.size + _TAG_BYTES:
        raise InputError("the sealed text is cut short")
    magic, version, log_n, r, p, salt, nonce = _HEAD.unpack_from(raw)
    if magic != _MAGIC:
        raise InputError("the sealed text is damaged: it does not begin as one")
    if version != _VERSION:
        raise InputError(
            f"the text is sealed in form {version}, this program knows form {_VERSION}",
            hint="use the version that sealed it, or a newer one",
        )
    (least_n, most_n), (least_p, most_p) = limits.SEAL_LOG_N_RANGE, limits.SEAL_P_RANGE
    if not (least_n <= log_n <= most_n and r == limits.SEAL_R and least_p <= p <= most_p):
        raise InputError("the sealed text asks for more work than is done for one, or it is damaged")
    head, sealed = raw[: _HEAD.size], raw[_HEAD.size :]
    try:
        return AESGCM(_key(passphrase, salt, log_n, r, p)).decrypt(nonce, sealed, head)
    except InvalidTag:
        raise DeniedError("wrong passphrase, or the sealed text was changed or cut") from None


def _unarmored(text: str) -> bytes:
    lines = [line.strip() for line in text.lstrip("\ufeff").strip().splitlines()]
    if not lines or lines[0] != BEGIN:
        raise InputError("not a sealed text", hint=f"it begins with {BEGIN}")
    if lines[-1] != END:
        raise InputError("the sealed text is cut short: its last line is missing", hint=f"it ends with {END}")
    body = "".join(lines[1:-1])
    if len(body) > (limits.MAX_SEALED_BYTES + 1024) * 4 // 3:
        raise LimitExceededError(f"a sealed text holds at most {limits.MAX_SEALED_BYTES:,} bytes")
    try:
        return base64.b64decode(body.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise InputError("the sealed text is damaged: it is not base64") from None


def _key(passphrase: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    if not 0 < len(passphrase) <= limits.PASSPHRASE_MAX:
        raise InputError(f"a passphrase has 1 to {limits.PASSPHRASE_MAX} characters")
    try:
        # The same words typed on another keyboard may come in another form.
        secret = unicodedata.normalize("NFC", passphrase).encode()
    except UnicodeEncodeError:
        raise InputError("the passphrase is not valid text") from None
    return Scrypt(salt=salt, length=32, n=1 << log_n, r=r, p=p).derive(secret)
