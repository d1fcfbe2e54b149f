"""Names of servers and databases that the shell completes, by the protocol of bash and the program."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pkgs.clients.tsh.main import TOOL
from tests.harness.wait import wait_for
from tests.integration.clients_kit import ROOT, FakeCluster, node
from tests.integration.databases_kit import database_server

HOSTILE = ("web$(reboot)", "web 3", "web\n4", "-web", "web;5", "web*", "web\x1b[2J", "web`6`")
Completes = Callable[[str], list[str]]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    with FakeCluster(tmp_path) as made:
        made.resources = [node(name) for name in ("web-1", "web-2", "ledger", *HOSTILE)]
        made.resources += [database_server(name, "99") for name in ("wares", "orders")]
        yield made


@pytest.fixture
def completes(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Completes:
    """What is offered for the last word of a line."""
    for name, value in cluster.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("_TSH_COMPLETE", "complete_bash")

    def answer(line: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        assert TOOL.main([]) == 0
        out, err = capfd.readouterr()
        assert err == ""
        return out.split()

    return answer


def offered(completes: Completes, line: str, names: list[str]) -> None:
    """These, when the machine is not too busy to answer within the second that somebody waits."""
    wait_for(lambda: completes(line) == names, what=f"{names} for {line!r}")


def test_names_of_servers(completes: Completes) -> None:
    """None that a shell would take for anything but a word."""
    offered(completes, "tsh ssh w", ["web-1", "web-2"])
    offered(completes, "tsh ssh root@w", ["root@web-1", "root@web-2"])
    offered(completes, "tsh -k no ssh -tp 22 --insecure ", ["ledger", "web-1", "web-2"])
    offered(completes, "tsh scp notes root@l", ["root@ledger:"])
    # A remote command, and what may as well be a file.
    for line in ("tsh ssh web-1 w", "tsh scp ", "tsh scp ./w", "tsh scp web-1:/w"):
        assert completes(line) == []


def test_names_of_databases(completes: Completes, cluster: FakeCluster) -> None:
    for verb in ("db login", "db connect", "db config", "db env", "proxy db --tunnel"):
        offered(completes, f"tsh {verb} ", ["orders", "wares"])
    offered(completes, "tsh db login -u alice o", ["orders"])
    assert completes("tsh db logout ") == []
    held = cluster.home / "keys" / "127.0.0.1" / "alice-db" / "demo"
    held.mkdir(parents=True)
    (held / "orders.crt").touch()
    offered(completes, "tsh db logout ", ["orders"])
    # Flags are heeded on either side of the verb: this is no cluster of the login's, and that no proxy's.
    assert completes("tsh db login --cluster=elsewhere ") == []
    assert completes("tsh db login --proxy elsewhere ") == []


def test_nothing_is_said_where_nothing_is_known(completes: Completes, cluster: FakeCluster) -> None:
    assert completes("tsh --headless db login ") == []
    assert completes("tsh ssh -J other ") == []
    cluster.log_in(ttl_s=-1)
    assert completes("tsh ssh ") == completes("tsh db connect ") == []
    (cluster.home / "current-profile").unlink()
    assert completes("tsh ssh ") == completes("tsh db logout ") == []


@pytest.mark.needs("bash")
def test_bash_waits_a_moment_for_a_proxy_that_does_not_answer(cluster: FakeCluster) -> None:
    """The program itself, by the script that it gives bash."""
    tsh = str(ROOT / "bin" / "tsh")
    shown = cluster.run("tsh", "--show-completion", "bash").stdout.decode()
    asking = f"""
{shown}
COMP_WORDS=({tsh} ssh w); COMP_CWORD=2
_tsh_completion {tsh}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

    def bash() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash"], input=asking, capture_output=True, text=True, timeout=60, env=cluster.env
        )

    wait_for(lambda: bash().stdout.split() == ["web-1", "web-2"], what="the names")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cluster.port = silent.getsockname()[1]
        cluster.log_in()
        began = time.monotonic()
        done = bash()
        assert (done.stdout.strip(), done.stderr) == ("", "")
        assert time.monotonic() - began < 12, "shorter than a call would wait"
