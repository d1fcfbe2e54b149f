"""`tsh ssh` on several servers, names that several bear, `tsh resolve`, with real OpenSSH and agents."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.cluster import BIN, OS_USER, Cluster, Person
from tests.integration.terminal import Terminal

pytestmark = pytest.mark.needs("ssh")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.running() as made:
        made.add_node("second", "env=many,nr=2")
        made.add_node("third", "env=many,nr=3")
        yield made


@pytest.mark.parametrize("flags", [(), ("--no-openssh",)])
def test_a_command_runs_on_all_that_labels_mean(
    alice: Person, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    logs = tmp_path / "logs"
    done = alice.tsh(
        "ssh",
        *flags,
        f"--log-dir={logs}",
        f"{OS_USER}@env=many",
        "echo out; echo err >&2",
        stdin="not for them",
    ).ok()
    assert sorted(done.out.splitlines()) == ["[second] out", "[third] out"]
    # What the shell's own start-up files say on this machine comes first, as with any SSH server.
    assert {"[second] err", "[third] err"} <= set(done.err.splitlines())
    assert {path.name: path.read_text().splitlines()[-1:] for path in logs.iterdir()} == {
        "second.stdout": ["out"], "second.stderr": ["err"], "third.stdout": ["out"], "third.stderr": ["err"],
    }  # fmt: skip


def test_the_first_failure_is_the_status_and_the_summary_names_it(alice: Person) -> None:
    done = alice.tsh("ssh", "--parallel=1", f"{OS_USER}@env=many", "kill -9 $$; exit 0")
    assert done.code == 255
    assert "2 of 2 servers failed: second (exit status 255), third (exit status 255)" in done.err
    assert alice.tsh("ssh", f"{OS_USER}@env=many,nr=3", "exit 5").code == 5


def test_a_shell_or_a_terminal_on_several_is_refused(alice: Person) -> None:
    shell = alice.tsh("ssh", f"{OS_USER}@env=many")
    assert shell.code == 2
    assert "is ambiguous, it matches 2 servers" in shell.err and "second" in shell.err
    assert "is for one server" in alice.tsh("ssh", "-t", f"{OS_USER}@env=many", "true").err


def test_denied_on_every_server_is_a_failure(alice: Person) -> None:
    done = alice.tsh("ssh", "not-my-login@env=many", "true")
    assert done.code != 0
    assert "2 of 2 servers failed" in done.err


def test_resolve(alice: Person) -> None:
    (node,) = json.loads(alice.tsh("resolve", "nr=2", "--format=json").ok().out)
    assert node["spec"]["hostname"] == "second"
    host_id = node["metadata"]["name"]
    for name in ("second", "second.demo", f"{OS_USER}@second", host_id):
        assert host_id in alice.tsh("resolve", name).ok().out
    assert alice.tsh("resolve", "-q", "second").ok().out == ""
    several, none = alice.tsh("resolve", "env=many"), alice.tsh("resolve", "nowhere")
    assert several.code == 2 and host_id in several.err
    assert none.code == 1 and "tsh ls" in none.err


def test_without_a_host_one_is_picked_at_the_terminal(alice: Person) -> None:
    terminal = Terminal([str(BIN / "tsh"), "ssh", "-l", OS_USER], alice.env)
    terminal.expect("3/3 > ")
    terminal.type("nr=3", end="")
    terminal.expect("1/3 > nr=3")
    terminal.type("", end="\r")
    terminal.expect("# ")
    terminal.type("echo at-$((40+2)); exit 6")
    terminal.expect("at-42")
    assert terminal.end() == 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, None])
def test_leaving_the_list_gives_the_terminal_back(alice: Person, number: signal.Signals | None) -> None:
    script = f"sh -c 'echo pid=$$; exec {BIN}/tsh ssh'; echo left=$?; stty -a"
    terminal = Terminal(["/bin/sh", "-c", script], alice.env)
    terminal.expect("3/3 > ")
    if number is None:
        terminal.type("\x03", end="")
    else:
        match = re.search(r"pid=(\d+)", terminal.shown)
        assert match
        os.kill(int(match.group(1)), number)
    terminal.expect("left=130")
    terminal.expect(" icanon")
    assert terminal.end() == 0


def test_without_a_host_or_a_terminal_it_says_what_to_do(alice: Person) -> None:
    done = alice.tsh("ssh")
    assert done.code == 2
    assert "no server is named; write tsh ssh user@host" in done.err
