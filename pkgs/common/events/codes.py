"""The kinds of event that services emit: name and stable code together, so that no pair can be mixed up.

Codes are part of the product's interface: once released, one never changes its meaning.
"""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """What happened: `event` is the name, `code` tells success, failure and variant apart."""

    event: str
    code: str


# Users and logins.
USER_LOGIN_OK = Kind("user.login", "T1000I")
USER_LOGIN_FAIL = Kind("user.login", "T1000W")
HEADLESS_REQUESTED = Kind("user.login", "T1012I")
HEADLESS_APPROVED = Kind("user.login", "T1013I")
HEADLESS_FAILED = Kind("user.login", "T1013W")
HEADLESS_REJECTED = Kind("user.login", "T1014W")
USER_CREATE = Kind("user.create", "T1002I")
USER_UPDATE = Kind("user.update", "T1003I")
USER_DELETE = Kind("user.delete", "T1004I")
PASSWORD_CHANGE = Kind("user.password_change", "T1005I")
MFA_ADD = Kind("mfa.add", "T1006I")
MFA_DELETE = Kind("mfa.delete", "T1007I")
MFA_VALIDATE = Kind("mfa_auth_challenge.validate", "T1016I")
MFA_VALIDATE_FAIL = Kind("mfa_auth_challenge.validate", "T1016W")
RESET_TOKEN_CREATE = Kind("reset_password_token.create", "T6000I")
AUTH_FAIL = Kind("auth", "T3007W")
CERT_CREATE = Kind("cert.create", "TC000I")

# Hosts and tokens.
INSTANCE_JOIN = Kind("instance.join", "TJ002I")
INSTANCE_JOIN_FAIL = Kind("instance.join", "TJ002E")
TOKEN_CREATE = Kind("join_token.create", "TJT00I")

# Roles, locks, settings.
ROLE_CREATED = Kind("role.created", "T9000I")
ROLE_DELETED = Kind("role.deleted", "T9001I")
ROLE_UPDATED = Kind("role.updated", "T9002I")
LOCK_CREATED = Kind("lock.created", "TLK00I")
LOCK_DELETED = Kind("lock.deleted", "TLK01I")
AUTH_PREFERENCE_UPDATE = Kind("auth_preference.update", "TCAUTH001I")
NETWORKING_UPDATE = Kind("cluster_networking_config.update", "TCNET002I")
RECORDING_CONFIG_UPDATE = Kind("session_recording_config.update", "TCREC003I")

# Connectors and other clusters.
GITHUB_CREATE = Kind("github.created", "T8000I")
GITHUB_UPDATE = Kind("github.updated", "T80002I")
GITHUB_DELETE = Kind("github.deleted", "T8001I")
OIDC_CREATE = Kind("oidc.created", "T8100I")
OIDC_UPDATE = Kind("oidc.updated", "T8102I")
OIDC_DELETE = Kind("oidc.deleted", "T8101I")
SAML_CREATE = Kind("saml.created", "T8200I")
SAML_UPDATE = Kind("saml.updated", "T8202I")
SAML_DELETE = Kind("saml.deleted", "T8201I")
TRUSTED_CLUSTER_CREATE = Kind("trusted_cluster.create", "T7000I")
TRUSTED_CLUSTER_DELETE = Kind("trusted_cluster.delete", "T7001I")

