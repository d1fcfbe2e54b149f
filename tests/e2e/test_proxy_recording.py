"""Recording mode `proxy` with agents: the proxy ends a user's SSH and records, the agent decides as ever."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.e2e.test_agentless import describe
from tests.harness.cluster import BIN, OS_USER, Cluster, Person, run
from tests.harness.sshd import Sshd
from tests.harness.wait import wait_for

pytestmark = pytest.mark.needs("ssh", "sftp")
NAME = "web1"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.running(services=("auth", "proxy")) as cluster:
        set_mode(cluster, "proxy")
        cluster.add_node(NAME)
        yield cluster


def set_mode(cluster: Cluster, mode: str, *, checks: bool = True) -> None:
    document = {
        "kind": "session_recording_config",
        "version": "v2",
        "metadata": {"name": "session-recording-config"},
        "spec": {"mode": mode, "proxy_checks_host_keys": checks},
    }
    cluster.tctl("create", "-f", stdin=yaml.safe_dump(document)).ok()


@pytest.fixture(scope="module")
def alice(cluster: Cluster) -> Person:
    return login(cluster, "alice")


def login(cluster: Cluster, name: str, **role: Any) -> Person:
    """A user who sees the server; with options, by a role of their own that has them."""
    roles = "access"
    if role:
        roles = f"of-{name}"
        document = {
            "kind": "role",
            "version": "v7",
            "metadata": {"name": roles},
            "spec": {"allow": {"logins": [OS_USER], "node_labels": {"*": "*"}}, "options": role},
        }
        cluster.tctl("create", stdin=yaml.safe_dump(document)).ok()
    person = cluster.login(name, roles=roles)
    wait_for(lambda: NAME in person.tsh("ls").out, what="the server in tsh ls")
    return person


def node_id(cluster: Cluster) -> str:
    name: str = cluster.wait_node(NAME)["metadata"]["name"]
    return name


def starts(cluster: Cluster, user: str) -> list[dict[str, Any]]:
    return [event for event in cluster.events("session.start") if event["user"] == user]


def test_a_session_is_recorded_and_told_of_once_by_the_proxy(cluster: Cluster, alice: Person) -> None:
    done = alice.tsh("ssh", f"{OS_USER}@{NAME}", "echo in $SSH_SESSION_ID; echo out >&2; exit 5")
    assert done.code == 5 and "out\n" in done.err, done.err
    sid = done.out.split()[1]
    cluster.wait_event("session.upload", sid=sid)
    for kind in ("session.start", "session.end", "exec"):
        (event,) = (e for e in cluster.events(kind) if e["user"] == "alice")
        assert event["sid"] == sid and event["server_id"] != node_id(cluster)
        assert event["server_hostname"] == NAME
        assert event.get("session_recording", "proxy") == "proxy"
    assert f"in {sid}" in cluster.tctl("recordings", "export", sid, "--format=text").ok().out
    typed = alice.ssh("-tt", f"{OS_USER}@{NAME}.demo", "tty; cat", stdin="hello\n\x04")
    assert "/dev/pts/" in typed.out and "hello" in typed.out, typed.err
    made = [e for e in cluster.events("cert.create") if node_id(cluster) in str(e.get("identity"))]
    assert made and made[-1]["user"] == "alice"


def test_what_only_the_agent_sees_is_told_by_it_of_the_same_session(cluster: Cluster) -> None:
    bob = login(cluster, "bob")
    config, there = bob.ssh_config(), cluster.dir / "there"
    target = f"{OS_USER}@{NAME}.demo"
    source = cluster.dir / "file"
    source.write_bytes(bytes(range(256)) * 4_000)
    run("sftp", "-F", config, "-b", "-", target, env=bob.env, stdin=f"put {source} {there}\n").ok()
    assert there.read_bytes() == source.read_bytes()
    opened = cluster.wait_event("sftp", user="bob", path=str(there))
    (start,) = starts(cluster, "bob")
    assert opened["sid"] == start["sid"] and opened["server_id"] == node_id(cluster) != start["server_id"]

    # Where a connection may lead is the agent's to say: its own loopback is closed to all.
    port = str(cluster.web_port)
    jumped = run("ssh", "-F", config, "-W", f"127.0.0.1:{port}", target, env=bob.env, stdin="x\n")
    assert "own loopback" in jumped.err
    told = cluster.wait_event("port", user="bob", code="T3003E", addr=f"127.0.0.1:{port}")
    assert told["server_id"] == node_id(cluster) and len(cluster.events("port")) == 1


def test_what_cannot_pass_the_proxy_is_refused(cluster: Cluster) -> None:
    carol = login(cluster, "carol", forward_agent=True, ssh_port_forwarding={"remote": {"enabled": True}})
    flags = ("-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1")
    done = carol.ssh(*flags, f"{OS_USER}@{NAME}.demo", "echo in")
    assert done.out == "" and "forwarding failed" in done.err
    assert carol.ssh("-A", f"{OS_USER}@{NAME}.demo", "echo in ${SSH_AUTH_SOCK-none}").out == "in none\n"


def test_a13_one_command_runs_and_reads_what_was_asked_for(cluster: Cluster) -> None:
    gus = login(cluster, "gus", force_command="echo ran [$SSH_ORIGINAL_COMMAND]")
    assert gus.ssh(f"{OS_USER}@{NAME}.demo", "id -u").out == "ran [id -u]\n"
    assert gus.ssh(f"{OS_USER}@{NAME}.demo", stdin="id -u\n").out == "ran []\n"
    told = cluster.wait_event("exec", user="gus")
    assert told["command"] == "echo ran [$SSH_ORIGINAL_COMMAND]"


def test_an_agents_own_refusal_reaches_the_user(cluster: Cluster) -> None:
    few = login(cluster, "few", max_connections=1)
    argv = ["ssh", "-F", str(few.ssh_config()), f"{OS_USER}@{NAME}.demo", "echo up; cat"]
    with subprocess.Popen(argv, env=few.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as going:
        assert going.stdin is not None and going.stdout is not None
        assert going.stdout.readline() == b"up\n"
        refused = few.ssh(f"{OS_USER}@{NAME}.demo", "echo in")
        assert refused.out == "" and "too many connections: the limit is 1" in refused.err
        going.stdin.close()
        assert going.wait(20) == 0


def test_a40_who_says_they_come_to_join_is_recorded_by_the_agent(cluster: Cluster) -> None:
    """A visitor's stream passes the proxy unread; the agent takes no word for a proxy's."""
    dora = login(cluster, "dora")
    command = f"{BIN / 'tsh'} proxy ssh -- -teleport-internal-join@{node_id(cluster)}:0"
    done = dora.ssh(
        "-o", f"ProxyCommand={command}", "-o", "SetEnv=TELEPORT_SESSION_RECORDED_AS=" + str(uuid.uuid4()),
        f"{OS_USER}@{NAME}.demo", "echo in",
    )  # fmt: skip
    assert done.out == "in\n", done.err
    (start,) = starts(cluster, "dora")
    assert start["server_id"] == node_id(cluster) and start["session_recording"] == "node"
    cluster.wait_event("session.upload", sid=start["sid"])


def test_a14_a_lock_ends_what_goes_on(cluster: Cluster) -> None:
    eve = login(cluster, "eve")
    argv = ["ssh", "-F", str(eve.ssh_config()), f"{OS_USER}@{NAME}.demo", "echo up; exec sleep 100"]
    with subprocess.Popen(argv, env=eve.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as going:
        assert going.stdout is not None and going.stderr is not None
        assert going.stdout.readline() == b"up\n"
        cluster.tctl("lock", "--user=eve", "--message=go home").ok()
        assert going.wait(20) == 255
        assert b"go home" in going.stderr.read()
    cluster.wait_event("session.end", user="eve")


def test_f01_without_the_auth_service_what_stands_goes_on_and_nobody_comes(cluster: Cluster) -> None:
    fay = login(cluster, "fay")
    config = fay.ssh_config()
    argv = ["ssh", "-F", str(config), f"{OS_USER}@{NAME}.demo", "echo $SSH_SESSION_ID; exec cat"]
    with subprocess.Popen(argv, env=fay.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as going:
        assert going.stdin is not None and going.stdout is not None
        sid = going.stdout.readline().decode().strip()
        os.kill(cluster.daemons["auth"].pid, signal.SIGSTOP)
        try:
            late = run("ssh", "-F", config, f"{OS_USER}@{NAME}.demo", "echo in", env=fay.env)
            assert late.out == "" and "the Auth Service cannot be asked now" in late.err
            going.stdin.write(b"still here\n")
            going.stdin.flush()
            assert going.stdout.readline() == b"still here\n"
        finally:
            os.kill(cluster.daemons["auth"].pid, signal.SIGCONT)
        going.stdin.close()
        assert going.wait(20) == 0
    cluster.wait_event("session.upload", sid=sid)
    assert "still here" in cluster.tctl("recordings", "export", sid, "--format=text").ok().out


def test_a_recording_that_cannot_be_written_ends_the_session_where_it_must_be(cluster: Cluster) -> None:
    lax = login(cluster, "lax", record_session={"ssh": "best_effort"})
    strict = login(cluster, "strict", record_session={"ssh": "strict"})
    folder = cluster.data_dir / "proxy-sessions" / "upload"
    shutil.rmtree(folder)
    folder.write_text("no folder")
    try:
        assert lax.tsh("ssh", f"{OS_USER}@{NAME}", "echo in").ok().out == "in\n"
        assert strict.tsh("ssh", f"{OS_USER}@{NAME}", "sleep 1; echo in").out == ""
    finally:
        folder.unlink()
    assert strict.tsh("ssh", f"{OS_USER}@{NAME}", "echo in").ok().out == "in\n"


@pytest.mark.needs("sshd")
def test_a03_host_keys_are_checked_unless_the_cluster_says_otherwise(cluster: Cluster, alice: Person) -> None:
    users = cluster.tctl("auth", "export", "--type=openssh").ok().out.strip()
    with Sshd(cluster.dir / "plain", users) as plain:
        cluster.tctl("create", stdin=describe(str(uuid.uuid4()), plain.addr, "plain.example.com")).ok()
        wait_for(lambda: "plain.example.com" in alice.tsh("ls").out, what="the server in tsh ls")
        words = ("ssh", f"{OS_USER}@plain.example.com", "echo in")
        assert alice.tsh(*words).out == ""
        set_mode(cluster, "node", checks=False)
        assert alice.tsh(*words).out == ""
        set_mode(cluster, "proxy-sync", checks=False)
        wait_for(lambda: alice.tsh(*words).out == "in\n", what="the server to be reached")
    done = alice.tsh("ssh", f"{OS_USER}@{NAME}", "echo $SSH_SESSION_ID").ok()
    cluster.wait_event("session.upload", sid=done.out.strip())
    set_mode(cluster, "proxy")
