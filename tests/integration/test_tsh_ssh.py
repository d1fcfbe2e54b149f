"""`tsh ssh` by OpenSSH and by its own client: the same tests for both, then what only the own one has."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

import pytest

from pkgs.common.pki.authority import new_authority
from pkgs.common.pki.trust import Trust
from tests.harness.ports import free_port
from tests.integration.ssh_kit import SshNode, change_role, wait_until
from tests.integration.terminal import Terminal
from tests.integration.test_ssh_agent_forward import Agent, agent  # noqa: F401
from tests.integration.test_ssh_forward_rules import ask, give, server, to  # noqa: F401
from tests.integration.test_ssh_remote_forward import echo
from tests.integration.tsh_kit import OPENSSH, OWN, TSH, TshNode

pytestmark = [
    pytest.mark.needs("ssh", "ssh-agent", "ssh-add", "sftp"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]
both = pytest.mark.parametrize("client", [OPENSSH, OWN])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TshNode]:
    with TshNode.running(tmp_path_factory.mktemp("tsh")) as made:
        change_role(made.node, "access", forward_agent=True)
        give(made.node)
        yield made
        wait_until(lambda: made.node.pool.open_connections == 0, "no connection is left")


@pytest.fixture(autouse=True)
def logged_in(made: TshNode) -> None:
    made.log_in(made.node.user("alice", roles=("access", "ports")))


@pytest.fixture(scope="module")
def node(made: TshNode) -> SshNode:
    return made.node


@both
def test_a_command_has_its_streams_and_its_status(made: TshNode, client: str) -> None:
    data = os.urandom(3_000_000)
    done = made.run(client, "cat; echo oops >&2; exit 7", stdin=data)
    assert (done.returncode, done.stdout, done.stderr) == (7, data, b"oops\n")
    assert made.run(client, "kill -9 $$").returncode == 255
    assert made.run(client, "cat", flags=("-n",), stdin=b"not read").stdout == b""
    loud = made.run(client, "head -c 5000000 /dev/zero; sleep 1; echo end >&2")
    assert len(loud.stdout) == 5_000_000 and loud.stderr == b"end\n"


@both
def test_without_a_command_a_shell_reads_what_is_piped(made: TshNode, client: str) -> None:
    done = made.run(client, stdin=b"tty; echo $((40+2)); exit 3\n")
    assert done.returncode == 3
    assert b"not a tty" in done.stdout and b"42" in done.stdout
    for flags, terminal in ((("-t",), b"not a tty"), (("-tt",), b"/dev/pts/")):
        assert terminal in made.run(client, "tty", flags=flags).stdout


@both
def test_variables_are_sent(made: TshNode, client: str) -> None:
    flags = ("-o", "SetEnv=LC_ONE=1", "-o", "SendEnv LC_T*")
    done = made.run(client, "echo $LC_ONE $LC_TWO", flags=flags, env={"LC_TWO": "two words"})
    assert done.stdout == b"1 two words\n"


@both
def test_a_subsystem(made: TshNode, client: str) -> None:
    done = made.run(client, "sftp", flags=("-s",), stdin=b"\0\0\0\5\1\0\0\0\3")
    assert done.stdout[4:9] == b"\2\0\0\0\3"


@both
def test_a_refused_login_and_a_server_of_another_authority(made: TshNode, client: str) -> None:
    denied = made.run(client, "true", login="daemon")
    assert denied.returncode == 255
    assert (b"Permission denied" if client == OPENSSH else b"'tsh status' shows") in denied.stderr
    foreign = new_authority("host", "demo", time.time())
    made.trust(Trust.from_authorities([foreign], "demo").ssh_ca_lines("host")[0])
    untrusted = made.run(client, "touch /tmp/never")
    assert untrusted.returncode == 255 and untrusted.stderr
    assert not Path("/tmp/never").exists()


@both
def test_at_a_terminal(made: TshNode, client: str) -> None:
    terminal = Terminal(["/bin/sh", "-c", f"{TSH} ssh root@node; echo left=$?; stty -a"], made.env(client))
    ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    terminal.type("echo at-$((40+2)); stty size; echo term=$TERM")
    terminal.expect("at-42")
    terminal.expect("term=xterm")
    assert "33 99\r\n" in terminal.shown
    ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 21, 77, 0, 0))
    terminal.type("until stty size | grep '21 77'; do :; done; echo resi''zed; sleep 100")
    terminal.expect("resized")
    terminal.type("\x03", end="")
    terminal.type("echo inter$((1+1))upted; ")
    terminal.expect("inter2upted")
    terminal.type("exit 9")
    terminal.expect("left=9")
    terminal.expect(" icanon")
    assert terminal.end() == 0


@both
def test_a_line_that_begins_with_a_tilde_and_a_dot_ends_it(made: TshNode, client: str) -> None:
    terminal = Terminal(["/bin/sh", "-c", f"{TSH} ssh root@node; echo left=$?; stty -a"], made.env(client))
    terminal.type("echo rea''dy")
    terminal.expect("ready")
    terminal.type("~?", end="")
    terminal.expect("Supported escape sequences")
    terminal.type("\n~.", end="")
    terminal.expect("left=255")
    terminal.expect(" icanon")
    assert terminal.end() == 0


@both
def test_ports_are_forwarded_both_ways(made: TshNode, client: str, server: int) -> None:  # noqa: F811
    give(made.node, to("localhost", server))
    here, other, proxy, there = free_port(), free_port(), free_port(), free_port()
    data = os.urandom(1_000_000)
    with echo() as local:
        flags = (
            "-N", "-o", "ExitOnForwardFailure=yes", "-D", f"{proxy}", "-R", f"{there}:127.0.0.1:{local}",
            "-L", f"{here}:localhost:{server}", "-L", f"127.0.0.1:{other}:127.0.0.1:{server}",
        )  # fmt: skip
        with made.started(client, flags=flags):
            assert ask(here, data) == b"got:" + data
            assert ask(other, b"by its address") == b""
            assert ask(there, data) == b"got:" + data
            with socket.create_connection(("127.0.0.1", proxy), timeout=20) as sock:
                sock.sendall(b"\5\1\0")
                assert sock.recv(2) == b"\5\0"
                sock.sendall(b"\5\1\0\3\x09localhost" + server.to_bytes(2, "big"))
                assert sock.recv(10)[:2] == b"\5\0"
                sock.sendall(b"by socks")
                sock.shutdown(socket.SHUT_WR)
                assert b"".join(iter(lambda: sock.recv(4096), b"")) == b"got:by socks"


@both
def test_a_port_that_is_taken_is_an_error_where_it_must_not_be(made: TshNode, client: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags = ("-L", f"127.0.0.1:{taken.getsockname()[1]}:localhost:1")
        assert made.run(client, "echo on", flags=flags).stdout == b"on\n"
        failed = made.run(client, "echo on", flags=(*flags, "-o", "ExitOnForwardFailure=yes"))
        assert failed.returncode == 255 and failed.stdout == b""


@both
def test_the_agent_is_there_when_it_is_asked_for(made: TshNode, client: str, agent: Agent) -> None:  # noqa: F811
    sock = {"SSH_AUTH_SOCK": agent.environment["SSH_AUTH_SOCK"]}
    done = made.run(client, "ssh-add -l; ssh-add -l", flags=("-A",), env=sock)
    assert done.stdout.decode().count(agent.fingerprint) == 2, done.stderr
    assert made.run(client, "echo -$SSH_AUTH_SOCK-", env=sock).stdout == b"--\n"


@pytest.mark.needs("ss")
@both
def test_in_the_background(made: TshNode, client: str, server: int) -> None:  # noqa: F811
    give(made.node, to("127.0.0.1", server))
    here = free_port()
    done = subprocess.run(
        made.argv(flags=("-f", "-N", "-L", f"{here}:127.0.0.1:{server}")),
        env=made.env(client), timeout=60, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert done.returncode == 0
        assert ask(here, b"behind") == b"got:behind"
    finally:
        listening = subprocess.run(["ss", "-ltnpH", f"sport = :{here}"], capture_output=True, text=True)
        os.kill(int(re.findall(r"pid=(\d+)", listening.stdout)[0]), signal.SIGKILL)


@both
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 0), (signal.SIGHUP, 255), (signal.SIGINT, 255), (signal.SIGQUIT, 255)],
)
def test_a_signal_ends_what_only_forwards(
    made: TshNode, client: str, number: signal.Signals, status: int
) -> None:
    here = free_port()
    with made.started(client, flags=("-N", "-L", f"127.0.0.1:{here}:127.0.0.1:1")) as process:
        wait_until(lambda: answers(here), "it listens")
        process.send_signal(number)
        if client == OPENSSH:
            # It may sleep over the first one; see `harness/clients`.
            wait_until(lambda: process.poll() is not None or process.send_signal(number), "it ends")
        assert process.wait(20) == status
        assert process.stderr is not None and b"lost" not in process.stderr.read()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@both
def test_own_messages_go_to_a_file_or_nowhere(made: TshNode, client: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = made.run(client, "true", flags=("-v", "-E", str(log)))
    assert done.returncode == 0 and b"node.demo" in log.read_bytes()
    assert done.stderr == b""
    assert made.run(client, "true", login="daemon", flags=("-q",)).stderr == b""


# The own client only.


def test_it_goes_on_though_nobody_reads_what_it_says(made: TshNode) -> None:
    here = free_port()
    command = "head -c 3000000 /dev/zero >&2; exit 7"
    with made.started(OWN, command, flags=("-L", f"127.0.0.1:{here}:127.0.0.1:1")) as process:
        assert process.stderr is not None
        waiting = process.stderr.fileno()
        wait_until(lambda: readable(waiting) >= 64 * 1024, "its standard error takes no more")
        assert ask(here, b"refused, which is told") == b""
        assert len(process.stderr.read()) >= 3_000_000
        assert process.wait(20) == 7


def readable(fd: int) -> int:
    size: int = struct.unpack("i", ioctl(fd, termios.FIONREAD, b"\0" * 4))[0]
    return size


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("-X",), "x11-untrusted"),
        (("-Y",), "x11-trusted"),
        (("-o", "ControlMaster=yes"), "ControlMaster"),
        (("-o", "RequestTTY=perhaps"), "RequestTTY"),
        (("-L", "/tmp/socket:localhost:1"), "-L"),
        (("-R", "8080"), "-R"),
        (("-f",), "-f"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(made: TshNode, flags: tuple[str, ...], word: str) -> None:
    before = len(made.cluster.dials)
    done = made.run(OWN, flags=flags)
    assert done.returncode == 2
    assert word in done.stderr.decode()
    assert len(made.cluster.dials) == before, "nothing was connected"


def test_it_is_used_when_there_is_no_openssh(made: TshNode, tmp_path: Path) -> None:
    for name in ("python3", "sh", "env", "readlink", "dirname"):
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / name).symlink_to(Path(os.path.realpath(f"/usr/bin/{name}")))
    done = made.run(OPENSSH, "echo on", env={"PATH": str(tmp_path)})
    assert (done.stdout, done.stderr) == (b"on\n", b"")
    copy = subprocess.run(
        [TSH, "scp", "root@node:/etc/hostname", "."],
        env=made.env(OPENSSH) | {"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert copy.returncode != 0 and "install the OpenSSH client" in copy.stderr


def test_files_are_gone_on_with_without_openssh(made: TshNode, tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    (tmp_path / "whole").write_bytes(data)
    (tmp_path / "part").write_bytes(data[:700_000])
    for source, target in (
        (f"root@node:{tmp_path}/whole", f"{tmp_path}/part"),
        (f"{tmp_path}/part", f"root@node:{tmp_path}/new"),
    ):
        argv = [TSH, "scp", "-q", "--continue", source, target]
        done = subprocess.run(argv, env=made.env(OWN), capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "part").read_bytes() == (tmp_path / "new").read_bytes() == data


def test_round_trips_are_measured(made: TshNode) -> None:
    argv = [TSH, "latency", "ssh", "--count=3", "--format=json", "root@node"]
    done = subprocess.run(argv, env=made.env(OPENSSH), capture_output=True, timeout=60)
    found = json.loads(done.stdout)
    assert found["samples"] == 3 and found["client_proxy_ms"] > 0 and found["proxy_host_ms"] >= 0


def test_a_load_counts_what_failed(made: TshNode) -> None:
    def load(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [TSH, "bench", "ssh", "--rate=4", "--duration=1s", *words]
        return subprocess.run(argv, env=made.env(OPENSSH), capture_output=True, text=True, timeout=60)

    good = load("--format=json", "root@node", "echo", "on")
    found = json.loads(good.stdout)
    assert good.returncode == 0, found
    assert (found["requests_originated"], found["requests_failed"]) == (4, 0)
    assert 0 < found["percentiles_ms"]["50"] <= found["percentiles_ms"]["100"]
    bad = load("--concurrent=1", "root@node", "exit 3")
    assert bad.returncode == 1
    assert "* Requests originated: 4\n* Requests failed: 4\n" in bad.stdout
    assert "exit status was 3" in bad.stdout
