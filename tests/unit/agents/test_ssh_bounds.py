"""How many processes one user may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkgs.agents.ssh import bounds


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
