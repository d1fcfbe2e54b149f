"""How tctl reaches the Auth Service: the local socket of its host, an identity file, or tsh's login."""

from __future__ import annotations

import errno
import os
import socket

from pkgs.common.errors import InputError, UnavailableError
from pkgs.common.output.argv import Parsed
from pkgs.common.rpc.blocking import BlockingRpcClient

DEFAULT_CONFIG = "/etc/teleport.yaml"
DEFAULT_AUTH_SERVER = "127.0.0.1:3025"
DIAL_DEADLINE_S = 15.0


def connect(args: Parsed) -> BlockingRpcClient:
    """A connection by the first way that applies: --identity, the configuration file, the tsh profile."""
    if args.text("identity"):
        return _by_identity(args)
    path = args.text("config")
    if path or os.access(DEFAULT_CONFIG, os.R_OK):
        client = _by_config(path or DEFAULT_CONFIG)
        if client is not None:
            return client
        if path and not args.text("auth-server"):
            raise InputError(
                f"{path} does not enable the auth_service, so there is no local way in",
                hint="run tctl on the Auth host, or use --auth-server with --identity, or log in with tsh",
            )
    return _by_profile(args)


def is_local(args: Parsed) -> bool:
    """Whether `connect` takes the local socket: whoever comes that way is the administrator, and sees all."""
    from pkgs.common.runtime.config import load_config

    path = args.text("config") or (DEFAULT_CONFIG if os.access(DEFAULT_CONFIG, os.R_OK) else "")
    return bool(path) and not args.text("identity") and load_config(path).auth_service.enabled


def _by_config(path: str) -> BlockingRpcClient | None:
    from pkgs.common.runtime.config import load_config
    from pkgs.common.runtime.paths import auth_socket

    config = load_config(path)
    if not config.auth_service.enabled:
        return None
    place = str(auth_socket(config.data_dir))
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(DIAL_DEADLINE_S)
    try:
        sock.connect(place)
    except OSError as error:
        sock.close()
        raise _unreachable(place, error) from error
    return BlockingRpcClient(sock)


def _unreachable(place: str, error: OSError) -> UnavailableError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return UnavailableError(
            f"{place}: permission denied", hint="run tctl as root or as the user that runs the Auth Service"
        )
    return UnavailableError(
        f"the Auth Service does not answer at {place} ({error.strerror or 'no answer in time'})",
        hint="is it running? start it with 'teleport start -c <config>' or 'teleport-auth -c <config>'",
    )


def _by_identity(args: Parsed) -> BlockingRpcClient:
    from pkgs.clients.tsh.connections.dial import auth_client
    from pkgs.clients.tsh.profile.login import current

    addr = args.text("auth-server").split(",")[0] or DEFAULT_AUTH_SERVER
    args.values["proxy"] = addr
    return _blocking(auth_client(current(args)))


def _by_profile(args: Parsed) -> BlockingRpcClient:
    from pkgs.clients.tsh.connections.dial import auth_client
    from pkgs.clients.tsh.profile.login import current
    from pkgs.common.errors import NotFoundError

    args.values["proxy"] = args.text("auth-server")
    try:
        login = current(args)
    except NotFoundError as error:
        raise NotFoundError(
            "no way to the Auth Service: no configuration file, no identity, no tsh login",
            hint="use -c <teleport.yaml> on the Auth host, or 'tsh login', or --auth-server with --identity",
            detail=error.message,
        ) from error
    return _blocking(auth_client(login))


def _blocking(client: object) -> BlockingRpcClient:
    assert isinstance(client, BlockingRpcClient)
    return client
