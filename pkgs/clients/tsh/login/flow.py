"""The steps of a log-in, shared by `tsh login` and the renewal on the way."""

from __future__ import annotations

import os
import sys

from pkgs.clients.tsh.login import ask
from pkgs.clients.tsh.login.webapi import Pong, WebApi, connect
from pkgs.clients.tsh.profile import home, store
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.net.sockets import join_host_port, split_host_port
from pkgs.common.output.argv import Parsed
from pkgs.common.output.sanitize import inert, inert_lines
from pkgs.common.pki.keys import SshKey, TlsKey, new_ssh_key, new_tls_key

MAX_TTL_MINUTES = 60 * 24 * 365


def log_in(args: Parsed) -> home.Profile:
    """Ask, prove, fetch, store. The new profile becomes the current one."""
    where = home.home_dir()
    api, pong = reach(args, where)
    ssh, tls = new_ssh_key(), new_tls_key()
    issued = prove(args, api, pong, ssh.public_line, tls.public_pem, where)
    return keep(where, api, pong, issued, ssh, tls)


def keep(where: str, api: WebApi, pong: Pong, issued: store.Issued, ssh: SshKey, tls: TlsKey) -> home.Profile:
    """Store an issued login as the profile of its proxy."""
    told = pong.proxy.ssh
    profile = home.Profile(
        home.profile_name(api.addr),
        api.addr,
        issued.user,
        issued.cluster,
        told.ssh_public_addr or told.public_addr or told.listen_addr,
        _mysql_addr(pong, api.addr),
    )
    store.save(where, profile, issued, ssh, tls)
    return profile


def _mysql_addr(pong: Pong, proxy_addr: str) -> str:
    """Of the proxy's port for MySQL clients: where it names none that is public, that port of the same host.
    Empty when it has no such port."""
    told = pong.proxy.db
    if told.mysql_public_addr or not told.mysql_listen_addr:
        return told.mysql_public_addr
    host, _ = split_host_port(proxy_addr)
    return join_host_port(host, split_host_port(told.mysql_listen_addr)[1])


def reach(args: Parsed, where: str) -> tuple[WebApi, Pong]:
    """The proxy that the flags, the environment or the current profile name."""
    addr = args.text("proxy")
    if not addr:
        name = home.current_name(where)
        if not name:
            raise InputError("no proxy is named", hint="add --proxy=<host:port>")
        addr = home.load(where, name).web_proxy_addr
    home.profile_name(addr)
    return connect(addr, insecure=args.on("insecure"))


def prove(
    args: Parsed, api: WebApi, pong: Pong, ssh_public: str, tls_public: str, where: str
) -> store.Issued:
    """Show the message of the day, ask for the secrets, and get certificates for the given keys."""
    user = user_name(args, where, api.addr)
    if pong.auth.has_motd:
        _show_motd(api)
    password = ask.password(args, f"Password of {user} at {api.addr}: ")
    otp = ""
    if pong.auth.second_factor in ("otp", "on") or (
        pong.auth.second_factor == "optional" and (args.on("otp-stdin") or not args.on("password-stdin"))
    ):
        otp = ask.one_time_code(args, "One-time code: ")
    minutes = args.whole("ttl")
    if minutes > MAX_TTL_MINUTES:
        raise InputError(f"--ttl: at most {MAX_TTL_MINUTES} minutes")
    answer = api.login(
        user=user,
        password=password,
        otp=otp,
        ssh_public=ssh_public,
        tls_public=tls_public,
        ttl_s=minutes * 60,
    )
    return store.Issued(answer, user=user)


def user_name(args: Parsed, where: str, addr: str) -> str:
    """Who logs in: the flag, the profile of that proxy, the local user."""
    if args.text("user"):
        return args.text("user")
    name = home.profile_name(addr)
    if name in home.profile_names(where):
        return home.load(where, name).user
    local = os.environ.get("USER", "") or os.environ.get("LOGNAME", "")
    if not local:
        raise InputError("no user is named", hint="add --user=<name>")
    return local


def relogin(args: Parsed) -> None:
    """Renew the login that the flags ask for."""
    args.values.setdefault("password-stdin", False)
    args.values.setdefault("otp-stdin", False)
    profile = log_in(args)
    sys.stderr.write(f"Logged in to {inert(profile.cluster)} again.\n")


def _show_motd(api: WebApi) -> None:
    text = api.motd()
    sys.stderr.write(inert_lines(text) + "\n")
    if sys.stdin.isatty() and sys.stderr.isatty():
        sys.stderr.write("Press [ENTER] to continue. ")
        sys.stderr.flush()
        if not sys.stdin.readline():
            raise DeniedError("the message was not acknowledged")
