"""Where things live in a data dir. One place, because several services of a host share the folder."""

from __future__ import annotations

from pathlib import Path

AUTH_SOCKET = "auth.sock"
DEBUG_SOCKET = "debug.sock"


def host_uuid_file(data_dir: Path) -> Path:
    """The host's id, made once."""
    return data_dir / "host_uuid"


def auth_socket(data_dir: Path) -> Path:
    """The administrator's way into the Auth Service of this host."""
    return data_dir / AUTH_SOCKET


def debug_socket(data_dir: Path, service: str) -> Path:
    """The debug service of one process."""
    return data_dir / f"debug-{service}.sock"


def debug_socket_alone(data_dir: Path) -> Path:
    """The well-known name: a link to the debug socket of the first process of this data dir."""
    return data_dir / DEBUG_SOCKET


def backend_dir(data_dir: Path) -> Path:
    """State of the Auth Service."""
    return data_dir / "backend"


def recordings_dir(data_dir: Path) -> Path:
    """Recordings stored by the Auth Service."""
    return data_dir / "recordings"


def identity_dir(data_dir: Path, role: str) -> Path:
    """Keys and certificates of one role of this host."""
    return data_dir / "proc" / role.lower()


def spool_dir(data_dir: Path, service: str) -> Path:
    """Audit events not yet delivered by one service."""
    return data_dir / "spool" / f"events-{service}"


def upload_dir(data_dir: Path, service: str = "ssh") -> Path:
    """Recordings of an agent, until they are uploaded. One process's own: what it finds there at its start
    was left by an earlier one."""
    return data_dir / "log" / ("upload" if service == "ssh" else f"upload-{service}")


def host_users_dir(data_dir: Path) -> Path:
    """Notes of the accounts that the SSH Service has made or changed for those who are logged in now."""
    return data_dir / "host-users"


def database_users_dir(data_dir: Path) -> Path:
    """Notes of the database users that the Database Service has active."""
    return data_dir / "db-users"


def open_sessions_dir(data_dir: Path, service: str = "ssh") -> Path:
    """Which sessions an agent has open, for its next start should it be killed; one process's own."""
    return data_dir / "log" / ("open" if service == "ssh" else f"open-{service}")
