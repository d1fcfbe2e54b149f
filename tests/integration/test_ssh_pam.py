"""PAM with the host's own library and modules: what they set and refuse, and that sessions are closed."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.agents.ssh.pamfacts import PamFacts
from tests.harness.wait import wait_for
from tests.integration.os_user import OTHER
from tests.integration.ssh_kit import SshNode, ended, wait_until
from tests.integration.terminal import Terminal

MODULES = next((path for path in Path("/usr/lib").glob("**/security/pam_exec.so")), None)
pytestmark = [
    pytest.mark.needs("ssh"),
    pytest.mark.skipif(os.geteuid() != 0 or MODULES is None, reason="needs root and PAM's modules"),
]
SERVICE = f"tp-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    node = SshNode(tmp_path_factory.mktemp("node"))
    # Read when a connection is made; the tests write the service's file.
    node.pam = PamFacts(SERVICE, {"TEAM": "{{external.team}}", "FIXED": "x y"})
    with node:
        yield node


@pytest.fixture
def service() -> Iterator[Path]:
    path = Path("/etc/pam.d") / SERVICE
    yield path
    path.unlink(missing_ok=True)


def noting(folder: Path) -> Path:
    """A program for pam_exec that notes what it is told."""
    script = folder / "note"
    script.write_text(
        f'#!/bin/sh\necho "$PAM_TYPE $PAM_USER $PAM_RHOST $(id -u) $TELEPORT_USERNAME $TELEPORT_LOGIN'
        f' $TELEPORT_ROLES $TEAM $FIXED" >> {folder}/noted\n'
    )
    script.chmod(0o700)
    return script


def test_modules_set_limits_and_variables_and_the_session_is_closed(
    node: SshNode, service: Path, tmp_path: Path
) -> None:
    limits, variables = tmp_path / "limits.conf", tmp_path / "env.conf"
    limits.write_text("* - nofile 222\n* hard nproc 77\n")
    variables.write_text("FROM_PAM DEFAULT=indeed\nHOME DEFAULT=/wrong\n")
    service.write_text(
        "account required pam_permit.so\n"
        f"session required pam_limits.so conf={limits}\n"
        f"session required pam_env.so readenv=0 conffile={variables}\n"
        f"session required pam_exec.so {noting(tmp_path)}\n"
    )
    user = node.user("pat", traits={"team": ("red", "blue")})
    done = user.ssh("ulimit -n; ulimit -u; echo $FROM_PAM; echo $HOME; id -un", login=OTHER)
    assert done.stdout.decode().split() == ["222", "77", "indeed", f"/var/tmp/{OTHER}", OTHER], done.stderr
    noted = tmp_path / "noted"
    facts = f"{OTHER} 127.0.0.1 0 pat {OTHER} access red,blue x y"
    wait_for(lambda: "close_session" in noted.read_text(), what="the session to be closed")
    assert noted.read_text().splitlines() == [f"open_session {facts}", f"close_session {facts}"]


def test_a_session_is_closed_when_its_process_is_killed(node: SshNode, service: Path, tmp_path: Path) -> None:
    service.write_text(f"account required pam_permit.so\nsession required pam_exec.so {noting(tmp_path)}\n")
    with node.user("kit").logged_in(OTHER) as transport:
        channel = transport.open_session()
        channel.exec_command("echo $PPID; exec cat")
        os.kill(int(channel.recv(20)), signal.SIGKILL)
        wait_until(lambda: not transport.is_active(), "the connection ends")
    wait_for(lambda: "close_session" in (tmp_path / "noted").read_text(), what="the session to be closed")


@pytest.mark.parametrize("kind", ["account", "session"])
def test_who_is_refused_reads_what_the_module_says(
    node: SshNode, service: Path, tmp_path: Path, kind: str
) -> None:
    text = tmp_path / "text"
    text.write_text("not today, \x1b[31m%u\n")
    other = "session" if kind == "account" else "account"
    service.write_text(
        f"{other} required pam_permit.so\n"
        f"{kind} optional pam_echo.so file={text}\n"
        f"{kind} required pam_deny.so\n"
    )
    refused = node.user(f"ron-{kind}").ssh("id", login=OTHER)
    assert refused.returncode == 255 and refused.stdout == b""
    assert b"not today," in refused.stderr and b"\x1b" not in refused.stderr
    assert "not today" in str(ended(node, f"ron-{kind}", "auth").fields["error"])


def test_a_module_that_is_missing_lets_nobody_in(node: SshNode, service: Path) -> None:
    service.write_text("account required pam_permit.so\nsession required pam_nosuchmodule.so\n")
    refused = node.user("nora").ssh("id", login=OTHER)
    assert refused.returncode == 255 and b"the session is refused" in refused.stderr


def test_what_modules_tell_is_shown_at_the_start_of_a_shell(
    node: SshNode, service: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("patch night on friday\n")
    service.write_text(f"account required pam_permit.so\nsession optional pam_echo.so file={text}\n")
    argv = node.user("sue").argv(login=OTHER, before=("-tt",))
    screen = Terminal(argv, {"PATH": os.environ["PATH"], "TERM": "xterm"})
    screen.expect("patch night on friday\r\n")
    screen.type("exit")
    screen.end()
    quiet = node.user("sam").ssh("echo only", login=OTHER)
    assert quiet.stdout == b"only\n"
