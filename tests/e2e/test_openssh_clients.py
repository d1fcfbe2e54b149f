"""The clients people already have, through `tsh config`: ssh, scp, sftp, rsync, git, Ansible, ssh -J."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.harness.clients import stop
from tests.harness.cluster import BIN, OS_USER, Cluster, Person, run
from tests.harness.fleet import start_fleet
from tests.harness.wait import wait_for
from tests.integration.sockets_kit import Echo, ask
from tests.integration.x11_kit import x_server

HOST = f"{OS_USER}@demo-node.demo"


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    path = tmp_path / "payload.bin"
    path.write_bytes(os.urandom(3_000_000))
    return path


def test_ssh_streams_stdin_and_half_close(alice: Person) -> None:
    assert alice.ssh(HOST, "cat; echo after", stdin="line\n").ok().out == "line\nafter\n"


def test_ssh_passes_signals_as_status(alice: Person) -> None:
    assert alice.ssh(HOST, "kill -TERM $$").code == 255


def test_pty_has_the_clients_size_and_term(alice: Person) -> None:
    config = alice.ssh_config()
    inner = f"ssh -tt -F {config} {HOST} 'stty size; echo $TERM'"
    done = run(
        "script", "-qec", f"stty rows 33 cols 101; {inner}", "/dev/null", env={**alice.env, "TERM": "xterm"}
    )
    assert "33 101" in done.out
    assert "xterm" in done.out


@pytest.mark.parametrize("protocol", [["-s"], ["-O"]], ids=["sftp", "scp"])
def test_scp_both_protocols_both_ways(
    alice: Person, payload: Path, tmp_path: Path, protocol: list[str]
) -> None:
    config = alice.ssh_config()
    there, back = tmp_path / "there.bin", tmp_path / "back.bin"
    run("scp", *protocol, "-q", "-F", config, payload, f"{HOST}:{there}", env=alice.env).ok()
    run("scp", *protocol, "-q", "-F", config, f"{HOST}:{there}", back, env=alice.env).ok()
    assert back.read_bytes() == payload.read_bytes()


def test_sftp_batch(alice: Person, payload: Path, tmp_path: Path) -> None:
    work = tmp_path / "w"
    lines = [f"mkdir {work}", f"put {payload} {work}/a", f"rename {work}/a {work}/b", f"ls -l {work}"]
    lines += [f"get {work}/b {tmp_path}/got", f"rm {work}/b", f"rmdir {work}"]
    batch = "\n".join(lines) + "\n"
    run("sftp", "-q", "-b", "-", "-F", alice.ssh_config(), HOST, env=alice.env, stdin=batch).ok()
    assert (tmp_path / "got").read_bytes() == payload.read_bytes()
    assert not work.exists()


@pytest.mark.needs("rsync")
def test_rsync(alice: Person, payload: Path, tmp_path: Path) -> None:
    shell = f"ssh -F {alice.ssh_config()}"
    target = tmp_path / "synced"
    run("rsync", "-a", "-e", shell, payload, f"{HOST}:{target}/", env=alice.env).ok()
    assert (target / payload.name).read_bytes() == payload.read_bytes()


@pytest.mark.needs("git")
def test_git_over_ssh(alice: Person, tmp_path: Path) -> None:
    env = {
        **alice.env,
        "GIT_SSH_COMMAND": f"ssh -F {alice.ssh_config()}",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com",
    }  # fmt: skip
    bare, work, clone = tmp_path / "bare.git", tmp_path / "work", tmp_path / "clone"
    run("git", "init", "-q", "--bare", "-b", "main", bare, env=env).ok()
    run("git", "init", "-q", "-b", "main", work, env=env).ok()
    (work / "f").write_text("content\n")
    run("git", "-C", work, "add", "f", env=env).ok()
    run("git", "-C", work, "commit", "-qm", "first", env=env).ok()
    run("git", "-C", work, "push", "-q", f"{HOST}:{bare}", "main", env=env).ok()
    run("git", "clone", "-q", f"{HOST}:{bare}", clone, env=env).ok()
    assert (clone / "f").read_text() == "content\n"


def test_openssh_jump_through_the_proxys_ssh_port_without_tsh(
    cluster: Cluster, alice: Person, tmp_path: Path
) -> None:
    keys = next((alice.home / ".tsh" / "keys").iterdir())
    config = tmp_path / "config"
    config.write_text(
        f"""Host proxy
  HostName 127.0.0.1
  Port {cluster.ssh_port}
  User {OS_USER}
Host *.demo
  ProxyJump proxy
  User {OS_USER}
Host *
  IdentityFile {keys}/alice
  CertificateFile {keys}/alice-ssh/demo-cert.pub
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {alice.home}/.tsh/known_hosts
  StrictHostKeyChecking yes
  BatchMode yes
