"""Encrypted recordings at the Auth Service and on the host: who reads them, and what hostile hosts try."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from pkgs.auth import limits
from pkgs.common.api.encryption import GetRecordingEncryption, RotateRecordingKeys
from pkgs.common.api.recordings import UploadRecording
from pkgs.common.api.resources import DeleteResource, GetResource, ListResources, PutResource, WatchResources
from pkgs.common.errors import (
    AccessError,
    DeniedError,
    InputError,
    LimitExceededError,
    NotFoundError,
    TrustError,
    UnavailableError,
)
from pkgs.common.recording import frame
from pkgs.common.recording.encrypted.keys import AgeKey, WrappedKey, new_private_key, wrap_new
from pkgs.common.recording.encrypted.reading import decrypted
from pkgs.common.recording.encrypted.records import data_record, key_record
from pkgs.common.recording.encrypted.writing import RecordingCipher
from pkgs.common.recording.model import Damage, Output, SessionMeta
from pkgs.common.recording.reader import decode_chunks
from pkgs.common.recording.seal import Signed
from pkgs.common.recording.writer import BytesSink
from pkgs.common.resources.codec import to_yaml
from pkgs.common.resources.kinds import (
    EncryptionKey,
    RecordingConfig,
    RecordingEncryption,
    RecordingKeys,
    RecordingSpec,
    RecordingStatus,
)
from pkgs.common.resources.kinds.settings import ManualKeys
from pkgs.common.resources.metadata import Metadata
from pkgs.common.rpc.client import RpcClient
from pkgs.common.sessions.recordings import Recorder
from tests.harness.wait import until
from tests.integration.auth_kit import Kit, auth, chunks, downloaded, recordings, run, session
from tests.integration.tctl_kit import tctl
from tests.integration.test_auth_kept_recordings import found, kept, recording

NAME = Metadata(name="session-recording-config")
SECRET = b"a word that was shown"


def settings(enabled: bool = True, mode: str = "node", **status: list[EncryptionKey]) -> RecordingConfig:
    return RecordingConfig(
        metadata=NAME,
        spec=RecordingSpec(mode=mode, encryption=RecordingEncryption(enabled=enabled)),  # type: ignore[arg-type]
        status=RecordingStatus(**status),
    )


async def told_keys(client: RpcClient) -> tuple[str, ...]:
    """What a host's cache is told."""
    config = (await client.call(GetResource(kind="session_recording_config", name=NAME.name))).resource
    assert isinstance(config, RecordingConfig)
    return config.recipients or ()


def encrypted(plain: bytes, sid: str, keys: Sequence[str]) -> bytes:
    out = bytearray()
    sink = RecordingCipher(sid, keys).around(BytesSink(out.extend))
    for at in range(0, len(plain), 500):
        sink.write(plain[at : at + 500])
    return bytes(out)


async def send(kit: Kit, host, sid: str, raw: bytes, *, size: int = 1000, live: bool = False) -> None:
    parts = [raw[at : at + size] for at in range(0, len(raw), size)]
    await kit.as_host(host).upload(UploadRecording(session_id=sid, live=live), chunks(*parts))


@pytest.mark.parametrize("size", [1, 1000])
def test_the_store_and_the_index_hold_nothing_in_the_clear(short_tmp: Path, size: int) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.admin.call(PutResource(resource=settings(), mode="upsert"))
            host = await kit.join()
            keys = await told_keys(kit.as_host(host))
            assert len(keys) == 1
            first, second = await session(kit, host), await session(kit, host)
            plain = recording(first, host.id, SECRET.decode() + "\n")
            await send(kit, host, first, encrypted(plain, first, keys), size=size)
            assert await downloaded(kit.admin, first) == plain
            # A host that has not heard of it yet: in the clear on its way, not where it stays.
            behind = recording(second, host.id, "another " + SECRET.decode() + "\n")
            await send(kit, host, second, behind, size=size)
            assert await downloaded(kit.admin, second) == behind
            hits = await found(kit.admin, SECRET.decode().upper(), limit=10)
            assert [hit.session_id for hit in hits] == [second, first], "newest first"
            assert hits[1].text == SECRET.decode()
            assert (await found(kit.admin, SECRET.decode(), limit=1))[0].session_id == second
            for path in short_tmp.rglob("*"):
                if path.is_file():
                    assert SECRET not in path.read_bytes(), path
            for one in (first, second):
                raw = (short_tmp / "recordings" / f"{one}.rec").read_bytes()
                assert raw.startswith(frame.header(frame.ENCRYPTED_VERSION))
                (listed,) = [info for info in await recordings(kit.admin) if info.session_id == one]
                assert listed.size == len(raw)
            # Off again: new ones only, what is there stays as it is and is read.
            await kit.admin.call(PutResource(resource=settings(enabled=False), mode="upsert"))
            third = await kept(kit, host, SECRET.decode() + "\n")
            assert (short_tmp / "recordings" / f"{third}.rec").read_bytes().startswith(frame.HEADER)
            assert {hit.session_id for hit in await found(kit.admin, SECRET.decode())} == {
                first,
                second,
                third,
            }
            assert await downloaded(kit.admin, first) == plain

    run(main)


