"""What names may look like, checked before anything is looked up with them."""

from __future__ import annotations

import ipaddress
import re

MAX_LOGIN_LENGTH = 32
MAX_USER_NAME_BYTES = 64
"""X.509 gives a common name 64 bytes."""
MAX_CLUSTER_NAME_LENGTH = 253

_LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_DNS_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS_NAME = re.compile(rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*", re.ASCII)
_PRINTABLE = re.compile(r"[^\x00-\x20\x7f-\xa0\u2028\u2029\ufeff\u200b-\u200f\u202a-\u202e\u2066-\u2069]+")


RESOURCE_NAME = re.compile(r"[^\x00-\x1f\x7f/\\]+")

SYSTEM_ROLES = ("Auth", "Proxy", "Node", "Db", "App", "Kube", "WindowsDesktop", "Discovery", "Bot", "MDM")
"""What hosts are; no role of people has such a name."""
TOKEN_ROLES = (*SYSTEM_ROLES, "Trusted_Cluster")
"""What a join token may be for."""


REMOTE_USER_PREFIX = "remote-"
"""Begins the names of users of other clusters, `remote-<user>-<cluster>`; no local user has such a name."""
MAX_EXTENSION_BYTES = 1024
"""Value of a custom extension of an SSH certificate."""
_EXTENSION = re.compile(r"[!-~]{1,100}", re.ASCII)
_OUR_EXTENSIONS = frozenset(
    {
        *("mfa-verified", "prev-identity-expires", "login-ip", "impersonator", "disallow-reissue"),
        *("renewable", "generation", "private-key-policy"),
        *("force-command", "source-address", "verify-required"),
    }
)
_OUR_PREFIXES = ("permit-", "no-", "teleport-", "x-teleport-")
_OUR_DOMAINS = ("@goteleport.com", "@openssh.com")


def valid_extension_name(name: str) -> bool:
    """Whether a role may give an SSH extension this name: none that OpenSSH or the platform itself reads,
    in whatever letter case, now or in newer versions."""
    lowered = name.lower()
    return (
        _EXTENSION.fullmatch(name) is not None
        and lowered not in _OUR_EXTENSIONS
        and not lowered.startswith(_OUR_PREFIXES)
        and not lowered.endswith(_OUR_DOMAINS)
    )


def valid_extension_value(value: str) -> bool:
    return bool(value) and value.isprintable() and len(value.encode()) <= MAX_EXTENSION_BYTES


def valid_login(login: str) -> bool:
    """Whether `login` may name an OS user: ASCII, not numeric, no option, no path (attack A17)."""
    return (
        0 < len(login) <= MAX_LOGIN_LENGTH
        and _LOGIN.fullmatch(login) is not None
        and not login.rstrip("$").isdigit()
        and ".." not in login
    )


def valid_user_name(name: str) -> bool:
    """Whether `name` may name a user of the platform: printable, no spaces, slashes or template braces."""
    return (
        0 < len(name.encode()) <= MAX_USER_NAME_BYTES
        and _PRINTABLE.fullmatch(name) is not None
        and not any(c in name for c in "/\\,:;\"'`<>|&$*?{}()[]%#^~")
        and name not in {".", ".."}
        and not name.startswith("-")
    )


def valid_host_id(host_id: str) -> bool:
    """Whether `host_id` is a UUID in its canonical lower-case form."""
    return _UUID.fullmatch(host_id) is not None


def valid_cluster_name(name: str) -> bool:
    """Whether `name` has the syntax of a DNS name."""
    return 0 < len(name) <= MAX_CLUSTER_NAME_LENGTH and _DNS_NAME.fullmatch(name) is not None


def valid_host_name(name: str) -> bool:
    """Whether `name` may stand as a principal of a host: a DNS name or an IP address."""
    return 0 < len(name) <= 253 and (_DNS_NAME.fullmatch(name) is not None or _valid_ip(name))


def _valid_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return "%" not in name
