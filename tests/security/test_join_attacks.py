"""Joining and what a host may do with its certificate: A37, A38 (server side), A39, A40."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import msgspec
import pytest

from pkgs.auth.limits import JOINS_BURST
from pkgs.common.api.audit import SearchEvents, VerifyAudit
from pkgs.common.api.join import Join, RenewHostCerts
from pkgs.common.api.login import CreateUser
from pkgs.common.api.resources import (
    CreateToken,
    DeleteResource,
    GetResource,
    Heartbeat,
    PutResource,
    WatchResources,
)
from pkgs.common.api.system import GetHostCa, Ping
from pkgs.common.errors import (
    AccessError,
    AlreadyExistsError,
    DeniedError,
    InputError,
    LimitExceededError,
    NotFoundError,
    TrustError,
)
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.keys import new_ssh_key, new_tls_key
from pkgs.common.pki.pins import check_pin
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget, Node, Proxy, ServerSpec
from pkgs.common.resources.metadata import Metadata
from tests.integration.auth_kit import TOKEN, Host, Kit, auth, listed, new_keys, run

REFUSED = "the join token is not valid, has expired, or is not for this role"


def node(host_id: str, **fields: object) -> Node:
    spec = msgspec.convert({"hostname": "node-1", **fields}, ServerSpec)
    return Node(metadata=Metadata(name=host_id), spec=spec)


def request(**fields: object) -> Join:
    given: dict[str, object] = {
        "token": TOKEN,
        "role": SystemRole.NODE,
        "host_id": str(uuid.uuid4()),
        "node_name": "node-1",
        "ssh_public_key": new_ssh_key().public_line,
        "tls_public_key": new_tls_key().public_pem,
    }
    return msgspec.convert(given | fields, Join)


async def failures(kit: Kit) -> list[dict[str, object]]:
    stream = kit.admin.stream(SearchEvents(types=["instance.join"]))
    return [e.event.fields async for c in stream for e in c.events if e.event.code == "TJ002E"]


def test_a37_expired_wrong_type_unknown_and_empty_tokens_are_refused_alike(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            nobody = kit.nobody()
            short = (await kit.admin.call(CreateToken(roles=["node"], ttl_s=5))).resource.name
            kit.clock.ahead += 6
            for wrong in (
                request(token=short),
                request(token="guessed"),
                request(token=""),
                request(token="x" * 5000),
                request(role=SystemRole.PROXY),
                request(role=SystemRole.AUTH),
                request(token=f"proxy-{TOKEN}"),
                request(token=TOKEN.upper()),
                request(token=f"{TOKEN} "),
            ):
                with pytest.raises(DeniedError) as caught:
                    await nobody.call(wrong)
                assert (caught.value.message, caught.value.hint) == (REFUSED, "")
            told = await failures(kit)
            assert len(told) == 9
            assert not any(TOKEN in str(event) for event in told)

    run(main)


def test_a37_one_host_id_has_one_winner(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host_id = str(uuid.uuid4())
            outcomes = await asyncio.gather(
                *(kit.nobody().call(request(host_id=host_id)) for _ in range(8)), return_exceptions=True
            )
            assert sum(not isinstance(o, BaseException) for o in outcomes) == 1
            assert sum(isinstance(o, AlreadyExistsError) for o in outcomes) == 7

    run(main)


def test_a37_a_one_time_token_has_one_winner(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            made = await kit.admin.call(
                CreateToken(roles=["node"], labels={"teleport.internal/one-time": "yes"})
            )
            outcomes = await asyncio.gather(
                *(kit.nobody().call(request(token=made.resource.name)) for _ in range(8)),
                return_exceptions=True,
            )
            assert sum(not isinstance(o, BaseException) for o in outcomes) == 1
            assert all(isinstance(o, DeniedError) for o in outcomes if isinstance(o, BaseException))
            with pytest.raises(DeniedError):
                await kit.nobody().call(request(token=made.resource.name))

    run(main)


def test_a37_guessing_tokens_is_rate_limited(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            handler = kit.service.handlers.join
            from pkgs.common.rpc.calls import Caller

            # The gate itself, because hundreds of calls over TLS would only test patience.
            gate = handler._gate
            caller = Caller(identity=None, remote_addr="127.0.0.77")
            limited = 0
            for _ in range(JOINS_BURST + 50):
                try:
                    gate.enter(caller, "")
                except LimitExceededError:
                    limited += 1
            assert limited >= 40
            with pytest.raises(LimitExceededError):
                await kit.nobody("127.0.0.77").call(request())
            await kit.nobody("127.0.0.78").call(request())

    run(main)


def test_a37_host_ids_and_names_of_others_are_not_given(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            first = await kit.join()
            proxy = await kit.join(SystemRole.PROXY)
            told = Proxy(
                metadata=Metadata(name=proxy.id),
                spec=ServerSpec(hostname="hub", public_addrs=["proxy.example:3080"]),
            )
            await kit.as_host(proxy).call(Heartbeat(server=told))
            nobody = kit.nobody()
            with pytest.raises(AlreadyExistsError):
                await nobody.call(request(host_id=first.id))
            for principal in (
                "auth.teleport.cluster.local",
                "proxy.teleport.cluster.local",
                "x.teleport.cluster.local",
                "TELEPORT.cluster.local.",
                first.id,
                f"{first.id}.alpha.example",
                f"{first.id.upper()}.alpha.example",
                "alpha.example",
                "Proxy.Example",
                "a b",
                "*.alpha.example",
                "a,b",
                "",
            ):
                with pytest.raises(InputError):
                    await nobody.call(request(additional_principals=[principal]))
                if principal:
                    with pytest.raises(InputError):
                        await nobody.call(request(node_name=principal))
            for host_id in ("", "x", "../../x", first.id.upper(), "0" * 36):
                with pytest.raises(InputError):
                    await nobody.call(request(host_id=host_id))

    run(main)


def test_a37_a_known_host_joins_another_role_only_for_itself(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host, other = await kit.join(), await kit.join()
            proxy = await kit.join(SystemRole.PROXY)
            with pytest.raises(AlreadyExistsError):
                await kit.as_host(other).call(
                    request(host_id=host.id, role=SystemRole.PROXY, token=f"proxy-{TOKEN}")
                )
            # What a proxy passes on speaks for the stranger, even when it names the proxy's own id.
            with pytest.raises(AlreadyExistsError):
                await kit.as_host(proxy).call(request(host_id=proxy.id, client_addr="203.0.113.7"))
            with pytest.raises(DeniedError, match=REFUSED):
                await kit.as_host(proxy).call(request(host_id=host.id, token=""))
            await kit.as_host(host).call(
                request(host_id=host.id, role=SystemRole.PROXY, token=f"proxy-{TOKEN}")
            )

    run(main)


def test_a38_a_wrong_pin_does_not_match_what_the_server_shows(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit, auth(short_tmp / "b") as other:
            pems = (await kit.nobody().call(GetHostCa())).host_ca_pems
            check_pin(pems, kit.service.authorities.trust.pins())
            with pytest.raises(TrustError):
                check_pin(pems, other.service.authorities.trust.pins())

    run(main)


def test_a39_a_host_speaks_only_for_itself(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host, other = await kit.join(), await kit.join()
            client = kit.as_host(host)
            with pytest.raises(DeniedError, match="speak for itself"):
                await client.call(Heartbeat(server=node(other.id)))
            with pytest.raises(DeniedError, match="speak for itself"):
                server = Proxy(metadata=Metadata(name=host.id), spec=ServerSpec(hostname="node-1"))
                await client.call(Heartbeat(server=server))
            for bad in ("a\nb", "\x1b[2J", "-x", "", "x" * 300):
                with pytest.raises(InputError):
                    await client.call(Heartbeat(server=node(host.id, hostname=bad)))
            labels = {f"k{i}": "v" for i in range(500)}
            crowded = msgspec.structs.replace(node(host.id), metadata=Metadata(name=host.id, labels=labels))
            with pytest.raises(InputError, match="labels"):
                await client.call(Heartbeat(server=crowded))
            with pytest.raises(AccessError):
                await client.call(Heartbeat(server=node(host.id, public_addrs=["a.example:1"] * 20_000)))
            marked = msgspec.structs.replace(
                node(host.id),
                metadata=Metadata(name=host.id, labels={"teleport.dev/origin": "config-file", "env": "qa"}),
            )
            await client.call(Heartbeat(server=marked, ttl_s=10**9))
            (seen,) = await listed(kit.admin, "node")
            assert seen.metadata.labels == {"env": "qa"}
            assert seen.metadata.expires is not None
            assert seen.metadata.expires.timestamp() <= kit.clock.now() + 3600

    run(main)


def test_a39_a_node_reads_only_what_its_cache_needs_and_writes_nothing(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host, other = await kit.join(), await kit.join()
            await kit.as_host(other).call(Heartbeat(server=node(other.id)))
            user = await kit.user("mira", login=False)
            client = kit.as_host(host)
            for kind in ("role", "lock", "cluster_auth_preference", "proxy", "cert_authority"):
                await listed(client, kind)
            for kind in ("node", "token", "user"):
                with pytest.raises(DeniedError):
                    await listed(client, kind)
                with pytest.raises(DeniedError):
                    await anext(client.stream(WatchResources(kinds=[kind])))
            with pytest.raises(NotFoundError):
                await client.call(GetResource(kind="node", name=other.id))
            with pytest.raises(DeniedError):
                await listed(client, "cert_authority", with_secrets=True)
            role = (await kit.admin.call(GetResource(kind="role", name="editor"))).resource
            for call in (
                GetResource(kind="user", name=user.name),
                GetResource(kind="token", name=TOKEN),
                PutResource(resource=role, mode="upsert"),
                DeleteResource(kind="role", name="editor"),
                CreateToken(roles=["proxy"]),
                CreateUser(name="x", roles=["editor"]),
                VerifyAudit(),
            ):
                with pytest.raises(DeniedError):
                    await client.call(call)  # type: ignore[arg-type]
            with pytest.raises(DeniedError):
                await anext(client.stream(SearchEvents()))

    run(main)


def test_a39_renewal_gives_the_same_host_and_roles(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host, other = await kit.join(), await kit.join()
            keys = new_keys()
            client = kit.as_host(host)
            for principal in (other.id, "proxy.teleport.cluster.local"):
                with pytest.raises(InputError):
                    await client.call(
                        RenewHostCerts(node_name="n", additional_principals=[principal], **keys)
                    )
                with pytest.raises(InputError):
                    await client.call(RenewHostCerts(node_name=principal, **keys))
            renewed = await client.call(RenewHostCerts(node_name="n", **keys))
            assert renewed.host_id == host.id
            for caller in (kit.nobody(), kit.admin):
                with pytest.raises(DeniedError):
                    await caller.call(RenewHostCerts(node_name="n", **keys))

    run(main)


def test_a14_a_locked_host_is_cut_off(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            target = LockTarget(server_id=host.id)
            lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=target, message="stolen"))
            await kit.admin.call(PutResource(resource=lock))
            keys = new_keys()
            with pytest.raises(DeniedError, match="stolen"):
                await kit.as_host(host).call(RenewHostCerts(node_name="n", **keys))
            with pytest.raises(DeniedError, match="stolen"):
                await kit.as_host(host).call(Heartbeat(server=node(host.id)))

    run(main)


def test_a40_another_clusters_host_is_nobody_here(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit, auth(short_tmp / "b") as other:
            stranger: Host = await other.join()
            with pytest.raises(AccessError):
                await kit.as_host(stranger).call(Heartbeat(server=node(stranger.id)), deadline_s=3)
            await kit.nobody().call(Ping())

    run(main)


def test_a_join_without_a_durable_audit_event_yields_nothing(short_tmp: Path) -> None:
    async def main() -> None:
        from pkgs.common.errors import UnavailableError

        async with auth(short_tmp) as kit:

            async def full(*_: object, **__: object) -> None:
                raise UnavailableError("disk full")

            kept, kit.service.audit_log.append = kit.service.audit_log.append, full  # type: ignore[method-assign,assignment]
            with pytest.raises(UnavailableError):
                await kit.nobody().call(request())
            kit.service.audit_log.append = kept  # type: ignore[method-assign]

    run(main)
