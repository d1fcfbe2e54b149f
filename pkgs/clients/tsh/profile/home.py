"""`~/.tsh`: profiles and keys on disk, in the layout that users and other tools know.

Read on every start, so it uses plain descriptors and no YAML library: a profile is one `key: value` a
line. Written by `login` only (`store`)."""

from __future__ import annotations

import os
import re

from pkgs.common.errors import InputError, NotFoundError

MAX_FILE_BYTES = 4 * 1024 * 1024
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:-]*\Z")
_KEY = re.compile(r"[a-z_]+\Z")
_NAME = re.compile(r"[^\x00-\x1f/\\]+\Z")


class Profile:
    """Where a login went, and who logged in."""

    __slots__ = ("cluster", "mysql_proxy_addr", "name", "ssh_proxy_addr", "user", "web_proxy_addr")

    def __init__(
        self,
        name: str,
        web_proxy_addr: str,
        user: str,
        cluster: str,
        ssh_proxy_addr: str = "",
        mysql_proxy_addr: str = "",
    ) -> None:
        self.name = name
        self.web_proxy_addr = web_proxy_addr
        self.user = user
        self.cluster = cluster
        self.ssh_proxy_addr = ssh_proxy_addr
        self.mysql_proxy_addr = mysql_proxy_addr


class Paths:
    """Where the files of one login are."""

    __slots__ = ("cas", "keys", "known_hosts", "ssh_cert", "ssh_key", "ssh_public", "tls_cert", "tls_key")

    def __init__(self, home: str, profile: Profile) -> None:
        self.keys = f"{home}/keys/{profile.name}"
        base = f"{self.keys}/{profile.user}"
        self.ssh_key = base
        self.ssh_public = base + ".pub"
        self.tls_key = base + ".key"
        self.tls_cert = base + ".crt"
        self.ssh_cert = f"{base}-ssh/{profile.cluster}-cert.pub"
        self.cas = f"{self.keys}/cas/{profile.cluster}.pem"
        self.known_hosts = f"{home}/known_hosts"


def home_dir() -> str:
    """`TELEPORT_HOME`, else `~/.tsh`."""
    given = os.environ.get("TELEPORT_HOME", "")
    if given:
        return given if given.startswith("/") else f"{os.getcwd()}/{given}"  # noqa: PTH109
    # No look-up in the user database: $HOME is what a shell's tilde means too.
    home = os.environ.get("HOME", "")
    if not home:
        raise InputError("there is no home folder", hint="set HOME or TELEPORT_HOME")
    return f"{home}/.tsh"


def profile_name(proxy_addr: str) -> str:
    """The host part of an address: a profile's name and its file's."""
    host = proxy_addr.rpartition(":")[0].strip("[]") or proxy_addr
    if not _HOST.match(host) or ".." in host:
        raise InputError(f"{proxy_addr[:80]!r} is no proxy address", hint="write host:port")
    return host


def read_text(path: str) -> str:
    """A whole small file; FileNotFoundError when there is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = bytearray()
        while chunk := os.read(descriptor, 65536):
            data += chunk
            if len(data) > MAX_FILE_BYTES:
                raise InputError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    finally:
        os.close(descriptor)
    return data.decode(errors="surrogateescape")


def current_name(home: str) -> str:
    """Name of the active profile; empty when there is none."""
    try:
        return read_text(f"{home}/current-profile").strip()
    except FileNotFoundError:
        return ""


def profile_names(home: str) -> list[str]:
    """Names of all stored profiles: regular files ending in `.yaml`, no symbolic links."""
    try:
        with os.scandir(home) as entries:
            return sorted(
                entry.name[:-5]
                for entry in entries
                if entry.name.endswith(".yaml") and entry.is_file(follow_symlinks=False)
            )
    except FileNotFoundError:
        return []


def load(home: str, name: str) -> Profile:
    """The stored profile; NotFoundError when there is none."""
    if not _HOST.match(name) or ".." in name:
        raise InputError(f"{name[:80]!r} is no profile name")
    path = f"{home}/{name}.yaml"
    try:
        fields = _fields(read_text(path), path)
    except FileNotFoundError:
        raise NotFoundError(f"not logged in to {name}", hint=f"run 'tsh login --proxy={name}'") from None
    user, addr = fields.get("user", ""), fields.get("web_proxy_addr", "")
    cluster = fields.get("cluster", "") or name
    if not user or not addr or not _NAME.match(user) or not _NAME.match(cluster) or user.startswith("."):
        raise InputError(f"{path} lacks a valid user or web_proxy_addr", hint="run 'tsh login' again")
    ssh, mysql = fields.get("ssh_proxy_addr", ""), fields.get("mysql_proxy_addr", "")
    return Profile(name, addr, user, cluster, ssh, mysql)


def render(profile: Profile) -> str:
    """The profile file's text."""
    fields: dict[str, str | bool] = {
        "web_proxy_addr": profile.web_proxy_addr,
        "ssh_proxy_addr": profile.ssh_proxy_addr,
        "mysql_proxy_addr": profile.mysql_proxy_addr,
        "user": profile.user,
        "cluster": profile.cluster,
        "tls_routing_enabled": True,
        "auth_connector": "local",
    }
    import json

    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items())


def _fields(text: str, path: str) -> dict[str, str]:
    """Top-level scalars. Anything but `key: value` lines is somebody's hand: ask the YAML library."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        key, colon, value = line.partition(":")
        value = value.strip()
        if (
            not colon
            or not _KEY.match(key)
            or value[:1] in ("|", ">", "[", "{", "&", "*", "!")
            or " #" in value
        ):
            return _fields_by_yaml(text, path)
        quote = value[:1] if value[:1] in ("'", '"') else ""
        if "\\" in value or (quote and (value[-1] != quote or len(value) < 2 or quote in value[1:-1])):
            # Escapes, quotes within quotes.
            return _fields_by_yaml(text, path)
        fields[key] = value[1:-1] if quote else value
    return fields


def _fields_by_yaml(text: str, path: str) -> dict[str, str]:
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        document = None
    if not isinstance(document, dict):
        raise InputError(f"{path} is no valid profile", hint="run 'tsh login' again")
    return {str(key): str(value) for key, value in document.items() if isinstance(value, str | int | bool)}
