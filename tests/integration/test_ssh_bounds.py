"""Control groups of connections, in a hierarchy of the kernel's own: entered first, left with the last."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.agents.ssh.bounds.groups import Bounds, Groups, prepare
from tests.harness.wait import wait_for
from tests.integration.os_user import OTHER
from tests.integration.ssh_kit import SshNode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make control groups")
LOG = logging.getLogger("test.bounds")
MEMORY = 256 << 20


@pytest.fixture
def delegated() -> Iterator[Path]:
    """A group of version 2, marked as systemd marks it."""
    found = re.search(r"^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 ", Path("/proc/self/mountinfo").read_text(), re.M)
    if found is None:
        pytest.skip("this host has no control groups of version 2")
    root = Path(found[1]) / f"teleport-test-{os.getpid()}"
    try:
        root.mkdir()
    except OSError as problem:
        pytest.skip(f"no control group can be made here: {problem}")
    os.setxattr(root, "user.delegate", b"1")
    yield root
    for group in (*(path for path in root.iterdir() if path.is_dir()), root):
        wait_for(lambda group=group: _removed(group), what=f"{group} is empty")


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True


def _offered(root: Path) -> set[str]:
    return set((root / "cgroup.controllers").read_text().split())


def test_f28_a_connection_lives_in_a_group_that_goes_with_it(tmp_path: Path, delegated: Path) -> None:
    bounds = Bounds(MEMORY, 60) if {"memory", "pids"} <= _offered(delegated) else Bounds()
    if bounds.files:
        (delegated / "cgroup.subtree_control").write_text("+memory +pids")
    node = SshNode(tmp_path)
    node.places = Groups(delegated, bounds, LOG)
    with node:
        with node.user("ann").logged_in(OTHER) as transport:
            channel = transport.open_session()
            channel.exec_command("cat /proc/self/cgroup /proc/self/oom_score_adj; (sleep 300 & echo $!)")
            lines = channel.makefile("r").readlines()  # type: ignore[no-untyped-call]
            (group,) = delegated.glob("teleport-session-*")
            assert f"0::/{delegated.name}/{group.name}\n" in lines
            own_score = int(Path("/proc/self/oom_score_adj").read_text())
            assert int(lines[-2]) > own_score
            for name, value in bounds.files.items():
                assert (group / name).read_text().strip() == value
        # What stays behind stays bounded; the group goes with it.
        wait_for(lambda: len(_members(group)) == 1, what="only what was left behind is in the group")
        os.kill(int(lines[-1]), 9)
        wait_for(lambda: not _members(group), what="nothing is in the group")
        with node.user("ben").logged_in():
            assert len(list(delegated.glob("teleport-session-*"))) == 2 - (not group.exists())
        wait_for(lambda: not list(delegated.glob("teleport-session-*")), what="the groups are gone")


def _members(group: Path) -> list[str]:
    return (group / "cgroup.procs").read_text().split() if group.exists() else []


def test_what_is_not_ours_is_not_divided(delegated: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A process in the real group asks; what it may use is said, once, and nothing is changed without it."""
    script = (
        "import logging,sys;sys.path.insert(0,sys.argv[1]);logging.basicConfig();"
        "from pkgs.agents.ssh.bounds.groups import *;"
        "found=prepare(Bounds(memory=1<<28,processes=60),logging.getLogger());"
        "print(found is not None);found and found.release()"
    )

    def asked() -> tuple[bool, str]:
        root = str(Path(__file__).resolve().parents[2])
        done = subprocess.run(
            [sys.executable, "-c", script, root],
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: (delegated / "cgroup.procs").write_text(str(os.getpid())) and None,
        )
        return done.stdout == "True\n", done.stderr

    divided, said = asked()
    if {"memory", "pids"} <= _offered(delegated):
        assert divided
        assert not said
    else:
        assert not divided
        assert "has no controller for" in said
        assert list(delegated.glob("teleport-*")) == []
    os.removexattr(delegated, "user.delegate")
    divided, said = asked()
    assert not divided
    assert f"the control group /{delegated.name} is not delegated to this service" in said
    assert prepare(Bounds(), LOG) is None
    assert not caplog.records
