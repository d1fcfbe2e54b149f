"""Servers and their presence: `node`, `proxy`, `auth_server`, `server_info`."""

from typing import Literal

from pkgs.common.resources.kinds.authority import Rotation
from pkgs.common.resources.metadata import Base, Spec


class CommandLabel(Spec, frozen=True, kw_only=True):
    """A label whose value is what a command prints."""

    command: list[str]
    period: str = "1m0s"
    result: str = ""


class AwsInstance(Spec, frozen=True, kw_only=True):
    account_id: str = ""
    instance_id: str = ""
    region: str = ""
    vpc_id: str = ""
    subnet_id: str = ""
    integration: str = ""


class CloudMetadata(Spec, frozen=True, kw_only=True):
    aws: AwsInstance | None = None


class ServerSpec(Spec, frozen=True, kw_only=True):
    hostname: str
    addr: str = ""
    """`host:port` to dial directly; empty for an agent reached through a tunnel."""
    public_addrs: list[str] = []
    cmd_labels: dict[str, CommandLabel] = {}
    use_tunnel: bool = False
    proxy_ids: list[str] = []
    """Host ids of the proxies this agent holds tunnels to."""
    version: str = ""
    peer_addr: str = ""
    rotation: Rotation | None = None
    cloud_metadata: CloudMetadata | None = None


OPENSSH = "openssh"
"""Sub-kind of a server that runs OpenSSH and no agent: proxies end its users' SSH. It stays until deleted."""


class Node(Base, frozen=True, kw_only=True, tag="node"):
    """An SSH server; `metadata.name` is the host id. Presence with a TTL, kept by heartbeats."""

    version: str = "v2"
    spec: ServerSpec


class Proxy(Base, frozen=True, kw_only=True, tag="proxy"):
    version: str = "v2"
    spec: ServerSpec


class AuthServer(Base, frozen=True, kw_only=True, tag="auth_server"):
    version: str = "v2"
    spec: ServerSpec


class ServerInfoSpec(Spec, frozen=True, kw_only=True):
    new_labels: dict[str, str] = {}
    """Labels added to the server that the name points at."""


class ServerInfo(Base, frozen=True, kw_only=True, tag="server_info"):
    sub_kind: Literal["", "cloud_info"] = ""
    version: str = "v1"
    spec: ServerInfoSpec = ServerInfoSpec()
