"""How much an encrypted recording may ask of whoever writes or opens it."""

from __future__ import annotations

from pkgs.common.recording import limits

MAX_DATA = limits.MAX_STORED_FRAME + 4096
"""Bytes that one record holds: a whole frame, and the file's header before the first."""
MAX_WRAPPED = 8 * 1024
"""Bytes of a wrapped key; one for two public keys has some 600."""
MAX_RECIPIENTS = 8
"""Public keys that one recording is encrypted for."""
MAX_KEY_TEXT = 128
"""Characters of a public key."""
KEY_AGAIN_BYTES = 1024 * 1024
"""The wrapped key is written again after so much, so that damage to one of them does not cost everything."""
MAX_KEY_TRIES = 16
"""Wrapped keys that are tried before a file counts as one that can't be opened: each try costs CPU time."""
