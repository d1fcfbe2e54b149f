"""The user's command line: its verbs and where each lives.

Start-up is a feature: nothing here imports a verb, a network or a crypto library; see `output/tool.py`."""

from __future__ import annotations

from pkgs.clients.tsh.flags import COMMON
from pkgs.common.output.tool import Group, Tool, Verb

_VERBS = "pkgs.clients.tsh.verbs."

TOOL = Tool(
    "tsh",
    "Log in to a cluster and reach its servers.",
    COMMON,
    {
        "login": Verb(_VERBS + "login", "Log in to a cluster and get short-lived certificates"),
        "logout": Verb(_VERBS + "logout", "Delete the certificates of a cluster, or of all"),
        "status": Verb(_VERBS + "status", "Show who is logged in where, and until when"),
        "ls": Verb(_VERBS + "ls", "List the servers you may reach"),
        "ssh": Verb(_VERBS + "ssh", "Open a shell or run a command on a server"),
        "join": Verb(_VERBS + "join", "Join somebody's session"),
        "sessions": Group(
            "Live sessions.",
            {
                "ls": Verb(_VERBS + "sessions.ls", "List the sessions you may see or join"),
                "ask-transfer": Verb(
                    _VERBS + "sessions.ask_transfer",
                    "Ask the moderators of your session to let you copy files",
                ),
                "detach": Verb(_VERBS + "sessions.detach", "Leave a session of your own, which goes on"),
                "prove": Verb(_VERBS + "sessions.prove", "Show that you are there, as a moderator"),
            },
            {"list": "ls"},
        ),
        "resolve": Verb(_VERBS + "resolve", "Show the server that a name or labels mean"),
        "scp": Verb(_VERBS + "scp", "Copy files to and from a server"),
        "latency": Group(
            "How long the way to a server is.",
            {"ssh": Verb(_VERBS + "latency.ssh", "Show round trips to the proxy and on to a server")},
        ),
        "bench": Group(
            "Measure a cluster under load.",
            {"ssh": Verb(_VERBS + "bench.ssh", "Log in and run a command at a steady rate")},
            hidden=True,
        ),
        "config": Verb(_VERBS + "config", "Print a configuration for OpenSSH"),
        "proxy": Group(
            "Connect other programs through the proxy.",
            {
                "ssh": Verb(_VERBS + "proxy.ssh", "Connect standard input and output to a server's SSH port"),
                "db": Verb(_VERBS + "proxy.db", "Open a local port for a database"),
                "ssh-multiplex": Verb(_VERBS + "proxy.ssh_multiplex", "Connect many ssh through one process"),
            },
        ),
        "db": Group(
            "Databases.",
            {
                "ls": Verb(_VERBS + "db.ls", "List the databases you may reach"),
                "connect": Verb(_VERBS + "db.connect", "Open a database with its own client"),
                "login": Verb(_VERBS + "db.login", "Get a certificate for a database"),
                "logout": Verb(_VERBS + "db.logout", "Delete certificates for databases"),
                "config": Verb(_VERBS + "db.config", "Print addresses and files for other clients"),
                "env": Verb(_VERBS + "db.env", "Print variables for native clients"),
                "exec": Verb(_VERBS + "db.exec", "Run one statement on several databases"),
            },
            {"list": "ls"},
        ),
        "up": Verb(_VERBS + "up", "Keep the databases of a file open at local ports"),
        "request": Group(
            "Access requests: more roles or single resources, for a while.",
            {
                "create": Verb(_VERBS + "request.create", "Ask for roles or resources, and wait"),
                "ls": Verb(_VERBS + "request.ls", "List your requests and those you may review"),
                "show": Verb(_VERBS + "request.show", "Show a request with its reviews"),
                "review": Verb(_VERBS + "request.review", "Approve or deny somebody's request"),
                "drop": Verb(_VERBS + "request.drop", "Give back what a request gave"),
                "search": Verb(_VERBS + "request.search", "Find what you could ask for"),
            },
            {"list": "ls"},
        ),
        "headless": Group(
            "Logins on other machines.",
            {"approve": Verb(_VERBS + "headless.approve", "Approve a login started with --headless")},
        ),
        "play": Verb(_VERBS + "recordings.play", "Replay a recorded session"),
        "recordings": Group(
            "Recorded sessions.",
            {
                "ls": Verb(_VERBS + "recordings.ls", "List the recordings you may play"),
                "export": Verb(_VERBS + "recordings.export", "Write a recording to a file for other players"),
            },
        ),
        "signup": Verb(_VERBS + "signup", "Accept an invitation or a password reset"),
        "clusters": Verb(_VERBS + "clusters", "List the clusters you are logged in to"),
        "env": Verb(_VERBS + "env", "Print environment variables that select the current cluster"),
        "version": Verb(_VERBS + "version", "Print the version"),
    },
    {"requests": "request"},
)


def main(argv: list[str] | None = None) -> int:
    """Entry point of the `tsh` program."""
    return TOOL.main(argv)


if __name__ == "__main__":
    raise SystemExit(main())
