"""Machines with an identity: `device`, `bot` and its instances, and workload identities."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from pkgs.common.resources.metadata import Base, Spec
from pkgs.common.resources.role import LabelValues


class DeviceCredential(Spec, frozen=True, kw_only=True):
    id: str = ""
    public_key_der: str = ""


class CollectedData(Spec, frozen=True, kw_only=True):
    os_type: str = ""
    serial_number: str = ""
    collect_time: datetime | None = None
    record_time: datetime | None = None
    model_identifier: str = ""
    os_version: str = ""
    os_build: str = ""
    os_username: str = ""


class DeviceSpec(Spec, frozen=True, kw_only=True):
    asset_tag: str
    os_type: Literal["macos", "windows", "linux"]
    enroll_status: Literal["", "enrolled", "not_enrolled"] = "not_enrolled"
    credential: DeviceCredential | None = None
    collected_data: list[CollectedData] = []
    create_time: datetime | None = None
    update_time: datetime | None = None
    owner: str = ""


class Device(Base, frozen=True, kw_only=True, tag="device"):
    """`metadata.name` is a UUID."""

    version: str = "v1"
    spec: DeviceSpec


class BotSpec(Spec, frozen=True, kw_only=True):
    roles: list[str] = []
    """Roles it may take on."""
    traits: list[LabelValues] = []
    max_session_ttl: str = "12h0m0s"


class BotStatus(Spec, frozen=True, kw_only=True):
    user_name: str = ""
    role_name: str = ""


class Bot(Base, frozen=True, kw_only=True, tag="bot"):
    version: str = "v1"
    spec: BotSpec = BotSpec()
    status: BotStatus | None = None


class BotInstanceSpec(Spec, frozen=True, kw_only=True):
    bot_name: str
    instance_id: str


class BotAuthentication(Spec, frozen=True, kw_only=True):
    """One time that the instance proved itself: its join, or a renewal."""

    authenticated_at: datetime
    join_method: str = "token"
    join_token: str = ""
    """Masked where the name is the secret."""
    generation: int
    public_key: str
    """SHA-256 of the keys that were certified, in hex."""
    remote_addr: str = ""


class BotHeartbeatRecord(Spec, frozen=True, kw_only=True):
    """What an instance told of itself."""

    recorded_at: datetime
    hostname: str = ""
    version: str = ""
    one_shot: bool = False
    uptime: str = ""


class BotInstanceStatus(Spec, frozen=True, kw_only=True):
    initial_authentication: BotAuthentication | None = None
    latest_authentications: list[BotAuthentication] = []
    """Oldest first."""
    initial_heartbeat: BotHeartbeatRecord | None = None
    latest_heartbeats: list[BotHeartbeatRecord] = []


class BotInstance(Base, frozen=True, kw_only=True, tag="bot_instance"):
    """One joined copy of a bot. `metadata.name` is its UUID, `sub_kind` its bot."""

    version: str = "v1"
    spec: BotInstanceSpec
    status: BotInstanceStatus = BotInstanceStatus()


class DnsNames(Spec, frozen=True, kw_only=True):
    common_name: str = ""
    organization: str = ""
    organizational_unit: str = ""


class SvidX509(Spec, frozen=True, kw_only=True):
    dns_sans: list[str] = []
    maximum_ttl: str = "24h0m0s"
    subject_template: DnsNames | None = None


class SvidJwt(Spec, frozen=True, kw_only=True):
    maximum_ttl: str = "24h0m0s"
    extra_claims: dict[str, Any] = {}


class Spiffe(Spec, frozen=True, kw_only=True):
    id: str
    """Path template."""
    hint: str = ""
    x509: SvidX509 = SvidX509()
    jwt: SvidJwt = SvidJwt()


class ConditionValue(Spec, frozen=True, kw_only=True):
    value: str


class ConditionValues(Spec, frozen=True, kw_only=True):
    values: list[str]


class Condition(Spec, frozen=True, kw_only=True):
    attribute: str
    eq: ConditionValue | None = None
    not_eq: ConditionValue | None = None
    in_: ConditionValues | None = msgspec.field(default=None, name="in")
    not_in: ConditionValues | None = None


class WorkloadRule(Spec, frozen=True, kw_only=True):
    conditions: list[Condition] = []
    expression: str = ""


class WorkloadRules(Spec, frozen=True, kw_only=True):
    allow: list[WorkloadRule] = []


class WorkloadIdentitySpec(Spec, frozen=True, kw_only=True):
    spiffe: Spiffe
    rules: WorkloadRules = WorkloadRules()


class WorkloadIdentity(Base, frozen=True, kw_only=True, tag="workload_identity"):
    version: str = "v1"
    spec: WorkloadIdentitySpec


class RevocationSpec(Spec, frozen=True, kw_only=True):
    reason: str = ""
    revoked_at: datetime | None = None


class WorkloadIdentityRevocation(Base, frozen=True, kw_only=True, tag="workload_identity_x509_revocation"):
    """`metadata.name` is the serial number in hex."""

    version: str = "v1"
    spec: RevocationSpec = RevocationSpec()


class IssuerOverride(Spec, frozen=True, kw_only=True):
    issuer: str
    chain: list[str] = []


class IssuerOverrideSpec(Spec, frozen=True, kw_only=True):
    overrides: list[IssuerOverride]


class WorkloadIdentityIssuerOverride(
    Base, frozen=True, kw_only=True, tag="workload_identity_x509_issuer_override"
):
    version: str = "v1"
    spec: IssuerOverrideSpec


class HttpsWeb(Spec, frozen=True, kw_only=True):
    bundle_endpoint_url: str


class StaticBundle(Spec, frozen=True, kw_only=True):
    bundle: str


class BundleSource(Spec, frozen=True, kw_only=True):
    https_web: HttpsWeb | None = None
    static: StaticBundle | None = None


class SpiffeFederationSpec(Spec, frozen=True, kw_only=True):
    bundle_source: BundleSource


class SpiffeFederation(Base, frozen=True, kw_only=True, tag="spiffe_federation"):
    """`metadata.name` is the trust domain."""

    version: str = "v1"
    spec: SpiffeFederationSpec
