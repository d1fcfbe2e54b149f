"""`user`: people and machines with roles and traits."""

from datetime import datetime

from pkgs.common.resources.metadata import Base, Spec


class UserStatus(Spec, frozen=True, kw_only=True):
    is_locked: bool = False
    locked_message: str = ""
    lock_expires: datetime | None = None
    locked_time: datetime | None = None
    recovery_attempt_lock_expires: datetime | None = None


class ConnectorRef(Spec, frozen=True, kw_only=True):
    type: str = ""
    id: str = ""
    identity: str = ""


class UserRef(Spec, frozen=True, kw_only=True):
    name: str = ""


class CreatedBy(Spec, frozen=True, kw_only=True):
    """Who made the user; a connector only for users of single sign-on."""

    time: datetime | None = None
    user: UserRef = UserRef()
    connector: ConnectorRef | None = None


class ExternalIdentity(Spec, frozen=True, kw_only=True):
    connector_id: str
    username: str = ""


class UserSpec(Spec, frozen=True, kw_only=True):
    roles: list[str] = []
    traits: dict[str, list[str]] = {}
    status: UserStatus = UserStatus()
    expires: datetime | None = None
    created_by: CreatedBy | None = None
    oidc_identities: list[ExternalIdentity] = []
    saml_identities: list[ExternalIdentity] = []
    github_identities: list[ExternalIdentity] = []


class User(Base, frozen=True, kw_only=True, tag="user"):
    """Password hash and second factors are kept apart and are never part of this."""

    version: str = "v2"
    spec: UserSpec = UserSpec()
