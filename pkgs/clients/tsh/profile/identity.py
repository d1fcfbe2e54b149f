"""A login out of an identity file (`-i`). OpenSSH and OpenSSL want files, so its parts are put into a
private folder that goes away with this process."""

from __future__ import annotations

import atexit
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from pkgs.clients.tsh.profile import home
from pkgs.clients.tsh.profile.certfacts import read_cert
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import InputError, NotFoundError
from pkgs.common.output.argv import Parsed
from pkgs.common.pki.identityfile import IdentityFile, read_identity_file
from pkgs.common.runtime.atomicfile import write_atomic

EXIT_SIGNALLED = 128


def read(path: str) -> IdentityFile:
    """The identity file; errors name it."""
    try:
        return read_identity_file(home.read_text(path), path)
    except FileNotFoundError:
        raise NotFoundError(f"there is no identity file {path}") from None


def login_of_identity(args: Parsed) -> Login:
    """The login of `--identity`; the proxy must be named too."""
    path, addr = args.text("identity"), args.text("proxy")
    if not addr:
        raise InputError("an identity file does not name the proxy", hint="add --proxy=<host:port>")
    identity = read(path)
    facts = read_cert(identity.ssh_cert, path)
    cluster = facts.extensions.get("teleport-route-to-cluster", "") or cluster_of(identity)
    name = home.profile_name(addr)
    if addr == name:
        addr = f"{addr}:443"
    folder = unpack(identity)
    profile = home.Profile(name, addr, facts.key_id, cluster)
    paths = home.Paths(folder, profile)
    paths.ssh_key = paths.tls_key = f"{folder}/key"
    paths.ssh_cert = f"{folder}/key-cert.pub"
    paths.tls_cert = f"{folder}/tls.crt"
    paths.cas = f"{folder}/cas.pem"
    absolute = str(Path(path).absolute())
    return Login(home_dir=folder, profile=profile, paths=paths, facts=facts, identity_file=absolute)


def cluster_of(identity: IdentityFile) -> str:
    """The cluster that issued it, from the TLS certificate's issuer."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    names = x509.load_pem_x509_certificate(identity.tls_cert.encode()).issuer.get_attributes_for_oid(
        NameOID.ORGANIZATION_NAME
    )
    if not names:
        raise InputError("the identity file does not say which cluster it is for")
    return str(names[0].value)


def unpack(identity: IdentityFile) -> str:
    """Write the parts to a new private folder; it is removed at exit."""
    folder = Path(private_folder())
    for name, text in (
        ("key", identity.private_key.decode()),
        ("key-cert.pub", identity.ssh_cert + "\n"),
        ("tls.crt", identity.tls_cert),
        ("cas.pem", "".join(identity.tls_ca_certs)),
        ("known_hosts", "".join(line + "\n" for line in identity.ssh_ca_lines)),
    ):
        write_atomic(folder / name, text.encode())
    return str(folder)


def private_folder(where: Path | None = None) -> str:
    """A new private folder that is removed when this process ends."""
    folder = tempfile.mkdtemp(prefix="tsh-", dir=where)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # OpenSSH ends its ProxyCommand with SIGHUP.
        signal.signal(number, _leave)
    return folder


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(EXIT_SIGNALLED + number)
