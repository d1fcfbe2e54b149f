"""The `auth_service` section."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from pkgs.common.runtime.config import checks
from pkgs.common.runtime.config.values import Problem, Section, as_list


class Authentication(Section, frozen=True, kw_only=True):
    """How people prove who they are."""

    type: Literal["local"] = "local"
    """`local`: users of this cluster, with a password."""
    local_auth: bool = True
    """False refuses every local login."""
    second_factor: Literal["", "off", "otp", "on", "optional"] = ""
    """What a login is asked for beside the password; empty: `otp`."""
    second_factors: list[Literal["otp"]] = []
    """The newer form of `second_factor`; wins when both are set."""
    connector_name: str = "local"
    """The connector a login uses when the user names none."""
    require_session_mfa: bool = False
    """Ask for a second factor for every session; not built yet, so only `no` is accepted."""
    locking_mode: Literal["best_effort", "strict"] = "best_effort"
    """`strict`: no new session while locks cannot be read freshly."""
    default_session_ttl: str = "12h"
    """How long a login lasts when neither user nor role say otherwise."""

    @property
    def effective_second_factor(self) -> Literal["off", "otp", "on", "optional"]:
        """One word for both spellings."""
        if self.second_factors:
            return "otp"
        return self.second_factor or "otp"


class EncryptRecordings(Section, frozen=True, kw_only=True):
    """Encryption of recordings."""

    enabled: bool = False
    """Whether new recordings are encrypted, so that only the Auth Service can read them."""


class SessionRecordingConfig(Section, frozen=True, kw_only=True):
    """The newer form of `session_recording`."""

    mode: Literal["", "node", "node-sync", "proxy", "proxy-sync", "off"] = ""
    """As `session_recording`; wins when set."""
    proxy_checks_host_keys: bool | None = None
    """As the field of the same name one level up; wins when set."""
    encryption: EncryptRecordings = EncryptRecordings()
    """Encryption of recordings from their first byte."""


class AuthService(Section, frozen=True, kw_only=True):
    """The Auth Service: users, roles, authorities, joins, the audit log."""

    enabled: bool = True
    """Whether this host runs it."""
    listen_addr: str = "0.0.0.0:3025"
    """Where its TLS port listens."""
    public_addr: str | list[str] = []
    """Names and addresses by which others reach it; they go into its certificate."""
    cluster_name: str = ""
    """The cluster's name; generated at first start when empty, and never changed afterwards."""
    tokens: list[str] = []
    """Static join tokens: `role,role:secret`, or `role:/absolute/path/of/a/file`."""
    proxy_protocol: Literal["", "on", "off"] = ""
    """PROXY headers on the listener: `on` demands, `off` refuses; empty: believed from proxies only."""
    session_recording: Literal["node", "node-sync", "proxy", "proxy-sync", "off"] = "node"
    """Who records sessions and when the recording leaves the host."""
    proxy_checks_host_keys: bool = True
    """For recording at the proxy: whether it demands a host certificate."""
    session_recording_config: SessionRecordingConfig = SessionRecordingConfig()
    """The newer form of the two fields above."""
    client_idle_timeout: str = "0s"
    """Ends a session after this long without input; `0s` or `never`: no limit."""
    client_idle_timeout_message: str = ""
    """Shown to the user of an SSH session that ends so."""
    web_idle_timeout: str = "10m"
    """The same for browser sessions."""
    disconnect_expired_cert: bool = False
    """End sessions when the certificate they began with runs out."""
    keep_alive_interval: str = "5m"
    """How often an idle connection is probed."""
    keep_alive_count_max: int = 3
    """How many probes may stay unanswered."""
    session_control_timeout: str = "2m"
    """How long a session lease outlives its last renewal."""
    ssh_dial_timeout: str = "30s"
    """How long the proxy tries to reach a node."""
    routing_strategy: Literal["unambiguous_match", "most_recent"] = "unambiguous_match"
    """What the proxy does when several nodes share a name."""
    case_insensitive_routing: bool = False
    """Whether `Web1` finds `web1`."""
    load_all_cas: bool = False
    """Kept for files that set it; tsh then offers the certificates of all profiles."""
    proxy_listener_mode: Literal["multiplex", "separate"] = "multiplex"
    """One TLS port for all protocols, or a port for each."""
    proxy_ping_interval: str = "30s"
    """How often a wrapped connection through a load balancer is pinged."""
    message_of_the_day: str = ""
    """Must be acknowledged before a login."""
    authentication: Authentication = msgspec.field(default_factory=Authentication)
    """How people prove who they are."""

    @property
    def public_addrs(self) -> tuple[str, ...]:
        """`public_addr` as a tuple."""
        return as_list(self.public_addr)

    @property
    def recording_mode(self) -> Literal["node", "node-sync", "proxy", "proxy-sync", "off"]:
        """One word for both spellings."""
        return self.session_recording_config.mode or self.session_recording

    @property
    def recording_checks_host_keys(self) -> bool:
        """One value for both spellings."""
        newer = self.session_recording_config.proxy_checks_host_keys
        return self.proxy_checks_host_keys if newer is None else newer

    @property
    def recording_encryption(self) -> bool:
        """Whether the file turns the encryption of recordings on."""
        return self.session_recording_config.encryption.enabled

    def problems(self, path: str) -> Iterator[Problem]:
        yield from checks.host_port(f"{path}.listen_addr", self.listen_addr)
        yield from checks.cluster_name(f"{path}.cluster_name", self.cluster_name)
        yield from checks.each(f"{path}.tokens", self.tokens, checks.static_token)
        yield from checks.duration(f"{path}.client_idle_timeout", self.client_idle_timeout, never=True)
        for name in _DURATIONS:
            yield from checks.duration(f"{path}.{name}", getattr(self, name))
        yield from checks.positive(f"{path}.keep_alive_count_max", self.keep_alive_count_max)
        yield from checks.duration(
            f"{path}.authentication.default_session_ttl", self.authentication.default_session_ttl, least_s=60
        )
        if self.authentication.require_session_mfa:
            yield from checks.not_built(
                f"{path}.authentication.require_session_mfa", found="yes", allowed="no"
            )


_DURATIONS = (
    "web_idle_timeout",
    "keep_alive_interval",
    "session_control_timeout",
    "ssh_dial_timeout",
    "proxy_ping_interval",
)
