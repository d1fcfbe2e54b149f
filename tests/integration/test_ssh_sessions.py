"""Sessions on a node with the real OpenSSH client: shells, commands, ends, environment, recordings."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paramiko.message import Message

from pkgs.common.errors import UnavailableError
from pkgs.common.resources.role import RecordSession
from tests.integration.os_user import OTHER
from tests.integration.ssh_kit import (
    SshNode,
    change_role,
    children_of,
    ended,
    read_recording,
    recording_of,
    wait_until,
)

pytestmark = [
    pytest.mark.needs("ssh"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        yield node


def test_exec_passes_status_output_and_error(node: SshNode) -> None:
    done = node.user().ssh("echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


def test_a_command_ended_by_a_signal_says_which(node: SshNode) -> None:
    with node.user("terry").logged_in() as transport:
        channel = transport.open_session()
        channel.exec_command("kill -TERM $$")
        assert channel.recv_exit_status() == -1
    assert ended(node, "terry", "exec").fields["exitError"] == "signal TERM"


def test_bytes_of_a_command_reach_the_shell_unchanged(node: SshNode) -> None:
    with node.user().logged_in() as transport:
        channel = transport.open_session()
        channel.exec_command(b"printf '%s' '\xff\xfe'")  # type: ignore[arg-type]
        assert channel.recv(10) == b"\xff\xfe"


def test_session_runs_as_the_login_with_its_groups_and_home(node: SshNode) -> None:
    done = node.user().ssh("id -un; id -Gn; pwd; umask; ulimit -c; cat /proc/self/status", login=OTHER)
    lines = done.stdout.decode().splitlines()
    assert lines[0] == OTHER
    assert set(lines[1].split()) == set(
        subprocess.run(["id", "-Gn", OTHER], capture_output=True, text=True).stdout.split()
    )
    assert lines[2] == pwd.getpwnam(OTHER).pw_dir
    assert lines[3] == "0022"
    assert "CapEff:\t0000000000000000" in lines


def test_f13_output_after_end_of_input_is_delivered(node: SshNode) -> None:
    data = os.urandom(3_000_000)
    done = node.user().ssh("cat; sleep 0.3; echo after", stdin=data)
    assert done.stdout == data + b"after\n"
    assert done.returncode == 0


def test_large_output_and_input_arrive_whole_both_ways_at_once(node: SshNode) -> None:
    data = os.urandom(20_000_000)
    done = node.user().ssh("tee /dev/stderr", stdin=data)
    assert done.stdout == data
    assert done.stderr == data


def test_f14_a_slow_reader_gets_everything(node: SshNode) -> None:
    argv = node.user().argv("head -c 6000000 /dev/zero; echo end")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as client:
        assert client.stdout is not None
        time.sleep(1.0)  # the command ends long before its output is read
        out = client.stdout.read()
    assert len(out) == 6_000_004
    assert out.endswith(b"end\n")


def test_a_background_process_that_holds_the_output_does_not_hold_the_session_for_ever(node: SshNode) -> None:
    begun = time.monotonic()
    done = node.user().ssh("sleep 60 & echo started")
    assert done.stdout == b"started\n"
    assert time.monotonic() - begun < 20
    subprocess.run(["pkill", "-x", "-P", "1", "sleep"], check=False)


def test_terminal_has_size_name_modes_and_controls_the_session(node: SshNode) -> None:
    with node.user().logged_in() as transport:
        channel = transport.open_session()
        channel.get_pty(term="screen", width=111, height=33)
        channel.exec_command("stty size; echo $TERM; tty; ps -o tpgid= -p $$; echo $$; read x")
        seen = b""
        while seen.count(b"\n") < 5:
            seen += channel.recv(1000)
        size, term, tty, group, pid = seen.decode().split()[:2], *seen.decode().split()[2:6]
        assert size == ["33", "111"]
        assert term == "screen"
        assert tty.startswith("/dev/pts/")
        assert group == pid
        channel.close()


def test_resize_reaches_the_terminal_and_the_recording(node: SshNode) -> None:
    with node.user("ria").logged_in() as transport:
        channel = transport.open_session()
        channel.get_pty(width=80, height=24)
        channel.exec_command("trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.1; done")
        assert b"ready" in channel.recv(100)
        channel.resize_pty(width=132, height=50)
        assert b"50 132" in channel.recv(100)
        assert channel.recv_exit_status() == 5
    recorded = recording_of(node, "ria")
    assert (132, 50) in recorded.sizes
    assert b"ready" in recorded.output
    assert recorded.meta.interactive


def test_a_terminal_takes_and_gives_more_than_fits_at_once(node: SshNode) -> None:
    """Input that waits for the command while output waits for the client: neither may hold up the other."""
    with node.user().logged_in() as transport:
        channel = transport.open_session()
        channel.get_pty()
        channel.exec_command("stty raw -echo; echo ready; sleep 0.5; head -c 3000000 /dev/zero; md5sum")
        while b"ready" not in channel.recv(100):
            pass
        data = os.urandom(1_000_000).replace(b"\x04", b"x")
        channel.sendall(data)
        read = 0
        while read < 3_000_000:
            read += len(channel.recv(65536))
        channel.shutdown_write()
        channel.close()


def test_keystrokes_make_signals_and_a_signal_request_reaches_the_command(node: SshNode) -> None:
    with node.user().logged_in() as transport:
        channel = transport.open_session()
        channel.get_pty()
        channel.exec_command("trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.1; done")
        assert b"ready" in channel.recv(100)
        channel.send(b"\x03")
        seen = channel.recv(100)
        while b"interrupted" not in seen:
            seen += channel.recv(100)
        assert channel.recv_exit_status() == 9


def test_signal_request(node: SshNode) -> None:
    with node.user().logged_in() as transport:
        channel = transport.open_session()
        channel.exec_command("trap 'echo got; exit 4' USR1; echo ready; while :; do sleep 0.1; done")
        assert channel.recv(100) == b"ready\n"
        message = Message()
        message.add_byte(b"\x62")
        message.add_int(channel.remote_chanid)
        message.add_string("signal")
        message.add_boolean(False)
        message.add_string("USR1")
        transport._send_user_message(message)
        assert channel.recv(100) == b"got\n"
        assert channel.recv_exit_status() == 4


def test_environment_is_the_documented_one_and_nothing_of_the_service(node: SshNode) -> None:
    os.environ["CANARY_OF_THE_SERVICE"] = "1"
    try:
        done = node.user().ssh("env", login=OTHER)
    finally:
        del os.environ["CANARY_OF_THE_SERVICE"]
    env = dict(line.split("=", 1) for line in done.stdout.decode().splitlines())
    assert env["SSH_TELEPORT_USER"] == "alice"
    assert env["SSH_TELEPORT_CLUSTER_NAME"] == "demo"
    assert env["SSH_TELEPORT_HOST_UUID"].startswith("11111111")
    assert env["SSH_SESSION_WEBPROXY_ADDR"] == "proxy.example:443"
    assert len(env["SSH_SESSION_ID"]) == 36
    assert (env["USER"], env["HOME"], env["SHELL"]) == (OTHER, pwd.getpwnam(OTHER).pw_dir, "/bin/bash")
    assert env["SSH_CLIENT"].startswith("127.0.0.1 ")
    assert not {name for name in env if name.startswith(("CANARY", "PYTHON", "TELEPORT"))}


def test_commands_inherit_three_descriptors_and_no_other(node: SshNode) -> None:
    for before in ((), ("-tt",)):
        done = node.user().ssh("exec ls -1 /proc/self/fd", before=before)
        # The last is the folder that ls itself reads.
        assert done.stdout.split() == [b"0", b"1", b"2", b"3"]


def test_login_that_the_host_does_not_know_is_refused_with_a_reason(node: SshNode) -> None:
    done = node.user("norah").ssh("id", login="nosuchuser")
    assert done.returncode == 255
    assert b"there is no user nosuchuser on this host" in done.stderr
    assert ended(node, "norah", "auth").fields["login"] == "nosuchuser"


def test_login_that_no_role_allows_is_refused(node: SshNode) -> None:
    user = node.user("dan", logins=("root", "daemon"))
    done = user.ssh("id", login="daemon")
    assert done.returncode == 255
    assert b"access denied to daemon connecting to node" in done.stderr
    event = ended(node, "dan", "auth")
    assert (event.code, event.fields["login"]) == ("T3007W", "daemon")


def test_events_of_a_session_come_in_order(node: SshNode) -> None:
    before = len(node.events.all)
    node.user(name="zoe").ssh("true")
    wait_until(lambda: [e for e in node.events.all[before:] if e.event == "session.end"], "end")
    events = [e for e in node.events.all[before:] if e.fields.get("user") == "zoe"]
    assert [e.event for e in events] == [
        "session.start",
        "exec",
        "session.data",
        "session.leave",
        "session.end",
    ]
    assert len({e.fields["sid"] for e in events}) == 1
    assert events[1].fields["exitCode"] == "0"
    assert events[0].fields["initial_command"] == ["true"]


def test_exec_recording_is_cut_at_its_limit_with_a_mark(node: SshNode) -> None:
    node.user("cutter").ssh("head -c 3000000 /dev/zero")
    recorded = recording_of(node, "cutter")
    assert len(recorded.output) == 1024 * 1024
    assert recorded.marks == ["truncated"]


def test_live_recording_arrives_while_the_session_runs(node: SshNode) -> None:
    node.record("node-sync")
    try:
        with node.user("liv").logged_in() as transport:
            channel = transport.open_session()
            channel.get_pty()
            channel.exec_command("echo now; read x")
            sid = str(ended(node, "liv", "session.start").fields["sid"])
            wait_until(lambda: b"now" in _live(node, sid), "the output at the Auth Service")
            channel.send(b"\r")
            channel.recv_exit_status()
        assert b"now" in recording_of(node, "liv").output
    finally:
        node.record("node")


def _live(node: SshNode, sid: str) -> bytes:
    data = node.uploads.live.get(sid, b"")
    return read_recording(data).output if data else b""


def test_f22_a_recording_that_fails_ends_a_strict_session_and_no_other(node: SshNode) -> None:
    node.record("node-sync")
    node.uploads.problem = UnavailableError("store is full")
    try:
        done = node.user("bea").ssh("for i in 1 2 3 4 5 6; do echo $i; sleep 0.4; done; echo whole")
        assert b"whole" in done.stdout
        assert ended(node, "bea").fields["error"]
        change_role(node, "access", record_session=RecordSession(default="strict"))
        done = node.user().ssh("for i in 1 2 3 4 5 6; do echo $i; sleep 0.4; done; echo whole")
        assert b"whole" not in done.stdout
        assert done.returncode == 255
    finally:
        node.uploads.problem = None
        node.record("node")
        change_role(node, "access")


def test_f23_no_session_without_its_audit_event(node: SshNode) -> None:
    user = node.user()
    node.events.broken = UnavailableError("no room for audit events")
    try:
        done = user.ssh("echo ran")
    finally:
        node.events.broken = None
    assert done.returncode != 0
    assert b"ran" not in done.stdout
    assert b"no room for audit events" in done.stderr


def test_f28_what_ignores_hangups_is_ended_and_nothing_leaks(node: SshNode) -> None:
    argv = node.user("stubborn").argv("trap '' HUP TERM; echo $$; while :; do sleep 1; done", before=("-tt",))
    client = subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert client.stdout is not None
    pid = int(client.stdout.readline())
    terminal = Path(f"/proc/{pid}/fd/0").readlink()
    made = terminal.stat().st_ctime_ns
    client.send_signal(signal.SIGKILL)
    client.wait()
    client.stdout.close()
    assert client.stdin is not None
    client.stdin.close()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the stubborn shell is gone")

    def terminal_is_gone() -> bool:
        try:
            return terminal.stat().st_ctime_ns != made  # its number is another's by now
        except FileNotFoundError:
            return True

    wait_until(terminal_is_gone, "its terminal is gone")
    wait_until(lambda: node.pool.open_connections == 0, "its connection is gone")
    assert ended(node, "stubborn")


def test_max_sessions_of_a_role_counts_channels(node: SshNode) -> None:
    change_role(node, "access", max_sessions=1)
    try:
        with node.user("max").logged_in() as transport:
            first = transport.open_session()
            first.exec_command("sleep 5")
            second = transport.open_session()
            second.exec_command("echo no")
            assert b"too many sessions" in second.recv_stderr(200)
            first.close()
    finally:
        change_role(node, "access")
    assert ended(node, "max", "session.rejected").fields["max"] == 1


def test_expired_certificate_ends_the_session_where_the_role_says_so(node: SshNode) -> None:
    change_role(node, "access", disconnect_expired_cert=True)
    try:
        user = node.user(valid_before=float(int(time.time()) + 3))
        done = user.ssh("sleep 30", timeout=25)
    finally:
        change_role(node, "access")
    assert done.returncode == 255
    assert b"certificate has expired" in done.stderr


def test_idle_client_is_ended_where_the_role_says_so(node: SshNode) -> None:
    change_role(node, "access", client_idle_timeout="2s")
    try:
        done = node.user().ssh("sleep 30", timeout=25)
    finally:
        change_role(node, "access")
    assert done.returncode == 255
    assert b"idle for 2 seconds" in done.stderr


def test_connection_survives_many_key_exchanges(node: SshNode) -> None:
    data = os.urandom(8_000_000)
    done = node.user().ssh("cat", before=("-o", "RekeyLimit=1M"), stdin=data)
    assert done.stdout == data


def test_a_crashed_connection_process_hurts_one_session(node: SshNode) -> None:
    assert node.pool._process is not None
    spawner = node.pool._process.pid
    other = node.user()
    argv = node.user().argv("echo up; sleep 30")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        for pid in children_of(spawner):
            os.kill(pid, signal.SIGKILL)
        assert client.wait(20) == 255
    assert other.ssh("echo fine").stdout == b"fine\n"
    wait_until(lambda: node.pool.open_connections == 0, "freed")


def test_a_crashed_spawner_is_replaced(tmp_path: Path) -> None:
    with SshNode(tmp_path) as node:
        assert node.pool._process is not None
        os.kill(node.pool._process.pid, signal.SIGKILL)
        wait_until(lambda: node.user().ssh("echo back").stdout == b"back\n", "a new spawner", 30)
