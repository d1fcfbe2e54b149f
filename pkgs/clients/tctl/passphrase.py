"""Passphrases of sealed output: from a file of one's own or the terminal; never from a flag or the
environment, which other programs can read."""

from __future__ import annotations

import os
import secrets
import stat
import sys

from pkgs.clients.tsh.login.ask import hidden
from pkgs.common.errors import AccessError, InputError, NotFoundError
from pkgs.common.output.argv import Flag, Parsed
from pkgs.common.output.sanitize import inert
from pkgs.common.pki import limits
from pkgs.common.pki.sealing import is_sealed, seal, unseal

FLAG = Flag("passphrase-file", "Read the passphrase of the sealed text from this file, private to you",
            metavar="FILE")  # fmt: skip
_OTHERWISE = "--passphrase-file"


def new_passphrase(args: Parsed) -> str:
    """The passphrase to seal with; asked for twice at the terminal."""
    if args.text(FLAG.name):
        found = _from_file(args.text(FLAG.name))
    else:
        found = hidden(f"Passphrase ({limits.PASSPHRASE_MIN} characters or more): ", _OTHERWISE)
        if hidden("The same again: ", _OTHERWISE) != found:
            raise InputError("the two passphrases differ")
    if len(found) < limits.PASSPHRASE_MIN:
        raise InputError(f"a passphrase has {limits.PASSPHRASE_MIN} characters or more")
    return found


def sealed(text: str, passphrase: str) -> str:
    """The text, sealed."""
    return seal(text.encode("utf-8", "surrogatepass"), passphrase, secrets.token_bytes)


def opened(text: str, args: Parsed, source: str, known: list[str] | None = None) -> str:
    """The text itself, or what is sealed in it; asks for the passphrase only then. `known` keeps what was
    asked for, for the next text."""
    if not is_sealed(text):
        return text
    if known:
        passphrase = known[0]
    elif args.text(FLAG.name):
        passphrase = _from_file(args.text(FLAG.name))
    else:
        passphrase = hidden(f"Passphrase of {inert(source)}: ", _OTHERWISE)
    if known is not None and not known:
        known.append(passphrase)
    try:
        plain = unseal(text, passphrase)
    except AccessError as error:
        raise type(error)(f"{source}: {error.message}", hint=error.hint) from None
    try:
        return plain.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise InputError(f"{source}: what is sealed in it is no text") from None


def _from_file(path: str) -> str:
    """The first line. A file that others may read is refused, as ssh does with keys."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}") from None
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode) and mode & 0o077:
            raise InputError(f"{path} can be read by others", hint=f"chmod 600 {path}")
        raw = file.read(4 * limits.PASSPHRASE_MAX + 2)
    line = raw.partition(b"\n")[0].rstrip(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8") from None
    if not 0 < len(text) <= limits.PASSPHRASE_MAX:
        raise InputError(f"{path}: the passphrase is the first line, 1 to {limits.PASSPHRASE_MAX} characters")
    return text


def warn_unsealed() -> None:
    """Said before anything secret is printed as it is."""
    sys.stderr.write(
        "WARNING: what follows holds private keys and other secrets in the clear.\n"
        "WARNING: whoever reads it can act as this cluster. Without --unsealed it would be sealed.\n"
    )
    sys.stderr.flush()
