"""`tsh ssh`: the system's OpenSSH, told to use this login and nothing else; without it our own client."""

from __future__ import annotations

import os
import sys

from pkgs.clients.tsh.connections import openssh
from pkgs.clients.tsh.flags import CLUSTER, JUMP, NO_OPENSSH, RESUME
from pkgs.clients.tsh.login.relogin import current_or_relogin
from pkgs.clients.tsh.many.limits import MAX_PARALLEL, PARALLEL
from pkgs.clients.tsh.profile.login import Login
from pkgs.clients.tsh.sessions import company
from pkgs.clients.tsh.templates import destination
from pkgs.common.errors import InputError, NotFoundError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec(
    "Open a shell on a server, or run a command there. The host is a node's name, its id, an address, or"
    " labels (env=prod) that match one node for a shell, or several for a command; without one you choose"
    " from a list. The exit status is the remote command's; of several, that of the first server"
    " in the order of 'tsh ls' that failed.",
    Flag("port", "SSH port on the remote host", short="p", metavar="PORT"),
    Flag("forward-agent", "Forward the local authentication agent", short="A", is_bool=True),
    Flag("forward", "Forward a local port or socket: [bind:]port:host:port", short="L", is_list=True,
         metavar="SPEC"),
    Flag("remote-forward", "Forward a remote port or socket: [bind:]port:host:port", short="R", is_list=True,
         metavar="SPEC"),
    Flag("dynamic-forward", "Local SOCKS5 proxy: [bind:]port", short="D", is_list=True, metavar="SPEC"),
    Flag("no-remote-exec", "Run nothing on the server, only forward ports", short="N", is_bool=True),
    Flag("fork-after-authentication", "Go to the background once connected", short="f", is_bool=True),
    Flag("tty", "Allocate a terminal for a command; twice, even without one here", short="t", is_bool=True),
    Flag("no-tty", "Allocate no terminal for a shell", short="T", is_bool=True),
    Flag("no-stdin", "Read no input", short="n", is_bool=True),
    Flag("subsystem", "The command is the name of a subsystem, such as sftp", short="s", is_bool=True),
    Flag("quiet", "OpenSSH prints no warnings", short="q", is_bool=True),
    Flag("verbose", "OpenSSH says what it does", short="v", is_bool=True),
    Flag("compression", "Compress the connection, when the server does too", short="C", is_bool=True),
    Flag("log-file", "Append OpenSSH's own messages to a file", short="E", metavar="FILE"),
    Flag("option", "An OpenSSH client option, Name=value", short="o", is_list=True, metavar="OPTION"),
    Flag("x11-untrusted", "Untrusted X11 forwarding", short="X", is_bool=True),
    Flag("x11-trusted", "Trusted X11 forwarding", short="Y", is_bool=True),
    Flag("x11-untrusted-timeout", "With -X, new X11 connections are refused after so long", default="10m",
         metavar="DURATION"),
    Flag("no-x11", "No X11 forwarding", short="x", is_bool=True),
    *company.FLAGS,
    Flag("parallel", "A command on several servers: how many at once", default=str(PARALLEL),
         metavar="NUMBER"),
    Flag("log-dir", "Write the output of each server to files in this folder", metavar="DIR"),
    CLUSTER,
    JUMP,
    NO_OPENSSH,
    *RESUME,
    usage="[[USER@]HOST] [COMMAND...]",
    most=1,
    command_after=1,
)  # fmt: skip

SAFE_OPTIONS = frozenset(
    (
        "addressfamily",
        "addkeystoagent",
        "batchmode",
        "ciphers",
        "clearallforwardings",
        "compression",
        "connecttimeout",
        "controlmaster",
        "controlpath",
        "controlpersist",
        "dynamicforward",
        "escapechar",
        "exitonforwardfailure",
        "forkafterauthentication",
        "forwardagent",
        "forwardx11",
        "forwardx11trusted",
        "gatewayports",
        "ipqos",
        "localforward",
        "loglevel",
        "permitremoteopen",
        "rekeylimit",
        "remoteforward",
        "requesttty",
        "sendenv",
        "serveralivecountmax",
        "serveraliveinterval",
        "sessiontype",
        "setenv",
        "stdinnull",
        "streamlocalbindmask",
        "streamlocalbindunlink",
        "tcpkeepalive",
        "visualhostkey",
    )
)
"""OpenSSH options that can't turn off the checks that make the connection what it is."""


def offer(args: Parsed, typed: str) -> list[str]:
    """Names of servers."""
    from pkgs.clients.tsh.servers import nodes

    return nodes.offer(args, typed)


def run(args: Parsed) -> int:
    """Replace this process by OpenSSH; for a command on several nodes, run it once for each."""
    if not args.words and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError("no server is named", hint="write tsh ssh user@host; 'tsh ls' lists the servers")
    openssh.heed_resume(args)
    user, _, host = (args.words[0] if args.words else "").rpartition("@")
    there = destination.find(args, host, str(args.whole("port") or openssh.PORT))
    there.aim(args)
    login = current_or_relogin(args)
    host = there.server(login) if args.words else _picked(login)
    user = openssh.check_login(user or default_login(login, args))
    if not args.on("quiet"):
        warn_of_login(login, user)
    words = _words(args)
    parallel = args.whole("parallel", least=1)
    if parallel > MAX_PARALLEL:
        raise InputError(f"--parallel is at most {MAX_PARALLEL}")
    by_label = "=" in host or ":" in host or host.replace(".", "").isdigit()
    if not by_label and not args.text("log-dir"):
        return _on_one(login, args, words, user, openssh.strip_cluster(login, host))
    from pkgs.clients.tsh.servers import targets

    target = host if by_label else openssh.strip_cluster(login, host)
    found = targets.matching(login, target)
    if not args.command or "=" not in target:
        # Only labels may mean several: a name that two servers bear is a mistake or an attempt at one.
        found = [targets.the_one(target, found)]
    if len(found) == 1 and not args.text("log-dir"):
        return _on_one(login, args, words, user, found[0].metadata.name)
    _check_many(args)
    from pkgs.clients.tsh.many import fanout, logs

    servers = [(node.spec.hostname, node.metadata.name) for node in found]
    jobs = [
        fanout.Job(name, _argv(login, args, words, user, host_id))
        for (_, host_id), name in zip(servers, logs.plain_names(servers), strict=True)
    ]
    return fanout.run_jobs(jobs, parallel=parallel, log_dir=args.text("log-dir"))


