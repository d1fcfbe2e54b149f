"""`tsh login`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from pkgs.clients.tsh.login import ask, flow
from pkgs.clients.tsh.profile import home
from pkgs.clients.tsh.profile.describe import as_text
from pkgs.clients.tsh.profile.login import Login, of_profile
from pkgs.clients.tsh.profile.store import known_hosts_lines
from pkgs.clients.tsh.requests.flags import LOGIN_FLAGS
from pkgs.common.errors import AlreadyExistsError, InputError, NotFoundError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.pki.keys import new_ssh_key, new_tls_key, public_line_of
from pkgs.common.runtime.atomicfile import write_atomic

SPEC = Spec(
    "Log in to a cluster with password and one-time code, and get certificates for some hours. The secrets"
    " are asked for, or come from standard input (--password-stdin, --otp-stdin) or TELEPORT_PASSWORD.",
    *ask.SECRET_FLAGS,
    Flag("out", "Write an identity to this file instead of a profile", short="o", metavar="FILE"),
    Flag("format", "Form of --out: file (for -i), or openssh (FILE and FILE-cert.pub)", short="f",
         default="file", choices=("file", "openssh"), metavar="FORMAT"),
    Flag("overwrite", "Replace the files of --out", is_bool=True),
    Flag("force", "Log in again although the login is still valid", is_bool=True),
    *LOGIN_FLAGS,
    usage="[CLUSTER]",
    most=1,
)  # fmt: skip


def run(args: Parsed) -> int:
    """Log in and say as whom; with --out write an identity instead."""
    if args.text("identity"):
        raise InputError(
            "an identity file is a login already", hint="leave out -i (or TELEPORT_IDENTITY_FILE)"
        )
    from pkgs.clients.tsh.requests import atlogin

    by_flags = atlogin.wanted(args)
    if args.text("out"):
        if by_flags:
            raise InputError("--out writes an identity without access requests", hint="log in without --out")
        return _identity(args)
    where = home.home_dir()
    login = None if _asked_anew(args) else _valid(args, where)
    if login is None:
        login = of_profile(where, flow.log_in(args))
        if not by_flags:
            login = atlogin.by_role(args, login)
    elif home.current_name(where) != login.profile_name:
        write_atomic(Path(f"{where}/current-profile"), f"{login.profile_name}\n".encode())
    _check_cluster(args, login)
    if by_flags:
        login = atlogin.by_flags(args, login)
    sys.stdout.write(as_text(login, active=True))
    return 0


def _asked_anew(args: Parsed) -> bool:
    return args.on("force") or args.on("password-stdin") or bool(os.environ.get("TELEPORT_PASSWORD"))


def _valid(args: Parsed, where: str) -> Login | None:
    """The stored login that these flags mean, if it still holds."""
    name = home.profile_name(args.text("proxy")) if args.text("proxy") else home.current_name(where)
    if not name or args.text("ttl"):
        return None
    try:
        login = of_profile(where, home.load(where, name))
    except (NotFoundError, InputError):
        return None
    same_user = args.text("user") in ("", login.user)
    same_proxy = ":" not in args.text("proxy") or args.text("proxy") == login.proxy_addr
    return login if same_user and same_proxy and login.expires_at > time.time() else None


def _check_cluster(args: Parsed, login: Login) -> None:
    if args.words and args.words[0] != login.cluster:
        raise NotFoundError(
            f"cluster {args.words[0][:80]!r} is not known",
            hint=f"this login is for the cluster {login.cluster}",
        )


def _identity(args: Parsed) -> int:
    from pkgs.common.pki.identityfile import IdentityFile, write_identity_file

    out = Path(args.text("out"))
    openssh = args.text("format") == "openssh"
    files = [out, out.with_name(out.name + "-cert.pub")] if openssh else [out]
    existing = [str(path) for path in files if path.exists()]
    if existing and not args.on("overwrite"):
        raise AlreadyExistsError(f"{existing[0]} exists", hint="add --overwrite")
    where = home.home_dir()
    api, pong = flow.reach(args, where)
    tls = new_tls_key()
    if openssh:
        ssh = new_ssh_key()
        private, public = ssh.private_pem, ssh.public_line
    else:
        # One key serves both protocols in an identity file.
        private, public = tls.private_pem, public_line_of(tls.private_pem)
    issued = flow.prove(args, api, pong, public, tls.public_pem, where)
    if openssh:
        write_atomic(files[0], private)
        write_atomic(files[1], issued.ssh_cert.encode())
    else:
        identity = IdentityFile(
            private_key=private,
            ssh_cert=issued.ssh_cert.strip(),
            tls_cert=issued.tls_cert,
            tls_ca_certs=(issued.host_roots,),
            ssh_ca_lines=tuple(
                known_hosts_lines(home.profile_name(api.addr), issued.cluster, issued.host_keys)
            ),
        )
        write_atomic(out, write_identity_file(identity))
    sys.stdout.write(f"The identity has been written to {', '.join(str(path) for path in files)}\n")
    return 0
