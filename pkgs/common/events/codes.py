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
USER_CREATE = Kind("user.create", "T1002I")
USER_UPDATE = Kind("user.update", "T1003I")
USER_DELETE = Kind("user.delete", "T1004I")
PASSWORD_CHANGE = Kind("user.password_change", "T1005I")
MFA_ADD = Kind("mfa.add", "T1006I")
MFA_DELETE = Kind("mfa.delete", "T1007I")
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

# Sessions.
SESSION_START = Kind("session.start", "T2000I")
SESSION_JOIN = Kind("session.join", "T2001I")
SESSION_RESIZE = Kind("resize", "T2002I")
SESSION_LEAVE = Kind("session.leave", "T2003I")
SESSION_END = Kind("session.end", "T2004I")
SESSION_UPLOAD = Kind("session.upload", "T2005I")
SESSION_DATA = Kind("session.data", "T2006I")
SESSION_CONNECT = Kind("session.connect", "T2010I")
SESSION_RECORDING_ACCESS = Kind("session.recording.access", "T2012I")
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


ALL_KINDS: frozenset[Kind] = frozenset(value for value in list(globals().values()) if isinstance(value, Kind))
