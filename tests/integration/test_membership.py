"""Joining, staying and deciding, against an Auth Service with real RPC, TLS and certificates."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
import uvloop

from pkgs.common.errors import AlreadyExistsError, DeniedError, InputError, NotFoundError, TrustError
from pkgs.common.events import codes
from pkgs.common.events.format import new_event
from pkgs.common.membership import limits
from pkgs.common.membership.identity import load_identity
from pkgs.common.membership.member import Member
from pkgs.common.pki.identity import Identity, PeerKind, SystemRole
from pkgs.common.pki.ssh.key import line_to_blob
from pkgs.common.pki.sshcert import verify_host_cert
from pkgs.common.pki.x509 import verify_peer
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Role
from pkgs.common.runtime.debug.readiness import State
from tests.harness.wait import until

from .membership_kit import SmallAuth, leaf_der, node, process_of, small_auth

MIRA = Identity(kind=PeerKind.USER, name="mira", cluster="alpha", roles=("access",))
NODE = SystemRole.NODE


def run(coroutine):
    async def bounded():
        async with asyncio.timeout(60):
            return await coroutine

    return uvloop.run(bounded())


@contextlib.asynccontextmanager
async def member_of(process, role=NODE, **options):
    member = await Member.start(process, role, **options)
    try:
        yield member
    finally:
        await member.close()


def stored(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_joining_by_pin_stores_an_identity_that_needs_no_token_again(tmp_path, short_tmp):
    async def scenario():
        async with small_auth(short_tmp) as auth:
            data = tmp_path / "n1"
            async with member_of(
                process_of(data, auth=auth.addr, pin=auth.pin), additional_principals=["n1.example"]
            ) as member:
                mine = member.identity
                assert mine.cluster_name == "alpha"
                assert mine.host_id == (data / "host_uuid").read_text().strip()
                now = auth.now()
                assert verify_peer(leaf_der(mine.tls_cert), trust=auth.trust, now=now).is_host(NODE)
                blob = line_to_blob(mine.ssh_cert)
                assert verify_host_cert(blob, trust=auth.trust, names=["n1.example"], now=now)
                assert member.cache.live and member.cache.stale_for_s == 0
                assert member.cache.trust.pins() == [auth.pin]
                assert [r.name for r in member.cache.roles_of(MIRA)] == ["access"]
            file = data / "proc" / "node" / "identity.json"
            assert file.stat().st_mode & 0o777 == 0o600
            assert file.parent.stat().st_mode & 0o777 == 0o700
            assert mine.tls_private_pem.decode() not in repr(mine)
            async with member_of(process_of(data, auth=auth.addr, token="", pin="")) as member:
                assert member.identity.host_id == mine.host_id
                assert len(auth.joins) == 1

    run(scenario())


def test_a_token_file_that_is_gone_does_not_hinder_a_member(tmp_path, short_tmp):
    async def scenario():
        async with small_auth(short_tmp) as auth:
            data = tmp_path / "n1"
            token = tmp_path / "token"
            token.write_text("correct-horse-battery\n")
            async with member_of(process_of(data, auth=auth.addr, token=str(token), pin=auth.pin)):
                pass
            token.unlink()
            async with member_of(process_of(data, auth=auth.addr, token=str(token), pin=auth.pin)):
                pass

    run(scenario())


def test_a38_a_wrong_pin_stores_nothing_and_sends_no_token(tmp_path, short_tmp):
    async def scenario():
        async with small_auth(short_tmp) as auth:
            data = tmp_path / "n1"
            process = process_of(data, auth=auth.addr, pin="sha256:" + "0" * 64)
            with pytest.raises(TrustError, match="does not match the CA pin") as caught:
                await Member.start(process, NODE)
            assert "tctl status" in str(caught.value) and "\n" not in str(caught.value)
            assert auth.joins == []
            assert [name for name in stored(data) if "identity" in name or "cache" in name] == []

    run(scenario())


def test_a38_an_auth_that_answers_with_another_authority_is_refused(tmp_path, short_tmp):
    """Knows the right authority's certificate, but not its key: the second connection fails."""

    async def scenario():
        async with small_auth(short_tmp) as auth:
            imposter = SmallAuth(short_tmp / "b")
            imposter.folder.mkdir()
            imposter._host_ca = auth._host_ca
            await imposter.start()
            try:
                data = tmp_path / "n1"
                with pytest.raises(TrustError):
                    await Member.start(process_of(data, auth=imposter.addr, pin=auth.pin), NODE)
                assert imposter.joins == []
                assert not (data / "proc" / "node").exists()
            finally:
                await imposter.stop()

    run(scenario())


