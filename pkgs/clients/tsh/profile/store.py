"""Writing a login to `~/.tsh`, and taking it away. Keys are private from their first byte."""

from __future__ import annotations

import base64
import binascii
import shutil
from pathlib import Path

from pkgs.clients.tsh.login.webapi import LoginAnswer
from pkgs.clients.tsh.profile import home
from pkgs.clients.tsh.profile.certfacts import read_cert
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import ProtocolError
from pkgs.common.pki.keys import SshKey, TlsKey
from pkgs.common.resources.names import valid_cluster_name, valid_user_name
from pkgs.common.runtime.atomicfile import make_private_dir, write_atomic


class Issued:
    """A login's answer, decoded and checked."""

    __slots__ = ("cluster", "host_keys", "host_roots", "ssh_cert", "tls_cert", "user")

    def __init__(self, answer: LoginAnswer, *, user: str) -> None:
        self.user = answer.username
        self.cluster = answer.cluster_name
        self.ssh_cert = _text(answer.cert).strip() + "\n"
        self.tls_cert = _text(answer.tls_cert)
        self.host_keys = [
            _text(key).strip() for s in answer.host_signers if s.type == "host" for key in s.checking_keys
        ]
        self.host_roots = "".join(
            _text(cert).strip() + "\n"
            for s in answer.host_signers
            if s.type == "host"
            for cert in s.tls_certs
        )
        # These become file names.
        if self.user != user or not valid_user_name(self.user) or not valid_cluster_name(self.cluster):
            raise ProtocolError("the proxy's answer names a user or a cluster that can't be")
        if read_cert(self.ssh_cert, "the proxy's answer").key_id != user:
            raise ProtocolError("the proxy's answer holds somebody else's certificate")
        if not self.host_keys or not self.host_roots:
            raise ProtocolError("the proxy's answer holds no host authority")


def save(where: str, profile: home.Profile, issued: Issued, ssh: SshKey, tls: TlsKey) -> None:
    """Store keys, certificates and authorities, then the profile, then make it the current one: a crash
    in between leaves the old login or a whole new one."""
    paths = home.Paths(where, profile)
    for folder in (
        where,
        f"{where}/keys",
        paths.keys,
        f"{paths.keys}/cas",
        f"{paths.keys}/{profile.user}-ssh",
    ):
        make_private_dir(Path(folder))
    for path, data in (
        (paths.ssh_key, ssh.private_pem),
        (paths.ssh_public, ssh.public_line.encode() + b"\n"),
        (paths.tls_key, tls.private_pem),
        (paths.tls_cert, issued.tls_cert.encode()),
        (paths.ssh_cert, issued.ssh_cert.encode()),
        (paths.cas, issued.host_roots.encode()),
        (f"{paths.keys}/certs.pem", issued.host_roots.encode()),
        (paths.known_hosts, _known_hosts(paths.known_hosts, profile, issued).encode()),
        (f"{where}/{profile.name}.yaml", home.render(profile).encode()),
        (f"{where}/current-profile", f"{profile.name}\n".encode()),
    ):
        write_atomic(Path(path), data)


def replace_certs(login: Login, ssh_cert: str, tls_cert: str) -> None:
    """Other certificates for the keys of a stored login."""
    if read_cert(ssh_cert, "the cluster's answer").key_id != login.user:
        raise ProtocolError("the cluster's answer holds somebody else's certificate")
    write_atomic(Path(login.tls_cert), tls_cert.encode())
    write_atomic(Path(login.ssh_cert), ssh_cert.strip().encode() + b"\n")


def known_hosts_lines(profile_name: str, cluster: str, host_keys: list[str]) -> list[str]:
    """`@cert-authority` lines for one cluster."""
    names = ",".join(dict.fromkeys((profile_name, cluster, f"*.{cluster}")))
    return [f"@cert-authority {names} {key} type=host" for key in host_keys]


def _known_hosts(path: str, profile: home.Profile, issued: Issued) -> str:
    """The file with this cluster's lines replaced."""
    mark = f"*.{issued.cluster}"
    try:
        before = home.read_text(path).splitlines()
    except FileNotFoundError:
        before = []
    kept = [line for line in before if line.strip() and mark not in line.split(" ", 2)[1].split(",")]
    return "\n".join([*kept, *known_hosts_lines(profile.name, issued.cluster, issued.host_keys)]) + "\n"


def remove(where: str, name: str) -> bool:
    """Delete a profile with its keys; whether there was one."""
    keys = Path(f"{where}/keys/{name}")
    profile = Path(f"{where}/{name}.yaml")
    found = profile.exists() or keys.exists()
    # The keys first: a crash in between leaves a profile without keys, which is no login.
    shutil.rmtree(keys, ignore_errors=False) if keys.exists() else None
    profile.unlink(missing_ok=True)
    if home.current_name(where) == name:
        Path(f"{where}/current-profile").unlink(missing_ok=True)
    return found


def _text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise ProtocolError("the proxy's answer is not understood") from error
