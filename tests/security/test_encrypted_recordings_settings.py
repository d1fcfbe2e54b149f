"""What decides whether recordings are encrypted, and for whom, cannot be made to go away by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from pkgs.common.api.resources import GetResource, PutResource
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import RecordingConfig, RecordingKeys
from pkgs.common.rpc.client import RpcClient
from tests.integration.auth_kit import auth, run
from tests.security.test_encrypted_recordings import settings


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
