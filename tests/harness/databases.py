"""Database Services of a test's cluster: the certificate of a server, the file of an agent, its start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.harness.cluster import BIN, Cluster
from tests.harness.wait import wait_for


def certificate(cluster: Cluster, format: str, hosts: str = "127.0.0.1") -> dict[str, str]:
    """What `tctl auth sign` makes for a server, by the names that the servers of tests have for it."""
    out = cluster.dir / f"{format}-cert"
    cluster.tctl("auth", "sign", f"--format={format}", f"--host={hosts}", f"--out={out}").ok()
    names = {"server.pem": ".crt", "server.key": ".key", "ca.pem": ".cas"}
    return {file: out.with_name(out.name + ending).read_text() for file, ending in names.items()}


def write_config(cluster: Cluster, *databases: dict[str, Any], **service: Any) -> Path:
    """The file of an agent that joins through the proxy; `service` is more of its `db_service`."""
    document = {
        "version": "v3",
        "teleport": {
            "nodename": "dbhost",
            "data_dir": str(cluster.dir / "db"),
            "proxy_server": cluster.proxy_addr,
            "auth_token": cluster.token("db"),
            "ca_pin": [cluster.ca_pin()],
        },
        **{f"{name}_service": {"enabled": False} for name in ("auth", "proxy", "ssh")},
        "db_service": {"enabled": True, "databases": list(databases), **service},
    }
    config = cluster.dir / "db.yaml"
    config.write_text(yaml.safe_dump(document))
    return config


def serve(cluster: Cluster, config: Path, *names: str) -> None:
    """Start the agent, and wait until the cluster lists these databases and no other."""
    cluster.daemon("db", BIN / "teleport-db", "-c", config)

    def listed() -> bool:
        assert cluster.daemons["db"].alive(), cluster.log("db")
        return {server["metadata"]["name"] for server in cluster.get("db_server")} == set(names)

    wait_for(listed, what=f"the databases to be listed; {cluster.log('db')}", every_s=0.3, deadline_s=40)
