"""The `teleport` section: what holds for every service of this host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from pkgs.common.runtime.config import checks
from pkgs.common.runtime.config.values import Problem, Section, as_list
from pkgs.common.runtime.logging import LEVELS, parse_level

DEFAULT_DATA_DIR = "/var/lib/teleport"


class LogFormat(Section, frozen=True, kw_only=True):
    """How a log line looks."""

    output: Literal["text", "json"] = "text"
    """`text` for people, `json` for machines; one record per line in both."""
    extra_fields: list[Literal["level", "timestamp", "component", "caller"]] = []
    """Which of the fixed fields a record carries; empty: all."""

    @property
    def shown_fields(self) -> tuple[str, ...]:
        """The fixed fields, spelled out."""
        return tuple(self.extra_fields) or ("level", "timestamp", "component", "caller")


class LogSection(Section, frozen=True, kw_only=True):
    """Where log lines go and which."""

    output: str = "stderr"
    """`stderr`, `stdout` or the absolute path of a file."""
    severity: str = "INFO"
    """The lowest level that is written: TRACE, DEBUG, INFO, WARN or ERROR, in any case."""
    format: LogFormat = LogFormat()
    """Text or JSON, and the fields."""


class JoinParams(Section, frozen=True, kw_only=True):
    """How this host proves at its first start that it may join."""

    method: Literal["token"] = "token"
    """The join method; `token` is a shared secret."""
    token_name: str = ""
    """The token itself, or the absolute path of a file that holds it."""
    token_secret: str = ""
    """The secret part, for methods that separate it from the name."""


class Storage(Section, frozen=True, kw_only=True):
    """Where the Auth Service keeps its state."""

    type: Literal["sqlite", "dir", "tinydb"] = "sqlite"
    """`sqlite` (`dir` means the same) or `tinydb`, a readable file for tiny clusters."""
    path: str = ""
    """The folder of the state; empty: `<data_dir>/backend`."""
    sync: Literal["FULL", "NORMAL", "OFF"] = "FULL"
    """How hard SQLite syncs: `FULL` loses nothing that was acknowledged."""
    journal: Literal["", "WAL", "DELETE"] = ""
    """SQLite's journal mode; empty: WAL."""


class ConnectionLimits(Section, frozen=True, kw_only=True):
    """Bounds on what one peer may hold."""

    max_connections: int = 15000
    """Connections per client address and service."""


class CacheSection(Section, frozen=True, kw_only=True):
    """The local view of the cluster that lets a service decide while the Auth Service is away."""

    enabled: bool = True
    """Turning it off makes every decision wait for the Auth Service."""


class AuthConnection(Section, frozen=True, kw_only=True):
    """How eagerly a lost Auth Service is dialled again."""

    upper_limit_between_retries: str = "90s"
    """The longest pause between two attempts; at least 10s."""
    initial_connection_delay: str = ""
    """The first pause; empty: a tenth of the upper limit."""
    backoff_step_duration: str = ""
    """How much longer each pause gets; empty: a fifth of the upper limit."""


class Instance(Section, frozen=True, kw_only=True):
    """What holds for every service of this host."""

    nodename: str = ""
    """The name shown to users; empty: the host name."""
    data_dir: str = DEFAULT_DATA_DIR
    """State, identities, sockets and recordings live here; 0700."""
    pid_file: str = ""
    """Written at start when set."""
    auth_token: str = ""
    """Short form of `join_params.token_name` with method `token`."""
    join_params: JoinParams = JoinParams()
    """How this host joins; used only at its first start."""
    ca_pin: str | list[str] = []
    """`sha256:<hex>` of a host authority, a list of them, or the absolute path of a file with them."""
    advertise_ip: str = ""
    """The address told to the cluster when it cannot be found out."""
    diag_addr: str = ""
    """`host:port` of a plain HTTP listener with /healthz, /readyz, /livez and /metrics; empty: off."""
    auth_server: str = ""
    """`host:3025` of the Auth Service. One of `auth_server` and `proxy_server`."""
    auth_servers: list[str] = []
    """Versions v1 and v2 only: several addresses of the Auth Service."""
    proxy_server: str = ""
    """`host:443` of a Proxy Service, through which this host joins and is reached."""
    cache: CacheSection = CacheSection()
    """The local view of the cluster."""
    shutdown_delay: str = "0s"
    """A pause between the signal and the shutdown, for load balancers."""
    connection_limits: ConnectionLimits = ConnectionLimits()
    """Bounds on what one peer may hold."""
    auth_connection_config: AuthConnection = AuthConnection()
    """How eagerly a lost Auth Service is dialled again."""
    log: LogSection = LogSection()
    """Log output, level and format."""
    ciphers: list[str] = []
    """SSH ciphers offered; empty: the defaults."""
    kex_algos: list[str] = []
    """SSH key exchanges offered; empty: the defaults."""
    mac_algos: list[str] = []
    """SSH MACs offered; empty: the defaults."""
    ciphersuites: list[str] = []
    """TLS 1.2 suites for the web port; empty: the defaults."""
    storage: Storage = msgspec.field(default_factory=Storage)
    """Where the Auth Service keeps its state."""

    @property
    def ca_pins(self) -> tuple[str, ...]:
        """The pins or the path of a file with pins, as written."""
        return as_list(self.ca_pin)

    def problems(self, path: str) -> Iterator[Problem]:
        if not self.data_dir:
            yield Problem(f"{path}.data_dir", "''", "the path of a folder")
        if self.auth_token and self.join_params.token_name:
            yield Problem(f"{path}.auth_token", "join_params.token_name as well", "one of the two")
        if parse_level(self.log.severity) is None:
            yield Problem(f"{path}.log.severity", repr(self.log.severity), ", ".join(LEVELS))
        if self.log.output not in ("stderr", "stdout") and not self.log.output.startswith("/"):
            yield Problem(f"{path}.log.output", repr(self.log.output), "stderr, stdout or an absolute path")
        yield from checks.pins(f"{path}.ca_pin", self.ca_pins)
        for name in ("diag_addr", "auth_server", "proxy_server"):
            yield from checks.maybe_host_port(f"{path}.{name}", getattr(self, name))
        yield from checks.each(f"{path}.auth_servers", self.auth_servers, checks.host_port)
        yield from checks.duration(f"{path}.shutdown_delay", self.shutdown_delay)
        yield from checks.positive(
            f"{path}.connection_limits.max_connections", self.connection_limits.max_connections
        )
        retry = self.auth_connection_config
        retry_path = f"{path}.auth_connection_config"
        yield from checks.duration(
            f"{retry_path}.upper_limit_between_retries", retry.upper_limit_between_retries, least_s=10
        )
        for name in ("initial_connection_delay", "backoff_step_duration"):
            if value := getattr(retry, name):
                yield from checks.duration(f"{retry_path}.{name}", value)
