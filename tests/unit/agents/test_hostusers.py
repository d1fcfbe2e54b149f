"""Accounts that the SSH Service makes: the logic over a host that is a dictionary."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.ssh.hostusers import sudoers
from pkgs.agents.ssh.hostusers.accounts import Accounts
from pkgs.agents.ssh.hostusers.keeper import HostUsers
from pkgs.agents.ssh.hostusers.static import StaticUsers, wanted_here
from pkgs.agents.ssh.hostusers.tools import Entry
from pkgs.agents.ssh.hostusers.wanted import (
    DROP,
    KEEP,
    MARKERS,
    STATIC,
    Wanted,
    clean_groups,
    clean_sudoers,
    shared,
    wanted_of,
)
from pkgs.common.access.options.hostuser import NO_HOST_USER, HostUser
from pkgs.common.access.validate import validate
from pkgs.common.errors import DeniedError, InputError, UnavailableError
from pkgs.common.resources.kinds import StaticHostUser
from pkgs.common.resources.kinds.upkeep import HostUserMatcher, StaticHostUserSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import LabelValues
from tests.harness.wait import until

LOG = logging.getLogger("t")


class Host:
    """Accounts, groups and files of a host."""

    def __init__(self) -> None:
        self.users: dict[str, Entry] = {"root": Entry("root", 0, 0, "/root")}
        self.groups: dict[str, int] = {"docker": 500}
        self.files: dict[str, str] = {}
        self.done: list[str] = []
        self.notes: set[str] = set()
        self.broken = ""
        self.bad_line = ""
        self.next_uid = 1000

    def had(self, login: str, *groups: str, uid: int = 1500) -> None:
        self.users[login] = Entry(login, uid, uid, f"/home/{login}", frozenset(groups))

    def _do(self, what: str) -> None:
        if self.broken and what.startswith(self.broken):
            raise UnavailableError(f"{what.split()[0]} refused")
        self.done.append(what)

    def account(self, login: str) -> Entry | None:
        return self.users.get(login)

    def uid_taken(self, uid: int) -> bool:
        return any(entry.uid == uid for entry in self.users.values())

    def group_of(self, gid: int) -> str:
        return next((name for name, found in self.groups.items() if found == gid), "")

    def members(self, group: str) -> list[str]:
        return [entry.login for entry in self.users.values() if group in entry.groups]

    def shell_exists(self, shell: str) -> bool:
        return shell == "/bin/zsh"

    def ensure_groups(self, names: Iterable[str]) -> None:
        for name in names:
            self.groups.setdefault(name, 2000 + len(self.groups))

    def add_group(self, name: str, gid: int) -> None:
        self._do(f"groupadd {name} {gid}")
        self.groups[name] = gid

    def add_user(
        self, login: str, *, groups: Sequence[str], shell: str, uid: int | None, gid: int | None
    ) -> Entry:
        assert set(groups) <= set(self.groups)
        self._do(f"useradd {login} {','.join(groups)} {shell} {uid} {gid}")
        self.had(login, *groups, uid=uid or self.next_uid)
        self.next_uid += 1
        return self.users[login]

    def set_groups(self, login: str, groups: Sequence[str]) -> None:
        assert set(groups) <= set(self.groups)
        self._do(f"usermod {login} {','.join(groups)}")
        self.had(login, *groups, uid=self.users[login].uid)

    def remove_user(self, entry: Entry) -> None:
        self._do(f"userdel {entry.login}")
        del self.users[entry.login]

    def write_sudoers(self, name: str, text: str) -> None:
        if self.bad_line and self.bad_line in text:
            raise UnavailableError("visudo refused")
        self.files[name] = text

    def remove_sudoers(self, name: str) -> None:
        self.files.pop(name, None)

    def note(self, login: str) -> None:
        self.notes.add(login)

    def forget(self, login: str) -> None:
        self.notes.discard(login)

    def noted(self) -> list[str]:
        return sorted(self.notes)


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def accounts(host: Host) -> Accounts:
    return Accounts(host, LOG)


def file_of(login: str) -> str:
    return sudoers.file_name(sudoers.PREFIX, login)


class TestAccounts:
    def test_one_is_made(self, host: Host, accounts: Accounts) -> None:
        wanted = Wanted(KEEP, ("docker", "dev"), ("ALL=(ALL) NOPASSWD: ALL",), shell="/bin/zsh")
        assert accounts.ensure("ann", wanted) == "made"
        assert host.done == ["useradd ann dev,docker,teleport-keep /bin/zsh None None"]
        assert host.files == {file_of("ann"): "ann ALL=(ALL) NOPASSWD: ALL\n"}
        assert accounts.ensure("ann", wanted) == "same"

    def test_a_shell_that_is_not_there_is_the_hosts_own(self, host: Host, accounts: Accounts) -> None:
        accounts.ensure("ann", Wanted(DROP, shell="/bin/fish"))
        assert host.done == ["useradd ann teleport-system  None None"]

    def test_ids_of_traits(self, host: Host, accounts: Accounts) -> None:
        accounts.ensure("ann", Wanted(KEEP, uid=3000, gid=4000))
        assert host.done == ["groupadd ann 4000", "useradd ann teleport-keep  3000 4000"]
        accounts.ensure("bob", Wanted(KEEP, uid=3001, gid=500))
        assert host.done[2:] == ["useradd bob teleport-keep  3001 500"]
        with pytest.raises(DeniedError, match="3000 belongs to another"):
            accounts.ensure("eve", Wanted(KEEP, uid=3000))
        assert "eve" not in host.users

    def test_groups_follow_the_roles(self, host: Host, accounts: Accounts) -> None:
        host.had("ann", KEEP, "docker")
        assert accounts.ensure("ann", Wanted(KEEP, ("dev",))) == "changed"
        assert host.users["ann"].groups == {KEEP, "dev"}

    @pytest.mark.parametrize(
        ("before", "wanted", "after"),
        [(DROP, KEEP, KEEP), (KEEP, DROP, KEEP), (DROP, DROP, DROP), (KEEP, KEEP, KEEP)],
    )
    def test_once_kept_always_kept(
        self, host: Host, accounts: Accounts, before: str, wanted: str, after: str
    ) -> None:
        host.had("ann", before)
        accounts.ensure("ann", Wanted(wanted))
        assert host.users["ann"].groups == {after}

    def test_a59_an_account_that_is_not_ours_stays_as_it_is(self, host: Host, accounts: Accounts) -> None:
        host.had("ann", "docker")
        host.had("stan", STATIC)
        for login in ("ann", "stan"):
            before = host.users[login]
            assert accounts.ensure(login, Wanted(DROP, ("wheel",), ("ALL=(ALL) ALL",))) == "not ours"
            assert not accounts.finish(login)
            assert host.users[login] == before
        assert host.done == [] and host.files == {}

    @pytest.mark.parametrize(
        "login", ["root", "ALL", "ADMINS", "0", "-x", "../x", "a b", "", "a\nb", "%wheel"]
    )
    def test_a59_a17_some_logins_are_no_accounts(self, host: Host, accounts: Accounts, login: str) -> None:
        with pytest.raises(DeniedError):
            accounts.ensure(login, Wanted(DROP, (), ("ALL=(ALL) ALL",)))
        assert host.done == [] and host.files == {}

    def test_a59_an_account_of_the_system_is_not_touched_whatever_group_it_is_in(
        self, host: Host, accounts: Accounts
    ) -> None:
        host.had("www-data", DROP, uid=33)
        host.note("www-data")
        with pytest.raises(DeniedError, match="system"):
            accounts.ensure("www-data", Wanted(DROP, ("wheel",), ("ALL=(ALL) ALL",)))
        with pytest.raises(DeniedError, match="system"):
            accounts.finish("www-data")
        assert accounts.clean_up() == []
        assert host.done == [] and host.files == {}

    def test_a_host_that_gives_ids_of_the_system_is_refused(self, host: Host, accounts: Accounts) -> None:
        host.next_uid = 900
        with pytest.raises(DeniedError, match="below 1000"):
            accounts.ensure("ann", Wanted(DROP))
        assert "ann" not in host.users

    def test_a_line_that_visudo_refuses_takes_the_rights_and_not_the_account(
        self, host: Host, accounts: Accounts
    ) -> None:
        accounts.ensure("ann", Wanted(KEEP, (), ("ALL=(ALL) ALL",)))
        host.bad_line = "nonsense"
        assert accounts.ensure("ann", Wanted(KEEP, (), ("nonsense",))) == "same"
        assert host.files == {}

    def test_the_end(self, host: Host, accounts: Accounts) -> None:
        for login, marker in (("ann", DROP), ("ken", KEEP)):
            accounts.ensure(login, Wanted(marker, (), ("ALL=(ALL) ALL",)))
        assert accounts.finish("ann") and not accounts.finish("ken")
        assert set(host.users) == {"root", "ken"} and host.files == {}

    def test_leftovers(self, host: Host, accounts: Accounts) -> None:
        for login, marker in (("ann", DROP), ("bea", DROP), ("ken", KEEP)):
            accounts.ensure(login, Wanted(marker, (), ("ALL=(ALL) ALL",)))
        accounts.ensure("stan", Wanted(STATIC, (), ("ALL=(ALL) ALL",)))
        host.broken = "userdel ann"
        assert accounts.clean_up() == ["bea"]
        assert set(host.files) == {sudoers.file_name(sudoers.STATIC_PREFIX, "stan")}


class TestStatic:
    def test_an_account_is_taken_over_only_where_that_is_said(self, host: Host, accounts: Accounts) -> None:
        host.had("ann", "docker")
        host.had("ken", KEEP)
        for login in ("ann", "ken"):
            assert accounts.ensure(login, Wanted(STATIC, ("dev",))) == "not ours"
        assert accounts.ensure("ann", Wanted(STATIC, ("dev",), take_ownership=True)) == "changed"
        assert host.users["ann"].groups == {STATIC, "dev", "docker"}
        assert accounts.ensure("ken", Wanted(STATIC, ("dev",), take_ownership=True)) == "changed"
        assert host.users["ken"].groups == {STATIC, "dev"}

    def test_root_is_not_taken_over(self, host: Host, accounts: Accounts) -> None:
        host.had("daemon", uid=2)
        for login in ("root", "daemon"):
            with pytest.raises(DeniedError):
                accounts.ensure(login, Wanted(STATIC, take_ownership=True))
        assert host.done == []


def static(*matchers: HostUserMatcher, name: str = "stan") -> StaticHostUser:
    return StaticHostUser(metadata=Metadata(name=name), spec=StaticHostUserSpec(matchers=list(matchers)))


def on_dev(**fields: Any) -> HostUserMatcher:
    return HostUserMatcher(node_labels=[LabelValues(name="env", values=["dev", "test"])], **fields)


class TestStaticResources:
    DEV: ClassVar = {"env": "dev"}

    def test_one_matcher_says_what(self) -> None:
        user = static(
            on_dev(groups=["dev", KEEP, "a,b"], sudoers=["x", "y\nz"], uid=3000, default_shell="/bin/zsh"),
            HostUserMatcher(node_labels_expression='labels["env"] == "prod"', uid=1),
        )
        assert wanted_here(user, self.DEV) == Wanted(STATIC, ("dev",), ("x",), "/bin/zsh", 3000)
        assert wanted_here(user, {"env": "other"}) is None
        with pytest.raises(DeniedError, match="system's"):
            wanted_here(user, {"env": "prod"})

    def test_labels_and_expression_must_both_hold(self) -> None:
        user = static(on_dev(node_labels_expression='labels["os"] == "linux"'))
        assert wanted_here(user, self.DEV) is None
        assert wanted_here(user, {**self.DEV, "os": "linux"}) is not None
        assert wanted_here(static(HostUserMatcher()), self.DEV) is None

    def test_two_that_match_want_nothing(self) -> None:
        everywhere = HostUserMatcher(node_labels=[LabelValues(name="*", values=["*"])])
        with pytest.raises(DeniedError, match="2 matchers"):
            wanted_here(static(on_dev(), everywhere), self.DEV)

    def test_a_bad_expression_is_not_stored(self) -> None:
        with pytest.raises(InputError, match=r"spec\.matchers\[0\]"):
            validate(static(HostUserMatcher(node_labels_expression="labels[")))

    def test_they_are_brought_about_and_followed(self) -> None:
        found = Host()
        found.had("old")
        resources = [
            static(on_dev(sudoers=["x"])),
            static(on_dev(), name="old"),
            static(on_dev(), name="root"),
        ]

        async def main() -> None:
            users = HostUsers(found, LOG)
            keeper = StaticUsers(users, lambda: (resources, self.DEV), LOG)
            await keeper.reconcile()
            assert found.users["stan"].groups == {STATIC} and found.users["old"].groups == frozenset()
            assert list(found.files.values()) == ["stan x\n"]
            resources[:] = [static(on_dev(take_ownership_if_user_exists=True), name="old")]
            await keeper.reconcile()
            assert "stan" in found.users and found.users["old"].groups == {STATIC}
            assert found.files == {}
            await users.start()
            assert found.notes == {"static:old"}, "what is static is not left over"
            await users.close()

        asyncio.run(main())

    def test_a_change_is_seen(self) -> None:
        found = Host()
        resources: list[StaticHostUser] = []

        async def main() -> None:
            users = HostUsers(found, LOG)
            keeper = StaticUsers(users, lambda: (resources, self.DEV), LOG)
            keeper.start()
            resources.append(static(on_dev()))
            keeper.changed()
            await until(lambda: "stan" in found.users)
            await keeper.close()
            await users.close()

        asyncio.run(main())


class TestWanted:
    def test_of_roles_and_traits(self) -> None:
        user = HostUser("insecure-drop", "/bin/zsh", ("dev", KEEP), ("ALL=(ALL) ALL",))
        found = wanted_of(user, {"host_user_uid": ("3000", "4000"), "host_user_gid": ("",)})
        assert found == Wanted(DROP, ("dev",), ("ALL=(ALL) ALL",), "/bin/zsh", 3000)
        assert wanted_of(NO_HOST_USER, {"host_user_uid": ("x",)}) is None

    @pytest.mark.parametrize("value", ["0", "00", "999", "-1", "1e3", "٣٠٠٠", "4294967296", "3000 ", "x"])
    def test_a59_no_id_of_the_system(self, value: str) -> None:
        with pytest.raises(DeniedError, match="host_user_uid"):
            wanted_of(HostUser("keep"), {"host_user_uid": (value,)})

    def test_lines_stay_lines(self) -> None:
        bad = ["a\nroot ALL=(ALL) ALL", "a\r", "x \\", "x\\  ", "", " ", "\u2028", "y" * 1001]
        assert clean_sudoers([*bad, "ok", "ok"]) == ("ok",)
        assert clean_groups(["dev", "a,b", "-x", *MARKERS, "dev"]) == ("dev",)

    def test_who_shares_an_account_has_what_all_may_have(self) -> None:
        one = Wanted(DROP, ("a", "b"), ("x", "y"), uid=1500)
        two = Wanted(KEEP, ("b", "c"), ("y",), shell="/bin/zsh")
        assert shared([one, two]) == Wanted(KEEP, ("b",), ("y",), shell="/bin/zsh")
        assert shared([one]) == one

    @given(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,10}\$?", fullmatch=True), st.data())
    def test_files_have_names_that_sudo_reads_and_nobody_shares(self, login: str, data: Any) -> None:
        name = file_of(login)
        assert "." not in name and "/" not in name and not name.endswith("~")
        other = data.draw(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,10}\$?", fullmatch=True))
        assert (file_of(other) == name) is (other == login)


def keeping(body: Callable[[Host, HostUsers], Awaitable[None]]) -> None:
    async def main() -> None:
        found = Host()
        users = HostUsers(found, LOG)
        await users.start()
        async with asyncio.timeout(20):
            await body(found, users)
        await users.close()
        assert set(found.members(DROP)) == set() and found.files == {}

    asyncio.run(main())


async def settled(users: HostUsers) -> None:
    """What was asked for is done."""
    await asyncio.gather(*users._going)
    await users.run(lambda: None)


class TestKeeper:
    def test_the_last_to_leave_takes_the_account_along(self) -> None:
        async def body(found: Host, users: HostUsers) -> None:
            first, second = object(), object()
            assert await users.claim(first, "ann", Wanted(DROP, ("dev",)))
            assert await users.claim(second, "ann", Wanted(DROP, ("dev",)))
            users.release(first, "ann")
            await settled(users)
            assert "ann" in found.users
            users.release(second, "ann")
            users.release(second, "ann")
            await settled(users)
            assert "ann" not in found.users

        keeping(body)

    def test_who_comes_while_it_goes_gets_it_anew(self) -> None:
        async def body(found: Host, users: HostUsers) -> None:
            first, second = object(), object()
            await users.claim(first, "ann", Wanted(DROP))
            users.release(first, "ann")
            await asyncio.sleep(0)
            await users.claim(second, "ann", Wanted(DROP))
            await settled(users)
            assert "ann" in found.users

        keeping(body)

    def test_a59_many_at_once_make_one_account(self) -> None:
        async def body(found: Host, users: HostUsers) -> None:
            keys = [object() for _ in range(20)]
            await asyncio.gather(*(users.claim(key, "ann", Wanted(DROP)) for key in keys))
            assert [what for what in found.done if what.startswith("useradd")] == [
                "useradd ann teleport-system  None None"
            ]
            for key in keys:
                users.release(key, "ann")
            await settled(users)
            assert "ann" not in found.users

        keeping(body)

    def test_nobody_gains_by_anothers_being_there(self) -> None:
        async def body(found: Host, users: HostUsers) -> None:
            admin, guest, plain = object(), object(), object()
            await users.claim(admin, "ann", Wanted(DROP, ("docker",), ("ALL=(ALL) ALL",)))
            assert found.files
            await users.claim(guest, "ann", Wanted(DROP))
            assert not found.files and found.users["ann"].groups == {DROP}
            users.release(guest, "ann")
            await settled(users)
            assert found.files and "docker" in found.users["ann"].groups
            assert await users.claim(plain, "ann", None), "whose roles make no account"
            assert not found.files
            assert not await users.claim(object(), "bob", None)

        keeping(body)

    def test_what_cannot_be_made_is_not_claimed(self) -> None:
        async def body(found: Host, users: HostUsers) -> None:
            found.broken = "useradd"
            with pytest.raises(UnavailableError):
                await users.claim(object(), "ann", Wanted(DROP, (), ("x",)))
            found.broken = ""
            await settled(users)
            key = object()
            await users.claim(key, "ann", Wanted(DROP))
            users.release(key, "ann")
            await settled(users)
            assert "ann" not in found.users

        keeping(body)

    def test_leftovers_go_at_the_start(self) -> None:
        async def main() -> None:
            found = Host()
            found.had("ann", DROP)
            found.had("ken", KEEP)
            found.had("bea", DROP)
            for login in ("ann", "ken", "gone"):
                found.note(login)
            users = HostUsers(found, LOG)
            await users.start()
            await users.close()
            assert set(found.users) == {"root", "ken", "bea"}, "bea is of another agent"
            assert found.notes == set()

        asyncio.run(main())
