"""How the system's OpenSSH is told to use a login: options for `tsh ssh` and `tsh scp`, the block that
`tsh config` prints. Only certificates count: no other key, no other host key file, no questions."""

from __future__ import annotations

import os
import re
import shlex
import sys

from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import InputError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from pkgs.common.output.argv import Parsed

PORT = 3022
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?\Z")
CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""Put before the others: what agents and CPUs do fastest."""


def program(name: str) -> str:
    """Path of an OpenSSH program."""
    path = which(name)
    if path is None:
        raise NotFoundError(f"the program '{name}' is not installed", hint="install the OpenSSH client")
    return path


def wanted(args: Parsed) -> bool:
    """Whether OpenSSH's client is to be run: it is installed, and nobody asked to do without it."""
    return not args.on("no-openssh") and which("ssh") is not None


def which(name: str) -> str | None:
    """The first executable of this name on PATH. (The library's own brings compression with it.)"""
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = f"{folder}/{name}"
        # A folder relative to where we happen to be is nobody's intention.
        if folder.startswith("/") and os.access(path, os.X_OK):
            return path
    return None


def tsh_path() -> str:
    """Absolute path of this very program."""
    path = sys.argv[0]
    if "/" not in path:
        path = which(path) or path
    return os.path.abspath(path) if os.access(path, os.X_OK) else "tsh"  # noqa: PTH100


def check_host(host: str) -> str:
    """A host name that OpenSSH and its shell may see. InputError for anything else."""
    if not _HOST.match(host) or len(host) > 253:
        raise InputError(
            f"{host[:80]!r} is no host name", hint="use the node's name or id as 'tsh ls -v' shows it"
        )
    return host


def check_login(login: str) -> str:
    """A login that OpenSSH and its shell may see. InputError for anything else."""
    if not _LOGIN.match(login) or len(login) > 128:
        raise InputError(f"{login[:80]!r} is no login name")
    return login


def host_name(login: Login, host: str) -> str:
    """`node.<cluster>`: the form that the host authority's known_hosts line covers."""
    suffix = "." + login.cluster
    return host if host.endswith(suffix) else check_host(host) + suffix


def strip_cluster(login: Login, host: str) -> str:
    """The node's own name out of `node.<cluster>`."""
    return host.removesuffix("." + login.cluster)


def own_words(login: Login, *verb: str) -> list[str]:
    """A command line of this very program for the same login."""
    # Started by the interpreter at once: the launcher's shell would cost every session milliseconds.
    # Without templates: they were heeded by the one who runs this.
    words = [sys.executable, "-I", tsh_path(), *verb, "--jumphost=none", f"--cluster={login.cluster}"]
    if login.identity_file:
        return [*words, f"--proxy={login.proxy_addr}", f"--identity={login.identity_file}"]
    return [*words, f"--proxy={login.profile_name}"]


def proxy_command(login: Login, *, port: str) -> str:
    """The command OpenSSH runs to reach a host; `%r`, `%h` are its own tokens."""
    words = own_words(login, "proxy", "ssh")
    fixed = " ".join(shlex.quote(word).replace("%", "%%") for word in words)
    return f"{fixed} %r@%h:{port}"


def locked_options(login: Login, *, port: str) -> list[str]:
    """Words in front of all others: what makes the connection the one that was asked for. OpenSSH keeps
    the first value it sees."""
    pairs = {
        "ProxyCommand": proxy_command(login, port=port),
        "IdentityFile": _quoted(login.ssh_key),
        "CertificateFile": _quoted(login.ssh_cert),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": _quoted(login.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "PreferredAuthentications": "publickey",
        "NumberOfPasswordPrompts": "0",
    }
    return ["-F", "/dev/null", *_words(pairs)]


def heed_resume(args: Parsed) -> None:
    """Let OpenSSH hand --no-resume on to its ProxyCommand, which inherits the environment."""
    if args.on("no-resume"):
        os.environ["TELEPORT_NO_RESUME"] = "true"


def default_options(*, agent: bool) -> list[str]:
    """Words behind the user's own options: what holds when they said nothing. Without `agent` the keys
    of a running agent play no part."""
    pairs = {"Ciphers": CIPHERS, "ServerAliveInterval": "60"}
    if not agent:
        pairs["IdentityAgent"] = "none"
    return _words(pairs)


def _words(pairs: dict[str, str]) -> list[str]:
    return [word for key, value in pairs.items() for word in ("-o", f"{key}={value}")]


def config_block(login: Login, port: int) -> str:
    """What `tsh config` prints: `ssh user@node.<cluster>` works with it."""
    host = login.profile_name
    cluster = login.cluster
    own = [tsh_path(), "proxy", "ssh", f"--cluster={cluster}", f"--proxy={host}"]
    command = '"' + own[0].replace("%", "%%") + '" ' + " ".join(shlex.quote(w) for w in own[1:])
    return f"""\
# Begin generated configuration for cluster {cluster} (tsh config)
Host *.{cluster} {host}
    UserKnownHostsFile {_quoted(login.known_hosts)}
    IdentityFile {_quoted(login.ssh_key)}
    CertificateFile {_quoted(login.ssh_cert)}
    IdentitiesOnly yes
    Ciphers {CIPHERS}
Host *.{cluster} !{host}
    Port {port}
    ProxyCommand {command} %r@%h:%p
# End generated configuration for cluster {cluster}
"""


def _quoted(path: str) -> str:
    if '"' in path or "\n" in path:
        raise InputError(f"the path {path!r} can't be written for OpenSSH", hint="move TELEPORT_HOME")
    return '"' + path.replace("%", "%%") + '"'