def test_a38_a_direct_join_without_a_pin_or_a_token_is_refused(tmp_path, short_tmp):
    async def scenario():
        async with small_auth(short_tmp) as auth:
            with pytest.raises(InputError, match="needs a CA pin"):
                await Member.start(process_of(tmp_path / "a", auth=auth.addr), NODE)
            with pytest.raises(InputError, match="tctl tokens add --type=node"):
                await Member.start(process_of(tmp_path / "b", auth=auth.addr, token="", pin=auth.pin), NODE)
            assert auth.joins == []

    run(scenario())


def test_a_wrong_token_ends_the_start_with_one_line(tmp_path, short_tmp):
    async def scenario():
        async with small_auth(short_tmp) as auth:
            process = process_of(tmp_path / "n", auth=auth.addr, token="wrong-token-value", pin=auth.pin)
            with pytest.raises(DeniedError) as caught:
                await Member.start(process, NODE)
            assert "tctl tokens add" in str(caught.value)
            assert "wrong-token-value" not in str(caught.value)
            assert not (tmp_path / "n" / "proc" / "node").exists()

    run(scenario())


def test_a_host_id_that_joined_elsewhere_is_refused(tmp_path, short_tmp):
    async def scenario():
        async with small_auth(short_tmp) as auth:
            async with member_of(process_of(tmp_path / "a", auth=auth.addr, pin=auth.pin)) as member:
                host_id = member.identity.host_id
            (tmp_path / "b").mkdir()
            (tmp_path / "b" / "host_uuid").write_text(host_id)
            with pytest.raises(AlreadyExistsError, match="empty"):
                await Member.start(process_of(tmp_path / "b", auth=auth.addr, pin=auth.pin), NODE)

    run(scenario())


def test_two_services_of_a_host_join_at_once_with_one_host_id(tmp_path, short_tmp):
    async def scenario():
        async with small_auth(short_tmp) as auth:
            data = tmp_path / "n"
            first, second = await asyncio.gather(
                Member.start(process_of(data, auth=auth.addr, pin=auth.pin), NODE),
                Member.start(process_of(data, auth=auth.addr, pin=auth.pin, name="proxy"), SystemRole.PROXY),
            )
            assert first.identity.host_id == second.identity.host_id
            assert sorted(vouched for _, vouched in auth.joins) == [False, True]
            await first.close()
            await second.close()

    run(scenario())


def test_joining_waits_for_an_auth_service_that_is_not_there_yet(tmp_path, short_tmp, caplog):
    async def scenario():
        auth = SmallAuth(short_tmp)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            auth.port = taken.getsockname()[1]
        process = process_of(tmp_path / "n", auth=auth.addr, pin=auth.pin)
        starting = asyncio.create_task(Member.start(process, NODE))
        await until(lambda: "cannot join the cluster yet" in caplog.text)
        assert process.readiness.component("cache").state is State.STARTING
        await auth.start()
        member = await starting
        assert process.readiness.component("cache").state is State.OK
        await member.close()
        await auth.stop()

    run(scenario())


def test_the_cache_follows_the_cluster(tmp_path, short_tmp):
    async def scenario():
        async with (
            small_auth(short_tmp) as auth,
            member_of(
                process_of(tmp_path / "n", auth=auth.addr, pin=auth.pin, name="proxy"), SystemRole.PROXY
            ) as member,
        ):
            cache = member.cache
            seen: list[str] = []
            stop = cache.on_change(seen.append)
            auth.put(Role(metadata=Metadata(name="dba")))
            await until(lambda: "role" in seen)
            assert cache.role("dba").name == "dba"
            auth.put(node("99999999-2222-4333-8444-555555555555", env="prod"))
            await until(lambda: "node" in seen)
            assert cache.nodes["99999999-2222-4333-8444-555555555555"].metadata.labels == {"env": "prod"}
            auth.delete("role", "access")
            await until(lambda: "access" not in [r.name for r in cache.resources("role")])
            with pytest.raises(DeniedError):
                cache.roles_of(MIRA)
            with pytest.raises(NotFoundError):
                cache.role("access")
            stop()
            seen.clear()
            auth.delete("node", "99999999-2222-4333-8444-555555555555")
            await until(lambda: not cache.nodes)
            assert seen == []
            auth.resources = [r for r in auth.resources if r.name != "dba"]
            auth.resync()
            await until(lambda: "dba" not in [r.name for r in cache.resources("role")])
            await until(lambda: cache.live)

    run(scenario())


