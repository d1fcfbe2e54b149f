"""The audit log and the recordings against those who write to them: A39, A60, A62, A63."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pkgs.auth import limits
from pkgs.auth.audit.log import AuditLog
from pkgs.common.api.audit import EmitEvents, SearchEvents, VerifyAudit
from pkgs.common.api.recordings import UploadRecording
from pkgs.common.errors import (
    AccessError,
    DeniedError,
    InputError,
    LimitExceededError,
    NotFoundError,
    UnavailableError,
)
from pkgs.common.events import codes
from pkgs.common.events.codes import Kind
from pkgs.common.events.format import new_event
from tests.harness.wait import until
from tests.integration.auth_kit import (
    auth,
    chunks,
    downloaded,
    event,
    recordings,
    run,
    session,
    stored,
)


def test_a39_a_host_tells_under_its_own_id_only(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host, other = await kit.join(), await kit.join()
            sid = str(uuid.uuid4())
            told = event(kit, sid=sid, user="mira", server_id=other.id)
            client = kit.as_host(host)
            await client.call(EmitEvents(events=[told]))
            await client.call(EmitEvents(events=[told]))
            (kept,) = await stored(kit.admin, "session.start")
            assert kept.fields["server_id"] == host.id
            assert kept.cluster_name == "alpha.example"
            # The same uid from another host is that host's own event and suppresses nobody's.
            again = event(kit, codes.EXEC, command="id", server_id=host.id)
            await kit.as_host(other).call(EmitEvents(events=[again]))
            await client.call(EmitEvents(events=[again]))
            assert {e.fields["server_id"] for e in await stored(kit.admin, "exec")} == {host.id, other.id}

    run(main)


def test_a39_what_only_the_auth_service_tells_is_refused(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            client = kit.as_host(await kit.join())
            before = len(await stored(kit.admin))
            for kind in (
                codes.USER_LOGIN_OK,
                codes.CERT_CREATE,
                codes.USER_CREATE,
                codes.ROLE_CREATED,
                codes.LOCK_DELETED,
                codes.INSTANCE_JOIN,
                codes.SESSION_UPLOAD,
                codes.SESSION_RECORDING_ACCESS,
                Kind("session.start", "T1000I"),
                Kind("made.up", "T0000I"),
            ):
                with pytest.raises(InputError):
                    await client.call(EmitEvents(events=[event(kit, kind, user="mira")]))
            user = kit.as_user(await kit.user("noor"))
            for caller in (kit.admin, user, kit.nobody()):
                with pytest.raises(DeniedError):
                    await caller.call(EmitEvents(events=[event(kit, sid=str(uuid.uuid4()))]))
            assert not any(e.event == "session.start" for e in await stored(kit.admin))
            assert len(await stored(kit.admin)) >= before

    run(main)


def test_a39_counts_sizes_and_times_are_bounded(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            client = kit.as_host(await kit.join())
            many = [event(kit, codes.EXEC) for _ in range(limits.MAX_EVENTS_PER_CALL + 1)]
            with pytest.raises(LimitExceededError):
                await client.call(EmitEvents(events=many))
            huge = event(kit, codes.EXEC, command="A" * 400)
            huge.fields["command"] = "A" * 300_000
            await client.call(EmitEvents(events=[huge]))
            (kept,) = await stored(kit.admin, "exec")
            assert len(str(kept.fields["command"])) <= 4096
            future = new_event(codes.EXEC, cluster_name="x", now=kit.clock.now() + 7 * 86400)
            with pytest.raises(InputError, match="future"):
                await client.call(EmitEvents(events=[future]))

    run(main)


def test_a39_a_host_neither_adds_to_nor_uploads_anothers_session(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host, thief = await kit.join(), await kit.join()
            sid = await session(kit, host)
            client = kit.as_host(thief)
            for kind in (codes.SESSION_START, codes.SESSION_END, codes.SESSION_DATA):
                with pytest.raises(InputError, match="another host"):
                    await client.call(EmitEvents(events=[event(kit, kind, sid=sid, user="noor")]))
            with pytest.raises(DeniedError, match="another host"):
                await client.upload(UploadRecording(session_id=sid), chunks(b"forged"))
            await kit.as_host(host).upload(UploadRecording(session_id=sid), chunks(b"true"))
            # And nobody replaces what has arrived, not even its own host.
            await kit.as_host(host).upload(UploadRecording(session_id=sid), chunks(b"changed later"))
            assert await downloaded(kit.admin, sid) == b"true"

    run(main)


def test_a39_hosts_read_no_recordings(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            sid = await session(kit, host)
            await kit.as_host(host).upload(UploadRecording(session_id=sid), chunks(b"x"))
            for client in (kit.as_host(host), kit.as_host(await kit.join())):
                with pytest.raises(DeniedError):
                    await downloaded(client, sid)
                with pytest.raises(DeniedError):
                    await recordings(client)

    run(main)


def test_recordings_are_for_participants_and_those_entitled(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            sid = await session(kit, host, user="mira", initial_command=["uptime"])
            data = bytes(range(256)) * 4096
            await kit.as_host(host).upload(
                UploadRecording(session_id=sid), chunks(data[:700_000], data[700_000:])
            )
            end = event(kit, codes.SESSION_END, sid=sid, user="mira", participants=["mira", "noor"])
            await kit.as_host(host).call(EmitEvents(events=[end]))
            mira, noor = kit.as_user(await kit.user("mira")), kit.as_user(await kit.user("noor"))
            auditor, stranger = (
                kit.as_user(await kit.user("aud", "auditor")),
                kit.as_user(await kit.user("eve")),
            )
            for client in (mira, noor, auditor, kit.admin):
                assert await downloaded(client, sid) == data
                (info,) = await recordings(client)
                assert (info.session_id, info.participants, info.command) == (sid, ["mira", "noor"], "uptime")
                assert (info.hostname, info.login, info.size) == ("node-1", "root", len(data))
            assert await recordings(stranger) == []
            with pytest.raises(NotFoundError, match="no recording"):
                await downloaded(stranger, sid)
            accesses = await stored(kit.admin, "session.recording.access")
            assert [e.fields["user"] for e in accesses][:3] == ["mira", "noor", "aud"]
            assert [e.code for e in await stored(kit.admin, "session.upload")] == ["T2005I"]

    run(main)


@pytest.mark.parametrize(
    "sid", ["../../x", "", "x" * 1_000, "../recordings/x", "A" * 36, "a/b", "\x00", "..%2f"]
)
def test_a60_a_session_id_is_a_uuid_or_nothing(short_tmp: Path, sid: str) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = kit.as_host(await kit.join())
            with pytest.raises(InputError):
                await host.upload(UploadRecording(session_id=sid), chunks(b"x"))
            with pytest.raises(InputError):
                await downloaded(kit.admin, sid)
            with pytest.raises(InputError):
                await host.call(EmitEvents(events=[event(kit, sid=sid, user="mira")]))
            names = sorted(p.name for p in (short_tmp / "recordings").iterdir())
            assert names == []

    run(main)


def test_an_upload_before_its_session_start_waits_for_it(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            client = kit.as_host(host)
            sid = str(uuid.uuid4())
            upload = asyncio.ensure_future(client.upload(UploadRecording(session_id=sid), chunks(b"early")))
            await client.call(EmitEvents(events=[event(kit, sid=sid, user="mira")]))
            await upload
            assert await downloaded(kit.admin, sid) == b"early"
            monkeypatch.setattr(limits, "RECORDING_START_WAIT_S", 0.05)
            with pytest.raises(UnavailableError, match="not in the audit log yet"):
                await client.upload(UploadRecording(session_id=str(uuid.uuid4())), chunks(b"x"))

    run(main)


def test_a_live_recording_that_is_cut_is_kept(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            sid = await session(kit, host)
            hold = asyncio.Event()

            async def stream() -> AsyncIterator[bytes]:
                yield b"what was seen"
                await hold.wait()

            client = kit.as_host(host)
            upload = asyncio.ensure_future(
                client.upload(UploadRecording(session_id=sid, live=True), stream())
            )
            path = short_tmp / "recordings" / f"{sid}.stream"
            await until(lambda: path.exists() and path.stat().st_size == 13)
            assert await downloaded(kit.admin, sid) == b"what was seen"
            kit.service.rpc.drop(lambda caller: caller.identity is not None)
            await until(lambda: (short_tmp / "recordings" / f"{sid}.live").exists())
            assert await downloaded(kit.admin, sid) == b"what was seen"
            upload.cancel()
            with pytest.raises((AccessError, asyncio.CancelledError)):
                await upload
            # The host comes back with the whole file.
            await kit.as_host(host).upload(
                UploadRecording(session_id=sid), chunks(b"what was seen, to the end")
            )
            assert await downloaded(kit.admin, sid) == b"what was seen, to the end"
            assert [p.name for p in (short_tmp / "recordings").iterdir()] == [f"{sid}.rec"]

    run(main)


def test_a_live_recording_cut_by_a_crash_of_ours_is_found_at_start(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            sid = await session(kit, await kit.join())
        (short_tmp / "recordings" / f"{sid}.stream").write_bytes(b"half")
        (short_tmp / "recordings" / f"{uuid.uuid4()}.part").write_bytes(b"rubbish")
        async with auth(short_tmp) as kit:
            assert await downloaded(kit.admin, sid) == b"half"
            assert [p.name for p in (short_tmp / "recordings").iterdir()] == [f"{sid}.live"]

    run(main)


def test_a_recording_over_the_limit_is_refused(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(limits, "MAX_RECORDING_BYTES", 1000)
        async with auth(short_tmp) as kit:
            host = await kit.join()
            sid = await session(kit, host)
            with pytest.raises(LimitExceededError, match="1,000 bytes"):
                await kit.as_host(host).upload(
                    UploadRecording(session_id=sid), chunks(b"x" * 600, b"y" * 600)
                )
            assert list((short_tmp / "recordings").iterdir()) == []

    run(main)


TAMPERING = {
    "edit": ("UPDATE events SET body = replace(body, 'mira', 'evil') WHERE seq = 3", 3),
    "delete": ("DELETE FROM events WHERE seq = 4", 4),
    "delete the newest": ("DELETE FROM events WHERE seq = 6", 6),
    "reorder": (
        "UPDATE events SET seq = -1 WHERE seq = 2; UPDATE events SET seq = 2 WHERE seq = 3;"
        "UPDATE events SET seq = 3 WHERE seq = -1",
        2,
    ),
    "garble": ("UPDATE events SET body = x'00ff' WHERE seq = 5", 5),
    "insert": (
        "INSERT INTO events SELECT 7, time, type, user, sid, source, 'other', body, hash"
        " FROM events WHERE seq = 6",
        7,
    ),
}


@pytest.mark.parametrize("how", list(TAMPERING))
def test_a62_verification_names_the_first_bad_event(short_tmp: Path, how: str) -> None:
    async def main() -> None:
        path = short_tmp / "audit.db"
        log = AuditLog(path)
        events = [
            new_event(codes.EXEC, cluster_name="alpha", now=1_800_000_000.0 + i, user="mira", n=i)
            for i in range(6)
        ]
        assert [e.seq for e in await log.append(events)] == [1, 2, 3, 4, 5, 6]
        good = await log.verify()
        assert (good.ok, good.events) == (True, 6)
        await log.close()
        script, bad = TAMPERING[how]
        db = sqlite3.connect(path)
        db.executescript(script)
        db.close()
        log = AuditLog(path)
        verdict = await log.verify()
        assert not verdict.ok
        assert verdict.first_bad_seq == bad, verdict
        assert verdict.problem
        # A reader is not stopped by it.
        assert await log.search(SearchEvents(), limit=10)
        await log.close()

    run(main)


def test_a62_a_rewritten_history_has_another_head(short_tmp: Path) -> None:
    async def main() -> None:
        heads = []
        for user in ("mira", "noor"):
            log = AuditLog(short_tmp / f"{user}.db")
            told = new_event(codes.EXEC, cluster_name="alpha", now=1_800_000_000.0, user=user)
            await log.append([told])
            verdict = await log.verify()
            assert verdict.ok
            heads.append(verdict.head)
            await log.close()
        assert heads[0] != heads[1]

    run(main)


def test_a62_through_the_api(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.user("mira")
            db = sqlite3.connect(short_tmp / "audit.db")
            db.execute("UPDATE events SET body = replace(body, 'mira', 'evil') WHERE seq = 2")
            db.commit()
            db.close()
            verdict = await kit.admin.call(VerifyAudit())
            assert not verdict.ok
            assert verdict.first_bad_seq == 2

    run(main)
