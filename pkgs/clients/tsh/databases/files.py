"""Certificates for databases beside the login they were made with, and the port that was last used for each.

~/.tsh/keys/<proxy>/<user>-db/<cluster>/<database>.crt, .key, .port
"""

from __future__ import annotations

from pathlib import Path

from pkgs.clients.tsh.profile import home
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import InputError, NotFoundError
from pkgs.common.runtime.atomicfile import make_private_dir, write_atomic


class Held:
    """A certificate for one database, as it is stored or made for a session alone. Shown and used, never
    believed: agents do that."""

    __slots__ = ("cert", "database", "expires_at", "key", "made", "protocol", "roles", "service", "user")

    def __init__(
        self,
        *,
        cert: Path,
        key: Path,
        service: str,
        protocol: str,
        user: str,
        database: str,
        roles: tuple[str, ...],
        expires_at: float,
        made: tuple[bytes, bytes] | None = None,
    ) -> None:
        """`made`: certificate and key in PEM that are in no file."""
        self.cert = cert
        self.key = key
        self.service = service
        self.protocol = protocol
        self.user = user
        self.database = database
        self.roles = roles
        self.expires_at = expires_at
        self.made = made

    def pems(self) -> tuple[bytes, bytes]:
        """Certificate and key."""
        return self.made or (self.cert.read_bytes(), self.key.read_bytes())


def folder(login: Login) -> Path:
    """Where the certificates of one login are."""
    return Path(f"{login.home}/keys/{login.profile_name}/{login.user}-db/{login.cluster}")


def write(login: Login, name: str, cert_pem: str, key_pem: bytes) -> None:
    """Key and certificate of a database, private from their first byte."""
    where = folder(login)
    for path in (where.parent, where):
        make_private_dir(path)
    write_atomic(where / f"{name}.key", key_pem)
    write_atomic(where / f"{name}.crt", cert_pem.encode())


def read(login: Login, name: str) -> Held | None:
    """What is held for a database, expired or not; None: nothing."""
    cert, key = folder(login) / f"{name}.crt", folder(login) / f"{name}.key"
    try:
        text = home.read_text(str(cert))
        home.read_text(str(key))
    except FileNotFoundError:
        return None
    return _held(cert, key, name, text)


def in_memory(login: Login, name: str, cert_pem: str, key_pem: bytes) -> Held:
    """For one session: written nowhere."""
    where = folder(login)
    made = (cert_pem.encode(), key_pem)
    return _held(where / f"{name}.crt", where / f"{name}.key", name, cert_pem, made)


def _held(cert: Path, key: Path, name: str, text: str, made: tuple[bytes, bytes] | None = None) -> Held:
    from cryptography import x509

    from pkgs.common.pki.x509name import SubjectFields, user_facts

    try:
        parsed = x509.load_pem_x509_certificate(text.encode())
        route = user_facts(SubjectFields(parsed.subject)).route_to_database
    except ValueError as problem:
        raise InputError(f"{cert} is no certificate", hint=f"run 'tsh db login {name}'") from problem
    if route is None or route.service != name:
        raise InputError(f"{cert} is not for database {name}", hint=f"run 'tsh db login {name}'")
    return Held(
        cert=cert,
        key=key,
        service=route.service,
        protocol=route.protocol,
        user=route.user,
        database=route.database,
        roles=route.roles or (),
        expires_at=parsed.not_valid_after_utc.timestamp(),
        made=made,
    )


def must(login: Login, name: str) -> Held:
    """The same, where there has to be one. Raises NotFoundError."""
    held = read(login, name)
    if held is None:
        raise NotFoundError(f"you hold no certificate for {name} any more", hint=f"run 'tsh db login {name}'")
    return held


def precedes(held: Held, login: Login) -> bool:
    """Whether it was made with an earlier login, and so perhaps with other roles."""
    try:
        return held.cert.stat().st_mtime_ns < Path(login.ssh_cert).stat().st_mtime_ns
    except FileNotFoundError:
        return True


def names(login: Login) -> list[str]:
    """Databases for which something is held."""
    return sorted(path.stem for path in folder(login).glob("*.crt"))


def forget(login: Login, name: str) -> bool:
    """Delete what is held for a database, its port too; whether there was a certificate."""
    where = folder(login)
    found = (where / f"{name}.crt").exists()
    for ending in ("key", "crt", "port"):
        (where / f"{name}.{ending}").unlink(missing_ok=True)
    return found


def port_of(login: Login, name: str) -> int:
    """The local port that was last used for a database; 0: none was."""
    try:
        text = home.read_text(str(folder(login) / f"{name}.port")).strip()
    except FileNotFoundError:
        return 0
    return int(text) if text.isascii() and text.isdecimal() and int(text) < 65536 else 0


def keep_port(login: Login, name: str, port: int) -> None:
    where = folder(login)
    for path in (where.parent, where):
        make_private_dir(path)
    write_atomic(where / f"{name}.port", f"{port}\n".encode())
