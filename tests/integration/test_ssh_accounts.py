"""Accounts that the host's own administrator has ended stay ended, whatever the roles allow."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.ssh_kit import SshNode, ended, role

pytestmark = [
    pytest.mark.needs("ssh", "useradd", "usermod"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]


@pytest.fixture
def account() -> Iterator[str]:
    name = f"tpacct{os.getpid()}"
    subprocess.run(["useradd", "--no-create-home", "--home-dir", "/", "--shell", "/bin/sh", name], check=True)
    yield name
    subprocess.run(["userdel", name], check=True)


def test_an_expired_account_is_not_logged_in_to(tmp_path: Path, account: str) -> None:
    with SshNode(tmp_path) as node:
        node.state.roles["access"] = role("access", logins=[account])
        user = node.user("eve", logins=(account,))
        assert user.ssh("id -un", login=account).stdout.decode().strip() == account
        subprocess.run(["usermod", "--expiredate", "2001-01-01", account], check=True)
        refused = user.ssh("id -un", login=account)
        assert refused.returncode == 255
        assert refused.stdout == b""
        assert b"has expired" in refused.stderr
        assert "has expired" in str(ended(node, "eve", "auth").fields["error"])
        subprocess.run(["usermod", "--expiredate", "", account], check=True)
        assert user.ssh("id -un", login=account).returncode == 0
