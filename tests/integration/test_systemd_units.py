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
    names = [f"--service={name}" for name in ("auth", "proxy", "ssh", "openssh")]
    run(BIN / "teleport", "install", "systemd", f"--output={tmp_path}", "-c", config, *names).ok()
    units = sorted(path for path in tmp_path.iterdir() if path != config)
    assert [unit.name for unit in units] == [
        "teleport-auth.service",
        "teleport-openssh.service",
        "teleport-openssh.timer",
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


def test_a_host_without_a_configuration_yet_gets_them_all_in_a_new_folder(tmp_path: Path) -> None:
    env = {**os.environ, "TELEPORT_CONFIG_FILE": ""}
    default = Path("/etc/teleport.yaml")
    if default.exists():
        pytest.skip("this host has a configuration of its own")
    out = tmp_path / "deep" / "units"
    run(BIN / "teleport", "install", "systemd", f"--output={out}", env=env).ok()
    assert len(list(out.glob("*.service"))) == 4
    only = tmp_path / "one"
    run(BIN / "teleport", "install", "systemd", "--service=ssh", f"--output={only}", env=env).ok()
    assert [unit.name for unit in only.iterdir()] == ["teleport-ssh.service"]
    missing = run(BIN / "teleport", "install", "systemd", "-c", tmp_path / "none.yaml", f"--output={out}")
    assert missing.code == 2
