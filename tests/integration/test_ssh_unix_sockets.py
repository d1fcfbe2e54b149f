"""Forwarding of unix sockets with the real client, both ways: whose they are, what becomes of them, audit."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from pkgs.agents.ssh.sockets import paths
from pkgs.common.errors import UnavailableError
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec, SshConditions, SshForwardRule
from tests.harness.ports import free_port
from tests.integration.os_user import OTHER
from tests.integration.sockets_kit import Echo, ask, folder_of, forwarding, listen_unix, open_unix
from tests.integration.ssh_kit import SshNode, change_role, ended, wait_until

pytestmark = [
    pytest.mark.needs("ssh", "ssh-keygen"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    node = SshNode(tmp_path_factory.mktemp("node"))
    node.own_folder = str(node.folder)
    with node:
        yield node
        wait_until(lambda: node.pool.open_connections == 0, "no connection is left")


@pytest.fixture
def folder(node: SshNode) -> Iterator[Path]:
    """Of the login's user."""
    with folder_of() as folder:
        yield folder


def audited(node: SshNode, user: str, code: str) -> dict[str, object]:
    """The newest port event of that code."""

    def found() -> object:
        events = [e for e in node.events.named("port") if e.fields["user"] == user and e.code == code]
        return events and events[-1].fields

    fields: dict[str, object] = wait_until(found, f"{code} of {user}")
    return fields


def give(node: SshNode, *rules: SshForwardRule, deny: tuple[SshForwardRule, ...] = ()) -> None:
    """What the role `sockets` lists from now on."""
    node.state.roles["sockets"] = Role(
        metadata=Metadata(name="sockets"),
        spec=RoleSpec(
            allow=Conditions(
                logins=["root", OTHER], node_labels={"*": "*"}, ssh=SshConditions(forward=list(rules))
            ),
            deny=Conditions(ssh=SshConditions(forward=list(deny))),
        ),
    )


def unix(path: Path | str, direction="local") -> SshForwardRule:
    return SshForwardRule(unix=str(path), direction=direction)


def test_a_local_forwarding_reaches_a_socket_as_the_logins_user(node: SshNode, folder: Path) -> None:
    here, port, far = folder / "here", free_port(), folder / "far"
    data = os.urandom(3_000_000)
    with Echo(far) as echo:
        with forwarding(node.user("lara"), "-L", f"{here}:{far}", "-L", f"{port}:{far}", until=here):
            assert ask(here, data) == b"got:" + data
            assert ask(port, b"by a port") == b"got:by a port"
            assert audited(node, "lara", "T3003I")["addr"] == str(far)
            assert audited(node, "lara", "T3003S")["addr"] == str(far)
        assert echo.peers == [pwd.getpwnam(OTHER).pw_uid] * 2


def test_sockets_of_others_files_and_nothing_at_all_are_not_reached(node: SshNode, folder: Path) -> None:
    (folder / "file").touch(0o666)
    with Echo(folder / "roots", 0o600), node.user("otto").logged_in(OTHER) as transport:
        for name, why in (("roots", "Permission denied"), ("file", "Socket operation"), ("none", "No such")):
            with pytest.raises(paramiko.ChannelException) as refused:
                open_unix(transport, bytes(folder / name))
            assert refused.value.code == 2
            fields = audited(node, "otto", "T3003E")
            assert fields["addr"] == str(folder / name)
            assert why in str(fields["error"])


def test_a_remote_forwarding_makes_a_private_socket_and_takes_it_away(node: SshNode, folder: Path) -> None:
    far, user = folder / "far", node.user("rosa")
    control = folder / "ctl"
    with Echo(folder / "here") as echo:
        spec = f"{far}:{echo.path}"
        with forwarding(user, "-M", "-S", str(control), "-R", spec, until=far):
            facts = far.lstat()
            assert (facts.st_mode & 0o777, facts.st_uid) == (0o600, pwd.getpwnam(OTHER).pw_uid)
            data = os.urandom(3_000_000)
            assert ask(far, data) == b"got:" + data
            assert audited(node, "rosa", "T3003I")["addr"] == f"remote {far}"
            control_command = [*user.argv(before=("-S", str(control), "-O", "cancel", "-R", spec))]
            subprocess.run(control_command, check=True, capture_output=True, timeout=20)
            wait_until(lambda: not far.exists(), "it is removed")
            assert audited(node, "rosa", "T3003S")["addr"] == f"remote {far}"
            control_command[control_command.index("cancel")] = "forward"
            subprocess.run(control_command, check=True, capture_output=True, timeout=20)
            assert ask(far, b"again") == b"got:again"
        wait_until(lambda: not far.exists(), "it is removed with its connection")