@pytest.mark.parametrize("live", [True, False])
def test_a39_a_host_that_lies_about_the_key_is_refused(short_tmp: Path, live: bool) -> None:
    """Stolen from another host, wrapped for somebody else, for nobody: never stored, never decrypted for the
    one who sent it."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.admin.call(PutResource(resource=settings(), mode="upsert"))
            victim, thief = await kit.join(), await kit.join()
            (key,) = await told_keys(kit.as_host(victim))
            theirs, mine = await session(kit, victim), await session(kit, thief)
            stolen = encrypted(recording(theirs, victim.id, SECRET.decode() + "\n"), theirs, [key])
            of_mine = recording(mine, thief.id, "own words\n")
            other = AgeKey(new_private_key())
            content, wrapped = wrap_new(mine, [other.public_key])
            posing = WrappedKey([key], wrapped.envelope)
            opening = frame.header(frame.ENCRYPTED_VERSION)
            _, for_us = wrap_new(mine, [key])
            for raw, problem in (
                (stolen, "another session"),
                # Without its metadata, which name the session: the key still does.
                (stolen[:600] + stolen[1100:], "another session"),
                (encrypted(of_mine, mine, [other.public_key]), "does not have"),
                (opening + key_record(posing) + data_record(content, of_mine), "cannot be unwrapped"),
                (opening + data_record(content, of_mine), "no key"),
            ):
                with pytest.raises(InputError, match=problem):
                    await send(kit, thief, mine, raw, live=live)
            # The right key and a recording under another one: nothing in it can be read, and nothing leaks.
            await send(kit, thief, mine, opening + key_record(for_us) + data_record(content, of_mine))
            assert b"own words" not in await downloaded(kit.admin, mine)
            assert await found(kit.admin, SECRET.decode()) == []

    run(main)


def test_a_stored_recording_that_was_changed_is_told_and_not_believed(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.admin.call(PutResource(resource=settings(), mode="upsert"))
            host = await kit.join()
            keys = await told_keys(kit.as_host(host))
            sid, other = await session(kit, host), await session(kit, host)
            for one in (sid, other):
                plain = recording(one, host.id, f"{SECRET.decode()}\n" * 200)
                await send(kit, host, one, encrypted(plain, one, keys))
            store = short_tmp / "recordings"
            raw, foreign = (store / f"{sid}.rec").read_bytes(), (store / f"{other}.rec").read_bytes()
            mine = AgeKey(new_private_key())
            rewrapped = encrypted(recording(sid, host.id, "forged\n"), sid, [mine.public_key])
            for changed in (
                raw[:-40] + bytes([raw[-40] ^ 1]) + raw[-39:],
                raw[:700] + foreign[700:],
                raw[: len(raw) // 2],
            ):
                (store / f"{sid}.rec").write_bytes(changed)
                plain = await downloaded(kit.admin, sid)
                items = list(decode_chunks([plain]))
                assert any(isinstance(item, Damage) for item in items)
            for changed in (foreign, rewrapped):
                (store / f"{sid}.rec").write_bytes(changed)
                with pytest.raises(TrustError):
                    await downloaded(kit.admin, sid)

    run(main)


def test_verify_judges_each_though_one_cannot_be_opened(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.admin.call(PutResource(resource=settings(), mode="upsert"))
            host = await kit.join()
            first, second = await kept(kit, host, "one\n"), await kept(kit, host, "two\n")
            mine = AgeKey(new_private_key())
            foreign = encrypted(recording(first, host.id, "forged\n"), first, [mine.public_key])
            (short_tmp / "recordings" / f"{first}.rec").write_bytes(foreign)
            never = "9a2c6b52-0d0a-4a0e-9a4f-1b8a90a5b0aa"
            words = ("recordings", "verify", first, never, second)
            done = await tctl(kit, *words)
            assert done.status == 1
            told = done.out.splitlines()
            assert told[0].startswith(f"{first}: UNREADABLE: the recording is encrypted for keys that")
            assert told[1].startswith(f"{never}: UNREADABLE: there is no recording")
            assert told[2].startswith(f"{second}: whole")
            shown = json.loads((await tctl(kit, *words, "--format=json")).out)
            assert [(one["state"], one["session_id"]) for one in shown] == [
                ("unreadable", first),
                ("unreadable", never),
                ("unsigned", second),
            ]

    run(main)


def test_the_private_key_stays_on_the_auth_host(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.admin.call(PutResource(resource=settings(), mode="upsert"))
            host = await kit.join()
            editor = kit.as_user(await kit.user("ed", "editor", "auditor"))
            ref = GetResource(kind="recording_encryption", name="recording-encryption")
            with_secrets = GetResource(kind=ref.kind, name=ref.name, with_secrets=True)
            kept_keys = (await kit.admin.call(with_secrets)).resource
            assert isinstance(kept_keys, RecordingKeys)
            private = kept_keys.spec.keys[0].private_key
            assert private.startswith("AGE-SECRET-KEY-1")
            shown = (await kit.admin.call(ref)).resource
            assert private not in to_yaml(shown, with_secrets=True)
            for client in (kit.as_host(host), editor):
                for request in (ref, with_secrets):
                    with pytest.raises(AccessError):
                        assert private not in repr(await client.call(request))
                with pytest.raises(AccessError):
                    async for _ in client.stream(ListResources(kind=ref.kind)):
                        pass
                with pytest.raises(DeniedError):
                    async for _ in client.stream(WatchResources(kinds=[ref.kind])):
                        pass
                with pytest.raises(AccessError):
                    await client.call(PutResource(resource=kept_keys, mode="upsert"))
            with pytest.raises(DeniedError):
                await kit.as_host(host).call(RotateRecordingKeys())
            low = kit.as_user(await kit.user("low", "access"))
            for call in (RotateRecordingKeys(), GetRecordingEncryption()):
                with pytest.raises(DeniedError):
                    await low.call(call)
            with pytest.raises(InputError, match="cannot be deleted"):
                await kit.admin.call(DeleteResource(kind=ref.kind, name=ref.name))
            rotated = await editor.call(RotateRecordingKeys())
            assert [key.state for key in rotated.keys] == ["active", "next"]
            events = [path for path in short_tmp.rglob("audit.db*") if b"AGE-SECRET" in path.read_bytes()]
            assert events == []

    run(main)


def test_nobody_adds_a_key_of_their_own_to_those_that_hosts_are_told(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            editor = kit.as_user(await kit.user("ed", "editor"))
            mine = EncryptionKey(public_key=AgeKey(new_private_key()).public_key)
            await editor.call(PutResource(resource=settings(encryption_keys=[mine]), mode="upsert"))
            keys = await told_keys(kit.as_host(host))
            assert len(keys) == 1
            assert mine.public_key not in keys
            # The defaults come back without it being forgotten whom to encrypt for.
            await editor.call(DeleteResource(kind="session_recording_config", name=NAME.name))
            await editor.call(PutResource(resource=settings(), mode="upsert"))
            assert await told_keys(kit.as_host(host)) == keys
            manual = RecordingEncryption(enabled=True, manual_key_management=ManualKeys(enabled=True))
            config = RecordingConfig(metadata=NAME, spec=RecordingSpec(encryption=manual))
            with pytest.raises(InputError, match="security module"):
                await editor.call(PutResource(resource=config, mode="upsert"))

    run(main)


class _Nothing:
    """An Auth Service that takes everything."""

    def __init__(self) -> None:
        self.taken = b""

    async def upload(
        self, request: UploadRecording, parts: AsyncIterator[bytes], *, deadline_s: float | None = None
    ) -> None:
        async for part in parts:
            self.taken += part


@pytest.mark.parametrize("mode", ["node", "node-sync"])
@pytest.mark.parametrize("keys", [[], ["age1nonsense"], ["x"] * 9])
def test_without_a_usable_key_nothing_is_written(tmp_path: Path, mode: str, keys: list[str]) -> None:
    """What `Recorder.open` refuses is refused to the session, or goes unrecorded, as its role says."""

    async def main() -> None:
        auth_service = _Nothing()
        recorder = recorder_of(tmp_path, auth_service, mode, keys)
        with pytest.raises(UnavailableError, match="cannot be encrypted"):
            recorder.open(about("9a2c6b52-0d0a-4a0e-9a4f-1b8a90a5b0aa"))
        assert list(tmp_path.iterdir()) == []
        assert auth_service.taken == b""

    asyncio.run(main())


@pytest.mark.parametrize("mode", ["node", "node-sync"])
def test_a_host_holds_and_sends_nothing_in_the_clear(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        sid = "9a2c6b52-0d0a-4a0e-9a4f-1b8a90a5b0aa"
        key = AgeKey(new_private_key())
        auth_service = _Nothing()
        recorder = recorder_of(tmp_path, auth_service, mode, [key.public_key])
        recorder.start()
        open_recording = recorder.open(about(sid))
        on_disk = [path.read_bytes() for path in tmp_path.iterdir()]
        assert all(raw.startswith(frame.header(frame.ENCRYPTED_VERSION)) for raw in on_disk)
        assert bool(on_disk) == (mode == "node")
        open_recording.writer.output(SECRET * 1000, time.monotonic())
        open_recording.writer.flush(time.monotonic(), force=True)
        on_disk += [path.read_bytes() for path in tmp_path.iterdir()]
        await open_recording.finish(time.monotonic(), time.time())
        await until(lambda: auth_service.taken and not list(tmp_path.iterdir()))
        await recorder.close()
        for raw in (*on_disk, auth_service.taken):
            assert SECRET not in raw
            assert b"mira" not in raw
        plain = decrypted([auth_service.taken], lambda wrapped: key.open(wrapped.envelope), sid)
        shown = b"".join(item.data for item in decode_chunks(plain) if isinstance(item, Output))
        assert shown == SECRET * 1000

    asyncio.run(main())


def recorder_of(folder: Path, auth_service: _Nothing, mode: str, keys: list[str]) -> Recorder:
    return Recorder(
        folder,
        auth_service,  # type: ignore[arg-type]
        lambda: mode,
        lambda: keys,
        lambda message: Signed(b"certificate", b"signature"),
        time.monotonic,
        logging.getLogger("test"),
    )


def about(sid: str) -> SessionMeta:
    return SessionMeta(
        session_id=sid,
        cluster_name="alpha",
        user="mira",
        login="root",
        host_id=sid,
        hostname="h",
        started=1.0,
    )


def test_a_search_goes_through_locked_lines_within_bounds(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOCKED_ROWS_READ", 2)
    monkeypatch.setattr(limits, "SEARCH_PAGE", 3)

    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            texts = [f"shown {number} of many\n" for number in range(9)]
            for at, text in enumerate(texts):
                # By turns encrypted and not: one order for both.
                config = settings(enabled=at % 3 != 0)
                await kit.admin.call(PutResource(resource=config, mode="upsert"))
                await kept(kit, host, text * 2)
            lines = [line.text for line in await found(kit.admin, "OF MANY", limit=100)]
            assert lines == [text.strip() for text in reversed(texts) for _ in range(2)]
            assert len(await found(kit.admin, "of many", limit=7)) == 7
            assert await found(kit.admin, "never shown") == []
            monkeypatch.setattr(limits, "LOCKED_LINES_SCANNED", 100)
            with pytest.raises(LimitExceededError, match="more lines of encrypted recordings"):
                await found(kit.admin, "never shown")

    run(main)


@pytest.mark.needs("age")
def test_age_opens_what_a_backup_has_the_key_for(tmp_path: Path) -> None:
    """A judge from elsewhere, and the way to a recording when nothing of ours runs any more."""
    private, sid = new_private_key(), "9a2c6b52-0d0a-4a0e-9a4f-1b8a90a5b0aa"
    content, wrapped = wrap_new(sid, [AgeKey(new_private_key()).public_key, AgeKey(private).public_key])
    identity = tmp_path / "identity"
    identity.touch(mode=0o600)
    identity.write_text(f"{private}\n")
    done = subprocess.run(
        ["age", "-d", "-i", identity], input=wrapped.envelope, capture_output=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert msgspec.msgpack.decode(done.stdout) == [sid, content.raw]


def test_the_file_turns_it_on_and_keeps_the_keys(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            before = await kit.admin.call(GetRecordingEncryption())
            assert not before.enabled
        on = "  session_recording_config: {encryption: {enabled: true}}"
        for extra, enabled in ((on, True), (on, True), ("", False)):
            async with auth(short_tmp, extra=extra) as kit:
                now = await kit.admin.call(GetRecordingEncryption())
                assert (now.enabled, now.keys) == (enabled, before.keys)
                config = kit.service.store.must("session_recording_config", NAME.name)
                assert isinstance(config, RecordingConfig)
                assert [key.public_key for key in config.status.encryption_keys] == [now.keys[0].public_key]

    run(main)


def test_who_may_not_play_gets_no_more_than_before(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.admin.call(PutResource(resource=settings(), mode="upsert"))
            host = await kit.join()
            keys = await told_keys(kit.as_host(host))
            sid = await session(kit, host)
            plain = recording(sid, host.id, SECRET.decode() + "\n")
            await send(kit, host, sid, encrypted(plain, sid, keys))
            mira, noor = kit.as_user(await kit.user("mira")), kit.as_user(await kit.user("noor"))
            assert await downloaded(mira, sid) == plain
            for client in (noor, kit.as_host(host)):
                with pytest.raises((DeniedError, NotFoundError)):
                    await downloaded(client, sid)
            assert await found(noor, SECRET.decode()) == []
            assert len(await found(mira, SECRET.decode())) == 1

    run(main)
