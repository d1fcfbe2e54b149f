"""What is promised when parts die: sessions, acknowledged writes, recordings, and coming back alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.common.recording.model import Output
from pkgs.common.recording.reader import read_items
from tests.harness.cluster import BIN, OS_USER, Cluster, Person
from tests.harness.wait import wait_for


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster of this test's own: it will be hurt."""
    with Cluster.running() as made:
        yield made


class Session:
    """A long-lived stock ssh session that we can talk to."""

    def __init__(
        self, person: Person, *options: str, node: str = "demo-node", env: dict[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            ["ssh", "-F", str(person.ssh_config()), *options, f"{OS_USER}@{node}.demo", "cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**person.env, **(env or {})},
        )  # fmt: skip
        assert self.process.stdin and self.process.stdout

    def echo(self, text: str) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().decode().strip()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=10)


@pytest.fixture
def session(cluster: Cluster) -> Iterator[Session]:
    made = Session(cluster.login("alice", roles="access,editor,auditor"))
    try:
        assert made.echo("one") == "one"
        yield made
    finally:
        made.close()


def test_f07_auth_down_sessions_go_on_and_new_ones_start_from_the_cache(
    cluster: Cluster, session: Session
) -> None:
    bob = cluster.login("bob")
    bob_config = bob.ssh_config()
    assert bob_config.exists()
    cluster.daemons["auth"].kill()
    assert session.echo("two") == "two"
    assert bob.ssh(f"{OS_USER}@demo-node.demo", "echo from-cache").ok().out == "from-cache\n"
    cluster.start_service("auth")
    cluster.wait_event("session.start", user="bob")
    assert session.echo("three") == "three"


def test_f06_auth_restarts_under_open_sessions_of_several_agents(cluster: Cluster) -> None:
    """Sessions go on, each agent comes back by itself, and what went on is audited once."""
    token, pin = cluster.token(), cluster.ca_pin()
    for number in range(3):
        cluster.daemon(
            f"more{number}", BIN / "teleport-ssh", f"--data-dir={cluster.dir / f'more{number}'}",
            f"--proxy-server={cluster.proxy_addr}", f"--token={token}", f"--ca-pin={pin}",
            f"--nodename=more{number}", "--insecure",
        )  # fmt: skip
    nodes = ["demo-node", *(f"more{number}" for number in range(3))]
    for node in nodes:
        cluster.wait_node(node)
    alice = cluster.login("alice", roles="access")
    sessions = [Session(alice, node=node) for node in nodes * 4]
    try:
        assert all(one.echo("before") == "before" for one in sessions)
        cluster.daemons["auth"].kill()
        assert all(one.echo("while it is down") == "while it is down" for one in sessions)
        cluster.start_service("auth")
        for node in nodes:
            assert alice.ssh(f"{OS_USER}@{node}.demo", "echo new").ok().out == "new\n"
        assert all(one.echo("after") == "after" for one in sessions)
    finally:
        for one in sessions:
            one.close()

    def ended() -> bool:
        return len(cluster.events("session.end")) == len(sessions) + len(nodes)

    wait_for(ended, what="the end of every session in the audit log", deadline_s=40, every_s=0.5)
    assert len(cluster.events("session.start")) == len(sessions) + len(nodes)
    cluster.tctl("audit", "verify").ok()


def test_f01_every_acknowledged_write_is_there_after_kill_9(cluster: Cluster) -> None:
    acknowledged = []
    for n in range(12):
        cluster.tctl("users", "add", f"u{n}", "--roles=access", f"--logins={OS_USER}").ok()
        acknowledged.append(f"u{n}")
        if n % 4 == 3:
            cluster.daemons["auth"].kill()
            cluster.start_service("auth")
    names = {u["metadata"]["name"] for u in cluster.get("users")}
    assert set(acknowledged) <= names
    cluster.tctl("audit", "verify").ok()
    created = {e["name"] for e in cluster.events("user.create")}
    assert set(acknowledged) <= created


def test_f08_proxy_killed_the_agent_comes_back_by_itself(cluster: Cluster) -> None:
    """What becomes of a session that is resumed is told in `test_resumption`."""
    alice = cluster.login("alice", roles="access,editor,auditor")
    session = Session(alice, env={"TELEPORT_NO_RESUME": "true"})
    assert session.echo("one") == "one"
    cluster.daemons["proxy"].kill()
    session.process.wait(15)
    session.close()
    cluster.start_service("proxy")

    def again() -> bool:
        return alice.ssh(f"{OS_USER}@demo-node.demo", "echo back").out == "back\n"

    wait_for(again, what="the agent's tunnel to come back", deadline_s=30, every_s=0.5)


def test_agent_killed_mid_session_its_recording_plays_to_the_last_frame(cluster: Cluster) -> None:
    alice = cluster.login("alice", roles="access,editor,auditor")
    marker = "last-words-before-the-crash"
    process = subprocess.Popen(
        ["ssh", "-tt", "-F", str(alice.ssh_config()), f"{OS_USER}@demo-node.demo"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=alice.env,
    )  # fmt: skip
    try:
        assert process.stdin and process.stdout
        process.stdin.write(f"echo {marker}; echo done-$((40+2))\n".encode())
        process.stdin.flush()
        seen = b""
        os.set_blocking(process.stdout.fileno(), False)

        def said() -> bool:
            nonlocal seen
            seen += process.stdout.read() or b""  # type: ignore[union-attr]
            return b"done-42" in seen

        wait_for(said, what="the shell's answer")
        start = cluster.wait_event("session.start", user="alice")
        upload = cluster.data_dir / "log" / "upload"

        def on_disk() -> bool:
            for path in upload.glob(f"{start['sid']}*"):
                with path.open("rb") as recording:
                    items = [i for i in read_items(recording) if isinstance(i, Output)]
                if marker.encode() in b"".join(i.data for i in items):
                    return True
            return False

        wait_for(on_disk, what="the output to reach the disk")
        cluster.daemons["ssh"].kill()
    finally:
        process.kill()
        process.communicate(timeout=10)
    cluster.start_service("ssh")

    def played() -> bool:
        return marker in alice.tsh("play", start["sid"], "--format=text").out

    wait_for(played, what="the cut recording to be uploaded and played", deadline_s=30, every_s=0.5)
    alice.ssh(f"{OS_USER}@demo-node.demo", "true").ok()


def test_f12_and_f28_nothing_is_left_when_clients_vanish(cluster: Cluster) -> None:
    alice = cluster.login("alice")
    gone = Session(alice)
    assert gone.echo("here") == "here"
    agent = cluster.daemons["ssh"].pid
    before = descendants(agent)
    gone.process.kill()
    gone.close()
    wait_for(lambda: len(descendants(agent)) < len(before), what="the session's processes to end")


def test_a_signal_to_the_whole_group_leaves_draining_to_the_service(cluster: Cluster) -> None:
    """A supervisor signals every process at once: the spawner must outlive the sessions that drain."""
    alice = cluster.login("alice", roles="access")
    session = Session(alice)
    try:
        assert session.echo("one") == "one"
        agent = cluster.daemons["ssh"]
        spawner = min(
            p for p in descendants(agent.pid) if b"spawner.py" in Path(f"/proc/{p}/cmdline").read_bytes()
        )
        os.kill(spawner, signal.SIGTERM)
        os.kill(spawner, signal.SIGHUP)
        assert session.echo("two") == "two"
        assert alice.ssh(f"{OS_USER}@demo-node.demo", "echo new").ok().out == "new\n"
        assert spawner in descendants(agent.pid)
        assert "starting another" not in cluster.log("ssh")
    finally:
        session.close()


def descendants(pid: int) -> set[int]:
    """All living descendants of a process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found = {pid}
    while True:
        more = {p for p, parent in parents.items() if parent in found} - found
        if not more:
            return found - {pid}
        found |= more


def test_a14_a_lock_ends_the_live_session_and_refuses_new_ones(cluster: Cluster, session: Session) -> None:
    cluster.tctl(
        "create", "-f", "-",
        stdin="kind: lock\nversion: v2\nmetadata: {name: stop-alice}\n"
        "spec: {target: {user: alice}, message: enough}\n",
    ).ok()  # fmt: skip
    session.process.wait(10)
    alice = Person("alice", cluster.dir / "home-alice", cluster)
    assert alice.ssh(f"{OS_USER}@demo-node.demo", "true").code != 0
    assert alice.tsh("ls").code != 0
    cluster.tctl("rm", "lock/stop-alice").ok()
    wait_for(
        lambda: alice.ssh(f"{OS_USER}@demo-node.demo", "true").code == 0, what="access to return", every_s=0.5
    )


def test_two_proxies_at_once(cluster: Cluster) -> None:
    """The agent holds a tunnel to each; killing the first leaves the way through the second."""
    from tests.harness.cluster import BIN, run
    from tests.harness.ports import free_port

    port = free_port()
    token = cluster.token(kind="proxy")
    config = cluster.dir / "proxy2.yaml"
    config.write_text(
        json.dumps(
            {
                "version": "v3",
                "teleport": {
                    "nodename": "proxy2",
                    "data_dir": str(cluster.dir / "p2"),
                    "auth_server": f"127.0.0.1:{cluster.auth_port}",
                    "auth_token": token,
                    "ca_pin": cluster.ca_pin(),
                },
                "auth_service": {"enabled": False},
                "ssh_service": {"enabled": False},
                "proxy_service": {
                    "enabled": True,
                    "web_listen_addr": f"127.0.0.1:{port}",
                    "public_addr": f"127.0.0.1:{port}",
                },
            }
        )
    )
    cluster.daemon("proxy2", BIN / "teleport-proxy", "-c", config)
    node_id = cluster.wait_node("demo-node")["metadata"]["name"]

    def both() -> bool:
        nodes = cluster.get(f"node/{node_id}")
        return len(nodes[0]["spec"].get("proxy_ids", [])) == 2

    wait_for(both, what="the agent to hold two tunnels", deadline_s=30, every_s=0.5)
    zoe = Person("zoe", cluster.dir / "home-zoe", cluster)
    zoe.home.mkdir()
    zoe.signup(cluster.invite("zoe"))
    cluster.daemons["proxy"].kill()
    zoe.tsh(
        "login", f"--proxy=127.0.0.1:{port}", "--user=zoe", "--insecure", "--password-stdin",
        stdin="correct-horse-battery-9\n",
    ).ok()  # fmt: skip
    assert zoe.tsh("ssh", f"{OS_USER}@demo-node", "echo through-two").ok().out == "through-two\n"
    assert run("true").code == 0


def test_a_full_disk_refuses_clearly_and_recovers(cluster: Cluster, tmp_path: Path) -> None:
    """F03 on a small tmpfs: no certificate without its audit record, and service returns with the space."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    from tests.harness.cluster import run

    small = Cluster(name="small", services=("auth", "proxy"))
    small.data_dir.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "none", small.data_dir).ok()
    try:
        small.start()
        bob = small.person("bob")
        filler = small.data_dir / "filler"
        # Without a buffer, whose rest could not be written when it is closed.
        with filler.open("wb", buffering=0) as out, contextlib.suppress(OSError):
            while True:
                out.write(bytes(65536))

        def refused() -> bool:
            done = bob.login()
            assert "Traceback" not in done.err
            return done.code != 0

        wait_for(refused, what="a login to be refused for want of space", every_s=0.2)
        filler.unlink()
        wait_for(lambda: bob.login().code == 0, what="logins to work again", every_s=0.5)
        small.tctl("audit", "verify").ok()
    finally:
        small.stop()
        run("umount", "-l", small.data_dir)
        small.destroy()
