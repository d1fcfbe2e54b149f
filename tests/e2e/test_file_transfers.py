"""Files through proxy and tunnel with the programs people have: scp, sftp, rsync, sshfs, git."""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bench.procfs import family, private_mib
from tests.harness.clients import stop
from tests.harness.cluster import OS_USER, Cluster, Person, run
from tests.harness.wait import wait_for

HOST = f"{OS_USER}@demo-node.demo"
BIG = 128 * 1024 * 1024
NAMES = [b"plain", b"with space", "gr\u00fc\u00dfe \u4e16\u754c".encode(), b"not-utf8-\xff\xfe", b"line\nend",
         b"-dash", b"$(touch gone)", b"quote'\"", b"star*", b"\x1b]0;title\x07"]  # fmt: skip


@pytest.fixture(scope="module")
def config(alice: Person) -> Path:
    return alice.ssh_config()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders, links, modes, old times, and names of every kind."""
    root = tmp_path_factory.mktemp("tree") / "t"
    (root / "a" / "b").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        path = os.fsencode(root / "a") + b"/" + name
        with Path(os.fsdecode(path)).open("wb") as file:
            file.write(os.urandom(1000 * number))
        os.utime(path, (1_500_000_000, 1_500_000_000 + number))
    (root / "a" / "b" / "run").write_text("#!/bin/sh\n")
    (root / "a" / "b" / "run").chmod(0o750)
    (root / "empty").mkdir()
    return root


def same(left: Path, right: Path) -> bool:
    return run("diff", "-r", "--no-dereference", left, right).code == 0


def fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shell(config: Path) -> str:
    return f"ssh -F {config}"


def summed(cluster: Cluster, **fields: str) -> list[str]:
    """Lines of the summaries of transfers that have come so far; those of earlier tests are among them."""
    return [
        line
        for event in cluster.events("sftp_summary")
        if all(event.get(key) == value for key, value in fields.items())
        for line in event["file_transfer_stats"]
    ]


@pytest.mark.parametrize("protocol", ["-s", "-O"])
def test_scp_copies_a_tree_with_times_and_modes(
    alice: Person, config: Path, tree: Path, tmp_path: Path, protocol: str
) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    scp = ("scp", protocol, "-q", "-r", "-p", "-F", config)
    if protocol == "-O":
        # The old protocol ends a name with its line: OpenSSH's own client refuses to send such a name.
        tree = Path(
            shutil.copytree(tree, tmp_path / "tree", ignore=lambda _, names: [n for n in names if "\n" in n])
        )
    run(*scp, tree, f"{HOST}:{there}", env=alice.env).ok()
    run(*scp, f"{HOST}:{there}", back, env=alice.env).ok()
    assert same(tree, back)
    assert (back / "a" / "b" / "run").stat().st_mode & 0o777 == 0o750
    assert (back / "a" / "plain").stat().st_mtime == 1_500_000_000


def test_sftp_every_command(cluster: Cluster, alice: Person, config: Path, tmp_path: Path) -> None:
    local, far = tmp_path / "local", tmp_path / "far"
    local.write_bytes(os.urandom(1_000_000))
    (tmp_path / "part").write_bytes(local.read_bytes()[:300_000])
    far.mkdir()
    (far / "part").write_bytes(local.read_bytes()[:400_000])
    batch = f"""pwd