def test_a_socket_goes_to_a_port_of_the_client(node: SshNode, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = folder / "far"
        with (
            forwarding(node.user("pia"), "-R", f"{far}:127.0.0.1:{server.getsockname()[1]}", until=far),
            socket.socket(socket.AF_UNIX) as sock,
        ):
            sock.connect(str(far))
            server.settimeout(20)
            there, _ = server.accept()
            there.close()


def test_a58_nothing_that_is_there_is_replaced_but_ones_own_dead_socket(node: SshNode, folder: Path) -> None:
    uid = pwd.getpwnam(OTHER).pw_uid
    (folder / "file").write_text("stays")
    (folder / "link").symlink_to(folder / "nowhere")
    (folder / "dir").mkdir()
    for name, owner in (("dead", uid), ("foreign", 0)):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(folder / name))
        os.chown(folder / name, owner, owner)
        (folder / name).chmod(0o666)  # so that everybody hears that nobody listens
    with Echo(folder / "live"), node.user("kit").logged_in(OTHER) as transport:
        os.chown(folder / "live", uid, uid)
        for name in ("file", "link", "dir", "foreign", "live"):
            before = (folder / name).lstat()
            assert not listen_unix(transport, bytes(folder / name)), name
            assert (folder / name).lstat().st_ino == before.st_ino
        assert ask(folder / "live", b"x") == b"got:x"
        assert audited(node, "kit", "T3003E")["error"] == "Address already in use"
        assert listen_unix(transport, bytes(folder / "dead"))
        assert not listen_unix(transport, bytes(folder / "dead"))
        # What is no longer ours when it ends, stays.
        (folder / "dead").unlink()
        assert not listen_unix(transport, bytes(folder / "dead"))
        (folder / "dead").write_text("somebody else's")
        assert listen_unix(transport, bytes(folder / "dead"), cancel=True)
        assert not listen_unix(transport, bytes(folder / "dead"), cancel=True)
    assert (folder / "dead").read_text() == "somebody else's"


def test_a_killed_processs_socket_is_replaced(node: SshNode, folder: Path) -> None:
    far = folder / "far"
    with node.user("kai").logged_in(OTHER) as transport:
        assert listen_unix(transport, bytes(far))
        shell = transport.open_session()
        shell.exec_command("echo $PPID")
        os.kill(int(shell.makefile().read()), signal.SIGKILL)
    wait_until(lambda: audited(node, "kai", "T3003S"), "the end is audited")
    assert far.exists()
    with node.user("kai").logged_in(OTHER) as transport:
        assert listen_unix(transport, bytes(far))


def test_a58_a_folder_of_another_user_and_one_that_is_turned(node: SshNode, folder: Path) -> None:
    with folder_of("root") as roots, node.user("fay").logged_in(OTHER) as transport:
        assert not listen_unix(transport, bytes(roots / "far"))
        assert audited(node, "fay", "T3003E")["error"]
        (folder / "way").symlink_to(roots)
        assert not listen_unix(transport, bytes(folder / "way" / "far"))
        roots.chmod(0o777)
        assert listen_unix(transport, bytes(folder / "way" / "far"))
        # It is removed where it was made, wherever its way leads by now.
        (folder / "way").unlink()
        (folder / "way").symlink_to(folder)
        (folder / "far").write_text("stays")
        assert listen_unix(transport, bytes(folder / "way" / "far"), cancel=True)
        assert not (roots / "far").exists()
        assert (folder / "far").read_text() == "stays"


def test_a58_a_socket_that_is_exchanged_after_the_decision_is_not_reached(folder: Path) -> None:
    with Echo(folder / "a") as allowed, Echo(folder / "b") as other:
        held = paths.hold_socket(str(allowed.path))
        allowed.path.unlink()
        allowed.path.symlink_to(other.path)
        with paths.connect(held) as sock:
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(10) == b"got:"
        held.close()
        assert (len(allowed.peers), len(other.peers)) == (1, 0)


