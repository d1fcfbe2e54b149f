"""Servers that run OpenSSH and no agent, through a whole cluster: the real client and the real server."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.harness.clients import stop
from tests.harness.cluster import OS_USER, Cluster, Person, run
from tests.harness.sshd import NAME, Sshd
from tests.harness.wait import wait_for
from tests.integration.sockets_kit import Echo, ask

pytestmark = pytest.mark.needs("sshd", "ssh")


@dataclass
class Agentless:
    cluster: Cluster
    sshd: Sshd
    alice: Person
    node_id: str


def describe(node_id: str, addr: str, hostname: str = NAME, **labels: str) -> str:
    return yaml.safe_dump(
        {
            "kind": "node",
            "sub_kind": "openssh",
            "version": "v2",
            "metadata": {"name": node_id, "labels": labels or {"env": "lab"}},
            "spec": {"addr": addr, "hostname": hostname},
        }
    )


def signed_host_key(cluster: Cluster, name: str = NAME) -> tuple[str, bytes]:
    """A host certificate and its key, made as an administrator makes them."""
    out = cluster.dir / f"host-{uuid.uuid4().hex[:8]}"
    cluster.tctl("auth", "sign", f"--host={name}", "--format=openssh", f"--out={out}").ok()
    return out.with_name(out.name + "-cert.pub").read_text().strip(), out.read_bytes()


ENCRYPTING = {"auth_service": {"session_recording_config": {"encryption": {"enabled": True}}}}


@pytest.fixture(scope="module")
def world() -> Iterator[Agentless]:
    with Cluster.running(services=("auth", "proxy"), overrides=ENCRYPTING) as cluster:
        users = cluster.tctl("auth", "export", "--type=openssh").ok().out.strip()
        certificate, pem = signed_host_key(cluster)
        node_id = str(uuid.uuid4())
        with Sshd(cluster.dir / "sshd", users, host_cert=certificate, host_pem=pem) as sshd:
            cluster.tctl("create", stdin=describe(node_id, sshd.addr)).ok()
            alice = cluster.login("alice")
            wait_for(lambda: NAME in alice.tsh("ls").out, what="the server in tsh ls")
            yield Agentless(cluster, sshd, alice, node_id)


def test_a_command_runs_and_is_recorded_and_audited(world: Agentless) -> None:
    done = world.alice.tsh("ssh", f"{OS_USER}@{NAME}", "echo in; echo out >&2; exit 5")
    assert (done.out, done.code) == ("in\n", 5), done.err
    assert "out\n" in done.err
    start = world.cluster.wait_event("session.start", server_hostname=NAME)
    assert start["user"] == "alice" and start["login"] == OS_USER
    assert start["session_recording"] == "proxy"
    world.cluster.wait_event("exec", sid=start["sid"], exitCode="5")
    world.cluster.wait_event("session.end", sid=start["sid"])
    world.cluster.wait_event("session.upload", sid=start["sid"])
    play = world.cluster.tctl("recordings", "ls").ok().out
    assert start["sid"] in play
    made = [e for e in world.cluster.events("cert.create") if "openssh" in str(e.get("identity"))]
    assert made and made[-1]["user"] == "alice"


def test_the_proxy_records_nothing_in_the_clear(world: Agentless) -> None:
    argv = ["ssh", "-F", str(world.alice.ssh_config()), f"{OS_USER}@{NAME}.demo", "echo $((40+2))-shown; cat"]
    session = subprocess.Popen(argv, env=world.alice.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert session.stdout is not None
        assert session.stdout.readline() == b"42-shown\n"

        def written() -> Path | None:
            parts = world.cluster.data_dir.rglob("*.part")
            return next((path for path in parts if path.stat().st_size > 900), None)

        part = wait_for(written, what="the proxy's recording with what was shown")
        raw = part.read_bytes()
    finally:
        session.communicate(timeout=20)
    assert raw.startswith(b"\x89OAREC\r\n\x00\x02")
    assert b"42-shown" not in raw
    assert b"alice" not in raw
    world.cluster.wait_event("session.upload", sid=part.stem)
    assert "42-shown" in world.cluster.tctl("recordings", "export", part.stem, "--format=text").ok().out
    assert "verified" in world.cluster.tctl("recordings", "verify", part.stem).ok().out


def test_stock_ssh_jumps_there_with_input_and_a_terminal(world: Agentless) -> None:
    config = world.alice.ssh_config()
    assert config.exists()
    done = world.alice.ssh(f"{OS_USER}@{NAME}.demo", "cat", stdin="x" * 100_000)
    assert done.out == "x" * 100_000, done.err
    shown = world.alice.ssh("-tt", f"{OS_USER}@{NAME}.demo", "tty; echo $TERM")
    assert "/dev/pts/" in shown.out, shown.err


def test_files_go_through_sftp_and_scp_and_are_audited(world: Agentless) -> None:
    config, there = world.alice.ssh_config(), world.cluster.dir / "there"
    source = world.cluster.dir / "file"
    source.write_bytes(bytes(range(256)) * 8_000)
    target = f"{OS_USER}@{NAME}.demo"
    run("sftp", "-F", config, "-b", "-", target, env=world.alice.env, stdin=f"put {source} {there}\n").ok()
    assert there.read_bytes() == source.read_bytes()
    world.cluster.wait_event("subsystem", name="sftp", server_hostname=NAME)
    done = run("scp", "-O", "-F", config, f"{target}:{there}", f"{there}.back", env=world.alice.env).ok()
    assert there.with_suffix(".back").read_bytes() == source.read_bytes(), done.err
    world.cluster.wait_event("scp", server_hostname=NAME, path=str(there))


def test_a18_forwarding_is_for_those_whose_roles_allow_it(world: Agentless) -> None:
    config, port = world.alice.ssh_config(), str(world.sshd.port)
    jump = ("-W", f"127.0.0.1:{port}", f"{OS_USER}@{NAME}.demo")
    done = run("ssh", "-F", config, *jump, env=world.alice.env, stdin="x\n")
    assert done.out.startswith("SSH-2.0-OpenSSH"), done.err
    world.cluster.wait_event("port", code="T3003I", addr=f"127.0.0.1:{port}")
    closed = yaml.safe_dump(
        {
            "kind": "role",
            "version": "v7",
            "metadata": {"name": "closed"},
            "spec": {
                "allow": {"logins": [OS_USER], "node_labels": {"env": "lab"}},
                "options": {"port_forwarding": False, "ssh_file_copy": False},
            },
        }
    )
    world.cluster.tctl("create", stdin=closed).ok()
    carol = world.cluster.login("carol", roles="closed")
    refused = run("ssh", "-F", carol.ssh_config(), *jump, env=carol.env, stdin="x\n")
    assert "SSH-2.0" not in refused.out and refused.code != 0
    sftp = run("sftp", "-F", carol.ssh_config(), "-b", "-", jump[-1], env=carol.env, stdin="ls\n")
    assert sftp.code != 0 and "file copying is not permitted" in sftp.err
    world.cluster.wait_event("sftp", code="TS020E", user="carol")
    assert carol.ssh(jump[-1], "echo in").out == "in\n"


def test_a18_windows_and_sockets_are_not_passed_on_to_anybody(world: Agentless, tmp_path: Path) -> None:
    wide = {
        "allow": {"logins": [OS_USER], "node_labels": {"*": "*"}},
        "options": {"permit_x11_forwarding": True},
    }
    role = yaml.safe_dump({"kind": "role", "version": "v7", "metadata": {"name": "wide"}, "spec": wide})
    world.cluster.tctl("create", "-f", stdin=role).ok()
    wanda, host = world.cluster.login("wanda", roles="wide"), f"{OS_USER}@{NAME}.demo"
    ssh = ["ssh", "-F", str(wanda.ssh_config())]
    shown = run(*ssh, "-Y", host, 'echo "[$DISPLAY]"', env={**wanda.env, "DISPLAY": ":77"})
    assert (shown.code, shown.out) == (0, "[]\n"), shown.err
    far = tmp_path / "far"
    asked = run(
        *ssh, "-o", "ExitOnForwardFailure=yes", "-R", f"{far}:127.0.0.1:9", host, "true", env=wanda.env
    )
    assert asked.code == 255
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, Echo(Path(folder) / "far") as echo:
        here = Path(folder) / "here"
        argv = [*ssh, "-N", "-L", f"{here}:{echo.path}", host]
        client = subprocess.Popen(argv, env=wanda.env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(here.exists, what="the client listens")
            assert ask(here, b"x") == b""
            assert client.poll() is None
            assert not echo.peers
        finally:
            stop(client)


def test_a13_lists_of_commands_and_destinations_hold_here_too(world: Agentless) -> None:
    listed = yaml.safe_dump(
        {
            "kind": "role",
            "version": "v7",
            "metadata": {"name": "listed"},
            "spec": {
                "allow": {
                    "logins": [OS_USER],
                    "node_labels": {"*": "*"},
                    "ssh": {"commands": ["echo *"], "forward": [{"to": "127.0.0.1"}]},
                }
            },
        }
    )
    world.cluster.tctl("create", "-f", stdin=listed).ok()
    lena = world.cluster.login("lena", roles="listed")
    wait_for(lambda: NAME in lena.tsh("ls").out, what="the server in tsh ls")
    assert lena.tsh("ssh", f"{OS_USER}@{NAME}", "echo yes").ok().out == "yes\n"
    for command in ("id", "echo a; id"):
        refused = lena.tsh("ssh", f"{OS_USER}@{NAME}", command)
        assert refused.code == 255
        assert "not permitted" in refused.err
        assert "uid=" not in refused.out
    # Where it leads could not be checked: the server's own sshd looks names up.
    jump = ("-W", f"127.0.0.1:{world.sshd.port}", f"{OS_USER}@{NAME}.demo")
    done = run("ssh", "-F", lena.ssh_config(), *jump, env=lena.env, stdin="x\n")
    assert "SSH-2.0" not in done.out
    assert "not permitted" in done.err


def test_who_may_not_gets_no_certificate_and_no_connection(world: Agentless) -> None:
    mallory = world.cluster.login("mallory", logins="somebody")
    before = len(world.cluster.events("cert.create"))
    done = mallory.tsh("ssh", f"{OS_USER}@{NAME}", "true")
    assert done.code != 0
    assert not [e for e in world.cluster.events("cert.create")[before:] if "openssh" in str(e)]


def test_a30_a_role_that_requires_company_opens_nothing_here(world: Agentless) -> None:
    role = {
        "kind": "role",
        "version": "v7",
        "metadata": {"name": "watched"},
        "spec": {
            "allow": {
                "logins": [OS_USER],
                "node_labels": {"*": "*"},
                "require_session_join": [
                    {"name": "one", "filter": 'contains(user.spec.roles, "auditor")', "kinds": ["ssh"],
                     "modes": ["moderator"], "count": 1}
                ],
            }
        },
    }  # fmt: skip
    world.cluster.tctl("create", stdin=yaml.safe_dump(role)).ok()
    watched = world.cluster.login("watched", roles="watched")
    wait_for(lambda: NAME in watched.tsh("ls").out, what="the server in tsh ls")
    done = watched.tsh("ssh", "-t", f"{OS_USER}@{NAME}", "echo in")
    assert done.out == "" and done.code != 0
    world.cluster.wait_event("auth", user="watched", login=OS_USER)


def test_a14_a_lock_ends_what_goes_on(world: Agentless) -> None:
    dave = world.cluster.login("dave")
    argv = ["ssh", "-F", str(dave.ssh_config()), f"{OS_USER}@{NAME}.demo", "echo up; exec sleep 100"]
    with subprocess.Popen(argv, env=dave.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as going:
        assert going.stdout is not None and going.stderr is not None
        assert going.stdout.readline() == b"up\n"
        world.cluster.tctl("lock", "--user=dave", "--message=go home").ok()
        assert going.wait(20) == 255
        assert b"go home" in going.stderr.read()
    world.cluster.wait_event("client.disconnect", user="dave")
    world.cluster.wait_event("session.end", user="dave")


def test_an_idle_connection_ends_and_the_audit_knows_why(world: Agentless) -> None:
    role = {
        "kind": "role",
        "version": "v7",
        "metadata": {"name": "brief"},
        "spec": {
            "allow": {"logins": [OS_USER], "node_labels": {"*": "*"}},
            "options": {"client_idle_timeout": "2s"},
        },
    }
    world.cluster.tctl("create", stdin=yaml.safe_dump(role)).ok()
    ida = world.cluster.login("ida", roles="brief")
    done = ida.ssh(f"{OS_USER}@{NAME}.demo", "exec sleep 100")
    assert done.code == 255
    assert "idle" in done.err
    event = world.cluster.wait_event("client.disconnect", user="ida")
    assert event["reason"] == "the client was idle for 2 seconds"


def test_a03_a66_the_wrong_server_and_a_hostile_one_get_nobody_in(world: Agentless) -> None:
    """One that shows a plain key, one with another's name, and one that never ends its first line."""
    cluster = world.cluster
    users = cluster.tctl("auth", "export", "--type=openssh").ok().out.strip()
    certificate, pem = signed_host_key(cluster, "somebody-else.example.com")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def flood() -> None:
            peer, _ = listener.accept()
            with peer, contextlib.suppress(OSError):
                while True:
                    peer.sendall(b"x" * 65536)

        thread = threading.Thread(target=flood, daemon=True)
        thread.start()
        with (
            Sshd(cluster.dir / "plain", users) as plain,
            Sshd(cluster.dir / "other", users, host_cert=certificate, host_pem=pem) as other,
        ):
            addrs = {
                "plain.example.com": plain.addr,
                "other.example.com": other.addr,
                "flood.example.com": f"127.0.0.1:{listener.getsockname()[1]}",
            }
            for name, addr in addrs.items():
                cluster.tctl("create", stdin=describe(str(uuid.uuid4()), addr, name)).ok()
                wait_for(lambda name=name: name in world.alice.tsh("ls").out, what=name)  # type: ignore[misc]
                done = world.alice.tsh("ssh", f"{OS_USER}@{name}", "echo in")
                assert done.out == "" and done.code != 0, name
        thread.join(20)
        assert not thread.is_alive()
    assert world.alice.tsh("ssh", f"{OS_USER}@{NAME}", "echo in").out == "in\n"


def test_a21_only_sftp_is_passed_on_of_subsystems(world: Agentless) -> None:
    """Whatever else the server may have is neither audited nor decided about by name."""
    refused = world.alice.ssh("-s", f"{OS_USER}@{NAME}.demo", "netconf")
    assert refused.code != 0 and refused.out == ""
    assert "that subsystem is not served" in refused.err
    world.cluster.wait_event("session.rejected", user="alice", reason="that subsystem is not served")


def test_a21_the_server_cannot_be_reached_past_the_proxy(world: Agentless) -> None:
    """Her own certificate is of another authority than the one that the server trusts."""
    home = world.alice.home / ".tsh"
    keys = [str(path) for path in home.rglob("*-cert.pub")]
    assert keys
    flags = [word for key in keys for word in ("-i", key.removesuffix("-cert.pub"))]
    done = run(
        "ssh", "-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-o", "BatchMode=yes", "-p", str(world.sshd.port), *flags, f"{OS_USER}@127.0.0.1", "echo in",
    )  # fmt: skip
    assert done.out == "" and "Permission denied" in done.err
