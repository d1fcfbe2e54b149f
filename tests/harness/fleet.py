"""Many names on few agents: for tools that visit a fleet, where an agent for each name would measure the
machine's memory and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from tests.harness.cluster import BIN, Cluster, Daemon, Person
from tests.harness.wait import wait_for


def start_fleet(cluster: Cluster, agents: int, names_each: int) -> list[str]:
    """Agents that answer to `names_each` public addresses each; all names, as `NAME.<cluster>`."""
    token, pin = cluster.token(), cluster.ca_pin()
    names = []
    for number in range(agents):
        nodename = f"fleet-{number}"
        own = [f"h{number}-{n}" for n in range(names_each)]
        names += [f"{name}.{cluster.name}" for name in own]
        config = cluster.dir / f"{nodename}.yaml"
        document = {
            "version": "v3",
            "teleport": {
                "nodename": nodename,
                "data_dir": str(cluster.dir / nodename),
                "proxy_server": cluster.proxy_addr,
                "auth_token": token,
                "ca_pin": pin,
            },
            # With the cluster's name too: that is what the client looks for in the host's certificate.
            "ssh_service": {
                "enabled": True,
                "public_addr": [f"{name}{end}:3022" for name in own for end in ("", f".{cluster.name}")],
            },
            "auth_service": {"enabled": False},
            "proxy_service": {"enabled": False},
        }
        config.write_text(yaml.safe_dump(document))
        cluster.daemon(nodename, BIN / "teleport-ssh", "-c", config, "--insecure")
    for number in range(agents):
        cluster.wait_node(f"fleet-{number}")
    return names


@contextmanager
def multiplexer(person: Person) -> Iterator[Daemon]:
    """A multiplexer of this person's while the block runs."""
    argv = [str(BIN / "tsh"), "proxy", "ssh-multiplex"]
    made = Daemon("multiplexer", argv, person.home / "multiplexer.log", person.env)
    made.start()
    try:
        wait_for(lambda: answers(person), what="the multiplexer")
        yield made
    finally:
        made.stop()


def answers(person: Person) -> bool:
    """Whether a multiplexer of this person's takes requests."""
    for path in (person.home / ".tsh" / "multiplex").glob("*"):
        if path.is_socket():
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                try:
                    sock.connect(str(path))
                    sock.sendall(b"\0")
                    return bool(sock.recv(1))
                except ConnectionRefusedError:
                    return False
    return False
