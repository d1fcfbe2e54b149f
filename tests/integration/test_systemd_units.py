"""The units that `teleport install systemd` writes, judged by systemd's own tool."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.harness.cluster import BIN, run


@pytest.mark.needs("systemd-analyze")
def test_the_units_are_clean(tmp_path: Path) -> None:
    config = tmp_path / "teleport.yaml"
    config.write_text(run(BIN / "teleport", "configure").ok().out)
    run(BIN / "teleport", "install", "systemd", f"--output={tmp_path}", "-c", config).ok()
    units = sorted(tmp_path.glob("*.service"))
    assert [unit.name for unit in units] == [
        "teleport-auth.service",
        "teleport-proxy.service",
        "teleport-ssh.service",
    ]
    # It reports an unknown key but ends with 0: what it prints is the verdict.
    verdict = run(
        "systemd-analyze", "verify", "--man=no", *units, env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}
    )
    ours = [line for line in (verdict.out + verdict.err).splitlines() if "teleport" in line]
    assert verdict.code == 0
    assert not ours