@pytest.mark.parametrize(
    "identity",
    [
        Identity(kind=PeerKind.USER, name="mira", cluster="beta", roles=("access",)),
        Identity(kind=PeerKind.USER, name="mira", cluster="alpha", roles=("access", "gone")),
        Identity(kind=PeerKind.HOST, name="x", cluster="alpha"),
    ],
    ids=["foreign cluster", "missing role", "host"],
)
def test_roles_of_denies_rather_than_skips(tmp_path, short_tmp, identity):
    async def scenario():
        async with (
            small_auth(short_tmp) as auth,
            member_of(process_of(tmp_path / "n", auth=auth.addr, pin=auth.pin)) as member,
        ):
            with pytest.raises(DeniedError):
                member.cache.roles_of(identity)

    run(scenario())


def test_f07_an_agent_restarts_and_decides_while_auth_is_down(tmp_path, short_tmp):
    async def scenario():
        data = tmp_path / "n"
        async with small_auth(short_tmp) as auth:
            process = process_of(data, auth=auth.addr, pin=auth.pin)
            async with member_of(process) as member:
                auth.put(Role(metadata=Metadata(name="dba")))
                await until(lambda: any(r.name == "dba" for r in member.cache.resources("role")))
                await auth.stop()
                await until(lambda: not member.cache.live)
                assert member.cache.roles_of(MIRA)
                assert member.cache.stale_for_s < 60
                assert "cache_stale_seconds" in process.metrics.render()
            async with member_of(process_of(data, auth=auth.addr)) as member:
                assert not member.cache.live
                assert 0 <= member.cache.stale_for_s < 60
                assert member.cache.role("dba")
                assert member.cache.trust.pins() == [auth.pin]
                await member.emitter.emit(
                    new_event(codes.EXEC, cluster_name="alpha", now=auth.now(), command="true")
                )
                await auth.start()
                await until(lambda: member.cache.live, 30)
                await until(lambda: len(auth.events) == 1, 30)

    run(scenario())


def test_f07_state_that_is_too_old_is_not_decided_on(tmp_path, short_tmp, monkeypatch):
    async def scenario():
        data = tmp_path / "n"
        async with small_auth(short_tmp) as auth:
            async with member_of(process_of(data, auth=auth.addr, pin=auth.pin)) as member:
                await auth.stop()
                await until(lambda: not member.cache.live)
                monkeypatch.setattr(limits, "CACHE_MAX_STALE_S", 0.0)
                with pytest.raises(DeniedError, match="too long"):
                    member.cache.roles_of(MIRA)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await Member.start(process_of(data, auth=auth.addr), NODE)

    run(scenario())


@pytest.mark.parametrize("damage", [b"", b"OACACHE1garbage", b"\xff" * 100])
def test_a_damaged_cache_file_is_not_used(tmp_path, short_tmp, damage):
    async def scenario():
        data = tmp_path / "n"
        async with small_auth(short_tmp) as auth:
            async with member_of(process_of(data, auth=auth.addr, pin=auth.pin)):
                pass
            (data / "proc" / "node" / "cache.msgpack").write_bytes(damage)
            async with member_of(process_of(data, auth=auth.addr)) as member:
                assert member.cache.live

    run(scenario())


def test_certificates_are_renewed_at_half_life_with_new_keys(tmp_path, short_tmp, monkeypatch):
    monkeypatch.setattr(limits, "RENEW_CHECK_S", 0.02)

    async def scenario():
        async with small_auth(short_tmp) as auth:
            data = tmp_path / "n"
            auth.host_ttl_s = 30.0
            async with member_of(process_of(data, auth=auth.addr, pin=auth.pin)) as member:
                first = member.identity
                told = []
                member.on_identity_change(told.append)
                auth.host_ttl_s = 86400.0
                await until(lambda: member.identity.tls_cert != first.tls_cert)
                assert member.identity.host_id == first.host_id
                assert member.identity.tls_private_pem != first.tls_private_pem
                assert load_identity(data, NODE) == member.identity
                assert told
                member.start_heartbeat(lambda: node(member.identity.host_id))
                await until(lambda: auth.beats)
                assert auth.renewals == 1

    run(scenario())


