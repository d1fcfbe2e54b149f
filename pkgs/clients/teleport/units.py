"""Units for systemd: one per service, each allowed as little as its job needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pkgs.common.runtime.services import Service

_HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108
"""What `ProtectHome` and `PrivateTmp` take away."""

_TITLES: Final[dict[Service, str]] = {
    "auth": "Teleport Auth Service: users, certificate authorities, audit log",
    "proxy": "Teleport Proxy Service: the one public port",
    "ssh": "Teleport SSH Service: recorded sessions on this host",
    "db": "Teleport Database Service: databases of this network",
}

_AFTER: Final[dict[Service, str]] = {
    "auth": "network-online.target",
    "proxy": "network-online.target teleport-auth.service",
    "ssh": "network-online.target teleport-auth.service teleport-proxy.service",
    "db": "network-online.target teleport-auth.service teleport-proxy.service",
}

_CONFINED: Final = """\
# Runs as root, so that the services of a host can share one private data dir, but without any of
# root's powers{powers}. It sees the file system read-only except for its data dir.
CapabilityBoundingSet={capabilities}
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={data_dir}
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
# SQLite asks for it on its own files; without the capability it changes nothing else.
SystemCallFilter=@chown
SystemCallErrorNumber=EPERM
"""

_SESSIONS: Final = """\
# This one needs the powers of root: a session runs as the login that the user asked for, so the
# service changes to any user, opens terminals, and starts that user's shell. Sessions inherit what
# is set here, and people expect a whole system in their shell (sudo included): that is why there is
# no NoNewPrivileges, no ProtectSystem, no ProtectHome and no system call filter. What no session
# needs is taken away. Without root the service works too, but serves only its own user.
ProtectClock=yes
ProtectKernelModules=yes
RestrictRealtime=yes
LockPersonality=yes
KeyringMode=private
SystemCallArchitectures=native
"""

_LEFT_ALONE: Final = """\
# What sessions have left running in the background outlives a restart of the service.
KillMode=process
"""

_DIVIDED: Final = """\
# The configuration bounds each connection (ssh_service.session_memory, session_processes): the service may
# divide its control group for that. systemd can start a service again only in a group that is empty, so
# what sessions have left running in the background ends with the service.
Delegate=memory pids
KillMode=mixed
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSettings:
    """What differs between hosts."""

    program_dir: Path
    config: Path
    data_dir: Path
    env_file: Path
    fd_limit: int
    bounds_sessions: bool = False
    """Whether the SSH Service gives each connection a control group."""


def openssh_units(settings: UnitSettings) -> dict[str, str]:
    """By file name: what renews the certificate of a server that has joined without an agent."""
    program = _escaped(settings.program_dir / "teleport")
    return {
        "teleport-openssh.service": f"""\
# Written by `teleport install systemd`. Local changes belong into a drop-in (systemctl edit).
[Unit]
Description=Teleport: renew what this host's OpenSSH server shows and trusts
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
EnvironmentFile=-{_escaped(settings.env_file)}
ExecStart={program} join openssh --renew --data-dir={_escaped(settings.data_dir)}
TimeoutStartSec=300
LimitCORE=0
UMask=0077
# Runs as root: it writes sshd's configuration, has sshd judge it, and restarts it.
ProtectHome=yes
PrivateTmp=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictRealtime=yes
LockPersonality=yes
""",
        "teleport-openssh.timer": """\
# Written by `teleport install systemd`. Local changes belong into a drop-in (systemctl edit).
[Unit]
Description=Teleport: renew what this host's OpenSSH server shows and trusts, daily

[Timer]
OnCalendar=daily
RandomizedDelaySec=4h
Persistent=true

[Install]
WantedBy=timers.target
""",
    }


def file_name(service: Service) -> str:
    """The unit's name."""
    return f"teleport-{service}.service"


def render(service: Service, settings: UnitSettings) -> str:
    """The unit of one service."""
    program = settings.program_dir / f"teleport-{service}"
    return f"""\
# Written by `teleport install systemd`. Local changes belong into a drop-in (systemctl edit).
[Unit]
Description={_TITLES[service]}
Wants=network-online.target
After={_AFTER[service]}
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
EnvironmentFile=-{_escaped(settings.env_file)}
ExecStart={_escaped(program)} -c {_escaped(settings.config)}
# Takes up changed certificates and files; sessions and tunnels stay.
ExecReload=/bin/kill -HUP $MAINPID
# SIGTERM drains first.
TimeoutStopSec=60
TimeoutStartSec=infinity
Restart=always
RestartSec=5
WatchdogSec=60
LimitNOFILE={settings.fd_limit}
LimitCORE=0
UMask=0077
{_limits(service, settings)}
[Install]
WantedBy=multi-user.target
"""


def _limits(service: Service, settings: UnitSettings) -> str:
    if service == "ssh":
        return _SESSIONS + (_DIVIDED if settings.bounds_sessions else _LEFT_ALONE)
    low_ports = service == "proxy"
    return _CONFINED.format(
        data_dir=_escaped(settings.data_dir),
        capabilities="CAP_NET_BIND_SERVICE" if low_ports else "",
        powers=" but ports below 1024" if low_ports else "",
    )


def hidden_among(paths: Iterable[Path]) -> list[Path]:
    """Those of the paths that the limits of every unit but that of `ssh` hide from its service."""
    places = dict.fromkeys(place for path in paths for place in (path.absolute(), path.resolve()))
    return [path for path in places if any(path.is_relative_to(folder) for folder in _HIDDEN)]


def _escaped(path: Path) -> str:
    """A path as one word of a unit file, where % and $ and blanks have a meaning."""
    text = str(path).replace("%", "%%").replace("$", "$$")
    if any(char in text for char in " \t\"'\\;"):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text
