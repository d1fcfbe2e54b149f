"""Sessions and transfers of real clients while the proxy dies, restarts, or the network drops everything."""

from __future__ import annotations

import contextlib
import hashlib
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.test_faults import Session
from tests.harness.cluster import BIN, OS_USER, Cluster, Person, run
from tests.harness.wait import wait_for

SIZE = 24 * 1024 * 1024


@pytest.fixture(scope="module")
def data() -> bytes:
    return random.Random(8).randbytes(SIZE)


class Transfer:
    """A command over stock ssh whose input or output a test holds back."""

    def __init__(self, person: Person, command: str) -> None:
        argv = ["ssh", "-F", str(person.ssh_config()), f"{OS_USER}@demo-node.demo", command]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=person.env
        )
        assert self.process.stdin and self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def close(self) -> None:
        self.process.kill()
        for pipe in (self.stdin, self.stdout, self.process.stderr):
            with contextlib.suppress(OSError):  # what it never took
                if pipe is not None:
                    pipe.close()
        self.process.wait(10)


@contextlib.contextmanager
def half_way(person: Person, data: bytes, folder: Path) -> Iterator[Callable[[], None]]:
    """A shell, an upload and a download, each in the middle of it. What is yielded finishes them, and shows
    that all of it arrived, once."""
    (folder / "data").write_bytes(data)
    (folder / "arrived").unlink(missing_ok=True)
    shell = Session(person)
    up = Transfer(person, f"cat > {folder / 'arrived'} && sha256sum < {folder / 'arrived'}")
    down = Transfer(person, f"cat {folder / 'data'}")
    digest = hashlib.sha256(data).hexdigest()
    try:
        assert shell.echo("before") == "before"
        up.stdin.write(data[: SIZE // 2])
        up.stdin.flush()
        wait_for((folder / "arrived").exists, what="the upload to begin")
        first = down.stdout.read(SIZE // 3)

        def finish() -> None:
            assert shell.echo("after") == "after"
            up.stdin.write(data[SIZE // 2 :])
            up.stdin.close()
            assert up.stdout.read().decode().split() == [digest, "-"]
            assert hashlib.sha256(first + down.stdout.read()).hexdigest() == digest
            assert up.process.wait(10) == down.process.wait(10) == 0
            shell.process.communicate(timeout=10)
            assert shell.process.returncode == 0

        yield finish
    finally:
        shell.close()
        for transfer in (up, down):
            transfer.close()


def test_f08_f09_nothing_is_lost_when_the_proxy_dies_or_restarts(
    own_cluster: Cluster, data: bytes, tmp_path: Path
) -> None:
    cluster = own_cluster.start()
    cluster.wait_node("demo-node")
    alice = cluster.login("alice", roles="access,editor,auditor")
    stubborn = subprocess.Popen(
        [BIN / "tsh", "ssh", "--no-resume", f"{OS_USER}@demo-node", "cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=alice.env,
    )  # fmt: skip
    try:
        assert stubborn.stdin and stubborn.stdout
        stubborn.stdin.write(b"x\n")
        stubborn.stdin.flush()
        assert stubborn.stdout.readline() == b"x\n"
        with half_way(alice, data, tmp_path) as finish:
            cluster.daemons["proxy"].kill()
            assert stubborn.wait(10) != 0, "it was told not to come back"
            cluster.start_service("proxy")
            finish()
        assert cluster.log("ssh").count("a connection is resumed") >= 3
    finally:
        stubborn.kill()
        stubborn.communicate(timeout=10)
    assert len(cluster.events("session.start")) == 4, "they are the sessions that they were"
    with half_way(alice, data, tmp_path) as finish:
        old = cluster.daemons["proxy"].process
        assert old is not None
        old.terminate()
        wait_for(lambda: "draining" in cluster.log("proxy"), what="the proxy to drain")
        # Asked again it does not wait as long for its streams as it otherwise would.
        old.terminate()
        old.wait(20)
        cluster.start_service("proxy")
        finish()


def test_a14_a_lock_ends_what_its_user_is_cut_off_from(own_cluster: Cluster) -> None:
    cluster = own_cluster.start()
    cluster.wait_node("demo-node")
    mallory = cluster.login("mallory")
    session = Session(mallory)
    try:
        assert session.echo("x") == "x"
        cluster.daemons["proxy"].kill()
        cluster.tctl(
            "create", "-f", "-",
            stdin="kind: lock\nversion: v2\nmetadata: {name: stop-mallory}\n"
            "spec: {target: {user: mallory}, message: enough is enough}\n",
        ).ok()  # fmt: skip
        cluster.wait_event("client.disconnect", user="mallory")
        cluster.start_service("proxy")
        _, err = session.process.communicate(timeout=30)
    finally:
        session.close()
    assert session.process.returncode != 0
    assert "is not resumed" in err.decode()
    assert "enough is enough" in err.decode()


def test_f12_clients_that_end_leave_nothing_that_is_waited_for(cluster: Cluster, alice: Person) -> None:
    """Killed, told to, or in order: the server knows at once, and waits only for who was cut off."""
    for end in ("kill", "terminate"):
        session = Session(alice)
        try:
            assert session.echo("here") == "here"
            getattr(session.process, end)()
        finally:
            session.close()
    assert alice.ssh(f"{OS_USER}@demo-node.demo", "exit 3").code == 3
    wait_for(lambda: _gauge(cluster, "ssh_connections") == 0, what="every connection to end")
    assert _gauge(cluster, "ssh_connections_waiting") == 0


def _gauge(cluster: Cluster, name: str) -> float:
    address = ["--unix-socket", str(cluster.data_dir / "debug-ssh.sock"), "http://debug/metrics"]
    [line] = [x for x in run("curl", "-s", *address).ok().out.splitlines() if x.startswith(name + " ")]
    return float(line.split()[-1])