def test_other_names_in_the_configuration_bring_other_certificates(tmp_path, short_tmp):
    async def scenario():
        async with small_auth(short_tmp) as auth:
            data = tmp_path / "n"
            async with member_of(process_of(data, auth=auth.addr, pin=auth.pin)):
                pass
            renamed = process_of(data, auth=auth.addr, nodename="build-2")
            async with member_of(renamed, additional_principals=["b2.example"]) as member:
                await until(lambda: member.identity.node_name == "build-2")
                blob = line_to_blob(member.identity.ssh_cert)
                for name in ("build-2", "b2.example"):
                    assert verify_host_cert(blob, trust=auth.trust, names=[name], now=auth.now())

    run(scenario())


def test_an_expired_identity_says_what_to_do(tmp_path, short_tmp):
    async def scenario():
        async with small_auth(short_tmp) as auth:
            data = tmp_path / "n"
            real, auth.now = auth.now, lambda: real() - 100_000
            auth.host_ttl_s = 100_100.0
            async with member_of(process_of(data, auth=auth.addr, pin=auth.pin)):
                pass
            auth.now = real
            process = process_of(data, auth=auth.addr, token="", pin=auth.pin)
            identity = load_identity(data, NODE)
            assert identity and identity.expires_at

            class Later:
                now = staticmethod(lambda: real() + 1000)
                monotonic = staticmethod(process.clock.monotonic)

            object.__setattr__(process, "clock", Later())
            with pytest.raises(TrustError, match=r"has expired; remove .*host_uuid"):
                await Member.start(process, NODE)

    run(scenario())


def test_the_heart_beats_at_a_change_and_after_auth_came_back(tmp_path, short_tmp, monkeypatch):
    monkeypatch.setattr(limits, "HEARTBEAT_TICK_S", 0.05)

    async def scenario():
        async with small_auth(short_tmp) as auth:
            process = process_of(tmp_path / "n", auth=auth.addr, pin=auth.pin)
            async with member_of(process) as member:
                state = {"labels": {"load": "1"}}
                host_id = member.identity.host_id
                member.start_heartbeat(lambda: node(host_id, **state["labels"]))
                await until(lambda: len(auth.beats) == 1)
                component = process.readiness.component("heartbeat")
                await until(lambda: component.state is State.OK)
                state["labels"] = {"load": "2"}
                await until(lambda: len(auth.beats) == 2, 20)
                await auth.stop()
                state["labels"] = {"load": "3"}
                await until(lambda: component.state is State.DEGRADED, 20)
                await auth.start()
                await until(lambda: len(auth.beats) == 3, 30)
                await until(lambda: component.state is State.OK)
                await member.heartbeat_now()
                assert len(auth.beats) == 4

    run(scenario())


def test_identity_files_survive_damage_with_one_line(tmp_path, short_tmp):
    async def scenario():
        async with small_auth(short_tmp) as auth:
            data = tmp_path / "n"
            async with member_of(process_of(data, auth=auth.addr, pin=auth.pin)):
                pass
            file = data / "proc" / "node" / "identity.json"
            file.write_bytes(file.read_bytes()[:100])
            with pytest.raises(InputError, match=r"identity\.json"):
                await Member.start(process_of(data, auth=auth.addr), NODE)

    run(scenario())


def test_the_host_id_is_made_once_and_checked(tmp_path):
    from pkgs.common.membership.identity import host_uuid

    first = host_uuid(tmp_path / "d")
    assert host_uuid(tmp_path / "d") == first
    assert (tmp_path / "d" / "host_uuid").stat().st_mode & 0o777 == 0o600
    assert stored(tmp_path / "d") == ["host_uuid"]
    (tmp_path / "d" / "host_uuid").write_text("../../etc")
    with pytest.raises(InputError, match="does not hold a host id"):
        host_uuid(tmp_path / "d")
