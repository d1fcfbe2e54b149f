"""The cache against a scripted watch: no sockets, no waiting for time to pass."""

import asyncio
import logging

import pytest

from pkgs.common.api.resources import WatchItem
from pkgs.common.errors import DeniedError, LockedError, UnavailableError
from pkgs.common.membership import limits
from pkgs.common.membership.cache import KINDS_PROXY, ClusterCache
from pkgs.common.membership.cachefile import Saved, load_saved, save
from pkgs.common.pki.authority import new_authority, without_secrets
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.kinds import ClusterName, ClusterNameSpec, Lock, LockSpec, LockTarget
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Role
from pkgs.common.runtime.debug.readiness import Component, State

CAS = [without_secrets(new_authority(kind, "alpha", 1.7e9)) for kind in ("host", "user")]
NAME = ClusterName(metadata=Metadata(name="cluster-name"), spec=ClusterNameSpec(cluster_name="alpha"))
USER = Identity(kind=PeerKind.USER, name="mira", cluster="alpha", roles=("dev", "ops"))


def role(name: str, description: str = "") -> Role:
    return Role(metadata=Metadata(name=name, description=description))


class Watched:
    """An AsyncClient whose stream is what the test puts in; None ends it, an exception breaks it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue = asyncio.Queue()
        self.opened = 0
        self.closed = 0

    async def stream(self, request, *, deadline_s=None):
        self.opened += 1
        try:
            while (item := await self.queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed += 1

    def snapshot(self, *resources) -> None:
        for start in range(0, len(resources), 2):
            self.queue.put_nowait(WatchItem(op="snapshot", resources=list(resources[start : start + 2])))
        self.queue.put_nowait(WatchItem(op="ready"))


class Clock:
    at = 1.79e9

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


def cache_of(client, *, file=None, component=None, clock=None) -> ClusterCache:
    return ClusterCache(
        client,
        kinds=KINDS_PROXY,
        cluster_name="alpha",
        authorities=CAS,
        file=file,
        clock=clock or Clock(),
        log=logging.getLogger("test.cache"),
        component=component,
    )


async def settle(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - conditions of many kinds
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(limits, "WATCH_RETRY_FIRST_S", 0.001)
    monkeypatch.setattr(limits, "WATCH_RETRY_LIMIT_S", 0.002)


def scenario(work, **options) -> None:
    async def main() -> None:
        client = Watched()
        cache = cache_of(client, **options)
        await cache.start()
        try:
            await work(client, cache)
        finally:
            await cache.close()
            await asyncio.sleep(0)

    asyncio.run(main())


def test_before_the_first_snapshot_nothing_is_decided():
    async def work(client, cache):
        assert cache.trust.cluster_name == "alpha"
        with pytest.raises(DeniedError):
            cache.roles_of(USER)
        with pytest.raises(UnavailableError):
            await cache.wait_ready(0.01)
        client.snapshot(*CAS, NAME, role("dev"))
        await cache.wait_ready(5)
        with pytest.raises(DeniedError) as caught:
            cache.roles_of(USER)
        assert "ops" not in str(caught.value) and "ops" in str(caught.value.reasons)

    scenario(work)


def test_readers_never_see_half_a_snapshot():
    async def work(client, cache):
        client.snapshot(*CAS, NAME, role("dev"), role("ops"))
        await cache.wait_ready(5)
        client.queue.put_nowait(WatchItem(op="resync"))
        client.queue.put_nowait(WatchItem(op="snapshot", resources=[*CAS, role("dev", "new")]))
        await settle(lambda: client.opened == 2 and client.queue.empty())
        assert cache.role("dev").metadata.description == ""
        assert cache.roles_of(USER)
        client.snapshot(NAME)
        await settle(lambda: cache.live)
        assert cache.role("dev").metadata.description == "new"
        assert [r.name for r in cache.resources("role")] == ["dev"]

    scenario(work)


def test_changes_are_told_by_kind_and_a_bad_listener_harms_nobody():
    async def work(client, cache):
        seen: list[str] = []

        def bad(kind: str) -> None:
            raise RuntimeError(kind)

        cache.on_change(bad)
        cache.on_change(seen.append)
        client.snapshot(*CAS, NAME)
        await cache.wait_ready(5)
        assert seen == ["cluster_name"]
        lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="eve")))
        client.queue.put_nowait(WatchItem(op="put", resources=[lock]))
        await settle(lambda: cache.locks == (lock,))
        client.queue.put_nowait(WatchItem(op="delete", kind="lock", name="l"))
        await settle(lambda: cache.locks == ())
        client.queue.put_nowait(WatchItem(op="delete", kind="lock", name="never-there"))
        client.queue.put_nowait(WatchItem(op="delete", kind="a-kind-of-the-future", name="x"))
        await settle(client.queue.empty)
        assert seen[:3] == ["cluster_name", "lock", "lock"]

    scenario(work)


def test_a14_a_host_that_is_locked_is_cut_off_and_decides_nothing():
    """It need not have seen the lock. Another refusal, or nobody who answers, cuts nobody off."""

    async def work(client, cache):
        told: list[str] = []
        client.snapshot(*CAS, NAME, role("dev"), role("ops"))
        await cache.wait_ready(5)
        cache.on_change(told.append)
        for trouble in (UnavailableError("down"), DeniedError('access denied to perform action "list"')):
            opened = client.opened
            client.queue.put_nowait(trouble)
            await settle(lambda opened=opened: client.opened > opened)
            assert cache.roles_of(USER)
        client.queue.put_nowait(LockedError('lock targeting ServerID:"x" is in force'))
        await settle(lambda: "lock" in told)
        with pytest.raises(DeniedError, match="lock targeting ServerID"):
            cache.roles_of(USER)
        client.snapshot(*CAS, NAME, role("dev"), role("ops"))
        await settle(lambda: cache.live)
        assert cache.roles_of(USER)

    scenario(work)


def test_a_lost_watch_makes_the_state_stale_and_then_too_old():
    clock, component = Clock(), Component("cache")

    async def work(client, cache):
        client.snapshot(*CAS, NAME, role("dev"), role("ops"))
        await cache.wait_ready(5)
        assert (cache.stale_for_s, component.state) == (0.0, State.OK)
        client.queue.put_nowait(UnavailableError("gone"))
        await settle(lambda: not cache.live)
        clock.at += 100
        assert cache.stale_for_s == 100
        assert cache.roles_of(USER)
        client.queue.put_nowait(UnavailableError("still gone"))
        await settle(lambda: component.state is State.DEGRADED)
        assert "still gone" in component.reason
        clock.at += limits.CACHE_MAX_STALE_S
        with pytest.raises(DeniedError, match="too long"):
            cache.roles_of(USER)
        client.snapshot(*CAS, NAME, role("dev"), role("ops"))
        await settle(lambda: cache.live)
        assert cache.roles_of(USER) and component.state is State.OK

    scenario(work, clock=clock, component=component)


@pytest.mark.parametrize(
    "foreign",
    [
        [],
        [NAME],
        [
            *CAS,
            ClusterName(metadata=Metadata(name="cluster-name"), spec=ClusterNameSpec(cluster_name="beta")),
        ],
    ],
    ids=["empty", "no authorities", "another cluster"],
)
def test_a_snapshot_that_is_not_of_this_cluster_is_not_taken(foreign):
    async def work(client, cache):
        client.snapshot(*foreign)
        await settle(lambda: client.opened == 2)
        assert not cache.ready and cache.trust.pins()

    scenario(work)


def test_every_stream_is_closed():
    async def work(client, cache):
        client.snapshot(*CAS, NAME)
        await cache.wait_ready(5)
        client.queue.put_nowait(WatchItem(op="resync"))
        await settle(lambda: client.opened == 2)
        assert client.closed == 1

    scenario(work)


def test_the_file_keeps_the_state_and_its_age(tmp_path):
    file = tmp_path / "node" / "cache.msgpack"
    clock = Clock()

    async def first(client, cache):
        client.snapshot(*CAS, NAME, role("dev"), role("ops"))
        await cache.wait_ready(5)
        client.queue.put_nowait(UnavailableError("gone"))
        await settle(lambda: not cache.live)
        clock.at += 50

    scenario(first, file=file, clock=clock)
    assert file.stat().st_mode & 0o777 == 0o600
    clock.at += 50

    async def second(client, cache):
        await cache.wait_ready(0)
        assert not cache.live
        assert cache.stale_for_s == pytest.approx(100, abs=0.01)
        assert cache.roles_of(USER)
        assert cache.trust.pins()

    scenario(second, file=file, clock=clock)
    clock.at += limits.CACHE_MAX_STALE_S

    async def third(client, cache):
        assert not cache.ready

    scenario(third, file=file, clock=clock)


def test_a_file_of_another_cluster_or_damaged_is_not_used(tmp_path):
    file = tmp_path / "d" / "cache.msgpack"
    log = logging.getLogger("test.cache")
    save(file, Saved(cluster_name="beta", current_at=Clock.at, resources=[*CAS]))

    async def work(client, cache):
        assert not cache.ready

    scenario(work, file=file)
    assert load_saved(file, log) is not None
    raw = bytearray(file.read_bytes())
    raw[40] ^= 1
    file.write_bytes(raw)
    assert load_saved(file, log) is None
    assert load_saved(tmp_path / "none", log) is None