def _picked(login: Login) -> str:
    """The id of the server that the person at the terminal chooses from those that the login sees."""
    from pkgs.clients.tsh.picker import screen
    from pkgs.clients.tsh.servers import nodes

    found = nodes.fetch(login, {}, [])
    if not found:
        raise NotFoundError("there is no server that you may see", hint="see 'tsh status' for your roles")
    lines = [f"{node.spec.hostname}  {nodes.label_text(nodes.all_labels(node))}" for node in found]
    return found[screen.choose(lines)].metadata.name


def _on_one(login: Login, args: Parsed, words: list[str], user: str, name: str) -> int:
    if openssh.wanted(args):
        return execute(_argv(login, args, words, user, name), temporary=login.temporary)
    from pkgs.clients.tsh.ownssh import client, link, settings

    port = str(args.whole("port") or openssh.PORT)
    options = [*args.texts("option"), *company.options(args)[1::2]]
    target = link.Target(user, openssh.host_name(login, name), port)
    return client.run(login, target, settings.of_args(args, options))


def _argv(login: Login, args: Parsed, words: list[str], user: str, name: str) -> list[str]:
    port = str(args.whole("port") or openssh.PORT)
    host = openssh.host_name(login, name)
    words = [*words, *company.options(args)]
    if not openssh.wanted(args):
        own = openssh.own_words(login, "ssh", "--no-openssh", f"--port={port}")
        return [*own, *words, "-l", user, host, "--", *args.command]
    return [
        openssh.program("ssh"),
        *openssh.locked_options(login, port=port),
        *words,
        *openssh.default_options(agent=args.on("forward-agent")),
        "-l",
        user,
        "--",
        host,
        *args.command,
    ]


def _check_many(args: Parsed) -> None:
    """A command for several servers has no terminal and no input, and its ports would be taken twice."""
    if not args.command:
        raise InputError("--log-dir is for a command", hint="write tsh ssh --log-dir=DIR user@host COMMAND")
    for name in ("tty", "no-remote-exec", "fork-after-authentication"):
        if args.on(name):
            raise InputError(f"--{name} is for one server", hint="name one server, and leave out --log-dir")
    for name in ("forward", "remote-forward", "dynamic-forward"):
        if args.texts(name):
            raise InputError(f"--{name} is for one server", hint="name one server, and leave out --log-dir")


def default_login(login: Login, args: Parsed) -> str:
    """The login when none is named: the local user's if the certificate has it, or its only one."""
    local = args.text("login") or os.environ.get("USER", "") or os.environ.get("LOGNAME", "")
    allowed = login.facts.logins()
    if not args.text("login") and local not in allowed and len(allowed) == 1:
        return allowed[0]
    if not local:
        raise InputError("no login is named", hint="write user@host")
    return local


def warn_of_login(login: Login, user: str) -> None:
    """Of a no to come, and OpenSSH will not say why. The server decides all the same, and it is audited."""
    allowed = login.facts.logins()
    if user not in allowed:
        sys.stderr.write(
            f"WARNING: none of your roles lets you be {inert(user)} on a server;"
            f" you have the logins: {', '.join(map(inert, allowed)) or 'none'}\n"
        )


def execute(argv: list[str], *, temporary: bool) -> int:
    """Become the one program; with `temporary` (files that must go afterwards) run it and wait."""
    if not temporary:
        # Nothing of us stays in memory, and the status is the program's own.
        os.execv(argv[0], argv)  # noqa: S606
    import subprocess

    status = subprocess.run(argv, check=False).returncode
    return status if status >= 0 else 128 - status


def _words(args: Parsed) -> list[str]:
    words: list[str] = []
    for name, option in (("forward", "-L"), ("remote-forward", "-R"), ("dynamic-forward", "-D")):
        for value in args.texts(name):
            words += [option, value]
    for name, option in (
        ("forward-agent", "-A"),
        ("no-remote-exec", "-N"),
        ("fork-after-authentication", "-f"),
        ("tty", "-t"),
        ("no-stdin", "-n"),
        ("subsystem", "-s"),
        ("no-tty", "-T"),
        ("quiet", "-q"),
        ("verbose", "-v"),
        ("compression", "-C"),
        ("x11-untrusted", "-X"),
        ("x11-trusted", "-Y"),
        ("no-x11", "-x"),
    ):
        if args.on(name):
            words += [option] * (2 if name == "tty" and name in args.twice else 1)
    if args.on("tty") and args.on("no-tty"):
        raise InputError("--tty and --no-tty exclude each other")
    if args.on("x11-untrusted"):
        words += ["-o", f"ForwardX11Timeout={args.text('x11-untrusted-timeout')}"]
    if args.text("log-file"):
        words += ["-E", args.text("log-file")]
    for option in args.texts("option"):
        name = option.replace("=", " ").split(" ", 1)[0].lower()
        if name not in SAFE_OPTIONS:
            raise InputError(f"-o {option[:60]}: tsh ssh sets or does not pass on this OpenSSH option")
        words += ["-o", option]
    return words
