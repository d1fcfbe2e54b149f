"""Accounts made on a real host, with its own tools, for the real client."""

from __future__ import annotations

import grp
import logging
import os
import pwd
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pkgs.agents.ssh.hostusers import sudoers
from pkgs.agents.ssh.hostusers.accounts import Accounts
from pkgs.agents.ssh.hostusers.keeper import HostUsers
from pkgs.agents.ssh.hostusers.tools import SystemTools
from pkgs.agents.ssh.hostusers.wanted import DROP, KEEP, Wanted
from pkgs.common.errors import UnavailableError
from tests.integration.ssh_kit import SshNode, role, wait_until

pytestmark = [
    pytest.mark.needs("ssh", "useradd", "userdel", "usermod", "groupadd", "visudo"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make accounts"),
]
LOG = logging.getLogger("t")
SUDOERS = Path("/etc/sudoers.d")
SUFFIX = uuid.uuid4().hex[:6]
GROUP = f"tpg{SUFFIX}"


def login_of(stem: str) -> str:
    return f"tp{stem}{SUFFIX}"


@pytest.fixture(scope="module", autouse=True)
def tidy() -> Iterator[None]:
    """Nothing of these tests is left but the marker groups, which other tests may use at the same time."""
    yield
    for entry in pwd.getpwall():
        if entry.pw_name.endswith(SUFFIX):
            subprocess.run(["userdel", "-r", entry.pw_name], capture_output=True)
    subprocess.run(["groupdel", GROUP], capture_output=True)
    for path in SUDOERS.glob(f"*{SUFFIX}*"):
        path.unlink()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    node = SshNode(tmp_path_factory.mktemp("node"))
    node.host_users = HostUsers(SystemTools(node.folder / "notes"), LOG)
    with node:
        yield node


def may(node: SshNode, login: str, mode: str, **allow: Any) -> None:
    """The role `maker` makes this account."""
    found = role("maker", logins=[login], create_host_user_mode=mode)
    conditions = msgspec.structs.replace(found.spec.allow, **allow)
    node.state.roles["maker"] = msgspec.structs.replace(
        found, spec=msgspec.structs.replace(found.spec, allow=conditions)
    )


def visitor(node: SshNode, login: str) -> Any:
    return node.user("vera", roles=("maker",), logins=(login,))


def exists(login: str) -> bool:
    return any(entry.pw_name == login for entry in pwd.getpwall())


def gone(node: SshNode, login: str) -> None:
    """Waits until the agent has nothing left to undo."""
    wait_until(lambda: not (node.folder / "notes" / login).exists(), "all is undone")
    assert not exists(login) and not Path(f"/home/{login}").exists()


def test_an_account_lives_as_long_as_its_visitor(node: SshNode) -> None:
    login = login_of("drop")
    may(node, login, "insecure-drop", host_groups=[GROUP], host_sudoers=["ALL=(ALL) NOPASSWD: ALL"])
    user = visitor(node, login)
    script = 'id -un; id -Gn; stat -c "%U %a" .; sudo -n id -un; setsid sleep 600 >/dev/null 2>&1 & echo $!'
    with user.logged_in(login) as transport:
        channel = transport.open_session()
        channel.exec_command(script)
        said = channel.makefile("r").read()
        lines = (said if isinstance(said, str) else said.decode()).splitlines()
        assert lines[0] == login
        assert {GROUP, DROP} <= set(lines[1].split())
        assert lines[2:4] == [f"{login} 700", "root"]
        file = SUDOERS / sudoers.file_name(sudoers.PREFIX, login)
        assert (file.stat().st_mode & 0o777, file.read_text()) == (
            0o440,
            f"{login} ALL=(ALL) NOPASSWD: ALL\n",
        )
        lingering = Path(f"/proc/{lines[4]}/stat")
        assert lingering.exists()
    gone(node, login)
    assert not file.exists()
    # Gone, or dead and not yet collected by the init of this host.
    wait_until(lambda: not lingering.exists() or " Z " in lingering.read_text(), "its daemon is ended")


def test_a_kept_account_stays_and_loses_sudo(node: SshNode) -> None:
    login = login_of("keep")
    may(node, login, "keep", host_sudoers=["ALL=(ALL) NOPASSWD: /bin/true"])
    user = visitor(node, login)
    assert user.ssh("touch mine; sudo -n true && echo ok", login=login).stdout == b"ok\n"
    file = SUDOERS / sudoers.file_name(sudoers.PREFIX, login)
    wait_until(lambda: not file.exists(), "the right of sudo goes")
    assert KEEP in {group.gr_name for group in grp.getgrall() if login in group.gr_mem}
    assert user.ssh("ls", login=login).stdout == b"mine\n"


def test_roles_that_make_no_account_find_none(node: SshNode) -> None:
    login = login_of("off")
    may(node, login, "off")
    refused = visitor(node, login).ssh("id", login=login)
    assert refused.returncode == 255
    assert b"there is no user" in refused.stderr
    assert not exists(login)


def test_a59_connections_that_come_at_once_make_one_account(node: SshNode) -> None:
    login = login_of("race")
    may(node, login, "insecure-drop")
    user = visitor(node, login)
    with ThreadPoolExecutor(5) as pool:
        done = list(pool.map(lambda _: user.ssh("id -un", login=login), range(5)))
    assert [each.stdout.decode() for each in done] == [f"{login}\n"] * 5
    gone(node, login)


def test_a59_a_home_that_is_a_link_is_not_moved_into(node: SshNode, tmp_path: Path) -> None:
    login = login_of("link")
    home = Path(f"/home/{login}")
    home.symlink_to(tmp_path)
    try:
        may(node, login, "insecure-drop")
        refused = visitor(node, login).ssh("id", login=login)
        assert refused.returncode == 255
        assert b"exists already" in refused.stderr
        assert not exists(login)
        assert (tmp_path.stat().st_uid, list(tmp_path.iterdir())) == (0, [])
    finally:
        home.unlink()


def test_a59_links_in_a_home_are_removed_and_not_followed(node: SshNode, tmp_path: Path) -> None:
    login = login_of("out")
    (tmp_path / "precious").write_text("x")
    tmp_path.chmod(0o755)
    may(node, login, "insecure-drop")
    visitor(node, login).ssh(f"ln -s {tmp_path} out; mkdir d; ln -s / d/root", login=login)
    gone(node, login)
    assert (tmp_path / "precious").read_text() == "x"


def test_a59_others_accounts_are_theirs(node: SshNode) -> None:
    login = login_of("own")
    subprocess.run(["useradd", "-m", "-s", "/bin/sh", login], check=True)
    before = pwd.getpwnam(login)
    may(node, login, "insecure-drop", host_groups=[GROUP], host_sudoers=["ALL=(ALL) NOPASSWD: ALL"])
    said = visitor(node, login).ssh("id -Gn; sudo -n true", login=login)
    assert said.stdout.decode().split() == [login] and said.returncode != 0
    may(node, "root", "insecure-drop", host_sudoers=["ALL=(ALL) NOPASSWD: ALL"])
    assert visitor(node, "root").ssh("id -un").returncode == 255
    assert pwd.getpwnam(login) == before
    assert not list(SUDOERS.glob("*root*"))


def test_a14_a_lock_takes_the_account_along(node: SshNode) -> None:
    login = login_of("lock")
    may(node, login, "insecure-drop", host_sudoers=["ALL=(ALL) NOPASSWD: ALL"])
    user = node.user("lou", roles=("maker",), logins=(login,))
    with user.logged_in(login) as transport:
        channel = transport.open_session()
        channel.exec_command("trap '' HUP TERM; echo up; while :; do sleep 1; done")
        assert channel.recv(10) == b"up\n"
        node.lock(user="lou", message="leave")
        wait_until(lambda: not transport.is_active(), "the connection ends")
    gone(node, login)
    assert not list(SUDOERS.glob(f"*{login}*"))
    assert user.ssh("id", login=login).returncode == 255
    assert not exists(login)


class TestTools:
    """The tools alone."""

    @pytest.fixture
    def homes(self) -> Iterator[Path]:
        """Where other users get to."""
        homes = Path(f"/var/tmp/homes{SUFFIX}")
        homes.mkdir(mode=0o755)
        yield homes
        shutil.rmtree(homes)

    @pytest.fixture
    def tools(self, tmp_path: Path, homes: Path) -> SystemTools:
        files = tmp_path / "sudoers.d"
        files.mkdir()
        return SystemTools(tmp_path / "notes", homes=homes, sudoers=files)

    def test_lines_that_are_none_change_nothing(self, tools: SystemTools, tmp_path: Path) -> None:
        tools.write_sudoers("a", "ann ALL=(ALL) ALL\n")
        for bad in ("ann nonsense here\n", "ann ALL=(ALL ALL\n"):
            with pytest.raises(UnavailableError, match="visudo refused"):
                tools.write_sudoers("a", bad)
        assert (tmp_path / "sudoers.d" / "a").read_text() == "ann ALL=(ALL) ALL\n"
        assert [path.name for path in (tmp_path / "sudoers.d").iterdir()] == ["a"]

    def test_a59_homes_that_others_may_write_to_are_no_place(self, tools: SystemTools, homes: Path) -> None:
        homes.chmod(0o777)
        login = login_of("open")
        accounts = Accounts(tools, LOG)
        with pytest.raises(UnavailableError, match="others than root"):
            accounts.ensure(login, Wanted(DROP))
        assert not exists(login)
        assert list(homes.iterdir()) == []

    def test_ids_and_leftovers(self, tools: SystemTools, homes: Path, tmp_path: Path) -> None:
        login = login_of("left")
        accounts = Accounts(tools, LOG)
        uid = next(
            uid for uid in range(50_000, 60_000) if not tools.uid_taken(uid) and not tools.group_of(uid)
        )
        accounts.ensure(login, Wanted(DROP, (GROUP,), ("ALL=(ALL) ALL",), "/bin/sh", uid, uid))
        entry = pwd.getpwnam(login)
        assert (entry.pw_uid, entry.pw_gid, entry.pw_shell) == (uid, uid, "/bin/sh")
        assert grp.getgrgid(uid).gr_name == login
        home = Path(entry.pw_dir)
        assert home.parent == homes and home.stat().st_uid == uid
        assert {path.stat().st_uid for path in home.iterdir()} <= {uid}
        assert accounts.clean_up() == [login]
        assert not exists(login) and not home.exists()
        assert list((tmp_path / "sudoers.d").iterdir()) == []
