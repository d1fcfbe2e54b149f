"""The login a command works with: the active profile, a chosen one, or an identity file."""

from __future__ import annotations

import time

from pkgs.clients.tsh.profile import home
from pkgs.clients.tsh.profile.certfacts import CertFacts, read_cert
from pkgs.common.errors import DeniedError, InputError, NotFoundError
from pkgs.common.output.argv import Parsed


class Expired(DeniedError):
    """The login is over; the message says how to renew it."""


class Login:
    """Everything needed to speak to the cluster as somebody: addresses, names, files."""

    __slots__ = (
        "ca_file",
        "cluster",
        "facts",
        "home",
        "identity_file",
        "known_hosts",
        "mysql_proxy_addr",
        "profile_name",
        "proxy_addr",
        "ssh_cert",
        "ssh_key",
        "ssh_proxy_addr",
        "temporary",
        "tls_cert",
        "tls_key",
        "user",
    )

    def __init__(
        self,
        *,
        home_dir: str,
        profile: home.Profile,
        paths: home.Paths,
        facts: CertFacts,
        identity_file: str = "",
    ) -> None:
        self.home = home_dir
        self.profile_name = profile.name
        self.proxy_addr = profile.web_proxy_addr
        self.ssh_proxy_addr = profile.ssh_proxy_addr
        self.mysql_proxy_addr = profile.mysql_proxy_addr
        self.user = profile.user
        self.cluster = profile.cluster
        self.ssh_key = paths.ssh_key
        self.ssh_cert = paths.ssh_cert
        self.tls_key = paths.tls_key
        self.tls_cert = paths.tls_cert
        self.ca_file = paths.cas
        self.known_hosts = paths.known_hosts
        self.facts = facts
        self.identity_file = identity_file
        self.temporary = bool(identity_file)
        """Its files go away with this process, which must outlive the programs that use them."""

    @property
    def expires_at(self) -> float:
        return float(self.facts.valid_before)

    def renew_hint(self) -> str:
        """The command that renews this login."""
        return f"run 'tsh login --proxy={self.proxy_addr} --user={self.user}'"


def current(args: Parsed) -> Login:
    """The login the flags and the environment ask for, not expired; says what to do otherwise."""
    login = stored(args)
    if login.expires_at <= time.time():
        if login.identity_file:
            raise Expired(f"the identity file {login.identity_file} has expired", hint="ask for a new one")
        raise Expired(f"your login to {login.cluster} has expired", hint=login.renew_hint())
    return login


def stored(args: Parsed) -> Login:
    """The same, expired or not."""
    if is_headless(args):
        from pkgs.clients.tsh.login.headless import headless_login

        return headless_login(args)
    if args.text("identity"):
        from pkgs.clients.tsh.profile.identity import login_of_identity

        return login_of_identity(args)
    where = home.home_dir()
    wanted = args.text("proxy")
    name = home.profile_name(wanted) if wanted else home.current_name(where)
    if not name:
        raise NotFoundError("not logged in", hint="run 'tsh login --proxy=<host:port> --user=<name>'")
    login = of_profile(where, home.load(where, name))
    _check_cluster(args, login)
    return login


def is_headless(args: Parsed) -> bool:
    """Whether somebody has to approve this on another machine."""
    return bool(args.values.get("headless")) or args.values.get("auth") == "headless"  # tctl has neither


def of_profile(where: str, profile: home.Profile) -> Login:
    """The login of one stored profile, expired or not."""
    paths = home.Paths(where, profile)
    try:
        cert = home.read_text(paths.ssh_cert)
    except FileNotFoundError:
        raise NotFoundError(
            f"not logged in to {profile.name}",
            hint=f"run 'tsh login --proxy={profile.web_proxy_addr} --user={profile.user}'",
        ) from None
    return Login(home_dir=where, profile=profile, paths=paths, facts=read_cert(cert, paths.ssh_cert))


def alive() -> list[Login]:
    """Every stored login that has not expired; InputError when there is none."""
    where = home.home_dir()
    logins = [of_profile(where, home.load(where, name)) for name in home.profile_names(where)]
    found = [login for login in logins if login.expires_at > time.time()]
    if not found:
        raise InputError("not logged in to any cluster", hint="run 'tsh login --proxy=<host:port>'")
    return found


def _check_cluster(args: Parsed, login: Login) -> None:
    cluster = str(args.values.get("cluster", ""))
    if cluster and cluster != login.cluster:
        raise InputError(
            f"cluster {cluster[:80]!r} is not known", hint=f"this login is for the cluster {login.cluster}"
        )
