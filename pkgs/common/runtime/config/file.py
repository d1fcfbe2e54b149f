"""The whole file: reading it, its versions, and the services of the field it does not offer."""

from __future__ import annotations

import dataclasses
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from pkgs.common.errors import InputError
from pkgs.common.resources.strict import line_of, load_yaml_strict
from pkgs.common.runtime.config import checks
from pkgs.common.runtime.config.auth import AuthService
from pkgs.common.runtime.config.db import DbService
from pkgs.common.runtime.config.instance import Instance
from pkgs.common.runtime.config.proxy import ProxyService
from pkgs.common.runtime.config.ssh import SshService
from pkgs.common.runtime.config.values import Problem, Section
from pkgs.common.runtime.logging import MAX_MESSAGE, inert
from pkgs.common.runtime.services import Service

DEFAULT_CONFIG: Final = "/etc/teleport.yaml"
MAX_CONFIG_BYTES: Final = 1 << 20
MAX_SECRET_FILE_BYTES: Final = 64 << 10

_V1_PROXY_SSH: Final = "0.0.0.0:3023"
_V1_PROXY_TUNNEL: Final = "0.0.0.0:3024"
_V1_PROXY_MYSQL: Final = "0.0.0.0:3036"
_SSH_LISTEN: Final = "0.0.0.0:3022"

WITHOUT_EFFECT: Final = (
    "teleport.join_params.token_secret",
    "teleport.cache.enabled",
    "teleport.kex_algos",
    "teleport.mac_algos",
    "teleport.ciphersuites",
    "auth_service.proxy_protocol",
    "auth_service.web_idle_timeout",
    "auth_service.session_control_timeout",
    "auth_service.ssh_dial_timeout",
    "auth_service.load_all_cas",
    "auth_service.proxy_ping_interval",
    "auth_service.authentication.connector_name",
)
"""Fields of the field's files that this version understands but does nothing with."""


class DebugService(Section, frozen=True, kw_only=True):
    """The diagnostics socket of every process."""

    enabled: bool = True
    """Whether the socket is opened."""


class Unbuilt(msgspec.Struct, kw_only=True, frozen=True):
    """A service of the field that is not part of this version: only `enabled: no` is accepted."""

    enabled: bool = False


class File(Section, frozen=True, kw_only=True):
    """`teleport.yaml` as it is written."""

    version: Literal["v1", "v2", "v3"] = "v1"
    """The file's version. v3 is the one to write."""
    teleport: Instance = msgspec.field(default_factory=Instance)
    """What holds for every service of this host."""
    auth_service: AuthService = msgspec.field(default_factory=AuthService)
    """Users, roles, authorities, joins, the audit log."""
    proxy_service: ProxyService = msgspec.field(default_factory=ProxyService)
    """The one public port."""
    ssh_service: SshService = msgspec.field(default_factory=SshService)
    """Sessions on this host."""
    db_service: DbService = msgspec.field(default_factory=DbService)
    """Databases of this network."""
    debug_service: DebugService = DebugService()
    """The diagnostics socket of every process."""
    app_service: Unbuilt = Unbuilt()
    kubernetes_service: Unbuilt = Unbuilt()
    windows_desktop_service: Unbuilt = Unbuilt()
    discovery_service: Unbuilt = Unbuilt()
    jamf_service: Unbuilt = Unbuilt()
    okta_service: Unbuilt = Unbuilt()
    relay_service: Unbuilt = Unbuilt()
    metrics_service: Unbuilt = Unbuilt()
    tracing_service: Unbuilt = Unbuilt()

    def problems(self, path: str) -> Iterator[Problem]:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, Section):
                yield from value.problems(name)
            elif isinstance(value, Unbuilt) and value.enabled:
                yield from checks.not_built(f"{name}.enabled", found="yes", allowed="no")
        yield from self._server_problems()

    def _server_problems(self) -> Iterator[Problem]:
        instance = self.teleport
        if self.version != "v3":
            for name in ("auth_server", "proxy_server"):
                if getattr(instance, name):
                    yield Problem(
                        f"teleport.{name}", f"version {self.version}", "version: v3, or auth_servers"
                    )
            return
        if instance.auth_servers:
            yield Problem("teleport.auth_servers", "a list", "in version v3 auth_server or proxy_server")
        if instance.auth_server and instance.proxy_server:
            yield Problem("teleport.proxy_server", "auth_server as well", "exactly one of the two")
        joins = self.proxy_service.enabled or self.ssh_service.enabled or self.db_service.enabled
        if joins and not (self.auth_service.enabled or instance.auth_server or instance.proxy_server):
            yield Problem("teleport", "neither auth_server nor proxy_server", "exactly one of the two")


