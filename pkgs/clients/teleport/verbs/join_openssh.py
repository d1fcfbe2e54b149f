"""`teleport join openssh`."""

from __future__ import annotations

import sys
from pathlib import Path

from pkgs.clients.teleport.verbs import configure
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pkgs.clients.teleport.openssh.settings import Settings

SPEC = Spec(
    "Make this host's OpenSSH server one of the cluster, without an agent. Again with other flags: change it;"
    " with --renew: renew its certificate and take up new authorities, as the last join said.",
    Flag("proxy-server", "Address of the proxy to join through", metavar="ADDR"),
    Flag("token", "Join token of type node, or the path of a file with it", metavar="TOKEN"),
    configure.JOIN_METHOD,
    Flag("ca-pin", "Pin of the host authority (repeatable)", is_list=True, metavar="PIN"),
    Flag("labels", "Labels of this server", metavar="K=V,..."),
    Flag("address", "How proxies reach sshd; this host's name and sshd's port if not given", metavar="ADDR"),
    Flag("additional-principals", "More names for its host certificate", is_list=True, metavar="NAME"),
    Flag("openssh-config", "Configuration of sshd", default="/etc/ssh/sshd_config", metavar="FILE"),
    configure.DATA_DIR,
    Flag("sshd-check-command", "Judges a configuration, whose path follows", default="sshd -t -f",
         metavar="COMMAND"),
    Flag("sshd-restart-command", "Restarts sshd; systemctl if not given", metavar="COMMAND"),
    Flag("restart-sshd", "Restart sshd (--no-restart-sshd: leave that to you)", is_bool=True, default="true"),
    Flag("insecure", "Do not verify the proxy's web certificate", is_bool=True),
    Flag("renew", "Renew what the last join made", is_bool=True),
)  # fmt: skip
_WITH_RENEW = frozenset({"renew", "data-dir", "debug", "config"})


def run(args: Parsed) -> int:
    """Join or renew, and say what was done."""
    import asyncio
    import logging

    from pkgs.clients.teleport.openssh.settings import load_settings

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    data_dir = Path(args.text("data-dir")).absolute()
    if args.on("renew"):
        if superfluous := sorted(args.given - _WITH_RENEW):
            raise InputError(
                f"--{superfluous[0]} is not for --renew, which does as the last join said",
                hint="without --renew it changes that",
            )
        settings = load_settings(data_dir)
    else:
        settings = _settings(args)
    return asyncio.run(_join(args, data_dir, settings))


def _settings(args: Parsed) -> Settings:
    from pkgs.clients.teleport.openssh.settings import Settings
    from pkgs.common.runtime.flags import parse_labels

    if not args.text("proxy-server"):
        raise InputError(
            "--proxy-server is missing", hint="the proxy's address, for example teleport.example.com:443"
        )
    return Settings(
        proxy_server=args.text("proxy-server"),
        address=args.text("address"),
        labels=parse_labels(args.text("labels")),
        additional_principals=tuple(args.texts("additional-principals")),
        openssh_config=str(Path(args.text("openssh-config")).absolute()),
        check_command=args.text("sshd-check-command"),
        restart=args.on("restart-sshd"),
        restart_command=args.text("sshd-restart-command"),
    )


async def _join(args: Parsed, data_dir: Path, settings: Settings) -> int:
    from pkgs.clients.teleport.openssh.install import Installation, Material
    from pkgs.clients.teleport.openssh.membership import announce, enter
    from pkgs.clients.teleport.openssh.settings import store_settings
    from pkgs.clients.teleport.openssh.sshd import Sshd, restart_command
    from pkgs.common.net.sockets import join_host_port, split_host_port
    from pkgs.common.runtime.clock import SystemClock
    from pkgs.common.runtime.config import config_for
    from pkgs.common.runtime.flags import Flags

    config = config_for(
        "ssh",
        Flags(
            data_dir=str(data_dir),
            proxy_server=settings.proxy_server,
            token=args.text("token"),
            ca_pin=tuple(args.texts("ca-pin")),
            insecure=args.on("insecure"),
        ),
    )
    sshd = Sshd(settings.check_command, restart_command(settings.restart_command, wanted=settings.restart))
    place = Installation(data_dir, Path(settings.openssh_config), sshd)
    found = place.inspect()
    host, port = split_host_port(settings.address, found.port)
    addr = join_host_port(host or config.nodename, port)
    principals = tuple(dict.fromkeys([*([host] if host else []), *settings.additional_principals]))

    with place.alone():
        identity, authorities = await enter(config, principals, SystemClock())
        material = Material(
            private_pem=identity.ssh_private_pem, certificate=identity.ssh_cert, user_authorities=authorities
        )
        # What the cluster refuses must not have changed sshd, nor be tried again by a renewal.
        await announce(config, identity, addr, settings.labels)
        changed = place.install(material)
        store_settings(data_dir, settings)

    print(f"{config.nodename} at {addr} is a server of cluster {identity.cluster_name}, {identity.host_id}")
    if changed and not sshd.restarts:
        print("Now restart sshd: it goes on with its old configuration until then.")
    for warning in _warnings(found.public_keys, found.principals_file):
        sys.stderr.write(f"WARNING: {warning}\n")
    if not args.on("renew"):
        print(
            "Its certificate lasts 30 days. `teleport install systemd --service=openssh` writes a timer that"
        )
        print("renews it.")
    return 0


def _warnings(public_keys: bool, principals_file: str) -> list[str]:
    """What keeps users out though the configuration is valid."""
    found = []
    if not public_keys:
        found.append("sshd has PubkeyAuthentication no: nobody gets in by certificate")
    if principals_file:
        found.append(
            f"sshd has AuthorizedPrincipalsFile {principals_file}: it must name the login of each user"
        )
    return found
