"""A slow watcher under many writes and deletes: it falls behind, starts over, and ends with the truth."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from pkgs.auth import limits
from pkgs.common.api.resources import DeleteResource, PutResource, WatchItem
from pkgs.common.membership.cache import KINDS_HOST, ClusterCache
from pkgs.common.resources.kinds import CertAuthority
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec
from pkgs.common.rpc.calls import AsyncClient
from pkgs.common.rpc.client import RpcClient
from tests.harness.wait import until
from tests.integration.auth_kit import Kit, auth, run

WRITES = 500


class SlowReader:
    """A client whose watch takes its time over each change, and over the first one until it may go on."""

    def __init__(self, client: RpcClient) -> None:
        self._client = client
        self.watches = 0
        self.resyncs = 0
        self.go_on = asyncio.Event()

    async def stream(self, request: Any) -> AsyncIterator[WatchItem]:
        self.watches += 1
        async for item in self._client.stream(request):
            self.resyncs += item.op == "resync"
            if item.op in ("put", "delete"):
                await self.go_on.wait()
                await asyncio.sleep(0)
            yield item


async def storm(kit: Kit) -> None:
    """Puts and deletes of a few names, so that a lost change would show."""
    chance = random.Random(7)
    there: set[str] = set()
    for number in range(WRITES):
        name = f"r{chance.randrange(40)}"
        if name in there and chance.random() < 0.4:
            await kit.admin.call(DeleteResource(kind="role", name=name))
            there.discard(name)
        else:
            spec = RoleSpec(allow=Conditions(logins=[f"u{number}"]))
            role = Role(metadata=Metadata(name=name), spec=spec)
            await kit.admin.call(PutResource(resource=role, mode="upsert"))
            there.add(name)


def test_a_slow_cache_ends_with_the_truth(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCH_QUEUE_AGENT", 16)

    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            reader = SlowReader(kit.as_host(host))
            authorities = [r for r in kit.service.store.all("cert_authority") if isinstance(r, CertAuthority)]
            cache = ClusterCache(
                cast(AsyncClient, reader),
                kinds=KINDS_HOST,
                cluster_name=kit.service.cluster_name,
                authorities=authorities,
                file=None,
                clock=kit.clock,
                log=logging.getLogger("test.cache"),
            )
            await cache.start()
            try:
                await cache.wait_ready(10)
                await storm(kit)
                reader.go_on.set()
                await storm(kit)

                def same() -> bool:
                    truth = {r.name: r for r in kit.service.store.all("role")}
                    return cache.live and {r.name: r for r in cache.resources("role")} == truth

                await until(same, 20)
                assert reader.resyncs, "the reader was slow enough to fall behind"
                assert reader.watches > reader.resyncs
            finally:
                await cache.close()

    run(main)
