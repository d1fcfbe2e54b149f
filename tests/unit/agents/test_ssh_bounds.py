"""How much of the host sessions may take. The folders here stand in for control groups: what the kernel does
with them is tested in `integration/test_ssh_bounds`."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.ssh.bounds import groups
from pkgs.agents.ssh.bounds import processes as bounds
from pkgs.agents.ssh.bounds.groups import Bounds, Groups, Unbounded
from pkgs.common.runtime.config.ssh import SshService
from pkgs.common.ssh.process.place import session_score

LOG = logging.getLogger("test")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["32768\n", "max\n", "", "1000"], 500),
        (["max", ""], 0),
        ([], 0),
        (["-5", "x", "٣", "40"], 20),
    ],
)
def test_half_of_the_smallest(texts: list[str], expected: int) -> None:
    assert bounds.share(texts) == expected


def test_every_control_group_above_counts(tmp_path: Path) -> None:
    own = "1:cpu:/old\n0::/system.slice/teleport.service\n"
    found = [str(path.relative_to(tmp_path)) for path in bounds._group_files(own, tmp_path)]
    assert found == ["system.slice/teleport.service/pids.max", "system.slice/pids.max", "pids.max"]
    assert bounds._group_files("", tmp_path) == bounds._group_files("0::/../x", tmp_path) == []
    assert bounds.processes_of_one_user() > 0
    assert bounds.processes_of_one_user(7) == 7


@pytest.mark.parametrize(("service", "session"), [(-1000, 0), (-500, 0), (0, 100), (300, 400), (1000, 1000)])
def test_sessions_go_before_the_service(service: int, session: int) -> None:
    assert session_score(service) == session


def _group(folder: Path, controllers: str = "cpu memory pids") -> Path:
    folder.mkdir(parents=True)
    (folder / "cgroup.controllers").write_text(controllers)
    (folder / "cgroup.procs").write_text("")
    return folder


def _mounts(root: Path) -> str:
    return (
        f"23 1 0:20 / /proc rw - proc proc rw\n30 23 0:26 / {root} rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
    )


def test_bounds_are_written_into_a_group_of_ones_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _group(tmp_path / "system.slice" / "teleport-ssh.service")
    asked = Bounds(memory=1 << 30, processes=99)
    own, mounts = tmp_path / "own", tmp_path / "mounts"
    own.write_text("0::/system.slice/teleport-ssh.service\n")
    mounts.write_text(_mounts(tmp_path))
    assert groups.prepare(asked, LOG, own, mounts) is None
    assert "is not delegated" in caplog.text
    try:
        os.setxattr(root, "user.delegate", b"1")
    except OSError as problem:  # a tmpfs of an older kernel
        pytest.skip(f"{tmp_path} takes no marks: {problem}")
    found = groups.prepare(asked, LOG, own, mounts)
    assert found is not None
    assert (root / "cgroup.subtree_control").read_text() == "+memory +pids"
    path = Path(found.open())
    assert path.parent == root
    assert {each.name: each.read_text() for each in path.iterdir()} == {
        "memory.max": "1073741824",
        "pids.max": "99",
    }
    # Started again where the last one moved to.
    own.write_text("0::/system.slice/teleport-ssh.service/teleport-service\n")
    assert groups.prepare(asked, LOG, own, mounts) is not None
    found.release()
    assert (root / "cgroup.subtree_control").read_text() == "-memory -pids"


def test_a_host_without_the_controller_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Unbounded, match="no controller for memory and pids"):
        groups._divide(_group(tmp_path / "own", "hugetlb"), Bounds(1, 1))
    with pytest.raises(Unbounded, match="version 2"):
        groups._delegated("9:memory:/x\n", _mounts(tmp_path))
    with pytest.raises(Unbounded, match="version 2"):
        groups._delegated("0::/../x\n", _mounts(tmp_path))
    assert Groups(tmp_path / "gone", Bounds(1), LOG).open() == ""
    assert "no bounds of its own" in caplog.text


@given(st.text(), st.text())
def test_any_file_of_the_kernels_is_read_or_refused(own: str, mounts: str) -> None:
    with pytest.raises(Unbounded):
        groups._delegated(own, mounts)


@pytest.mark.parametrize(
    ("memory", "processes", "wrong"),
    [("", 0, 0), ("128MiB", 16, 0), ("4GiB", 0, 0), ("4G", 0, 1), ("64MiB", 1, 2), ("0GiB", -1, 2)],
)
def test_the_configuration_is_checked(memory: str, processes: int, wrong: int) -> None:
    section = SshService(session_memory=memory, session_processes=processes)
    assert len(list(section.problems("ssh_service"))) == wrong
    if memory == "4GiB":
        assert section.session_memory_bytes == 4 << 30
