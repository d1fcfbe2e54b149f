"""The keys of encrypted recordings: the cluster's pair, and the one key of each recording wrapped for it.

Wrapping is age's (`pyrage`, the Rust implementation); what goes into the envelope besides the key is the
session's id. It can't be moved to another session's file: who would wrap the key anew must know it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import msgspec
import pyrage
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pkgs.common.errors import InputError, TrustError
from pkgs.common.recording.encrypted import limits

_KEY_SIZE = 32
_NONCE = 12
OVERHEAD = _NONCE + 16
"""Bytes that `ContentKey.lock` adds: nonce and tag."""

_ENCODER = msgspec.msgpack.Encoder()


class WrappedKey(msgspec.Struct, frozen=True, array_like=True):
    """A recording's key as it stands in the file."""

    recipients: Annotated[
        list[Annotated[str, msgspec.Meta(max_length=limits.MAX_KEY_TEXT)]],
        msgspec.Meta(max_length=limits.MAX_RECIPIENTS),
    ]
    """Public keys whose private ones open the envelope; as the writer says, to be tried and not believed."""
    envelope: bytes


class _Content(msgspec.Struct, frozen=True, array_like=True):
    session_id: str
    key: bytes


_WRAPPED = msgspec.msgpack.Decoder(WrappedKey)
_CONTENT = msgspec.msgpack.Decoder(_Content)


@dataclass(frozen=True, slots=True, repr=False)
class ContentKey:
    """The key of one recording."""

    raw: bytes

    def lock(self, data: bytes, about: bytes) -> bytes:
        """Encrypted under a random nonce, `about` authenticated with it. Some millions of times per key."""
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(self.raw).encrypt(nonce, data, about)

    def unlock(self, box: bytes, about: bytes) -> bytes | None:
        """What was locked; None unless it was locked by this key, with `about`, and not touched since."""
        try:
            return AESGCM(self.raw).decrypt(box[:_NONCE], box[_NONCE:], about)
        except (InvalidTag, ValueError):
            return None


class PrivateKey(Protocol):
    """One private key of the cluster, wherever it is kept: the one thing that opens envelopes, so that a key
    store or a security module can stand behind it."""

    @property
    def public_key(self) -> str: ...

    def open(self, envelope: bytes) -> bytes:
        """The envelope's content. Raises TrustError unless it was made for this key and is whole."""
        ...


class AgeKey:
    """A private key in memory, in age's own form."""

    def __init__(self, private_key: str) -> None:
        """Raises InputError."""
        try:
            self._identity = pyrage.x25519.Identity.from_str(private_key)
        except pyrage.IdentityError:
            # Without the library's words: they could repeat some of the key.
            raise InputError("not a private key of age (AGE-SECRET-KEY-1...)") from None
        self.public_key = str(self._identity.to_public())

    def open(self, envelope: bytes) -> bytes:
        try:
            return bytes(pyrage.decrypt(envelope, [self._identity]))
        except pyrage.DecryptError as problem:
            raise TrustError("the recording's key cannot be unwrapped", detail=str(problem)) from None


Unwrap = Callable[[WrappedKey], bytes]
"""The content of an envelope, by whichever private key there is for it. Raises TrustError."""


def new_private_key() -> str:
    """A new private key, in age's own form."""
    return str(pyrage.x25519.Identity.generate())


def check_public_key(text: str) -> None:
    """InputError unless this is a public key of age (X25519), in its one form."""
    try:
        same = str(pyrage.x25519.Recipient.from_str(text)) == text
    except pyrage.RecipientError:
        same = False
    if not same:
        raise InputError(f"{text[: limits.MAX_KEY_TEXT]!r} is not a public key of age (age1...)")


def wrap_new(session_id: str, recipients: Sequence[str]) -> tuple[ContentKey, WrappedKey]:
    """A new key for a recording, and it wrapped for whoever has one of these keys. Raises InputError when
    there is none, or one of them is none: not all of those who should could read it."""
    if not 0 < len(recipients) <= limits.MAX_RECIPIENTS:
        raise InputError(f"a recording is encrypted for 1 to {limits.MAX_RECIPIENTS} public keys")
    for recipient in recipients:
        check_public_key(recipient)
    key = ContentKey(os.urandom(_KEY_SIZE))
    content = _ENCODER.encode(_Content(session_id, key.raw))
    readers = [pyrage.x25519.Recipient.from_str(recipient) for recipient in recipients]
    return key, WrappedKey(list(recipients), bytes(pyrage.encrypt(content, readers)))


def unwrap(wrapped: WrappedKey, opened_by: Unwrap, session_id: str) -> ContentKey:
    """The key in the envelope. Raises TrustError when there is no private key for it, or when it is the key
    of another session (attack A39: one host's recording passed off as another's)."""
    try:
        content = _CONTENT.decode(opened_by(wrapped))
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise TrustError("the recording's key is not wrapped as it should be") from None
    if content.session_id != session_id:
        raise TrustError("the recording's key is of another session")
    if len(content.key) != _KEY_SIZE:
        raise TrustError("the recording's key has not the right size")
    return ContentKey(content.key)


def encode_wrapped(wrapped: WrappedKey) -> bytes:
    return _ENCODER.encode(wrapped)


def decode_wrapped(raw: bytes) -> WrappedKey | None:
    """None for bytes that are no wrapped key."""
    try:
        return _WRAPPED.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
