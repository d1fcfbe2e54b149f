"""The programs can be started by path, from any folder, through links; and by name they are the same ones."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
VERSION_WORD = {"tsh": "version", "tctl": "version", "teleport": "version"}


def test_a_launcher_for_each_program_and_no_other() -> None:
    assert {path.name for path in (ROOT / "bin").iterdir()} == set(SCRIPTS)
    for name, entry in SCRIPTS.items():
        module = entry.removesuffix(":main")
        assert f"from {module} import main" in (ROOT / "bin" / name).read_text()


def test_launchers_differ_in_names_only() -> None:
    texts = {
        (ROOT / "bin" / name).read_text().replace(entry.removesuffix(":main"), "MODULE").replace(name, "NAME")
        for name, entry in SCRIPTS.items()
        if name not in ("teleport", "teleport-ssh")
    }
    assert len(texts) == 1


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_starts_from_anywhere_through_a_link(name: str, tmp_path: Path) -> None:
    first = tmp_path / "link"
    first.symlink_to(ROOT / "bin" / name)
    second = tmp_path / "a b"
    second.symlink_to("link")
    done = subprocess.run(
        [second, VERSION_WORD.get(name, "--version")],
        capture_output=True,
        text=True,
        cwd="/",
        timeout=60,
        check=True,
    )
    assert "v0." in done.stdout
    assert not done.stderr


def test_without_an_environment_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    copy = tmp_path / "bin" / "tsh"
    copy.write_text((ROOT / "bin" / "tsh").read_text())
    copy.chmod(0o755)
    done = subprocess.run([copy, "version"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "run 'make dev' there" in done.stderr