cd {far}
lcd {tmp_path}
mkdir d
put -p local d/one
rename d/one d/two
copy d/two d/copied
ln d/two d/hard
ln -s two d/link
symlink two d/link2
chmod 640 d/two
chmod -h 600 d/copied
chown {os.getuid()} d/two
chgrp {os.getgid()} d/two
ls -la d
ls d/c*
df -h d
get -p d/link back
reput local part
reget d/two part
put -f local d/synced
rm d/hard
rm d/link
rm d/link2
-rm d/none
-rmdir none
"""
    done = run("sftp", "-q", "-b", "-", "-F", config, HOST, env=alice.env, stdin=batch).ok()
    assert "two" in done.out
    copies = [far / "d" / "two", far / "d" / "copied", far / "d" / "synced", far / "part"]
    for path in (*copies, tmp_path / "back", tmp_path / "part"):
        assert filecmp.cmp(path, local, shallow=False), path
    assert (far / "d" / "two").stat().st_mode & 0o777 == 0o640
    assert (far / "d" / "copied").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in (far / "d").iterdir()) == ["copied", "synced", "two"]
    event = cluster.wait_event("sftp", path=str(far / "d" / "two"), code="TS007I")
    assert event["attributes"]
    opened = cluster.wait_event("sftp", path=str(far / "d" / "copied"), code="TS001I")
    assert opened["flags"] == "write create truncate"
    sid = opened["sid"]
    wait_for(
        lambda: f"{far}/d/copied: 0 read, 1000000 written" in summed(cluster, sid=sid), what="the summary"
    )


@pytest.mark.needs("rsync")
def test_rsync_mirrors_both_ways(alice: Person, config: Path, tree: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    rsync = ("rsync", "-a", "--delete", "-e", shell(config))
    run(*rsync, f"{tree}/", f"{HOST}:{there}/", env=alice.env).ok()
    (there / "extra").write_text("goes away")
    run(*rsync, f"{tree}/", f"{HOST}:{there}/", env=alice.env).ok()
    assert same(tree, there)
    back.mkdir()
    (back / "extra").write_text("goes away")
    run(*rsync, f"{HOST}:{there}/", f"{back}/", env=alice.env).ok()
    assert same(tree, back)


@contextmanager
def mounted(alice: Person, config: Path, far: Path, at: Path) -> Iterator[None]:
    at.mkdir()
    run("sshfs", "-F", config, "-o", "idmap=user", f"{HOST}:{far}", at, env=alice.env).ok()
    try:
        yield
    finally:
        run("fusermount3", "-u", at).ok()
        wait_for(lambda: not os.path.ismount(at), what="the folder to be unmounted")


@pytest.mark.needs("sshfs", "fusermount3")
@pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="the kernel offers no FUSE to this user"
)
def test_sshfs_is_a_file_system(alice: Person, config: Path, tree: Path, tmp_path: Path) -> None:
    far, at = tmp_path / "far", tmp_path / "at"
    far.mkdir()
    with mounted(alice, config, far, at):
        shutil.copytree(tree, at / "t", symlinks=True)
        assert same(tree, at / "t")
        (at / "t" / "a" / "plain").rename(at / "moved")
        (at / "link").symlink_to("moved")
        (at / "moved").chmod(0o600)
        with (at / "moved").open("r+b") as file:
            file.truncate(0)
            file.seek(10)
            file.write(b"end")
            file.flush()
            os.fsync(file.fileno())
        assert os.statvfs(at).f_blocks > 0
        (at / "t" / "a" / "b" / "run").unlink()
        (at / "t" / "a" / "b").rmdir()
    assert (far / "moved").read_bytes() == b"\0" * 10 + b"end"
    assert (far / "link").readlink() == Path("moved")
    assert not (far / "t" / "a" / "b").exists()


@pytest.mark.needs("git")
def test_git_clones_and_pushes(alice: Person, config: Path, tmp_path: Path) -> None:
    who = {f"GIT_{role}_{what}": "a@x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env = {**alice.env, **who, "GIT_SSH_COMMAND": shell(config), "GIT_CONFIG_GLOBAL": "/dev/null"}
    bare, clone, again = tmp_path / "bare.git", tmp_path / "clone", tmp_path / "again"
    run("git", "init", "-q", "--bare", "-b", "main", bare, env=env).ok()
    run("git", "clone", "-q", f"{HOST}:{bare}", clone, env=env).ok()
    (clone / "file").write_bytes(os.urandom(500_000))
    run("git", "-C", clone, "add", ".", env=env).ok()
    run("git", "-C", clone, "commit", "-qm", "x", env=env).ok()
    run("git", "-C", clone, "push", "-q", "origin", "HEAD:main", env=env).ok()
    run("git", "clone", "-q", f"{HOST}:{bare}", again, env=env).ok()
    assert filecmp.cmp(clone / "file", again / "file", shallow=False)


def test_a_large_file_with_holes_arrives_whole(alice: Person, config: Path, tmp_path: Path) -> None:
    source, there, back = (tmp_path / name for name in ("source", "there", "back"))
    with source.open("wb") as file:
        for at in (0, BIG // 3, BIG - 100_000):
            file.seek(at)
            file.write(os.urandom(100_000))
    batch = f"put {source} {there}\nget {there} {back}\n"
    run("sftp", "-q", "-b", "-", "-F", config, HOST, env=alice.env, stdin=batch, timeout=120).ok()
    assert there.stat().st_size == BIG
    assert fingerprint(source) == fingerprint(there) == fingerprint(back)


def test_thousands_of_small_files_are_all_copied_and_all_audited(
    cluster: Cluster, alice: Person, config: Path, tmp_path: Path
) -> None:
    many, count = tmp_path / "many", 2_000
    many.mkdir()
    for number in range(count):
        (many / f"{number:05d}").write_text(str(number))
    batch = f"put -r {many} {tmp_path}/there\n"
    run("sftp", "-q", "-b", "-", "-F", config, HOST, env=alice.env, stdin=batch, timeout=120).ok()
    assert same(many, tmp_path / "there")
    sid = cluster.wait_event("subsystem", name="sftp")["sid"]
    cluster.wait_event("session.end", sid=sid)
    listed = cluster.tctl(
        "audit", "ls", f"--session={sid}", "--type=sftp", "--limit=5000", "--format=json"
    ).ok()
    opened = {event["path"] for event in json.loads(listed.out) if event["code"] == "TS001I"}
    assert opened == {f"{tmp_path}/there/{number:05d}" for number in range(count)}


def test_f13_the_end_of_input_is_no_end_of_output(alice: Person, config: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    with source.open("rb") as stdin:
        done = subprocess.run(
            ["ssh", "-F", str(config), HOST, "cat; sleep 0.3; echo after; exit 7"],
            env=alice.env, stdin=stdin, capture_output=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 7
    assert done.stdout == source.read_bytes() + b"after\n"


def test_f14_a_slow_reader_holds_up_nobody_and_no_memory(
    cluster: Cluster, alice: Person, config: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(BIG)
    slow = subprocess.Popen(
        ["sftp", "-q", "-l", "8", "-F", str(config), f"{HOST}:{source}", str(tmp_path / "slow")],
        env=alice.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for((tmp_path / "slow").exists, what="the slow copy to begin")
        pids = _processes(cluster)
        before = _memory_mib(pids)
        began = time.monotonic()
        run("scp", "-q", "-F", config, f"{HOST}:{source}", tmp_path / "fast", env=alice.env).ok()
        assert time.monotonic() - began < 30
        assert (tmp_path / "fast").stat().st_size == BIG
        assert (tmp_path / "slow").stat().st_size < BIG // 10
        wait_for(lambda: _processes(cluster) <= pids, what="the fast copy's process to end")
        assert _memory_mib(pids) - before < 32
    finally:
        stop(slow)


def _processes(cluster: Cluster) -> set[int]:
    return {pid for name in ("proxy", "ssh") for pid in family(cluster.daemons[name].pid)}


def _memory_mib(pids: set[int]) -> float:
    """Private memory: what a fork shares with its parent is nobody's growth."""
    return sum(private_mib(pid) for pid in pids)


def test_f28_a_client_that_vanishes_leaves_no_transfer_behind(
    cluster: Cluster, alice: Person, config: Path, tmp_path: Path
) -> None:
    def processes() -> int:
        return len(family(cluster.daemons["ssh"].pid))

    wait_for(lambda: processes() <= 3, what="earlier connections to be over")
    before = processes()
    source, there = tmp_path / "source", tmp_path / "there"
    with source.open("wb") as file:
        file.truncate(BIG)
    # A connection that is resumed would be waited for for a minute.
    client = subprocess.Popen(
        ["scp", "-q", "-l", "8000", "-F", str(config), str(source), f"{HOST}:{there}"],
        env={**alice.env, "TELEPORT_NO_RESUME": "1"}, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: there.exists() and there.stat().st_size > 0, what="the transfer")
    assert processes() > before
    os.killpg(client.pid, signal.SIGKILL)
    client.wait(10)
    wait_for(lambda: processes() == before, what="the transfer's process to be gone")
    told = f"{there}: 0 read, "
    wait_for(lambda: any(line.startswith(told) for line in summed(cluster)), what="the summary")