class StaticToken(msgspec.Struct, frozen=True, kw_only=True):
    """A join token written in the configuration."""

    roles: tuple[str, ...]
    secret: str

    def __repr__(self) -> str:
        return f"StaticToken(roles={self.roles!r})"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a process runs with: the file, or the defaults, with the flags laid over it."""

    source: str
    """The file it came from; empty: defaults and flags alone."""
    version: Literal["v1", "v2", "v3"]
    teleport: Instance
    auth_service: AuthService
    proxy_service: ProxyService
    ssh_service: SshService
    db_service: DbService
    debug_service: DebugService
    insecure: bool = False
    """Flag only: do not verify the proxy's web certificate."""
    without_effect: tuple[str, ...] = ()
    """Fields that the file sets and this version does nothing with: worth a warning."""

    @property
    def data_dir(self) -> Path:
        """Absolute."""
        return Path(self.teleport.data_dir).absolute()

    @property
    def nodename(self) -> str:
        """The name shown to users; a name that could not be shown is replaced by an id made from it."""
        name = self.teleport.nodename or socket.gethostname()
        return name if checks.is_node_name(name) else str(uuid.uuid5(uuid.NAMESPACE_DNS, name))

    @property
    def auth_addrs(self) -> tuple[str, ...]:
        """Addresses of the Auth Service, when it is dialled directly."""
        if self.teleport.auth_server:
            return (self.teleport.auth_server,)
        return tuple(self.teleport.auth_servers)

    @property
    def proxy_addr(self) -> str:
        """Address of the proxy to join through; empty: none."""
        return self.teleport.proxy_server

    @property
    def ssh_listen_addr(self) -> str:
        """Where the SSH Service listens if it does."""
        return self.ssh_service.listen_addr or _SSH_LISTEN

    def is_enabled(self, service: Service) -> bool:
        """Whether this configuration runs the service."""
        section: AuthService | ProxyService | SshService | DbService = getattr(self, f"{service}_service")
        return section.enabled

    def token(self) -> str:
        """The join token, read from its file if it is one; empty: none. Never log it."""
        value = self.teleport.auth_token or self.teleport.join_params.token_name
        return _value_or_file(value, "the join token")

    def ca_pins(self) -> tuple[str, ...]:
        """The pins, with files read."""
        found: list[str] = []
        for value in self.teleport.ca_pins:
            text = _value_or_file(value, "the CA pins")
            found += [line.strip() for line in text.split() if line.strip()]
        for problem in checks.pins("teleport.ca_pin", tuple(found)):
            raise InputError(f"{problem.path}: found {problem.found}", hint=f"allowed: {problem.allowed}")
        return tuple(found)

    def static_tokens(self) -> tuple[StaticToken, ...]:
        """The tokens of the Auth Service's section, with files read. Never log them."""
        tokens = []
        for entry in self.auth_service.tokens:
            roles, _, secret = entry.partition(":")
            names = tuple(role.strip().lower() for role in roles.split(","))
            tokens.append(StaticToken(roles=names, secret=_value_or_file(secret.strip(), "a static token")))
        return tuple(tokens)


def load_config(path: str | Path) -> Config:
    """The file as typed values, or an `InputError` of one line."""
    source = str(path)
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
        text = raw.decode()
    except FileNotFoundError:
        raise InputError(
            f"{source}: no such file", hint="`teleport configure` prints one to start from"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise InputError(f"{source}: {reason}") from None
    if len(raw) > MAX_CONFIG_BYTES:
        raise InputError(f"{source}: larger than {MAX_CONFIG_BYTES >> 20} MiB")
    return parse_config(text, source)


def parse_config(text: str, source: str = "<config>") -> Config:
    """As `load_config`, for text already read."""
    try:
        file = load_yaml_strict(text, File, source) if text.strip() else File()
    except InputError as error:
        # A key may hold anything; what is said about it stays one inert line.
        raise InputError(inert(error.message, MAX_MESSAGE), hint=inert(error.hint, MAX_MESSAGE)) from None
    for problem in file.problems(""):
        line = line_of(text, problem.path)
        raise InputError(
            f"{source}:{line}: {problem.path}: found {problem.found}", hint=f"allowed: {problem.allowed}"
        )
    return _from_file(file, source)


def alone(service: Service) -> Config:
    """Defaults for a process started by flags: it knows of no other service on this host."""
    file = File(
        version="v3",
        auth_service=AuthService(enabled=service == "auth"),
        proxy_service=ProxyService(enabled=service == "proxy"),
        ssh_service=SshService(enabled=service == "ssh"),
        db_service=DbService(enabled=service == "db"),
    )
    return _from_file(file, "")


def _from_file(file: File, source: str) -> Config:
    proxy = file.proxy_service
    if file.version == "v1":
        proxy = msgspec.structs.replace(
            proxy,
            listen_addr=proxy.listen_addr or _V1_PROXY_SSH,
            tunnel_listen_addr=proxy.tunnel_listen_addr or _V1_PROXY_TUNNEL,
            mysql_listen_addr=proxy.mysql_listen_addr or _V1_PROXY_MYSQL,
        )
    return Config(
        source=source,
        version=file.version,
        teleport=file.teleport,
        auth_service=file.auth_service,
        proxy_service=proxy,
        ssh_service=file.ssh_service,
        db_service=file.db_service,
        debug_service=file.debug_service,
        without_effect=tuple(path for path in WITHOUT_EFFECT if _is_set(file, path)),
    )


def _is_set(file: File, path: str) -> bool:
    """Whether a field differs from its default."""
    value: object = file
    default: object = File()
    for name in path.split("."):
        value, default = getattr(value, name), getattr(default, name)
    return value != default


def _value_or_file(value: str, what: str) -> str:
    if not value.startswith("/"):
        return value
    try:
        with Path(value).open("rb") as file:
            raw = file.read(MAX_SECRET_FILE_BYTES + 1)
        text = raw.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise InputError(f"{what}: {value}: {reason}") from None
    if not text or len(raw) > MAX_SECRET_FILE_BYTES:
        raise InputError(f"{what}: {value} is empty or too large")
    return text
