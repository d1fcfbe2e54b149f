"""The programs people use over SSH, against a node: sftp, rsync, git, tmux, multiplexing."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.clients import stop
from tests.integration.ssh_kit import SshNode, User, ended, wait_until

pytestmark = [
    pytest.mark.needs("ssh", "sftp", "rsync", "git", "tmux"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        yield node


def command(user: User) -> str:
    return "ssh " + " ".join(user.options())


def sftp(user: User, batch: str) -> subprocess.CompletedProcess[bytes]:
    argv = ["sftp", *user.options("-P"), "-b", "-", "root@127.0.0.1"]
    return subprocess.run(argv, input=batch.encode(), capture_output=True, timeout=60)


def test_sftp_does_what_its_users_expect(node: SshNode, tmp_path: Path) -> None:
    user = node.user("sam")
    local = tmp_path / "local"
    local.write_bytes(os.urandom(5_000_000))
    far = tmp_path / "far"
    done = sftp(
        user,
        f"""mkdir {far}
put {local} {far}/one
rename {far}/one {far}/two
symlink {far}/two {far}/link
ln {far}/two {far}/hard
chmod 640 {far}/two
ls -la {far}
df {far}
get {far}/link {tmp_path}/back
put -p {local} {far}/stamped
rm {far}/hard
rm {far}/link
rm {far}/stamped
""",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back").read_bytes() == local.read_bytes()
    assert (far / "two").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in far.iterdir()) == ["two"]
    assert b"two" in done.stdout
    assert sftp(user, f"rename {far}/two {local}\n").returncode == 0  # OpenSSH asks for the replacing kind
    assert sftp(user, f"rmdir {far}\nget {far}/nothing\n").returncode == 1
    assert not far.exists()

    def names() -> set[object]:
        return {one.fields.get("action") for one in node.events.named("sftp") if one.fields["user"] == "sam"}

    wait_until(lambda: {1, 7, 9, 10, 11, 12, 13, 16, 18, 19} <= names(), "every operation in the audit")
    assert ended(node, "sam", "sftp_summary")
    assert ended(node, "sam", "subsystem").fields["name"] == "sftp"


def test_sftp_resumes_and_appends(node: SshNode, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    (tmp_path / "whole").write_bytes(data)
    (tmp_path / "part").write_bytes(data[:400_000])
    assert sftp(node.user(), f"reput {tmp_path}/whole {tmp_path}/part\n").returncode == 0
    assert (tmp_path / "part").read_bytes() == data


def test_rsync_both_ways(node: SshNode, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for i in range(50):
        (source / f"d{i % 5}").mkdir(parents=True, exist_ok=True)
        (source / f"d{i % 5}" / f"f{i}").write_bytes(os.urandom(i * 1000))
    shell = command(node.user())
    there, back = tmp_path / "there", tmp_path / "back"
    subprocess.run(["rsync", "-a", "-e", shell, f"{source}/", f"root@127.0.0.1:{there}/"], check=True)
    subprocess.run(["rsync", "-a", "-e", shell, f"root@127.0.0.1:{there}/", f"{back}/"], check=True)
    assert subprocess.run(["diff", "-r", source, back]).returncode == 0


def test_git_clone_and_push(node: SshNode, tmp_path: Path) -> None:
    env = {
        **os.environ,
        "GIT_SSH_COMMAND": command(node.user()),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@x",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@x",
    }
    bare, clone = tmp_path / "bare.git", tmp_path / "clone"
    subprocess.run(["git", "init", "-q", "--bare", bare], check=True, env=env)
    subprocess.run(["git", "clone", "-q", f"ssh://root@127.0.0.1{bare}", clone], check=True, env=env)
    (clone / "file").write_bytes(os.urandom(500_000))
    subprocess.run(["git", "-C", clone, "add", "."], check=True, env=env)
    subprocess.run(["git", "-C", clone, "commit", "-qm", "x"], check=True, env=env)
    subprocess.run(["git", "-C", clone, "push", "-q", "origin", "HEAD"], check=True, env=env)
    log = subprocess.run(["git", "-C", bare, "log", "--oneline", "--all"], capture_output=True, env=env)
    assert log.stdout.count(b"\n") == 1


def test_tmux_on_the_terminal_survives_the_session(node: SshNode) -> None:
    socket_path = node.folder / "tmux"
    user = node.user()
    try:
        with user.logged_in() as transport:
            channel = transport.open_session()
            channel.get_pty(term="xterm", width=90, height=30)
            channel.exec_command(f"tmux -S {socket_path} -f /dev/null new-session")
            seen = b""
            while b"$" not in seen and b"#" not in seen:
                seen += channel.recv(4096)
            channel.send(b"echo mar''ker\r")
            while b"marker" not in seen:
                seen += channel.recv(4096)
        wait_until(lambda: node.pool.open_connections == 0, "the session is over")
        done = user.ssh(f"tmux -S {socket_path} capture-pane -p")
        assert b"marker" in done.stdout
    finally:
        subprocess.run(["tmux", "-S", socket_path, "kill-server"], check=False, capture_output=True)


def test_many_sessions_share_a_connection(node: SshNode) -> None:
    user = node.user()
    socket_path = f"/tmp/m-{uuid.uuid4().hex[:8]}"
    before = ("-o", f"ControlPath={socket_path}")
    master = subprocess.Popen(user.argv("-N", before=(*before, "-M")), stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: Path(socket_path).exists(), "the master")
        clients = [
            subprocess.Popen(
                user.argv(f"sleep 0.2; echo {i}; exit {i}", before=before),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
            )
            for i in range(8)
        ]
        ends = [(*client.communicate(timeout=30), client.returncode) for client in clients]
        assert ends == [(f"{i}\n".encode(), b"", i) for i in range(8)]
        assert node.pool.open_connections == 1
    finally:
        stop(master)
