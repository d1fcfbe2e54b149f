"""`teleport start`: children in order, restarted when they die, ended in reverse, failing with a message."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.cluster import BIN, run
from tests.harness.ports import free_port
from tests.harness.wait import wait_for


class Umbrella:
    """One `teleport start` with a configuration of its own."""

    def __init__(self, folder: Path, *, node: bool = True) -> None:
        self.log = folder / "log"
        self.config = folder / "teleport.yaml"
        self.auth_port = free_port()
        enabled = "yes" if node else "no"
        self.config.write_text(
            f"version: v3\nteleport: {{data_dir: {folder}/data, nodename: n1}}\n"
            f"auth_service: {{cluster_name: demo, listen_addr: '127.0.0.1:{self.auth_port}'}}\n"
            f"proxy_service: {{enabled: {enabled}, web_listen_addr: '127.0.0.1:{free_port()}'}}\n"
            f"ssh_service: {{enabled: {enabled}}}\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        argv = [BIN / "teleport", "start", "-c", self.config]
        env = {**os.environ, "TMPDIR": str(self.log.parent)}  # for what one that is killed leaves
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(argv, stdout=out, stderr=out, env=env)
        return self.process

    @property
    def text(self) -> str:
        return self.log.read_text()

    def pids(self, service: str) -> list[int]:
        """What became ready under this name, in order."""
        found = re.findall(rf"\[{service.upper()}\] ready .*pid=(\d+)", self.text)
        return [int(pid) for pid in found]

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Waits, and shows the log when it was in vain."""
        try:
            wait_for(condition, what=what, deadline_s=40)
        except TimeoutError as error:
            raise AssertionError(f"{error}; the log:\n{self.text}") from None

    def wait_log(self, text: str) -> None:
        self.wait(lambda: text in self.text, f"{text!r} in the log")


@pytest.fixture
def umbrella(short_tmp: Path) -> Iterator[Umbrella]:
    made = Umbrella(short_tmp)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.terminate()
        made.process.wait(60)


def test_all_services_in_order_restarted_and_ended(umbrella: Umbrella) -> None:
    process = umbrella.start()
    umbrella.wait_log("service is ready service=ssh")
    order = re.findall(r"service is ready service=(\w+)", umbrella.text)
    assert order == ["auth", "proxy", "ssh"]
    status = run(BIN / "teleport", "status", "-c", umbrella.config)
    for service in order:
        assert f"teleport-{service}:" in status.out
    level = run(BIN / "teleport", "debug", "get-log-level", "-c", umbrella.config).ok().out
    assert level.splitlines() == [f'{service}: Current log level "INFO"' for service in order]

    (first,) = umbrella.pids("proxy")
    os.kill(first, signal.SIGKILL)
    umbrella.wait(lambda: len(umbrella.pids("proxy")) == 2, "the proxy to be started again")
    assert not running(first)

    process.terminate()
    assert process.wait(60) == 0
    ended = re.findall(r"\[(AUTH|PROXY|SSH)\] stopped", umbrella.text)
    assert ended == ["SSH", "PROXY", "AUTH"]
    assert "Traceback" not in umbrella.text


def test_one_that_does_not_start_fails_the_command(short_tmp: Path) -> None:
    made = Umbrella(short_tmp, node=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", made.auth_port))
        taken.listen()
        assert made.start().wait(40) == 1
    assert re.search(rf"^teleport-auth: error: .*{made.auth_port}", made.text, re.MULTILINE)
    assert made.text.splitlines()[-1].startswith("ERROR: teleport-auth did not start: exit 1")


def test_children_end_when_the_umbrella_is_killed(short_tmp: Path) -> None:
    made = Umbrella(short_tmp, node=False)
    process = made.start()
    made.wait_log("service is ready service=auth")
    (pid,) = made.pids("auth")
    process.kill()
    process.wait(10)
    wait_for(lambda: "[AUTH] stopped" in made.text and not running(pid), what="the child to end")


def test_a_signal_while_starting_ends_it(short_tmp: Path) -> None:
    made = Umbrella(short_tmp, node=False)
    process = made.start()
    wait_for(lambda: "teleport-auth" in command_of_child(process.pid), what="the first service")
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert process.wait(40) == 0
    assert time.monotonic() - began < 30


def running(pid: int) -> bool:
    """Whether it runs still; a zombie that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def command_of_child(pid: int) -> str:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return Path(f"/proc/{children[0]}/cmdline").read_text() if children else ""
    except OSError:
        return ""
