"""`tsh proxy ssh` against a proxy of our own: bytes, ends, errors."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.common.api.tunnel import UserDial, UserDialReply
from pkgs.common.net.stream import Stream
from tests.integration.clients_kit import ROOT, FakeCluster

TSH = str(ROOT / "bin" / "tsh")
TARGET = ("proxy", "ssh", "--no-resume", "root@demo-node.demo:3022")


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with tempfile.TemporaryDirectory(prefix="tc-") as folder, FakeCluster(Path(folder)) as made:
        yield made


def test_bytes_pass_both_ways_unchanged_and_the_ends_too(cluster: FakeCluster) -> None:
    data = os.urandom(1 << 20) * 24
    done = cluster.run("tsh", *TARGET, stdin=data)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
    assert cluster.dials == [UserDial(service="ssh", target="demo-node", cluster="demo", login="root")]


def test_our_end_leaves_the_other_direction_open(cluster: FakeCluster) -> None:
    async def answer_after_the_end(stream: Stream, dial: UserDial) -> None:
        size = 0
        while data := await stream.read_some():
            size += len(data)
        stream.write(b"%d bytes\n" % size + b"x" * 3_000_000)
        await stream.drain()

    cluster.serve = answer_after_the_end
    done = cluster.run("tsh", *TARGET, stdin=b"y" * 1_000_000)
    assert done.stdout == b"1000000 bytes\n" + b"x" * 3_000_000


def test_the_peers_end_leaves_ours_open(cluster: FakeCluster) -> None:
    received = bytearray()

    async def end_first(stream: Stream, dial: UserDial) -> None:
        stream.write(b"bye")
        await stream.drain()
        stream.write_eof()
        while data := await stream.read_some():
            received.extend(data)

    cluster.serve = end_first
    process = subprocess.Popen([TSH, *TARGET], env=cluster.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    with process:
        assert process.stdout.read() == b"bye"
        process.stdin.write(b"z" * 500_000)
        process.stdin.close()
        assert process.wait(20) == 0
    deadline = time.monotonic() + 10
    while len(received) < 500_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert bytes(received) == b"z" * 500_000


def test_a_reader_that_goes_away_ends_it(cluster: FakeCluster) -> None:
    async def flood(stream: Stream, dial: UserDial) -> None:
        while True:
            stream.write(b"x" * 65536)
            await stream.drain()

    cluster.serve = flood
    process = subprocess.Popen([TSH, *TARGET], env=cluster.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.read(100_000)
        process.stdout.close()
        assert process.wait(20) == 0


def test_a_slow_reader_stops_the_sender(cluster: FakeCluster) -> None:
    sent = 0

    async def flood(stream: Stream, dial: UserDial) -> None:
        nonlocal sent
        while True:
            stream.write(b"x" * 65536)
            await stream.drain()
            sent += 65536

    cluster.serve = flood
    process = subprocess.Popen([TSH, *TARGET], env=cluster.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.read(10)
        before = -1
        deadline = time.monotonic() + 20
        while sent != before:
            assert time.monotonic() < deadline
            before = sent
            time.sleep(0.3)
        assert sent < 64 << 20
        status = Path(f"/proc/{process.pid}/status").read_text()
        rss = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
        assert rss < 80_000
        process.kill()


def test_a_refusal_is_one_line_with_what_to_do(cluster: FakeCluster) -> None:
    cluster.reply = UserDialReply(error="no server 'x' in cluster 'demo'", hint="`tsh ls` lists the servers")
    done = cluster.run("tsh", *TARGET)
    assert done.returncode == 1
    assert done.stderr == b"ERROR: no server 'x' in cluster 'demo'; `tsh ls` lists the servers\n"
    assert done.stdout == b""


def test_a_port_other_than_the_usual_one_is_passed_on(cluster: FakeCluster) -> None:
    cluster.run("tsh", "proxy", "ssh", "demo-node:22")
    cluster.run("tsh", "proxy", "ssh", "demo-node")
    assert [(d.target, d.login) for d in cluster.dials] == [("demo-node:22", ""), ("demo-node", "")]


def test_an_expired_login_says_so_before_anything_is_sent(cluster: FakeCluster) -> None:
    cluster.log_in(ttl_s=-10)
    for words in (TARGET, ("ls",), ("ssh", "root@demo-node", "true"), ("config",), ("status",)):
        done = cluster.run("tsh", *words)
        assert done.returncode == 1, words
        assert b"expired" in done.stderr and b"tsh login --proxy=127.0.0.1" in done.stderr
    assert cluster.dials == []


def test_a_server_of_another_authority_is_refused_even_with_insecure(cluster: FakeCluster) -> None:
    with tempfile.TemporaryDirectory(prefix="tc-") as folder, FakeCluster(Path(folder)) as other:
        cluster.log_in(trust=other)
        for words in (TARGET, ("ls",), ("--insecure", "ls"), ("--insecure", *TARGET)):
            done = cluster.run("tsh", *words)
            assert done.returncode == 1
            assert b"certificate" in done.stderr
            assert b"Traceback" not in done.stderr
        assert cluster.dials == []


def test_a_proxy_that_is_down_or_cuts_the_line(cluster: FakeCluster) -> None:
    async def cut(stream: Stream, dial: UserDial) -> None:
        stream.abort()

    cluster.serve = cut
    done = cluster.run("tsh", *TARGET)
    assert b"Traceback" not in done.stderr
    profile = cluster.home / "127.0.0.1.yaml"
    profile.write_text(profile.read_text().replace(str(cluster.port), "1"))
    done = cluster.run("tsh", *TARGET)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert b"cannot connect to 127.0.0.1:1" in done.stderr


def test_no_files_of_an_identity_are_left_behind(cluster: FakeCluster, tmp_path: Path) -> None:
    from pkgs.common.pki.identityfile import IdentityFile, write_identity_file

    base = cluster.home / "keys" / "127.0.0.1"
    identity = IdentityFile(
        private_key=(base / "alice.key").read_bytes(),
        ssh_cert=(base / "alice-ssh" / "demo-cert.pub").read_text().strip(),
        tls_cert=(base / "alice.crt").read_text(),
        tls_ca_certs=((base / "cas" / "demo.pem").read_text(),),
        ssh_ca_lines=tuple((cluster.home / "known_hosts").read_text().splitlines()),
    )
    path = tmp_path / "id"
    path.write_bytes(write_identity_file(identity))
    words = ("-i", str(path), f"--proxy={cluster.addr}")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = {**cluster.env, "TMPDIR": str(temporary), "TELEPORT_HOME": str(tmp_path / "nothing")}
    done = subprocess.run([TSH, *words, "ls"], env=env, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    process = subprocess.Popen([TSH, *words, *TARGET], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"hello")
        process.stdin.flush()
        assert process.stdout.read(5) == b"hello"
        process.send_signal(1)
        assert process.wait(20) == 129
    assert list(temporary.iterdir()) == []