# What is protected.
APP_CREATE = Kind("app.create", "TAP03I")
APP_UPDATE = Kind("app.update", "TAP04I")
APP_DELETE = Kind("app.delete", "TAP05I")
DB_CREATE = Kind("db.create", "TDB03I")
DB_UPDATE = Kind("db.update", "TDB04I")
DB_DELETE = Kind("db.delete", "TDB05I")
DB_SESSION_START = Kind("db.session.start", "TDB00I")
DB_SESSION_START_FAIL = Kind("db.session.start", "TDB00W")
DB_SESSION_END = Kind("db.session.end", "TDB01I")
DB_SESSION_QUERY = Kind("db.session.query", "TDB02I")
DB_SESSION_QUERY_FAIL = Kind("db.session.query.failed", "TDB02W")
DB_SESSION_MALFORMED = Kind("db.session.malformed_packet", "TDB06I")
DB_SESSION_RESULT = Kind("db.session.result", "TDB10I")
DB_SESSION_USER_CREATE = Kind("db.session.user.create", "TDB08I")
DB_SESSION_USER_CREATE_FAIL = Kind("db.session.user.create", "TDB08W")
DB_SESSION_USER_DEACTIVATE = Kind("db.session.user.deactivate", "TDB09I")
DB_SESSION_USER_DEACTIVATE_FAIL = Kind("db.session.user.deactivate", "TDB09W")
DB_SESSION_PERMISSIONS_UPDATE = Kind("db.session.permissions.update", "TDB07I")
DB_SESSION_DETAILS = {
    kind.event.removeprefix("db.session."): kind
    for kind in (
        Kind("db.session.postgres.statements.parse", "TPG00I"),
        Kind("db.session.postgres.statements.bind", "TPG01I"),
        Kind("db.session.postgres.statements.execute", "TPG02I"),
        Kind("db.session.postgres.statements.close", "TPG03I"),
        Kind("db.session.postgres.function", "TPG04I"),
        Kind("db.session.mysql.statements.prepare", "TMY00I"),
        Kind("db.session.mysql.statements.execute", "TMY01I"),
        Kind("db.session.mysql.statements.send_long_data", "TMY02I"),
        Kind("db.session.mysql.statements.close", "TMY03I"),
        Kind("db.session.mysql.statements.reset", "TMY04I"),
        Kind("db.session.mysql.statements.fetch", "TMY05I"),
        Kind("db.session.mysql.statements.bulk_execute", "TMY06I"),
        Kind("db.session.mysql.init_db", "TMY07I"),
        Kind("db.session.mysql.create_db", "TMY08I"),
        Kind("db.session.mysql.drop_db", "TMY09I"),
        Kind("db.session.mysql.shut_down", "TMY10I"),
        Kind("db.session.mysql.process_kill", "TMY11I"),
        Kind("db.session.mysql.debug", "TMY12I"),
        Kind("db.session.mysql.refresh", "TMY13I"),
    )
}
"""Events of one protocol only, by their name without `db.session.`."""
KUBE_CREATE = Kind("kube.create", "T3010I")
KUBE_UPDATE = Kind("kube.update", "T3011I")
KUBE_DELETE = Kind("kube.delete", "T3012I")
HEALTH_CHECK_CREATE = Kind("health_check_config.create", "THCC001I")
HEALTH_CHECK_UPDATE = Kind("health_check_config.update", "THCC002I")
HEALTH_CHECK_DELETE = Kind("health_check_config.delete", "THCC003I")
DISCOVERY_CREATE = Kind("discovery_config.create", "DC001I")
DISCOVERY_UPDATE = Kind("discovery_config.update", "DC002I")
DISCOVERY_DELETE = Kind("discovery_config.delete", "DC003I")
INTEGRATION_CREATE = Kind("integration.create", "IG001I")
INTEGRATION_UPDATE = Kind("integration.update", "IG002I")
INTEGRATION_DELETE = Kind("integration.delete", "IG003I")
CROWN_JEWEL_CREATE = Kind("access_graph.crown_jewel.create", "CJ001I")
CROWN_JEWEL_UPDATE = Kind("access_graph.crown_jewel.update", "CJ002I")
CROWN_JEWEL_DELETE = Kind("access_graph.crown_jewel.delete", "CJ003I")
STATIC_HOST_USER_CREATE = Kind("static_host_user.create", "SHU001I")
STATIC_HOST_USER_UPDATE = Kind("static_host_user.update", "SHU002I")
STATIC_HOST_USER_DELETE = Kind("static_host_user.delete", "SHU003I")

# Access requests.
ACCESS_REQUEST_CREATE = Kind("access_request.create", "T5000I")
ACCESS_REQUEST_UPDATE = Kind("access_request.update", "T5001I")
ACCESS_REQUEST_REVIEW = Kind("access_request.review", "T5002I")
ACCESS_REQUEST_DELETE = Kind("access_request.delete", "T5003I")
ACCESS_REQUEST_SEARCH = Kind("access_request.search", "T5004I")
ACCESS_REQUEST_EXPIRE = Kind("access_request.expire", "T5005I")

