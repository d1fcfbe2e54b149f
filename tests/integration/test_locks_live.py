"""Locks and live sessions from end to end: the real Auth Service, the real SSH Service with a view of its
own, and the OpenSSH client. The Auth Service is stopped for real; what counts as stale is made shorter."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pkgs.agents.ssh.service import SshService
from pkgs.agents.ssh.service import start as start_ssh
from pkgs.common.access import locks as lock_rules
from pkgs.common.api.resources import DeleteResource, PutResource
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role
from pkgs.common.runtime.config import parse_config
from pkgs.common.runtime.process import Process
from tests.harness.wait import until
from tests.integration.auth_kit import TOKEN, Kit, User, auth, events, role, run

pytestmark = [
    pytest.mark.needs("ssh"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become the login"),
]
PROMISED_S = 5.0


@dataclass
class Place:
    """A cluster with one server that listens by itself."""

    kit: Kit
    service: SshService
    folder: Path

    @property
    def port(self) -> int:
        listener = self.service._listener
        assert listener is not None
        return int(listener.addresses[0].rpartition(":")[2])

    @property
    def host_id(self) -> str:
        return self.service._member.identity.host_id

    @property
    def passes(self) -> int:
        return self.service._reviews.passes

    def argv(self, user: User, command: str) -> list[str]:
        """The user's own `ssh`; their files are written anew each time."""
        assert user.certs is not None
        key = self.folder / user.name
        key.unlink(missing_ok=True)
        key.touch(0o600)
        key.write_bytes(user.ssh_key.private_pem)
        Path(f"{key}-cert.pub").write_text(user.certs.ssh_cert + "\n")
        known = self.folder / "known_hosts"
        known.write_text(f"@cert-authority * {self.kit.service.authorities.trust.ssh_ca_lines('host')[0]}\n")
        options = (
            f"UserKnownHostsFile={known}", "GlobalKnownHostsFile=/dev/null", f"HostKeyAlias={self.host_id}",
            "IdentitiesOnly=yes", "IdentityAgent=none", "BatchMode=yes", "ConnectTimeout=20",
        )  # fmt: skip
        flags = [word for option in options for word in ("-o", option)]
        return [
            *("ssh", "-F", "/dev/null", *flags, "-i", str(key), "-p", str(self.port)),
            *("root@127.0.0.1", command),
        ]

    async def ssh(self, user: User, command: str = "echo in") -> tuple[int, str, str]:
        pipe = asyncio.subprocess.PIPE
        done = await asyncio.create_subprocess_exec(*self.argv(user, command), stdout=pipe, stderr=pipe)
        out, err = await done.communicate()
        assert done.returncode is not None
        return done.returncode, out.decode(), err.decode()

    async def is_let_in(self, user: User) -> bool:
        return (await self.ssh(user))[0] == 0

    @asynccontextmanager
    async def session(self, user: User) -> AsyncIterator[Live]:
        pipe = asyncio.subprocess.PIPE
        argv = self.argv(user, "echo up; sleep 60")
        process = await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"up\n", await process.communicate()
        try:
            yield Live(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def lock(self, name: str = "no", expires: datetime | None = None, **target: str) -> None:
        spec = LockSpec(target=LockTarget(**target), message="come to the desk", expires=expires)
        await self.kit.admin.call(PutResource(resource=Lock(metadata=Metadata(name=name), spec=spec)))

    async def unlock(self, name: str = "no") -> None:
        await self.kit.admin.call(DeleteResource(kind="lock", name=name))

    async def put(self, changed: Role) -> None:
        await self.kit.admin.call(PutResource(resource=changed, mode="upsert"))

    async def asked_again(self) -> None:
        before = self.passes
        await until(lambda: self.passes >= before + 2)


@dataclass
class Live:
    process: asyncio.subprocess.Process

    @property
    def goes_on(self) -> bool:
        return self.process.returncode is None

    async def last_words(self, within_s: float = PROMISED_S) -> str:
        assert self.process.stderr is not None
        async with asyncio.timeout(within_s):
            words = (await self.process.stderr.read()).decode()
            assert await self.process.wait() == 255
        return words


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    async with auth(folder / "auth") as kit:
        data = folder / "node"
        data.mkdir(mode=0o700)
        config = parse_config(
            f"""
version: v3
teleport:
  data_dir: {data}
  nodename: node-1
  auth_server: 127.0.0.1:{kit.port}
  auth_token: {TOKEN}
  ca_pin: '{kit.service.authorities.trust.pins()[0]}'
auth_service: {{enabled: no}}
proxy_service: {{enabled: no}}
ssh_service: {{enabled: yes, listen_addr: 127.0.0.1:0, labels: {{env: test}}}}
"""
        )
        process = Process(config=config, name="ssh", data_dir=data, log=logging.getLogger("ssh"))
        service = await start_ssh(process)
        try:
            await until(lambda: service._member.cache.live)
            yield Place(kit, service, folder)
        finally:
            await service.close()


ALLOW = Conditions(logins=["{{internal.logins}}"], node_labels={"*": "*"})


async def somebody(here: Place, name: str = "mira", **options: object) -> User:
    await here.put(role(f"of-{name}", ALLOW, **options))
    return await here.kit.user(name, f"of-{name}")


@pytest.mark.parametrize("target", ["user", "role", "login", "mfa_device", "server_id"])
def test_a14_a_lock_reaches_the_live_session_and_the_new_one(short_tmp: Path, target: str) -> None:
    async def main() -> None:
        async with place(short_tmp) as here:
            mira = await somebody(here)
            (login,) = await events(here.kit, "user.login")
            values = {
                "user": "mira",
                "role": "of-mira",
                "login": "root",
                "mfa_device": str(login["mfa_device"]["mfa_device_uuid"]),  # type: ignore[index]
                "server_id": here.host_id,
            }
            async with here.session(mira) as live:
                began = time.monotonic()
                await here.lock(**{target: values[target]})
                words = await live.last_words()
                assert time.monotonic() - began < PROMISED_S
                assert "is in force: come to the desk" in words
            code, out, err = await here.ssh(mira)
            assert (code, out) == (255, "")
            assert f'"{values[target]}" is in force: come to the desk' in err
            await here.unlock()
            await until(lambda: here.is_let_in(mira), 30)
            ends = await events(here.kit, "client.disconnect")
            if target == "server_id":
                return  # told when it is let in again, and never by another way than its own
            assert [event["reason"] for event in ends] == ["lock no: come to the desk"]

    run(main, 90)


def test_a14_a_server_that_was_away_when_it_was_locked_is_cut_off_when_it_returns(short_tmp: Path) -> None:
    """It never sees the lock, and would go on by its old view."""

    async def main() -> None:
        async with place(short_tmp) as here:
            mira = await somebody(here)
            cache = here.service._member.cache
            async with here.session(mira) as live:
                # As if its link were down: what it would learn is not learned.
                known = dict(cache._tables)
                cache._apply = lambda tables, item: None  # type: ignore[method-assign]
                await here.lock(server_id=here.host_id)
                cache._tables = known
                words = await live.last_words(10)
                assert "ServerID" in words
            assert cache.locks == ()
            code, _, err = await here.ssh(mira)
            assert code == 255
            assert "come to the desk" in err

    run(main, 60)


def test_f07_auth_is_down_sessions_go_on_and_begin_by_the_last_view(short_tmp: Path) -> None:
    async def main() -> None:
        async with place(short_tmp) as here:
            mira, otto = await somebody(here), await somebody(here, "otto")
            async with here.session(mira) as live:
                # Changed just before: the view has it, and it counts.
                await here.put(role("of-otto", Conditions(logins=["nobody"], node_labels={"*": "*"})))
                await here.kit.service.close()
                await until(lambda: not here.service._member.cache.live)
                assert await here.is_let_in(mira)
                code, _, err = await here.ssh(otto)
                assert (code, "access denied" in err) == (255, True)
                await here.asked_again()
                assert live.goes_on
                assert 0 < here.service._member.cache.stale_for_s < 60

    run(main, 60)


def test_f07_strict_ends_and_refuses_when_the_locks_are_not_known(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with place(short_tmp) as here:
            strict, other = await somebody(here, "sid", lock="strict"), await somebody(here)
            async with here.session(strict) as live, here.session(other) as spared:
                await here.kit.service.close()
                await until(lambda: not here.service._member.cache.live)
                await here.asked_again()
                assert live.goes_on
                monkeypatch.setattr(lock_rules, "STALE_LIMIT_S", 2.0)
                words = await live.last_words(2.0 + PROMISED_S)
                assert words.startswith("the locks in force are not known for certain")
                assert spared.goes_on
            code, _, err = await here.ssh(strict)
            assert (code, "not known for certain" in err) == (255, True)
            assert await here.is_let_in(other)

    run(main, 60)


def test_a_burst_of_a_thousand_changes_costs_next_to_nothing(short_tmp: Path) -> None:
    async def main() -> None:
        async with place(short_tmp) as here:
            mira = await somebody(here)
            async with here.session(mira) as live:
                before = here.passes
                began = time.monotonic()
                for first in range(0, 1000, 50):
                    names = [f"r{number}" for number in range(first, first + 50)]
                    await asyncio.gather(*(here.put(role(name, Conditions())) for name in names))
                await until(lambda: len(here.service._member.cache.resources("role")) > 1000)
                took = time.monotonic() - began
                # One after each settling time at most, whatever there is to hear.
                assert here.passes - before <= took / 0.2 + 2
                assert live.goes_on

    run(main, 120)


def test_a_changed_role_ends_the_live_session(short_tmp: Path) -> None:
    async def main() -> None:
        async with place(short_tmp) as here:
            mira = await somebody(here)
            async with here.session(mira) as live:
                await here.put(role("of-mira", Conditions(logins=["root"], node_labels={"env": "prod"})))
                assert "access is no longer allowed" in await live.last_words()
            (event,) = await events(here.kit, "client.disconnect")
            assert "no role allows this server" in str(event["reason"])

    run(main, 60)


def test_a_lock_with_an_end_lets_in_again_by_itself(short_tmp: Path) -> None:
    async def main() -> None:
        async with place(short_tmp) as here:
            mira = await somebody(here)
            # Whole seconds are kept: at least one and at most two of them.
            await here.lock(user="mira", expires=datetime.fromtimestamp(int(time.time()) + 3, UTC))
            assert not await here.is_let_in(mira)
            await until(lambda: here.is_let_in(mira), 15)

    run(main, 60)
