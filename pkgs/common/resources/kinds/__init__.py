"""Every kind of resource that a cluster stores, a file per family, and the union `Resource` of them all.

The families evaluate their annotations at once (no `from __future__ import annotations`): the codec resolves
written-out ones by `eval`, field by field, and that was most of the start of a command line.
"""

from pkgs.common.resources.kinds.authority import (
    CaKeySet,
    CaType,
    CertAuthority,
    CertAuthoritySpec,
    JwtKeyPair,
    Rotation,
    SshKeyPair,
    TlsKeyPair,
)
from pkgs.common.resources.kinds.clusters import RemoteCluster, TrustedCluster
from pkgs.common.resources.kinds.connectors import Github, Oidc, Saml
from pkgs.common.resources.kinds.discovery import CrownJewel, DbObjectImportRule, DiscoveryConfig, Integration
from pkgs.common.resources.kinds.infrastructure import (
    App,
    Database,
    DatabaseMatcher,
    DatabaseServer,
    DatabaseServerSpec,
    DatabaseService,
    DatabaseServiceSpec,
    DatabaseSpec,
    DynamicWindowsDesktop,
    HealthCheckConfig,
    KubeCluster,
    TargetHealth,
    WindowsDesktop,
)
from pkgs.common.resources.kinds.machines import (
    Bot,
    BotInstance,
    Device,
    SpiffeFederation,
    WorkloadIdentity,
    WorkloadIdentityIssuerOverride,
    WorkloadIdentityRevocation,
)
from pkgs.common.resources.kinds.requests import (
    AccessList,
    AccessListMember,
    AccessMonitoringRule,
    AccessRequest,
    Lock,
    LockSpec,
    LockTarget,
    LoginRule,
)
from pkgs.common.resources.kinds.servers import AuthServer, CommandLabel, Node, Proxy, ServerInfo, ServerSpec
from pkgs.common.resources.kinds.settings import (
    AccessGraphSettings,
    AuthPreference,
    AuthPreferenceSpec,
    ClusterName,
    ClusterNameSpec,
    EncryptionKey,
    NetworkingConfig,
    NetworkingSpec,
    RecordingConfig,
    RecordingEncryption,
    RecordingKey,
    RecordingKeys,
    RecordingKeysSpec,
    RecordingSpec,
    RecordingStatus,
    UiConfig,
    VnetConfig,
)
from pkgs.common.resources.kinds.tokens import Token, TokenSpec
from pkgs.common.resources.kinds.upkeep import (
    AutoupdateAgentRollout,
    AutoupdateConfig,
    AutoupdateVersion,
    Installer,
    MaintenanceConfig,
    StaticHostUser,
)
from pkgs.common.resources.kinds.users import User, UserSpec, UserStatus
from pkgs.common.resources.role import Role

Resource = (
    Role
    | CertAuthority
    | TrustedCluster
    | RemoteCluster
    | Github
    | Oidc
    | Saml
    | DiscoveryConfig
    | Integration
    | DbObjectImportRule
    | CrownJewel
    | App
    | Database
    | DatabaseServer
    | DatabaseService
    | KubeCluster
    | DynamicWindowsDesktop
    | WindowsDesktop
    | HealthCheckConfig
    | Device
    | Bot
    | BotInstance
    | WorkloadIdentity
    | WorkloadIdentityRevocation
    | WorkloadIdentityIssuerOverride
    | SpiffeFederation
    | Lock
    | AccessRequest
    | AccessList
    | AccessListMember
    | LoginRule
    | AccessMonitoringRule
    | Node
    | Proxy
    | AuthServer
    | ServerInfo
    | ClusterName
    | AuthPreference
    | NetworkingConfig
    | RecordingConfig
    | RecordingKeys
    | UiConfig
    | VnetConfig
    | AccessGraphSettings
    | Token
    | MaintenanceConfig
    | AutoupdateConfig
    | AutoupdateVersion
    | AutoupdateAgentRollout
    | Installer
    | StaticHostUser
    | User
)

__all__ = [
    "AccessGraphSettings",
    "AccessList",
    "AccessListMember",
    "AccessMonitoringRule",
    "AccessRequest",
    "App",
    "AuthPreference",
    "AuthPreferenceSpec",
    "AuthServer",
    "AutoupdateAgentRollout",
    "AutoupdateConfig",
    "AutoupdateVersion",
    "Bot",
    "BotInstance",
    "CaKeySet",
    "CaType",
    "CertAuthority",
    "CertAuthoritySpec",
    "ClusterName",
    "ClusterNameSpec",
    "CommandLabel",
    "CrownJewel",
    "Database",
    "DatabaseMatcher",
    "DatabaseServer",
    "DatabaseServerSpec",
    "DatabaseService",
    "DatabaseServiceSpec",
    "DatabaseSpec",
    "DbObjectImportRule",
    "Device",
    "DiscoveryConfig",
    "DynamicWindowsDesktop",
    "EncryptionKey",
    "Github",
    "HealthCheckConfig",
    "Installer",
    "Integration",
    "JwtKeyPair",
    "KubeCluster",
    "Lock",
    "LockSpec",
    "LockTarget",
    "LoginRule",
    "MaintenanceConfig",
    "NetworkingConfig",
    "NetworkingSpec",
    "Node",
    "Oidc",
    "Proxy",
    "RecordingConfig",
    "RecordingEncryption",
    "RecordingKey",
    "RecordingKeys",
    "RecordingKeysSpec",
    "RecordingSpec",
    "RecordingStatus",
    "RemoteCluster",
    "Resource",
    "Role",
    "Rotation",
    "Saml",
    "ServerInfo",
    "ServerSpec",
    "SpiffeFederation",
    "SshKeyPair",
    "StaticHostUser",
    "TargetHealth",
    "TlsKeyPair",
    "Token",
    "TokenSpec",
    "TrustedCluster",
    "UiConfig",
    "User",
    "UserSpec",
    "UserStatus",
    "VnetConfig",
    "WindowsDesktop",
    "WorkloadIdentity",
    "WorkloadIdentityIssuerOverride",
    "WorkloadIdentityRevocation",
]
