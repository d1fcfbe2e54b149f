"""Flags laid over the file, or over the defaults when there is no file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pkgs.common.errors import InputError
from pkgs.common.runtime.config import checks
from pkgs.common.runtime.config.file import DEFAULT_CONFIG, Config, DebugService, alone, load_config
from pkgs.common.runtime.config.instance import Instance, JoinParams
from pkgs.common.runtime.config.values import Problem
from pkgs.common.runtime.flags import Flags, parse_labels
from pkgs.common.runtime.services import Service


def config_for(service: Service, flags: Flags) -> Config:
    """What the process of one service runs with; an `InputError` names the file's line or the flag."""
    path = flags.config or (DEFAULT_CONFIG if not flags.data_dir and Path(DEFAULT_CONFIG).exists() else "")
    if path:
        config = load_config(path)
        if not config.is_enabled(service):
            raise InputError(f"{path}: {service}_service.enabled: found no", hint="allowed: yes")
    else:
        config = alone(service)
    for problem in _problems(flags, config, service):
        raise InputError(f"{problem.path}: found {problem.found}", hint=f"allowed: {problem.allowed}")
    return _lay_over(flags, config, service)


def _lay_over(flags: Flags, config: Config, service: Service) -> Config:
    auth, proxy, ssh = config.auth_service, config.proxy_service, config.ssh_service
    if service == "auth" and flags.listen:
        auth = msgspec.structs.replace(auth, listen_addr=flags.listen)
    elif service == "proxy" and flags.listen:
        proxy = msgspec.structs.replace(proxy, web_listen_addr=flags.listen)
    elif service == "ssh":
        labels = {**ssh.labels, **parse_labels(flags.labels)}
        ssh = msgspec.structs.replace(ssh, labels=labels, listen_addr=flags.listen or ssh.listen_addr)
    return dataclasses.replace(
        config,
        teleport=_instance(flags, config.teleport),
        auth_service=auth,
        proxy_service=proxy,
        ssh_service=ssh,
        debug_service=DebugService(enabled=False) if flags.no_debug_service else config.debug_service,
        insecure=flags.insecure,
    )


def _instance(flags: Flags, instance: Instance) -> Instance:
    changes: dict[str, object] = {}
    for name in ("data_dir", "nodename", "pid_file", "diag_addr"):
        if value := getattr(flags, name):
            changes[name] = value
    if flags.token:
        token = str(Path(flags.token).absolute()) if flags.token.startswith("./") else flags.token
        changes |= {"auth_token": "", "join_params": JoinParams(token_name=token)}
    if flags.ca_pin:
        changes["ca_pin"] = list(flags.ca_pin)
    if flags.auth_server or flags.proxy_server:
        changes |= {"auth_server": flags.auth_server, "proxy_server": flags.proxy_server, "auth_servers": []}
    log = instance.log
    if flags.debug:
        log = msgspec.structs.replace(log, severity="DEBUG")
    if flags.log_format:
        log = msgspec.structs.replace(
            log, format=msgspec.structs.replace(log.format, output=flags.log_format)
        )
    return msgspec.structs.replace(instance, log=log, **changes)


def _problems(flags: Flags, config: Config, service: Service) -> Iterator[Problem]:
    yield from checks.pins("--ca-pin", flags.ca_pin)
    for name in ("auth_server", "proxy_server", "listen", "diag_addr"):
        yield from checks.maybe_host_port(f"--{name.replace('_', '-')}", getattr(flags, name))
    if flags.auth_server and flags.proxy_server:
        yield Problem("--proxy-server", "--auth-server as well", "exactly one of the two")
    named = flags.auth_server or flags.proxy_server or config.auth_addrs or config.proxy_addr
    if service != "auth" and not named and not config.auth_service.enabled:
        yield Problem("the command line", "no address of the cluster", "--proxy-server or --auth-server")
