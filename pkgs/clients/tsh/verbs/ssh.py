"""`tsh ssh`: the system's OpenSSH, told to use this login and nothing else."""

from __future__ import annotations

import os

from pkgs.clients.tsh.connections import openssh
from pkgs.clients.tsh.flags import CLUSTER, RESUME
from pkgs.clients.tsh.login.relogin import current_or_relogin
from pkgs.clients.tsh.profile.login import Login
from pkgs.clients.tsh.sessions import company
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Open a shell on a server, or run a command there. The host is a node's name, its id, an address, or"
    " labels (env=prod) that match one node for a shell, or several for a command. The exit status is the"
    " remote command's.",
    Flag("port", "SSH port on the remote host", short="p", metavar="PORT"),
    Flag("forward-agent", "Forward the local authentication agent", short="A", is_bool=True),
    Flag("forward", "Forward a local port: [bind:]port:host:port", short="L", is_list=True, metavar="SPEC"),
    Flag("remote-forward", "Forward a remote port: [bind:]port:host:port", short="R", is_list=True,
         metavar="SPEC"),
    Flag("dynamic-forward", "Local SOCKS5 proxy: [bind:]port", short="D", is_list=True, metavar="SPEC"),
    Flag("no-remote-exec", "Run nothing on the server, only forward ports", short="N", is_bool=True),
    Flag("fork-after-authentication", "Go to the background once connected", short="f", is_bool=True),
    Flag("tty", "Allocate a terminal for a command", short="t", is_bool=True),
    Flag("option", "An OpenSSH client option, Name=value", short="o", is_list=True, metavar="OPTION"),
    Flag("x11-untrusted", "Untrusted X11 forwarding", short="X", is_bool=True),
    Flag("x11-trusted", "Trusted X11 forwarding", short="Y", is_bool=True),
    *company.FLAGS,
    CLUSTER,
    *RESUME,
    usage="[USER@]HOST [COMMAND...]",
    least=1,
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


def run(args: Parsed) -> int:
    """Replace this process by OpenSSH; with labels for several nodes, run it once for each."""
    login = current_or_relogin(args)
    user, _, host = args.words[0].rpartition("@")
    user = openssh.check_login(user or default_login(login, args))
    words = _words(args)
    if "=" in host or ":" in host or host.replace(".", "").isdigit():
        from pkgs.clients.tsh.servers.targets import node_ids

        hosts = node_ids(login, host, one=not args.command)
    else:
        hosts = [openssh.strip_cluster(login, host)]
    port = str(args.whole("port") or openssh.PORT)
    argvs = [
        [
            openssh.program("ssh"),
            *openssh.locked_options(login, port=port),
            *words,
            *company.options(args),
            *openssh.default_options(agent=args.on("forward-agent")),
            "-l",
            user,
            "--",
            openssh.host_name(login, name),
            *args.command,
        ]
        for name in hosts
    ]
    return execute(argvs, temporary=bool(login.identity_file))


def default_login(login: Login, args: Parsed) -> str:
    """The login when none is named: the local user's if the certificate has it, or its only one."""
    local = args.text("login") or os.environ.get("USER", "") or os.environ.get("LOGNAME", "")
    allowed = login.facts.logins()
    if not args.text("login") and local not in allowed and len(allowed) == 1:
        return allowed[0]
    if not local:
        raise InputError("no login is named", hint="write user@host")
    return local


def execute(argvs: list[list[str]], *, temporary: bool) -> int:
    """Become the one program; or run several in turn and answer with the first status that is not 0."""
    if len(argvs) == 1 and not temporary:
        # Nothing of us stays in memory, and the status is the program's own.
        os.execv(argvs[0][0], argvs[0])  # noqa: S606
    import subprocess

    first = 0
    for argv in argvs:
        status = subprocess.run(argv, check=False).returncode
        first = first or (status if status >= 0 else 128 - status)
    return first


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
        ("x11-untrusted", "-X"),
        ("x11-trusted", "-Y"),
    ):
        if args.on(name):
            words.append(option)
    for option in args.texts("option"):
        name = option.replace("=", " ").split(" ", 1)[0].lower()
        if name not in SAFE_OPTIONS:
            raise InputError(f"-o {option[:60]}: tsh ssh sets or does not pass on this OpenSSH option")
        words += ["-o", option]
    return words