# Lists, rules, machines.
ACCESS_LIST_CREATE = Kind("access_list.create", "TAL001I")
ACCESS_LIST_UPDATE = Kind("access_list.update", "TAL002I")
ACCESS_LIST_DELETE = Kind("access_list.delete", "TAL003I")
ACCESS_LIST_MEMBER_CREATE = Kind("access_list.member.create", "TAL005I")
ACCESS_LIST_MEMBER_UPDATE = Kind("access_list.member.update", "TAL006I")
ACCESS_LIST_MEMBER_DELETE = Kind("access_list.member.delete", "TAL007I")
ACCESS_LIST_REVIEW = Kind("access_list.review", "TAL004I")
ACCESS_LIST_REVIEW_FAIL = Kind("access_list.review", "TAL004E")
ACCESS_LIST_MEMBER_CREATE_FAIL = Kind("access_list.member.create", "TAL005E")
ACCESS_LIST_MEMBER_DELETE_FAIL = Kind("access_list.member.delete", "TAL007E")
ACCESS_LIST_MEMBERS_DELETE_ALL = Kind("access_list.member.delete_all_members", "TAL008I")
INVALID_ACCESS_LIST = Kind("user_login.invalid_access_list", "TAL009W")
LOGIN_RULE_CREATE = Kind("login_rule.create", "TLR00I")
LOGIN_RULE_DELETE = Kind("login_rule.delete", "TLR01I")
BOT_CREATE = Kind("bot.create", "TB001I")
BOT_UPDATE = Kind("bot.update", "TB002I")
BOT_DELETE = Kind("bot.delete", "TB003I")
BOT_JOIN = Kind("bot.join", "TJ001I")
BOT_JOIN_FAIL = Kind("bot.join", "TJ001E")
CERT_GENERATION_MISMATCH = Kind("cert.generation_mismatch", "TCB00W")
DEVICE_CREATE = Kind("device.create", "TV001I")
DEVICE_UPDATE = Kind("device.update", "TV007I")
DEVICE_DELETE = Kind("device.delete", "TV002I")
WORKLOAD_IDENTITY_CREATE = Kind("workload_identity.create", "WID001I")
WORKLOAD_IDENTITY_UPDATE = Kind("workload_identity.update", "WID002I")
WORKLOAD_IDENTITY_DELETE = Kind("workload_identity.delete", "WID003I")
WORKLOAD_REVOCATION_CREATE = Kind("workload_identity_x509_revocation.create", "WID004I")
WORKLOAD_REVOCATION_UPDATE = Kind("workload_identity_x509_revocation.update", "WID005I")
WORKLOAD_REVOCATION_DELETE = Kind("workload_identity_x509_revocation.delete", "WID006I")
WORKLOAD_OVERRIDE_CREATE = Kind("workload_identity_x509_issuer_override.create", "WID007I")
WORKLOAD_OVERRIDE_DELETE = Kind("workload_identity_x509_issuer_override.delete", "WID008I")
SPIFFE_FEDERATION_CREATE = Kind("spiffe.federation.create", "TSPIFFE001I")
SPIFFE_FEDERATION_DELETE = Kind("spiffe.federation.delete", "TSPIFFE002I")

# Updates and other settings.
AUTOUPDATE_CONFIG_CREATE = Kind("auto_update_config.create", "AUC001I")
AUTOUPDATE_CONFIG_UPDATE = Kind("auto_update_config.update", "AUC002I")
AUTOUPDATE_CONFIG_DELETE = Kind("auto_update_config.delete", "AUC003I")
AUTOUPDATE_VERSION_CREATE = Kind("auto_update_version.create", "AUV001I")
AUTOUPDATE_VERSION_UPDATE = Kind("auto_update_version.update", "AUV002I")
AUTOUPDATE_VERSION_DELETE = Kind("auto_update_version.delete", "AUV003I")
VNET_CREATE = Kind("vnet.config.create", "TVNET001I")
VNET_UPDATE = Kind("vnet.config.update", "TVNET002I")
VNET_DELETE = Kind("vnet.config.delete", "TVNET003I")
ACCESS_GRAPH_UPDATE = Kind("access_graph_settings.update", "TCAGC003I")
UPGRADE_WINDOW_UPDATE = Kind("upgradewindowstart.update", "TUW01I")

# Sessions.
RELAYED_TO = "relayed_to"
"""Field of the events of a session whose record a proxy keeps: host id of the agent that it passes it on to,
which tells what only it can see. Not of the field."""
SESSION_START = Kind("session.start", "T2000I")
SESSION_JOIN = Kind("session.join", "T2001I")
SESSION_RESIZE = Kind("resize", "T2002I")
SESSION_LEAVE = Kind("session.leave", "T2003I")
SESSION_END = Kind("session.end", "T2004I")
SESSION_UPLOAD = Kind("session.upload", "T2005I")
SESSION_DATA = Kind("session.data", "T2006I")
SESSION_CONNECT = Kind("session.connect", "T2010I")
SESSION_RECORDING_ACCESS = Kind("session.recording.access", "T2012I")
SESSION_RECORDING_DELETE = Kind("session.recording.delete", "T2090I")
"""Not of the field: a recording was deleted, by somebody or by the cluster's retention."""
SESSION_TERMINATE = Kind("session.terminate", "T2020I")
SESSION_REJECTED = Kind("session.rejected", "T1006W")
CLIENT_DISCONNECT = Kind("client.disconnect", "T3006I")
EXEC = Kind("exec", "T3002I")
EXEC_FAIL = Kind("exec", "T3002E")
SUBSYSTEM = Kind("subsystem", "T3001I")
SUBSYSTEM_FAIL = Kind("subsystem", "T3001E")
PORT_START = Kind("port", "T3003I")
PORT_STOP = Kind("port", "T3003S")
PORT_FAIL = Kind("port", "T3003E")
X11_FORWARD = Kind("x11-forward", "T3008I")
X11_FORWARD_FAIL = Kind("x11-forward", "T3008W")
AGENT_FORWARD = Kind("agent-forward", "T3013I")
AGENT_FORWARD_FAIL = Kind("agent-forward", "T3013W")

