"""What decides whether recordings are encrypted, and for whom, cannot be made to go away by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from pkgs.auth.encryption import rotation
from pkgs.common.api.encryption import (
    CompleteRecordingRotation,
    ForgetRecordingKey,
    RollBackRecordingRotation,
    RotateRecordingKeys,
)
from pkgs.common.api.recordings import PruneRecordings, UploadRecording
from pkgs.common.api.resources import GetResource, PutResource
from pkgs.common.errors import (
    AccessError,
    ConflictError,
    DeniedError,
    InputError,
    NotFoundError,
    UnavailableError,
)
from pkgs.common.recording import frame
from pkgs.common.resources.kinds import RecordingConfig, RecordingKeys
from pkgs.common.resources.registry import SINGLETONS
from pkgs.common.rpc.client import RpcClient
from tests.harness.wait import until
from tests.integration.auth_kit import auth, downloaded, events, recordings, run, session
from tests.integration.test_auth_kept_recordings import kept, recording
from tests.security.test_encrypted_recordings import NAME, settings


async def private_keys(admin: RpcClient) -> RecordingKeys:
    request = GetResource(kind="recording_encryption", name="recording-encryption", with_secrets=True)
    keys = (await admin.call(request)).resource
    assert isinstance(keys, RecordingKeys)
    return keys


def test_neither_the_settings_nor_the_keys_expire(short_tmp: Path) -> None:
    """Gone, the settings would leave recordings in the clear, and the keys all of them unreadable."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.admin.call(PutResource(resource=settings(), mode="upsert"))
            editor = kit.as_user(await kit.user("ed", "editor"))
            keys = await private_keys(kit.admin)
            soon = datetime.fromtimestamp(int(kit.clock.now()) + 60, UTC)
            for client, resource in ((editor, settings()), (kit.admin, settings()), (kit.admin, keys)):
                metadata = msgspec.structs.replace(resource.metadata, expires=soon, revision="")
                ending = msgspec.structs.replace(resource, metadata=metadata)
                with pytest.raises(InputError, match=r"metadata\.expires"):
                    await client.call(PutResource(resource=ending, mode="upsert"))
            kit.clock.ahead += 3600
            assert (await private_keys(kit.admin)).spec == keys.spec
            config = kit.service.store.must("session_recording_config", "session-recording-config")
            assert isinstance(config, RecordingConfig)
            assert config.recipients

    run(main)


@pytest.mark.parametrize("cut", [False, True])
def test_a_stream_that_began_before_does_not_stay_in_the_clear(short_tmp: Path, cut: bool) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            sid = await session(kit, host)
            plain = recording(sid, host.id, "a word that was shown\n" * 50)
            store = short_tmp / "recordings"
            stream = store / f"{sid}.stream"

            async def parts() -> AsyncIterator[bytes]:
                yield plain[:400]
                await until(lambda: stream.exists() and stream.stat().st_size == 400)
                await kit.admin.call(PutResource(resource=settings(), mode="upsert"))
                if cut:
                    raise UnavailableError("the host is gone")
                yield plain[400:]

            upload = kit.as_host(host).upload(UploadRecording(session_id=sid, live=True), parts())
            kept = store / f"{sid}.{'live' if cut else 'rec'}"
            if cut:
                with pytest.raises(AccessError):
                    await upload
                await until(kept.exists)
            else:
                await upload
            assert kept.read_bytes().startswith(frame.header(frame.ENCRYPTED_VERSION))
            assert list(store.iterdir()) == [kept]
            assert await downloaded(kit.admin, sid) == plain[:400] if cut else plain
            (listed,) = await recordings(kit.admin)
            assert listed.size == kept.stat().st_size

    run(main)


def test_what_a_crash_left_in_the_clear_is_encrypted_at_the_next_start(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.admin.call(PutResource(resource=settings(), mode="upsert"))
            host = await kit.join()
            sid = await session(kit, host)
        plain = recording(sid, host.id, "a word that was shown\n" * 50)
        store = short_tmp / "recordings"
        (store / f"{sid}.stream").write_bytes(plain)
        (store / f"{sid}.new").write_bytes(b"half a copy")
        async with auth(short_tmp) as kit:
            kept = store / f"{sid}.live"
            assert list(store.iterdir()) == [kept]
            assert kept.read_bytes().startswith(frame.header(frame.ENCRYPTED_VERSION))
            assert await downloaded(kit.admin, sid) == plain

    run(main)


def test_a_cluster_whose_keys_were_rotated_to_the_limit_has_a_way_out(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which takes nothing with it: not a recording that only an old key opens, and not by an editor."""
    monkeypatch.setattr(rotation, "MAX_KEYS", 3)

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.admin.call(PutResource(resource=settings(), mode="upsert"))
            host = await kit.join()
            editor = kit.as_user(await kit.user("ed", "editor"))
            sid = await kept(kit, host, "shown\n")
            for _ in range(2):
                await editor.call(RotateRecordingKeys())
                keys = (await editor.call(CompleteRecordingRotation())).keys
            with pytest.raises(InputError, match="encryption forget"):
                await editor.call(RotateRecordingKeys())
            first, second, active = [ForgetRecordingKey(public_key=key.public_key) for key in keys]
            with pytest.raises(DeniedError):
                await editor.call(second)
            for request in (first, active):
                with pytest.raises(ConflictError):
                    await kit.admin.call(request)
            with pytest.raises(NotFoundError):
                await kit.admin.call(ForgetRecordingKey(public_key="age1nonsense"))
            told = len(await events(kit, "session_recording_config.update"))
            left = (await kit.admin.call(second)).keys
            assert [key.public_key for key in left] == [first.public_key, active.public_key]
            assert len(await events(kit, "session_recording_config.update")) == told + 1
            await editor.call(RotateRecordingKeys())
            await downloaded(kit.admin, sid)
            await editor.call(RollBackRecordingRotation())
            kit.clock.ahead += 60
            await kit.admin.call(PruneRecordings(ended_before=kit.clock.now() - 1))
            assert len((await kit.admin.call(first)).keys) == 1

    run(main)


@pytest.mark.parametrize("gone", [False, True])
def test_what_an_earlier_version_stored_with_an_end_goes_on_without_it(short_tmp: Path, gone: bool) -> None:
    """Or, when it is gone already, with the defaults: the Auth Service starts."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.admin.call(PutResource(resource=settings(), mode="upsert"))
            keys = await private_keys(kit.admin)
            store = kit.service.store
            soon = datetime.fromtimestamp(int(kit.clock.now()) + 3600, UTC)
            for kind in ("session_recording_config", "recording_encryption"):
                resource = store.must(kind, SINGLETONS[kind])
                metadata = msgspec.structs.replace(resource.metadata, expires=soon)
                await store.put(msgspec.structs.replace(resource, metadata=metadata))
            if gone:
                await store.delete("session_recording_config", NAME.name)
        async with auth(short_tmp) as kit:
            kit.clock.ahead += 7200
            assert (await private_keys(kit.admin)).spec == keys.spec
            config = kit.service.store.must("session_recording_config", NAME.name)
            assert isinstance(config, RecordingConfig)
            told = [key.public_key for key in config.status.encryption_keys]
            assert told == [keys.spec.keys[0].public_key]
            assert bool(config.recipients) != gone

    run(main)
