"""`teleport start`."""

from __future__ import annotations

from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Run every service that the configuration enables, each as a process of its own. A service that dies is"
    " started again; SIGTERM ends them in order; SIGHUP makes them reload.",
    Flag(
        "roles",
        "Only these of the enabled services: auth, proxy, node, db",
        short="r",
        metavar="ROLE,...",
    ),
    Flag("log-format", "How log lines look", default="", choices=("", "text", "json"), metavar="FORMAT"),
    Flag("insecure", "Do not verify the proxy's web certificate", is_bool=True),
    Flag("no-debug-service", "Do not open the debug sockets", is_bool=True),
)

_ROLES = {"auth": "auth", "proxy": "proxy", "node": "ssh", "ssh": "ssh", "db": "db"}


def run(args: Parsed) -> int:
    """Supervise until a signal comes."""
    import asyncio

    from pkgs.clients.teleport.programs import service_command
    from pkgs.clients.teleport.supervisor import supervise
    from pkgs.common.runtime.config import load_config
    from pkgs.common.runtime.logging import set_up
    from pkgs.common.runtime.services import SERVICES

    path = args.text("config")
    config = load_config(path)
    wanted = _wanted(args.text("roles"))
    services = [name for name in SERVICES if config.is_enabled(name) and (not wanted or name in wanted)]
    if not services:
        raise InputError(f"{path}: no service to run", hint="enable one, see 'teleport configure'")
    log = config.teleport.log
    style = args.text("log-format") or log.format.output
    set_up(
        "DEBUG" if args.on("debug") else log.severity,
        output=log.output,
        style="json" if style == "json" else "text",
        fields=log.format.shown_fields,
    )
    commands = [(name, [*service_command(name), "-c", path, *_flags(args, name)]) for name in services]
    return asyncio.run(supervise(commands))


def _wanted(text: str) -> set[str]:
    roles = [role.strip().lower() for role in text.split(",") if role.strip()]
    for role in roles:
        if role not in _ROLES:
            raise InputError(f"--roles: {role[:40]!r} is not one of auth, proxy, node, db")
    return {_ROLES[role] for role in roles}


def _flags(args: Parsed, service: str) -> list[str]:
    flags = ["--debug"] if args.on("debug") else []
    if args.on("insecure") and service != "auth":
        flags.append("--insecure")
    if args.on("no-debug-service"):
        flags.append("--no-debug-service")
    if style := args.text("log-format"):
        flags.append(f"--log-format={style}")
    return flags