# Files.
SCP_DOWNLOAD = Kind("scp", "T3004I")
SCP_DOWNLOAD_FAIL = Kind("scp", "T3004E")
SCP_UPLOAD = Kind("scp", "T3005I")
SCP_UPLOAD_FAIL = Kind("scp", "T3005E")
SCP_DISALLOWED = Kind("scp", "T3010E")
SFTP_OPEN = Kind("sftp", "TS001I")
SFTP_OPEN_FAIL = Kind("sftp", "TS001E")
SFTP_SETSTAT = Kind("sftp", "TS007I")
SFTP_SETSTAT_FAIL = Kind("sftp", "TS007E")
SFTP_OPENDIR = Kind("sftp", "TS009I")
SFTP_OPENDIR_FAIL = Kind("sftp", "TS009E")
SFTP_READDIR = Kind("sftp", "TS010I")
SFTP_READDIR_FAIL = Kind("sftp", "TS010E")
SFTP_REMOVE = Kind("sftp", "TS011I")
SFTP_REMOVE_FAIL = Kind("sftp", "TS011E")
SFTP_MKDIR = Kind("sftp", "TS012I")
SFTP_MKDIR_FAIL = Kind("sftp", "TS012E")
SFTP_RMDIR = Kind("sftp", "TS013I")
SFTP_RMDIR_FAIL = Kind("sftp", "TS013E")
SFTP_RENAME = Kind("sftp", "TS016I")
SFTP_RENAME_FAIL = Kind("sftp", "TS016E")
SFTP_SYMLINK = Kind("sftp", "TS018I")
SFTP_SYMLINK_FAIL = Kind("sftp", "TS018E")
SFTP_LINK = Kind("sftp", "TS019I")
SFTP_LINK_FAIL = Kind("sftp", "TS019E")
SFTP_DISALLOWED = Kind("sftp", "TS020E")
COPY_ASKED = Kind("session.file_transfer", "TFT001I")
COPY_APPROVED = Kind("session.file_transfer", "TFT002I")
COPY_DENIED = Kind("session.file_transfer", "TFT003W")
SFTP_SUMMARY = Kind("sftp_summary", "TS021I")

UNKNOWN = Kind("unknown", "TCC00E")

# The `action` number that an `sftp` event carries, and the kinds that go with it.
_SFTP: dict[str, tuple[int, Kind, Kind]] = {
    "open": (1, SFTP_OPEN, SFTP_OPEN_FAIL),
    "setstat": (7, SFTP_SETSTAT, SFTP_SETSTAT_FAIL),
    "opendir": (9, SFTP_OPENDIR, SFTP_OPENDIR_FAIL),
    "readdir": (10, SFTP_READDIR, SFTP_READDIR_FAIL),
    "remove": (11, SFTP_REMOVE, SFTP_REMOVE_FAIL),
    "mkdir": (12, SFTP_MKDIR, SFTP_MKDIR_FAIL),
    "rmdir": (13, SFTP_RMDIR, SFTP_RMDIR_FAIL),
    "rename": (16, SFTP_RENAME, SFTP_RENAME_FAIL),
    "symlink": (18, SFTP_SYMLINK, SFTP_SYMLINK_FAIL),
    "link": (19, SFTP_LINK, SFTP_LINK_FAIL),
}


def sftp_kind(action: str, *, ok: bool) -> tuple[Kind, int]:
    """The kind and the `action` number of an SFTP operation; one we do not know counts as disallowed."""
    found = _SFTP.get(action)
    if found is None:
        return SFTP_DISALLOWED, 0
    number, good, bad = found
    return (good if ok else bad), number


ALL_KINDS: frozenset[Kind] = frozenset(
    value for value in list(globals().values()) if isinstance(value, Kind)
) | frozenset(DB_SESSION_DETAILS.values())
