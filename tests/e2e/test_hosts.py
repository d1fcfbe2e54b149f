"""Accounts, commands and places with the real programs: one cluster, OpenSSH and tsh, roles by tctl."""

from __future__ import annotations

import os
import pwd
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.cluster import BIN, Cluster
from tests.harness.wait import wait_for

pytestmark = [
    pytest.mark.needs("ssh", "useradd", "userdel", "visudo"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make accounts"),
]
SUFFIX = uuid.uuid4().hex[:6]
LOGIN, STATIC = f"tpe{SUFFIX}", f"tps{SUFFIX}"
NODE = "demo-node.demo"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.running() as made:
        yield made
    for login in (LOGIN, STATIC):
        subprocess.run(["userdel", "-r", login], capture_output=True)
    for path in Path("/etc/sudoers.d").glob(f"*{SUFFIX}"):
        path.unlink()


@pytest.fixture(autouse=True)
def no_leftover_children() -> Iterator[None]:
    """A test starts a service of the module's cluster anew; the cluster ends them all."""
    yield


def create(cluster: Cluster, text: str) -> None:
    cluster.tctl("create", "-f", stdin=text).ok()


def role(cluster: Cluster, name: str, spec: str) -> None:
    create(
        cluster,
        f"kind: role\nversion: v7\nmetadata: {{name: {name}}}\nspec:\n{spec}\n",
    )


def exists(login: str) -> bool:
    return any(entry.pw_name == login for entry in pwd.getpwall())


def test_an_account_is_made_for_a_visitor_and_outlives_no_crash(cluster: Cluster) -> None:
    role(
        cluster,
        "maker",
        f"  options: {{create_host_user_mode: insecure-drop}}\n"
        f"  allow: {{logins: [{LOGIN}], node_labels: {{'*': '*'}},"
        " host_sudoers: ['ALL=(ALL) NOPASSWD: ALL']}",
    )
    vera = cluster.login("vera", "maker", LOGIN)
    assert vera.tsh("ssh", f"{LOGIN}@demo-node", "id -un; sudo -n id -un").ok().out == f"{LOGIN}\nroot\n"
    wait_for(lambda: not exists(LOGIN), what="the account to go")
    argv = ["ssh", "-F", str(vera.ssh_config()), f"{LOGIN}@{NODE}", "echo up; sleep 100"]
    env = {**vera.env, "TELEPORT_NO_RESUME": "1"}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as live:
        assert live.stdout is not None and live.stdout.readline() == b"up\n"
        cluster.daemons["ssh"].kill()
        live.wait(20)
    assert exists(LOGIN)
    cluster.start_service("ssh")
    assert not exists(LOGIN)


def test_only_listed_commands_run(cluster: Cluster) -> None:
    role(
        cluster,
        "confined",
        "  allow: {logins: [root], node_labels: {'*': '*'}, ssh: {commands: ['echo *']}}",
    )
    cora = cluster.login("cora", "access,confined", "root")
    assert cora.tsh("ssh", "root@demo-node", "echo fine").ok().out == "fine\n"
    for refused in (cora.tsh("ssh", "root@demo-node", "echo a; id"), cora.ssh(f"root@{NODE}", "id")):
        assert refused.code == 255 and refused.out == ""
        assert "this command is not permitted" in refused.err
    cluster.wait_event("session.rejected", user="cora")


def test_connections_are_counted(cluster: Cluster) -> None:
    role(
        cluster,
        "few",
        "  options: {max_connections: 1}\n  allow: {logins: [root], node_labels: {'*': '*'}}",
    )
    lia = cluster.login("lia", "few", "root")
    argv = [str(BIN / "tsh"), "ssh", "root@demo-node", "echo up; read x"]
    with subprocess.Popen(
        argv, env=lia.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as live:
        assert live.stdout is not None and live.stdin is not None
        assert live.stdout.readline() == b"up\n"
        refused = lia.ssh(f"root@{NODE}", "echo in")
        assert refused.code == 255 and "too many connections: the limit is 1" in refused.err
        assert cluster.wait_event("session.rejected", user="lia")["max"] == 1
        live.stdin.write(b"\n")
        live.stdin.close()
        live.wait(20)
    wait_for(lambda: lia.ssh(f"root@{NODE}", "echo in").out == "in\n", what="the place to be free again")


def test_a_static_host_user_is_brought_about(cluster: Cluster) -> None:
    create(
        cluster,
        f"kind: static_host_user\nversion: v2\nmetadata: {{name: {STATIC}}}\nspec:\n  matchers:\n"
        "  - {node_labels: [{name: env, values: [demo]}], sudoers: ['ALL=(ALL) NOPASSWD: /bin/true']}\n",
    )
    file = Path(f"/etc/sudoers.d/teleport-static-{STATIC}")
    wait_for(lambda: exists(STATIC) and file.exists(), what="the account")
    cluster.tctl("rm", f"static_host_user/{STATIC}").ok()
    wait_for(lambda: not file.exists(), what="its rights of sudo to go")
    assert exists(STATIC)
