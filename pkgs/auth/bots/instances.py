"""Instances of bots as they are stored: made by a join, counted up by each renewal, in the store itself.

A generation is handed out once. Whoever shows one that was used already (and asks for other keys than it was
used for) holds a copy of what somebody else renewed (attack A35).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from pkgs.auth import limits
from pkgs.auth.state.store import Store
from pkgs.common.errors import ConflictError, DeniedError, NotFoundError
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import BotInstance
from pkgs.common.resources.kinds.machines import (
    BotAuthentication,
    BotHeartbeatRecord,
    BotInstanceSpec,
    BotInstanceStatus,
)
from pkgs.common.resources.metadata import Metadata

Changed = Callable[[BotInstance], BotInstance]


class CopiedError(Exception):
    """A generation was used twice: what is shown is a copy, or the original of one."""

    def __init__(self, instance: BotInstance) -> None:
        super().__init__()
        self.instance = instance


def fingerprint(ssh_key: str, tls_key: str) -> str:
    """Stands for a pair of public keys."""
    return hashlib.sha256(msgspec.json.encode([ssh_key, tls_key])).hexdigest()


def generation_of(instance: BotInstance) -> int:
    return _newest(instance).generation


def new_instance(bot: str, proof: BotAuthentication, expires: float) -> BotInstance:
    """One that has just joined."""
    name = str(uuid.uuid4())
    return BotInstance(
        metadata=Metadata(name=name, expires=datetime.fromtimestamp(int(expires), UTC)),
        sub_kind=bot,
        spec=BotInstanceSpec(bot_name=bot, instance_id=name),
        status=BotInstanceStatus(initial_authentication=proof, latest_authentications=[proof]),
    )


def find(store: Store, bot: str, instance_id: str) -> BotInstance:
    """DeniedError for one that was deleted."""
    found = store.get("bot_instance", instance_id, bot)
    if not isinstance(found, BotInstance) or not found.status.latest_authentications:
        raise DeniedError("this instance of the bot does not exist any more", hint="join it again")
    return found


async def renew(store: Store, identity: Identity, keys: str, addr: str, expires: float) -> BotInstance:
    """The instance with the next generation, stored; raises CopiedError when this one was used before.

    The same keys once more are answered as before: that answer got lost, and nobody else has those keys."""

    def counted(instance: BotInstance) -> BotInstance:
        newest = _newest(instance)
        if newest.generation == identity.generation + 1 and newest.public_key == keys:
            return instance
        if newest.generation != identity.generation:
            raise CopiedError(instance)
        proof = msgspec.structs.replace(
            newest,
            authenticated_at=datetime.fromtimestamp(int(store.backend.clock()), UTC),
            generation=newest.generation + 1,
            public_key=keys,
            remote_addr=addr,
        )
        kept = [*instance.status.latest_authentications, proof][-limits.BOT_AUTHENTICATIONS_KEPT :]
        return msgspec.structs.replace(
            instance,
            metadata=msgspec.structs.replace(instance.metadata, expires=_later(instance, expires)),
            status=msgspec.structs.replace(instance.status, latest_authentications=kept),
        )

    return await _change(store, identity, counted)


async def heard(store: Store, identity: Identity, record: BotHeartbeatRecord) -> None:
    """Keep what an instance told of itself."""

    def with_record(instance: BotInstance) -> BotInstance:
        status = instance.status
        return msgspec.structs.replace(
            instance,
            status=msgspec.structs.replace(
                status,
                initial_heartbeat=status.initial_heartbeat or record,
                latest_heartbeats=[*status.latest_heartbeats, record][-limits.BOT_HEARTBEATS_KEPT :],
            ),
        )

    await _change(store, identity, with_record)


async def _change(store: Store, identity: Identity, change: Changed) -> BotInstance:
    """Compare and set: of two at the same moment one is second, and looks at what the first has written."""
    for _ in range(limits.BOT_TRIES):
        instance = find(store, identity.bot_name, identity.bot_instance_id)
        changed = change(instance)
        if changed is instance:
            return instance
        try:
            return await store.update(changed)
        except ConflictError:
            continue
        except NotFoundError:
            break
    else:
        raise ConflictError("this instance of the bot is changing too often", hint="try again")
    raise DeniedError("this instance of the bot does not exist any more", hint="join it again")


def _newest(instance: BotInstance) -> BotAuthentication:
    return instance.status.latest_authentications[-1]


def _later(instance: BotInstance, expires: float) -> datetime:
    before = instance.metadata.expires
    after = datetime.fromtimestamp(int(expires), UTC)
    return after if before is None else max(before, after)
