"""`teleport join openssh` on a host with a stock sshd: joined, reached through the proxy, renewed, undone."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.cluster import BIN, OS_USER, Cluster, Person, Run, run
from tests.harness.sshd import Sshd
from tests.harness.wait import wait_for

pytestmark = pytest.mark.needs("sshd", "ssh", "ssh-keyscan")
NAME = socket.gethostname()


@dataclass
class Box:
    """A host of its own, as far as files go."""

    cluster: Cluster
    sshd: Sshd
    data_dir: Path
    original: str = ""
    """sshd's configuration before all this."""

    def join(self, *flags: str) -> Run:
        return run(BIN / "teleport", "join", "openssh", f"--data-dir={self.data_dir}", *flags)

    def first(self, **flags: str) -> Run:
        """As an administrator joins it; flags with `_` for `-`."""
        given = {
            "proxy_server": self.cluster.proxy_addr,
            "ca_pin": self.cluster.ca_pin(),
            "address": self.sshd.addr,
            "openssh_config": str(self.sshd.config),
            "sshd_restart_command": f"sh -c 'kill -HUP $(cat {self.sshd.folder}/pid)'",
            "labels": "env=lab",
            **flags,
        }
        return self.join(*(f"--{name.replace('_', '-')}={value}" for name, value in given.items()))

    def server(self) -> list[dict[str, object]]:
        return [n for n in self.cluster.get("nodes") if n.get("sub_kind") == "openssh"]

    def shown_keys(self, kind: str) -> list[str]:
        """What clients see of the server, of the keys or of the certificates."""
        flags = ("-c",) if kind == "certificate" else ()
        said = run("ssh-keyscan", *flags, "-t", "ed25519", "-p", str(self.sshd.port), "127.0.0.1").out
        return [line.split()[-1] for line in said.splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with Cluster.running(services=("auth", "proxy")) as cluster, Sshd(cluster.dir / "sshd", "") as sshd:
        yield Box(cluster, sshd, cluster.dir / "box", sshd.config.read_text())


@pytest.fixture(scope="module")
def alice(box: Box) -> Person:
    return box.cluster.login("alice")


def test_what_sshd_or_the_cluster_refuses_changes_nothing(box: Box) -> None:
    before = box.sshd.config.read_bytes()
    assert "no join token" in box.first().err
    denied = box.first(token="nonsense")
    assert denied.code == 1 and "tctl tokens add --type=node" in denied.err
    mine = box.sshd.folder / "mine"
    mine.write_text(before.decode() + f"TrustedUserCAKeys {box.sshd.folder}/users.pub\n")
    other = box.first(token=box.cluster.token(), openssh_config=str(mine))
    assert other.code == 2 and "already" in other.err
    assert not (box.data_dir / "proc" / "node").exists()  # the token was not spent on it
    assert box.sshd.config.read_bytes() == before and not box.server()


def test_a_server_joins_and_is_reached_through_the_proxy_alone(box: Box, alice: Person) -> None:
    plain = box.shown_keys("key")
    mode = stat.S_IMODE(box.sshd.config.stat().st_mode)
    done = box.first(token=box.cluster.token()).ok()
    assert "server of cluster demo" in done.out
    (node,) = box.server()
    assert node["spec"] == {"hostname": NAME, "addr": box.sshd.addr, "use_tunnel": False}
    metadata = node["metadata"]
    assert isinstance(metadata, dict) and metadata["labels"] == {"env": "lab"} and metadata["expires"]
    assert stat.S_IMODE(box.sshd.config.stat().st_mode) == mode
    for path in box.data_dir.rglob("*"):
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
    joined = box.cluster.wait_event("instance.join", host_id=metadata["name"])
    assert joined["role"] == "Node"

    wait_for(lambda: box.shown_keys("certificate"), what="sshd to show its certificate")
    assert box.shown_keys("key") == plain  # who knew the server still does
    wait_for(lambda: NAME in alice.tsh("ls").out, what="the server in tsh ls")
    assert alice.tsh("ssh", f"{OS_USER}@{NAME}", "echo in; exit 3").code == 3
    start = box.cluster.wait_event("session.start", server_hostname=NAME)
    box.cluster.wait_event("session.upload", sid=start["sid"])
    assert alice.ssh(f"{OS_USER}@{NAME}.demo", "echo again").ok().out == "again\n"

    keys = [str(key).removesuffix("-cert.pub") for key in (alice.home / ".tsh").rglob("*-cert.pub")]
    assert keys
    past = run(
        "ssh", "-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-o", "BatchMode=yes", "-p", str(box.sshd.port), *(word for key in keys for word in ("-i", key)),
        f"{OS_USER}@127.0.0.1", "echo in",
    )  # fmt: skip
    assert past.out == "" and "Permission denied" in past.err


def test_again_it_changes_what_is_new_and_renewing_needs_nothing(box: Box, alice: Person) -> None:
    box.first(token=box.cluster.token()).ok()
    files = sorted(box.data_dir.rglob("host_key"))
    before = box.sshd.config.read_bytes()
    assert before.count(b"Include") == 1
    box.join("--renew").ok()
    assert sorted(box.data_dir.rglob("host_key")) == files  # nothing was due
    shown = box.shown_keys("certificate")
    box.first(labels="env=prod", additional_principals="box9.example.com").ok()  # no token any more
    assert [n["metadata"]["labels"] for n in box.server()] == [{"env": "prod"}]  # type: ignore[index]
    assert sorted(box.data_dir.rglob("host_key")) != files
    wait_for(
        lambda: box.shown_keys("certificate") not in ([], shown), what="sshd to show its new certificate"
    )
    assert box.sshd.config.read_bytes() == before
    assert alice.tsh("ssh", f"{OS_USER}@{NAME}", "echo in").ok().out == "in\n"
    wrong = box.join("--renew", "--labels=a=b")
    assert wrong.code == 2 and "without --renew" in wrong.err


def test_a39_a_host_that_joins_does_not_speak_for_another(box: Box, alice: Person) -> None:
    """With labels of its own it names the address and the name of a server that others protect."""
    (there,) = box.server()
    mallory = Box(box.cluster, box.sshd, box.cluster.dir / "mallory")
    config = box.cluster.dir / "mallory_config"
    config.write_text("HostKey " + str(box.sshd.folder / "host_key"))
    mallory.first(
        token=box.cluster.token(), openssh_config=str(config), sshd_restart_command="true", labels="env=mine"
    ).ok()
    (mine,) = (node for node in box.server() if node["metadata"] != there["metadata"])
    name = mine["metadata"]["name"]  # type: ignore[index]
    wait_for(lambda: name in alice.tsh("ls", "-v").out, what="it in tsh ls")
    done = alice.tsh("ssh", f"{OS_USER}@{name}", "echo in")
    assert done.out == "" and done.code != 0
    box.cluster.tctl("rm", f"node/openssh/{name}").ok()


def test_one_run_at_a_time_changes_sshd(box: Box) -> None:
    """Two would each take away the files that the other has just named."""
    reached, go_on = box.cluster.dir / "reached", box.cluster.dir / "go-on"
    restart = (
        f"touch {reached}; while [ ! -e {go_on} ]; do sleep 0.1; done; kill -HUP $(cat {box.sshd.folder}/pid)"
    )
    with ThreadPoolExecutor(1) as pool:
        flags = {"sshd_restart_command": f"sh -c '{restart}'", "additional_principals": "box8.example.com"}
        going = pool.submit(lambda: box.first(**flags))
        try:
            wait_for(reached.exists, what="the first one to restart sshd")
            second = box.first(additional_principals="box7.example.com")
        finally:
            go_on.touch()
        going.result().ok()
    assert second.code == 1 and "another" in second.err
    named = (box.data_dir / "openssh" / "sshd.conf").read_text().split()
    ours = [Path(word) for word in named if word.startswith(str(box.data_dir))]
    assert len(ours) == 3 and all(path.exists() for path in ours)


def test_a39_a_label_that_the_cluster_refuses_leaves_sshd_as_it_was(box: Box) -> None:
    config = box.cluster.dir / "apart_config"
    config.write_text("HostKey " + str(box.sshd.folder / "host_key"))
    apart = Box(box.cluster, box.sshd, box.cluster.dir / "apart")
    many = ",".join(f"k{number}=v" for number in range(101))
    done = apart.first(
        token=box.cluster.token(), openssh_config=str(config), sshd_restart_command="true", labels=many
    )
    assert done.code == 2 and "100 labels" in done.err
    assert "Include" not in config.read_text()
    assert not (apart.data_dir / "openssh" / "join.json").exists()  # nor does a renewal try it again


def test_a_restart_that_fails_leaves_sshd_as_it_was(box: Box, alice: Person) -> None:
    config = box.sshd.config.read_bytes()
    include = (box.data_dir / "openssh" / "sshd.conf").read_bytes()
    failed = box.first(sshd_restart_command="false", additional_principals="other.example.com")
    assert failed.code == 1 and "false` ended with 1" in failed.err
    assert box.sshd.config.read_bytes() == config
    assert (box.data_dir / "openssh" / "sshd.conf").read_bytes() == include
    assert alice.tsh("ssh", f"{OS_USER}@{NAME}", "echo in").ok().out == "in\n"


def test_it_is_undone_as_the_documentation_says(box: Box) -> None:
    page = (BIN.parent / "docs" / "openssh-servers.md").read_text()
    command = next(line for line in page.splitlines() if line.startswith("sed -i"))
    script = command.split("'")[1]
    assert run("sed", script, box.sshd.config).ok().out == box.original
