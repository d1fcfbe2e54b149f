"""`tsh scp`: the system's scp, told to use this login and nothing else."""

from __future__ import annotations

from pkgs.clients.tsh.connections import openssh
from pkgs.clients.tsh.flags import CLUSTER, JUMP, NO_OPENSSH, RESUME
from pkgs.clients.tsh.login.relogin import current_or_relogin
from pkgs.clients.tsh.profile.login import Login
from pkgs.clients.tsh.templates import destination
from pkgs.clients.tsh.verbs.ssh import default_login, execute, warn_of_login
from pkgs.common.errors import InputError, NotFoundError
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Copy files to and from servers: tsh scp file user@node:path (or the other way).",
    Flag("recursive", "Copy folders with all they hold", short="r", is_bool=True),
    Flag("preserve", "Keep modification times and modes", short="p", is_bool=True),
    Flag("port", "SSH port on the remote host", short="P", metavar="PORT"),
    Flag("continue", "Go on with copies that broke off, after comparing what is there", is_bool=True),
    Flag("quiet", "No progress meter", short="q", is_bool=True),
    CLUSTER,
    JUMP,
    NO_OPENSSH,
    *RESUME,
    usage="FROM... TO",
    least=2,
    most=10_000,
)


def offer(args: Parsed, typed: str) -> list[str]:
    """Names of servers. What may as well be a local path is left to the shell."""
    if not typed or "/" in typed or ":" in typed:
        return []
    from pkgs.clients.tsh.servers import nodes

    return [f"{name}:" for name in nodes.offer(args, typed)]


def run(args: Parsed) -> int:
    """Replace this process by scp."""
    openssh.heed_resume(args)
    found = _destinations(args)
    login = current_or_relogin(args)
    names = {host: there.server(login) for host, there in found.items()}
    places = [_place(login, args, word, names) for word in args.words]
    port = str(args.whole("port") or openssh.PORT)
    if args.on("continue"):
        return _continue(login, args, port, places)
    if not openssh.wanted(args) or openssh.which("scp") is None:
        raise NotFoundError(
            "copying needs OpenSSH's scp, which is not installed or not to be used",
            hint="install the OpenSSH client; single files are copied without it by --continue",
        )
    words = [openssh.program("scp"), *openssh.locked_options(login, port=port)]
    words += openssh.default_options(agent=False)
    for name, option in (("recursive", "-r"), ("preserve", "-p"), ("quiet", "-q")):
        if args.on(name):
            words.append(option)
    # Copies between two servers go through here: they do not know each other.
    words += ["-3", "--", *(place for _, place in places)]
    return execute(words, temporary=login.temporary)


def _continue(login: Login, args: Parsed, port: str, places: list[tuple[bool, str]]) -> int:
    if args.on("recursive"):
        raise InputError(
            "--continue copies files, one by one", hint="for a folder use rsync with 'tsh config'"
        )
    from pkgs.clients.tsh.copying.continuing import Continuing

    split = [text.partition(":")[::2] if remote else ("", text) for remote, text in places]
    copies = Continuing(
        login,
        port,
        by_openssh=openssh.wanted(args),
        preserve=args.on("preserve"),
        quiet=args.on("quiet"),
    )
    copies.copy(split[:-1], split[-1])
    return 0


def _destinations(args: Parsed) -> dict[str, destination.Destination]:
    """Where each host that is named is; the flags say afterwards through what all of them are reached."""
    port = str(args.whole("port") or openssh.PORT)
    named = {remote[1] for remote in map(_remote, args.words) if remote}
    hosts = {host: destination.find(args, host, port) for host in named}
    if not hosts:
        raise InputError("no remote file is named", hint="write user@node:path for the source or the target")
    if len({there.route() for there in hosts.values()}) > 1:
        raise InputError(
            "these servers are reached through different proxies or ports", hint="copy in two steps"
        )
    next(iter(hosts.values())).aim(args)
    return hosts


def _place(login: Login, args: Parsed, word: str, names: dict[str, str]) -> tuple[bool, str]:
    remote = _remote(word)
    if remote is None:
        return False, word if not word.startswith("-") else f"./{word}"
    user, host, path = remote
    name = openssh.host_name(login, openssh.strip_cluster(login, names[host]))
    user = openssh.check_login(user or default_login(login, args))
    warn_of_login(login, user)
    return True, f"{user}@{name}:{path}"


def _remote(word: str) -> tuple[str, str, str] | None:
    """User, host and path; None for a local file, whose name with a colon must not read as a remote one."""
    host, colon, path = word.partition(":")
    if not colon or "/" in host:
        return None
    user, _, host = host.rpartition("@")
    return user, host, path
