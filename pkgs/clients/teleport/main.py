"""The umbrella program of a host: its verbs and where each lives."""

from __future__ import annotations

from pkgs.common.output.argv import Flag
from pkgs.common.output.tool import Group, Tool, Verb

_VERBS = "pkgs.clients.teleport.verbs."
_DEBUG = "pkgs.clients.teleport.verbs.debug_"

CONFIG_FLAG = Flag(
    "config",
    "Configuration file",
    short="c",
    default="/etc/teleport.yaml",
    env="TELEPORT_CONFIG_FILE",
    metavar="FILE",
)

TOOL = Tool(
    "teleport",
    "Run and look after the services of this host.",
    (CONFIG_FLAG, Flag("debug", "Log at level DEBUG, show details of errors", short="d", is_bool=True)),
    {
        "start": Verb(_VERBS + "start", "Run every service that the configuration enables"),
        "configure": Verb(_VERBS + "configure", "Print a configuration to start from, or check one"),
        "node": Group(
            "Agents.",
            {"configure": Verb(_VERBS + "node_configure", "Print the configuration of an agent")},
        ),
        "join": Group(
            "Join a cluster without an agent.",
            {"openssh": Verb(_VERBS + "join_openssh", "Make this host's OpenSSH server one of the cluster")},
        ),
        "status": Verb(_VERBS + "status", "Show the services of this host and the current session"),
        "debug": Group(
            "Ask the running services of this host.",
            {
                "get-log-level": Verb(_DEBUG + "get_log_level", "Print the level that is logged now"),
                "set-log-level": Verb(_DEBUG + "set_log_level", "Change the level, at once"),
                "profile": Verb(_DEBUG + "profile", "Write profiles as a gzipped tar to standard output"),
                "readyz": Verb(_DEBUG + "readyz", "Tell whether the services are ready"),
                "metrics": Verb(_DEBUG + "metrics", "Print the metrics in the Prometheus format"),
            },
        ),
        "install": Group(
            "Make this host run the services.",
            {"systemd": Verb(_VERBS + "install_systemd", "Write units for systemd")},
        ),
        "version": Verb(_VERBS + "version", "Print the version"),
    },
)


def main(argv: list[str] | None = None) -> int:
    """Entry point of the `teleport` program."""
    return TOOL.main(argv)


if __name__ == "__main__":
    raise SystemExit(main())
