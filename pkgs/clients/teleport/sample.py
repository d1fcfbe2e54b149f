"""Configuration files to start from: valid as printed, with comments that say what to change."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the file should say; empty leaves a commented example."""

    version: str = "v3"
    cluster_name: str = ""
    public_addr: str = ""
    data_dir: str = "/var/lib/teleport"
    node_name: str = ""
    node_labels: dict[str, str] = field(default_factory=dict)
    roles: frozenset[str] = frozenset({"auth", "proxy", "node"})
    auth_server: str = ""
    proxy_server: str = ""
    token: str = ""
    ca_pins: tuple[str, ...] = ()
    cert_file: str = ""
    key_file: str = ""


def render(wishes: Wishes) -> str:
    """The file as text."""
    parts = [
        "# Configuration of the services on this host. `teleport configure --test FILE` checks it,",
        "# `teleport start -c FILE` runs it. Durations are written 30s, 5m, 12h.",
        f"version: {wishes.version}",
        "",
        *_instance(wishes),
        "",
        *_auth(wishes),
        "",
        *_proxy(wishes),
        "",
        *_ssh(wishes),
        "",
        "# Diagnostics on a private socket in data_dir: readiness, metrics, log level, profiles.",
        "debug_service:",
        "  enabled: yes",
    ]
    return "\n".join(parts) + "\n"


def _quoted(value: str) -> str:
    """A YAML scalar that stays text whatever it holds."""
    plain = value.replace("-", "").replace(".", "").replace("_", "").replace("/", "")
    if (
        plain.isalnum()
        and plain.isascii()
        and (value[0].isalpha() or value[0] == "/")
        and value.lower() not in _WORDS
    ):
        return value
    inner = "".join(
        char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08x}" for char in value
    )
    return f'"{inner}"'


_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}


def _line(name: str, value: str, example: str, comment: str) -> list[str]:
    shown = f"  {name}: {_quoted(value)}" if value else f"  # {name}: {example}"
    return [f"  # {comment}", shown]


def _instance(wishes: Wishes) -> list[str]:
    lines = [
        "teleport:",
        *_line("nodename", wishes.node_name, "web1", "Name shown to users; the host name if not set."),
        *_line(
            "data_dir", wishes.data_dir, "", "State, identities, sockets, recordings; private to its owner."
        ),
    ]
    if wishes.proxy_server or wishes.auth_server or "auth" not in wishes.roles:
        lines += [
            "  # The cluster: through its proxy, or directly at its Auth Service. Exactly one of the two.",
            f"  proxy_server: {_quoted(wishes.proxy_server)}"
            if wishes.proxy_server or not wishes.auth_server
            else f"  auth_server: {_quoted(wishes.auth_server)}",
            "  # How this host proves at its first start that it may join: a token from `tctl tokens add`,",
            "  # or the absolute path of a file with it. Not used again afterwards.",
            "  join_params:",
            "    method: token",
            f"    token_name: {_quoted(wishes.token)}"
            if wishes.token
            else "    # token_name: /etc/teleport.token",
        ]
        if wishes.ca_pins:
            lines += ["  # Pins of the host authority, from `tctl status`.", "  ca_pin:"]
            lines += [f"    - {_quoted(pin)}" for pin in wishes.ca_pins]
        else:
            lines.append("  # ca_pin: sha256:...")
    return [
        *lines,
        "  log:",
        "    # stderr, stdout or a file; TRACE, DEBUG, INFO, WARN or ERROR; text or json.",
        "    output: stderr",
        "    severity: INFO",
        "    format:",
        "      output: text",
    ]


def _auth(wishes: Wishes) -> list[str]:
    lines = [
        "# Users, roles, certificate authorities, joins, the audit log. One per cluster.",
        "auth_service:",
    ]
    if "auth" not in wishes.roles:
        return [*lines, "  enabled: no"]
    return [
        *lines,
        "  enabled: yes",
        *_line(
            "cluster_name",
            wishes.cluster_name,
            "example.com",
            "Never changes after the first start; made up then if not set.",
        ),
        "  # Agents that dial the Auth Service directly, and nobody else, need to reach this.",
        "  listen_addr: 0.0.0.0:3025",
        "  authentication:",
        "    type: local",
        "    # What a login asks for beside the password: otp, on, optional or off.",
        "    second_factor: otp",
        "  # node: recorded on the host and sent afterwards; node-sync: sent as it happens; off.",
        "  session_recording: node",
    ]


def _proxy(wishes: Wishes) -> list[str]:
    lines = [
        "# The one public port: logins, tunnels of agents, everything users connect to.",
        "proxy_service:",
    ]
    if "proxy" not in wishes.roles:
        return [*lines, "  enabled: no"]
    lines += [
        "  enabled: yes",
        "  web_listen_addr: 0.0.0.0:3080",
        *_line(
            "public_addr",
            wishes.public_addr,
            "teleport.example.com:443",
            "How users reach it; goes into links and certificates.",
        ),
    ]
    if wishes.cert_file and wishes.key_file:
        return [
            *lines,
            "  # Certificate of the public name; read again at SIGHUP.",
            "  https_keypairs:",
            f"    - key_file: {_quoted(wishes.key_file)}",
            f"      cert_file: {_quoted(wishes.cert_file)}",
        ]
    return [
        *lines,
        "  # Certificate of the public name; self-signed by the cluster if not set.",
        "  # https_keypairs:",
        "  #   - key_file: /etc/ssl/private/teleport.key",
        "  #     cert_file: /etc/ssl/certs/teleport.pem",
        "  # A port for `ssh -J` without tsh.",
        "  # listen_addr: 0.0.0.0:3023",
    ]


def _ssh(wishes: Wishes) -> list[str]:
    lines = ["# Recorded sessions on this host.", "ssh_service:"]
    if "node" not in wishes.roles:
        return [*lines, "  enabled: no"]
    lines += ["  enabled: yes", "  # What roles match on."]
    if wishes.node_labels:
        lines += ["  labels:", *(f"    {_quoted(k)}: {_quoted(v)}" for k, v in wishes.node_labels.items())]
    else:
        lines += ["  # labels:", "  #   env: prod"]
    return [
        *lines,
        "  # Labels made by commands.",
        "  # commands:",
        "  #   - name: kernel",
        "  #     command: [uname, -r]",
        "  #     period: 1h",
    ]
