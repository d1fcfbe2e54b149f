"""Kinds of which a cluster has one: its name, and how it authenticates, connects, records and looks."""

from typing import Literal

import msgspec

from pkgs.common.resources.metadata import Base, Spec


class ClusterNameSpec(Spec, frozen=True, kw_only=True):
    cluster_name: str
    cluster_id: str = ""


class ClusterName(Base, frozen=True, kw_only=True, tag="cluster_name"):
    version: str = "v2"
    spec: ClusterNameSpec


class Webauthn(Spec, frozen=True, kw_only=True):
    rp_id: str = ""
    attestation_allowed_cas: list[str] = []
    attestation_denied_cas: list[str] = []


class DeviceTrust(Spec, frozen=True, kw_only=True):
    mode: Literal["", "off", "optional", "required"] = ""
    auto_enroll: bool = False
    ekcert_allowed_cas: list[str] = []


class Switch(Spec, frozen=True, kw_only=True):
    enabled: bool = True


class Idp(Spec, frozen=True, kw_only=True):
    saml: Switch = Switch()


class StableUnixUsers(Spec, frozen=True, kw_only=True):
    enabled: bool = False
    first_uid: int = 90000
    last_uid: int = 95000


class AuthPreferenceSpec(Spec, frozen=True, kw_only=True):
    type: Literal["local", "oidc", "saml", "github"] = "local"
    second_factor: Literal["off", "otp", "on", "optional", "webauthn"] = "otp"
    second_factors: list[Literal["otp", "webauthn", "sso"]] = []
    """Replaces `second_factor` where it is given."""
    connector_name: str = ""
    webauthn: Webauthn | None = None
    local_auth: bool = msgspec.field(default=True, name="allow_local_auth")
    allow_passwordless: bool | None = None
    """None: as `webauthn` is set."""
    allow_headless: bool | None = None
    locking_mode: Literal["strict", "best_effort"] = "best_effort"
    default_session_ttl: str = "12h0m0s"
    disconnect_expired_cert: bool = False
    require_session_mfa: bool | str = False
    message_of_the_day: str = ""
    device_trust: DeviceTrust | None = None
    idp: Idp = Idp()
    signature_algorithm_suite: Literal["", "legacy", "balanced-v1", "fips-v1", "hsm-v1"] = ""
    stable_unix_user_config: StableUnixUsers | None = None


class AuthPreference(Base, frozen=True, kw_only=True, tag="cluster_auth_preference"):
    version: str = "v2"
    spec: AuthPreferenceSpec = AuthPreferenceSpec()


class ProxyPeering(Spec, frozen=True, kw_only=True):
    agent_connection_count: int = 1


class AgentMesh(Spec, frozen=True, kw_only=True):
    """Every agent holds a tunnel to every proxy."""


class TunnelStrategy(Spec, frozen=True, kw_only=True):
    type: Literal["", "agent_mesh", "proxy_peering"] = ""
    agent_mesh: AgentMesh | None = None
    proxy_peering: ProxyPeering | None = None


class NetworkingSpec(Spec, frozen=True, kw_only=True):
    client_idle_timeout: str = "0s"
    client_idle_timeout_message: str = msgspec.field(default="", name="idle_timeout_message")
    web_idle_timeout: str = "0s"
    keep_alive_interval: str = "5m0s"
    keep_alive_count_max: int = 3
    session_control_timeout: str = "2m0s"
    proxy_listener_mode: Literal["multiplex", "separate"] = "multiplex"
    routing_strategy: Literal["unambiguous_match", "most_recent"] = "unambiguous_match"
    tunnel_strategy: TunnelStrategy = TunnelStrategy()
    proxy_ping_interval: str = "30s"
    case_insensitive_routing: bool = False
    ssh_dial_timeout: str = "30s"


class NetworkingConfig(Base, frozen=True, kw_only=True, tag="cluster_networking_config"):
    version: str = "v2"
    spec: NetworkingSpec = NetworkingSpec()


class KeyLabel(Spec, frozen=True, kw_only=True):
    type: str
    label: str


class ManualKeys(Spec, frozen=True, kw_only=True):
    enabled: bool = False
    active_keys: list[KeyLabel] = []
    rotated_keys: list[KeyLabel] = []


class RecordingEncryption(Spec, frozen=True, kw_only=True):
    enabled: bool = False
    manual_key_management: ManualKeys | None = None


PROXY_MODES = frozenset({"proxy", "proxy-sync"})
"""Recording modes in which proxies end their users' SSH and record."""


class RecordingSpec(Spec, frozen=True, kw_only=True):
    mode: Literal["node", "node-sync", "proxy", "proxy-sync", "off"] = "node"
    proxy_checks_host_keys: bool = True
    encryption: RecordingEncryption | None = None
    retention: str = ""
    """Recordings older than this (`2160h`, `90d`) are deleted; empty: none is. Not of the field."""


class EncryptionKey(Spec, frozen=True, kw_only=True):
    """A key that recordings are encrypted for."""

    public_key: str
    """Of age: `age1...`."""


class RecordingStatus(Spec, frozen=True, kw_only=True):
    """Written by the Auth Service alone."""

    encryption_keys: list[EncryptionKey] = []


class RecordingConfig(Base, frozen=True, kw_only=True, tag="session_recording_config"):
    version: str = "v2"
    spec: RecordingSpec = RecordingSpec()
    status: RecordingStatus = RecordingStatus()

    @property
    def recipients(self) -> tuple[str, ...] | None:
        """The public keys that a new recording is encrypted for; None: it is not encrypted."""
        if self.spec.encryption is None or not self.spec.encryption.enabled:
            return None
        return tuple(key.public_key for key in self.status.encryption_keys)


class RecordingKey(Spec, frozen=True, kw_only=True):
    """A key pair of the cluster for its recordings."""

    public_key: str
    """Of age: `age1...`."""
    private_key: str = ""
    """Of age: `AGE-SECRET-KEY-1...`; only with secrets."""
    state: Literal["active", "next", "rotated"]
    """`active`: recordings are encrypted for it. `next`: for it too, while it is being rotated in.
    `rotated`: only older recordings are."""
    created: str = ""


class RecordingKeysSpec(Spec, frozen=True, kw_only=True):
    keys: list[RecordingKey] = []


class RecordingKeys(Base, frozen=True, kw_only=True, tag="recording_encryption"):
    """The keys behind `session_recording_config`'s `status.encryption_keys`."""

    version: str = "v1"
    spec: RecordingKeysSpec = RecordingKeysSpec()


class UiConfigSpec(Spec, frozen=True, kw_only=True):
    scrollback_lines: int = 0
    show_resources: Literal["", "requestable", "accessible_only"] = ""


class UiConfig(Base, frozen=True, kw_only=True, tag="ui_config"):
    version: str = "v1"
    spec: UiConfigSpec = UiConfigSpec()


class DnsZone(Spec, frozen=True, kw_only=True):
    suffix: str


class VnetConfigSpec(Spec, frozen=True, kw_only=True):
    ipv4_cidr_range: str = "100.64.0.0/10"
    custom_dns_zones: list[DnsZone] = []


class VnetConfig(Base, frozen=True, kw_only=True, tag="vnet_config"):
    version: str = "v1"
    spec: VnetConfigSpec = VnetConfigSpec()


class AccessGraphSettingsSpec(Spec, frozen=True, kw_only=True):
    secrets_scan_config: Literal["", "disabled", "enabled"] = ""


class AccessGraphSettings(Base, frozen=True, kw_only=True, tag="access_graph_settings"):
    version: str = "v1"
    spec: AccessGraphSettingsSpec = AccessGraphSettingsSpec()