def test_f13_listed_sockets_and_no_others(node: SshNode, folder: Path) -> None:
    give(node, unix(folder / "*.sock"), unix(folder / "far", "remote"), deny=(unix(folder / "secret*"),))
    (folder / "deep").mkdir()
    (folder / "link.sock").symlink_to(folder / "plain")
    (folder / "way").symlink_to(folder / "a.sock")
    with (
        Echo(folder / "a.sock"),
        Echo(folder / "plain"),
        Echo(folder / "secret.sock"),
        Echo(folder / "deep" / "b.sock"),
        node.user("lea", roles=("sockets",)).logged_in(OTHER) as transport,
    ):
        for name in ("a.sock", "way"):
            open_unix(transport, bytes(folder / name)).close()
        for name in ("plain", "link.sock", "secret.sock", "deep/b.sock", "none"):
            with pytest.raises(paramiko.ChannelException) as refused:
                open_unix(transport, bytes(folder / name))
            assert refused.value.code == 1, name
        assert audited(node, "lea", "T3003E")["error"] == "the roles list where connections may be forwarded"
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("direct-tcpip", ("192.0.2.1", 80), ("127.0.0.1", 1), timeout=20)
        assert listen_unix(transport, bytes(folder / "far"))
        assert not listen_unix(transport, bytes(folder / "other"))


@pytest.mark.parametrize("direction", ["local", "remote"])
def test_a14_a_socket_that_is_taken_away_ends_the_connection(
    node: SshNode, folder: Path, direction: str
) -> None:
    give(node, unix(folder / "*"), unix(folder / "*", "remote"))
    with Echo(folder / "a"), node.user("tia", roles=("sockets",)).logged_in(OTHER) as transport:
        if direction == "local":
            held = open_unix(transport, bytes(folder / "a"))
            held.sendall(b"x")
        else:
            assert listen_unix(transport, bytes(folder / "far"))
        give(node, unix("/elsewhere", direction))
        node.tell("role")
        wait_until(lambda: not transport.is_active(), "the connection ends")
        wait_until(lambda: not (folder / "far").exists(), "the socket is removed")
    assert ended(node, "tia", "client.disconnect").fields["reason"] == "forwarding is no longer permitted"
    audited(node, "tia", "T3003S")


@pytest.mark.parametrize(
    ("options", "spec"),
    [
        ({"port_forwarding": False}, {}),
        ({}, {"extensions": ("permit-pty",)}),
        ({}, {"force_command": "true"}),
    ],
    ids=["role", "extension", "a13-forced-command"],
)
def test_a18_forwarding_that_is_not_allowed(
    node: SshNode, folder: Path, options: dict[str, bool], spec: dict[str, object]
) -> None:
    change_role(node, "access", **options)
    try:
        with Echo(folder / "a"), node.user("dora", **spec).logged_in(OTHER) as transport:
            with pytest.raises(paramiko.ChannelException) as refused:
                open_unix(transport, bytes(folder / "a"))
            assert refused.value.code == 1
            assert audited(node, "dora", "T3003E")["addr"] == str(folder / "a")
            assert not listen_unix(transport, bytes(folder / "far"))
            assert not (folder / "far").exists()
    finally:
        change_role(node, "access")


def test_a20_the_agents_own_sockets_are_reached_by_name_only(node: SshNode) -> None:
    debug, link = node.folder / "debug.sock", node.folder.parent / "way.sock"
    link.symlink_to(debug)
    with Echo(debug, 0o600):
        for rules, code in ((), 1), ((unix(f"{node.folder}/*"),), 1), ((unix(debug),), 0):
            give(node, *rules)
            with node.user("ada", roles=("sockets",)).logged_in("root") as transport:
                for path in (debug, link):
                    if code:
                        with pytest.raises(paramiko.ChannelException) as refused:
                            open_unix(transport, bytes(path))
                        assert refused.value.code == code
                    else:
                        open_unix(transport, bytes(path)).close()


def test_more_sockets_than_a_connection_may_have_and_none_without_audit(node: SshNode, folder: Path) -> None:
    with node.user("max").logged_in(OTHER) as transport:
        node.events.broken = UnavailableError("the audit log is full")
        try:
            assert not listen_unix(transport, bytes(folder / "0"))
            assert not (folder / "0").exists()
        finally:
            node.events.broken = None
        assert all(listen_unix(transport, bytes(folder / str(number))) for number in range(16))
        assert not listen_unix(transport, bytes(folder / "16"))
        assert listen_unix(transport, bytes(folder / "3"), cancel=True)
        assert listen_unix(transport, bytes(folder / "16"))
    wait_until(lambda: not list(folder.iterdir()), "all of them are removed")