"""
    )
    assert run("ssh", "-F", config, "demo-node.demo", "echo jumped", env=alice.env).ok().out == "jumped\n"


@pytest.mark.needs("tmux")
def test_an_interactive_shell_in_a_real_terminal(alice: Person) -> None:
    """Typed by tmux into a real terminal: prompt, command, resize, exit."""
    socket = f"tp-{os.getpid()}"

    env = {**alice.env, "TERM": "xterm-256color", "TMUX_TMPDIR": str(alice.home)}

    def tmux(*args: str) -> str:
        return run("tmux", "-L", socket, *args, env=env).out

    tmux("new-session", "-d", "-x", "90", "-y", "24", f"ssh -tt -F {alice.ssh_config()} {HOST}")
    try:
        tmux("send-keys", "echo size-$(stty size | tr ' ' x)", "Enter")
        wait_for(lambda: "size-24x90" in tmux("capture-pane", "-p"), what="the shell to answer")
        tmux("resize-window", "-x", "100", "-y", "30")
        tmux("send-keys", "echo again-$(stty size | tr ' ' x)", "Enter")
        wait_for(lambda: "again-30x100" in tmux("capture-pane", "-p"), what="the resize to arrive")
        tmux("send-keys", "exit", "Enter")
        wait_for(lambda: "demo" not in tmux("ls"), what="the session to end")
    finally:
        tmux("kill-server")


@pytest.fixture(scope="module")
def fleet(cluster: Cluster) -> list[str]:
    return start_fleet(cluster, agents=2, names_each=5)


@pytest.mark.needs("ansible")
def test_ansible_pings_ten_hosts(alice: Person, fleet: list[str], tmp_path: Path) -> None:
    inventory = tmp_path / "inventory"
    python = shutil.which("python3")
    inventory.write_text("".join(f"{name} ansible_python_interpreter={python}\n" for name in fleet))
    env = {
        **alice.env,
        "ANSIBLE_SSH_ARGS": f"-F {alice.ssh_config()}",
        "ANSIBLE_REMOTE_USER": OS_USER,
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "ansible"),
        "ANSIBLE_FORKS": "10",
    }
    out = run("ansible", "-i", inventory, "all", "-m", "ping", env=env, timeout=180).ok().out
    assert out.count("SUCCESS") == 10


X11_ROLE = """
kind: role
version: v7
metadata: {name: windows}
spec:
  options: {permit_x11_forwarding: true}
  allow:
    ssh: {forward: [{unix: "/tmp/*/far.sock"}, {unix: "/tmp/*/made.sock", direction: remote}]}
    logins: ["{{internal.logins}}"]
    node_labels: {env: demo}
"""


@pytest.mark.needs("Xvfb", "xauth", "xdpyinfo")
def test_windows_and_sockets_through_tsh(cluster: Cluster, alice: Person) -> None:
    cluster.tctl("create", "-f", "-", stdin=X11_ROLE).ok()
    xenia, target = cluster.login("xenia", "windows"), f"{OS_USER}@demo-node"
    with tempfile.TemporaryDirectory(dir="/tmp") as name, x_server(Path(name)) as screen:
        folder = Path(name)

        def shown(person: Person, flag: str, command: str) -> str:
            done = run(BIN / "tsh", "ssh", flag, target, command, env={**person.env, **screen.environment})
            return done.ok().out

        for flag in ("-X", "-Y"):
            assert "number of screens" in shown(xenia, flag, "xdpyinfo")
        assert cluster.wait_event("x11-forward", user="xenia")["code"] == "T3008I"
        for person, flag in ((xenia, "-x"), (alice, "-Y")):
            assert shown(person, flag, 'echo "[$DISPLAY]"') == "[]\n"
        assert cluster.wait_event("x11-forward", user="alice")["code"] == "T3008W"

        far, made, here = folder / "far.sock", folder / "made.sock", folder / "here.sock"
        flags = ["-N", "-L", f"{here}:{far}", "-R", f"{made}:{far}"]
        with Echo(far):
            argv = [str(BIN / "tsh"), "ssh", *flags, target]
            client = subprocess.Popen(argv, env=xenia.env, stdin=subprocess.DEVNULL)
            try:
                for path in (here, made):
                    wait_for(path.exists, what=f"{path} is there")
                    assert ask(path, b"x" * 500_000) == b"got:" + b"x" * 500_000
            finally:
                stop(client)
            wait_for(lambda: not made.exists(), what="the socket is removed")
        assert cluster.wait_event("port", user="xenia", addr=str(far))["code"] in ("T3003I", "T3003S")
        assert cluster.wait_event("port", user="xenia", addr=f"remote {made}")
