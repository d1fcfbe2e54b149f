"""Searching recordings, deleting old ones, and who may do which."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pkgs.auth import limits
from pkgs.common.api.audit import EmitEvents
from pkgs.common.api.recordings import FoundLine, PruneRecordings, SearchRecordings, UploadRecording
from pkgs.common.api.resources import PutResource
from pkgs.common.errors import DeniedError, InputError, LimitExceededError, NotFoundError
from pkgs.common.events import codes
from pkgs.common.recording.model import SessionMeta
from pkgs.common.recording.writer import BytesSink, RecordingWriter
from pkgs.common.resources.kinds import RecordingConfig, RecordingSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec, Rule
from pkgs.common.rpc.client import RpcClient
from tests.harness.wait import until
from tests.integration.auth_kit import (
    Host,
    Kit,
    auth,
    chunks,
    downloaded,
    event,
    recordings,
    run,
    session,
    stored,
)


def recording(sid: str, host: str, text: str) -> bytes:
    out = bytearray()
    meta = SessionMeta(
        session_id=sid, cluster_name="alpha.example", user="mira", login="root", host_id=host,
        hostname="node-1", started=1.0,
    )  # fmt: skip
    writer = RecordingWriter(BytesSink(out.extend), meta, now=0.0)
    for number, line in enumerate(text.splitlines(keepends=True)):
        writer.output(line.encode(), float(number))
    writer.finish(60.0, ended=61.0)
    return bytes(out)


async def kept(kit: Kit, host: Host, text: str, user: str = "mira") -> str:
    """A session that has ended, and its recording."""
    sid = await session(kit, host, user=user)
    await kit.as_host(host).upload(UploadRecording(session_id=sid), chunks(recording(sid, host.id, text)))
    end = event(kit, codes.SESSION_END, sid=sid, user=user, participants=[user])
    await kit.as_host(host).call(EmitEvents(events=[end]))
    return sid


async def found(client: RpcClient, pattern: str, **fields: object) -> list[FoundLine]:
    request = SearchRecordings(pattern=pattern, **fields)  # type: ignore[arg-type]
    return [line async for part in client.stream(request) for line in part.lines]


def test_words_are_found_with_their_session_and_time(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            sid = await kept(kit, host, "one\n\x1b[31mALTER\x1b[0m table users\nthree\n")
            (line,) = await found(kit.admin, "alter TABLE")
            assert (line.session_id, line.ms, line.text) == (sid, 1000, "ALTER table users")
            assert (line.user, line.login, line.hostname) == ("mira", "root", "node-1")
            assert await found(kit.admin, "alter table", user="noor") == []
            assert await found(kit.admin, "alter table", since=kit.clock.now() + 60) == []
            assert await found(kit.admin, '"three" OR one') == []
            for pattern in ("ab", "   ", "x\ny\nz", "x" * 1000):
                with pytest.raises(InputError):
                    await found(kit.admin, pattern)
            with pytest.raises(LimitExceededError):
                await found(kit.admin, "three", limit=100_000)

    run(main)


def test_a33_nobody_finds_words_of_sessions_they_may_not_play(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            mine = await kept(kit, host, "a secret word of mira\n", "mira")
            others = await kept(kit, host, "a secret word of noor\n", "noor")
            mira = kit.as_user(await kit.user("mira"))
            auditor = kit.as_user(await kit.user("aud", "auditor"))
            assert {line.session_id for line in await found(mira, "secret word")} == {mine}
            assert {line.session_id for line in await found(auditor, "secret word")} == {mine, others}
            access = await stored(kit.admin, "session.recording.access")
            assert [(e.fields["user"], e.fields["sid"]) for e in access] == [
                ("mira", mine),
                ("aud", others),
                ("aud", mine),
            ]
            with pytest.raises(DeniedError):
                await found(kit.as_host(host), "secret word")

    run(main)


def test_words_of_a_live_session_are_found_while_it_runs(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            sid = await session(kit, host)
            raw = recording(sid, host.id, "said while it runs\n")
            more = asyncio.Event()

            async def stream():
                yield raw[:-150]
                await more.wait()
                yield raw[-150:]

            upload = asyncio.ensure_future(
                kit.as_host(host).upload(UploadRecording(session_id=sid, live=True), stream())
            )
            await until(lambda: found(kit.admin, "while it runs"))
            more.set()
            await upload
            assert len(await found(kit.admin, "while it runs")) == 1

    run(main)


def test_only_sessions_whose_lines_are_shown_are_told_of(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            await kept(kit, host, "the same words\n")
            newest = await kept(kit, host, "the same words\n")
            assert len(await found(kit.admin, "same words", limit=1)) == 1
            access = await stored(kit.admin, "session.recording.access")
            assert [e.fields["sid"] for e in access] == [newest]

    run(main)


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("live", [True, False])
def test_a39_no_recording_that_names_another_session_however_it_is_cut(
    short_tmp: Path, size: int, live: bool
) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            sid, other = await session(kit, host), await session(kit, host)
            raw = recording(other, host.id, "words of another session\n")
            parts = [raw[at : at + size] for at in range(0, len(raw), size)]
            with pytest.raises(InputError, match="another session"):
                await kit.as_host(host).upload(UploadRecording(session_id=sid, live=live), chunks(*parts))
            assert await found(kit.admin, "words of another") == []
            assert await recordings(kit.admin) == []

    run(main)


def test_the_index_of_one_session_is_bounded(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCREEN_TEXT_MAX", 2000)

    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            await kept(kit, host, "".join(f"line {number} of many\n" for number in range(500)))
            lines = await found(kit.admin, "of many", limit=1000)
            assert 10 < len(lines) < 60
            assert sorted(line.text for line in lines)[0] == "line 0 of many"

    run(main)


def pruner() -> Role:
    """May delete what mira recorded, and nothing else."""
    rule = Rule(resources=["session"], verbs=["delete"], where='equals(session.user, "mira")')
    return Role(metadata=Metadata(name="pruner"), spec=RoleSpec(allow=Conditions(rules=[rule])))


def test_old_recordings_are_pruned_by_those_who_may(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            kit.clock.ahead = -3600  # back, since certificates of the future are good for nothing
            host = await kit.join()
            old = await kept(kit, host, "an old one of mira\n")
            foreign = await kept(kit, host, "an old one of noor\n", "noor")
            moment = kit.clock.now() + 1
            kit.clock.ahead = 0
            new = await kept(kit, host, "a new one of mira\n")
            await kit.admin.call(PutResource(resource=pruner()))
            prune = PruneRecordings(ended_before=moment)
            for name in ("access", "auditor", "editor"):
                with pytest.raises(DeniedError):
                    await kit.as_user(await kit.user(f"no-{name}", name)).call(prune)
            may = kit.as_user(await kit.user("cleaner", "pruner"))
            dry = await may.call(PruneRecordings(ended_before=moment, dry_run=True))
            assert [one.session_id for one in dry.recordings] == [old]
            assert await stored(kit.admin, "session.recording.delete") == []
            gone = await may.call(prune)
            assert ([one.session_id for one in gone.recordings], gone.more) == ([old], False)
            (told,) = await stored(kit.admin, "session.recording.delete")
            assert (told.fields["user"], told.fields["sid"]) == ("cleaner", old)
            assert {one.session_id for one in await recordings(kit.admin)} == {foreign, new}
            with pytest.raises(NotFoundError):
                await downloaded(kit.admin, old)
            assert [line.session_id for line in await found(kit.admin, "one of mira")] == [new]
            assert not list(short_tmp.rglob(f"{old}*"))
            with pytest.raises(InputError, match="past"):
                await may.call(PruneRecordings(ended_before=kit.clock.now() + 3600))

    run(main)


def test_the_cluster_keeps_recordings_for_its_retention(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RETENTION_EVERY_S", 0.0)

    async def main() -> None:
        async with auth(short_tmp) as kit:
            keeping = kit.service.handlers.keeping
            kit.clock.ahead = -5 * 86400
            host = await kit.join()
            old = await kept(kit, host, "old\n")
            kit.clock.ahead = 0
            new = await kept(kit, host, "new\n")
            await keeping.retain()
            assert len(await recordings(kit.admin)) == 2
            for retention in ("10m", "-1d", "soon"):
                with pytest.raises(InputError):
                    await kit.admin.call(PutResource(resource=settings(retention)))
            await kit.admin.call(PutResource(resource=settings("4d"), mode="upsert"))
            await keeping.retain()
            assert [one.session_id for one in await recordings(kit.admin)] == [new]
            (told,) = await stored(kit.admin, "session.recording.delete")
            assert (told.fields["sid"], told.fields["reason"]) == (old, "retention")

    run(main)


def settings(retention: str) -> RecordingConfig:
    return RecordingConfig(
        metadata=Metadata(name="session-recording-config"), spec=RecordingSpec(retention=retention)
    )


def test_a_damaged_index_is_made_anew(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            await kept(kit, host, "before the damage\n")
        (short_tmp / "screens.db").write_bytes(b"no database" * 1000)
        async with auth(short_tmp) as kit:
            assert await found(kit.admin, "before the damage") == []
            await kept(kit, await kit.join(), "after the damage\n")
            assert len(await found(kit.admin, "after the damage")) == 1

    run(main)
