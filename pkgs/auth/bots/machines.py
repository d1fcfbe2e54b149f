"""What machines call: joining as an instance of a bot, renewing, and telling how they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from pkgs.auth import limits
from pkgs.auth.audit.journal import Journal
from pkgs.auth.backend.interface import Create, Delete
from pkgs.auth.bots import instances
from pkgs.auth.bots.instances import CopiedError
from pkgs.auth.bots.owned import guard
from pkgs.auth.gate import Gate
from pkgs.auth.issuing.issue import Order, UserIssuer
from pkgs.auth.issuing.join import REFUSED
from pkgs.auth.issuing.restrictions import Machine
from pkgs.auth.permissions import Permissions
from pkgs.auth.state.store import Store, create_operation, key_of
from pkgs.common.access.locks import Interaction
from pkgs.common.api.bots import BotCerts, BotHeartbeat, JoinBot, RenewBotCerts
from pkgs.common.api.login import Done
from pkgs.common.errors import (
    AlreadyExistsError,
    ConflictError,
    DeniedError,
    InputError,
    LimitExceededError,
    NotFoundError,
)
from pkgs.common.events.codes import (
    BOT_JOIN,
    BOT_JOIN_FAIL,
    CERT_GENERATION_MISMATCH,
    LOCK_CREATED,
)
from pkgs.common.events.types import Event
from pkgs.common.pki.identity import Identity, SystemRole
from pkgs.common.pki.keys import check_public_line, check_public_pem
from pkgs.common.resources.bots import bot_of, role_of, user_of
from pkgs.common.resources.durations import format_duration
from pkgs.common.resources.kinds import Bot, BotInstance, Lock, LockSpec, LockTarget, Token, User
from pkgs.common.resources.kinds.machines import BotAuthentication, BotHeartbeatRecord
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.secrets import masked
from pkgs.common.rpc.calls import Caller

COPIED = "this certificate was renewed before: a copy of it is in use, so the instance is locked"


class MachineHandlers:
    def __init__(
        self,
        store: Store,
        permissions: Permissions,
        issuer: UserIssuer,
        journal: Journal,
        gate: Gate,
        on_lock: Callable[[], None],
    ) -> None:
        self._store = store
        self._permissions = permissions
        self._issuer = issuer
        self._journal = journal
        self._gate = gate
        self._on_lock = on_lock

    async def join(self, caller: Caller, request: JoinBot) -> BotCerts:
        address = self._gate.enter(caller, request.client_addr)
        instance: BotInstance | None = None
        try:
            self._permissions.check_locks(Interaction(None, join_token=request.token))
            keys = _checked(request)
            instance = await self._answered(request) or await self._register(request, keys, address)
            joined = self._joined(request, instance, address)
            return await self._issue(instance, request, address, None, joined)
        except (DeniedError, InputError, LimitExceededError) as error:
            await self._journal.write(
                self._journal.event(
                    BOT_JOIN_FAIL,
                    bot_name=instance.sub_kind if instance is not None else None,
                    method="token",
                    token_name=masked(request.token[: limits.TOKEN_TEXT_MAX]),
                    success=False,
                    error=f"{error.message} {error.detail}".strip(),
                    addr_remote=address or None,
                )
            )
            raise

    async def renew(self, caller: Caller, request: RenewBotCerts) -> BotCerts:
        identity = caller.user()
        if not (identity.renewable and identity.bot_name and identity.generation):
            raise DeniedError("only a machine renews its certificates this way", hint="log in again")
        keys = _checked(request)
        if self._now() >= identity.expires_at:
            raise DeniedError("the certificate has expired", hint="join the bot again")
        bot, _ = self._standing(identity.bot_name)
        expires = self._forgotten_at(bot, request.ttl_s)
        try:
            instance = await instances.renew(self._store, identity, keys, caller.remote_addr, expires)
        except CopiedError as error:
            await self._lock(identity, error.instance)
            raise DeniedError(COPIED, hint="take the lock away and join the bot again") from None
        return await self._issue(instance, request, caller.remote_addr, identity)

    async def heartbeat(self, caller: Caller, request: BotHeartbeat) -> Done:
        identity = caller.user()
        if not (identity.renewable and identity.bot_name):
            raise DeniedError("this call is for machines")
        for text in (request.hostname, request.version):
            if len(text) > limits.BOT_HOSTNAME_MAX or (text and not text.isprintable()):
                raise InputError(
                    f"host name and version: at most {limits.BOT_HOSTNAME_MAX} printable characters"
                )
        record = BotHeartbeatRecord(
            recorded_at=datetime.fromtimestamp(int(self._now()), UTC),
            hostname=request.hostname,
            version=request.version,
            one_shot=request.one_shot,
            uptime=format_duration(max(0, request.uptime_s)),
        )
        await instances.heard(self._store, identity, record)
        return Done()

    # Joining.

    async def _answered(self, request: JoinBot) -> BotInstance | None:
        """The instance that this very request made a short while ago. Its answer may have died with us, and
        to give it again gives nothing new: the certificates are for the same keys."""
        item = await self._store.backend.get(_join_key(request))
        if item is None:
            return None
        bot, instance_id = msgspec.json.decode(item.value, type=tuple[str, str])
        found = self._store.get("bot_instance", instance_id, bot)
        if not isinstance(found, BotInstance) or instances.generation_of(found) != 1:
            return None
        return found

    async def _register(self, request: JoinBot, keys: str, address: str) -> BotInstance:
        """Make the instance known and use the token up, in one commit (attack A37)."""
        for _ in range(limits.BOT_TRIES):
            token = self._token(request)
            bot, user = self._standing(token.spec.bot_name)
            joined = sum(one.sub_kind == bot.name for one in self._store.all("bot_instance"))
            if joined >= limits.MAX_BOT_INSTANCES:
                raise LimitExceededError(f"a bot may have {limits.MAX_BOT_INSTANCES} instances")
            now = self._now()
            proof = BotAuthentication(
                authenticated_at=datetime.fromtimestamp(int(now), UTC),
                join_token=masked(token.name),
                generation=1,
                public_key=keys,
                remote_addr=address,
            )
            instance = instances.new_instance(bot.name, proof, self._forgotten_at(bot, request.ttl_s))
            repeat = msgspec.json.encode((bot.name, instance.name))
            try:
                await self._store.backend.commit(
                    [
                        Delete(key_of("token", token.name), int(token.metadata.revision)),
                        guard(user),
                        create_operation(instance),
                        Create(_join_key(request), repeat, now + limits.JOIN_REPEAT_S),
                    ]
                )
            except (ConflictError, NotFoundError, AlreadyExistsError):
                # Somebody used the token up, or the bot was changed: look again at what there is.
                continue
            return instances.find(self._store, bot.name, instance.name)
        raise DeniedError(REFUSED, detail="the bot is changing too often")

    def _token(self, request: JoinBot) -> Token:
        if not 0 < len(request.token) <= limits.TOKEN_TEXT_MAX:
            raise DeniedError(REFUSED, detail="no token")
        token = self._store.get("token", request.token)
        if not isinstance(token, Token):
            raise DeniedError(REFUSED, detail="unknown or expired token")
        if token.spec.join_method != "token":
            raise DeniedError(REFUSED, detail=f"join method {token.spec.join_method} is not supported yet")
        if SystemRole.BOT.value not in token.spec.roles or not token.spec.bot_name:
            raise DeniedError(REFUSED, detail="token is not for a bot")
        return token

    def _standing(self, name: str) -> tuple[Bot, User]:
        """The bot and its user as they are now."""
        bot, user = self._store.get("bot", name), self._store.get("user", user_of(name))
        if not isinstance(bot, Bot) or not isinstance(user, User) or bot_of(user) != name:
            raise DeniedError(REFUSED, detail="the bot does not exist")
        return bot, user

    def _joined(self, request: JoinBot, instance: BotInstance, address: str) -> Event:
        return self._journal.event(
            BOT_JOIN,
            bot_name=instance.sub_kind,
            bot_instance_id=instance.name,
            user_name=user_of(instance.sub_kind),
            method="token",
            token_name=masked(request.token),
            success=True,
            addr_remote=address or None,
        )

    # Certificates.

    async def _issue(
        self,
        instance: BotInstance,
        request: JoinBot | RenewBotCerts,
        address: str,
        previous: Identity | None,
        *also: Event,
    ) -> BotCerts:
        """With what the bot is now, whatever an earlier certificate said."""
        bot, user = self._standing(instance.sub_kind)
        generation = instances.generation_of(instance)
        order = Order(
            user=user.name,
            cluster=self._issuer.cluster_name,
            roles=self._permissions.roles([role_of(bot.name)]),
            traits={name: tuple(values) for name, values in user.spec.traits.items()},
            now=self._now(),
            ttl_s=_ttl(request.ttl_s),
            max_ttl_s=limits.BOT_CERT_TTL_MAX_S,
            client_addr=address,
            previous=previous,
            machine=Machine(bot.name, instance.name, generation),
        )
        certs = await self._issuer.issue(order, request.ssh_public_key, request.tls_public_key, *also)
        return BotCerts(certs=certs, bot_name=bot.name, bot_instance_id=instance.name, generation=generation)

    def _forgotten_at(self, bot: Bot, ttl_s: int) -> float:
        """No certificate of the instance lives longer, and none outlives its bot by it."""
        end = self._now() + _ttl(ttl_s) + limits.BOT_FORGOTTEN_S
        expires = bot.metadata.expires
        return end if expires is None else min(end, expires.timestamp())

    async def _lock(self, identity: Identity, instance: BotInstance) -> None:
        """Both copies are locked out, whichever of the two is the machine's: nobody can tell them apart."""
        lock = Lock(
            metadata=Metadata(
                name=f"bot-instance-{instance.name}",
                description="Made by the Auth Service: a copied certificate was used",
            ),
            spec=LockSpec(
                target=LockTarget(bot_instance_id=instance.name),
                message=f"instance {instance.name} of bot {instance.sub_kind} is locked:"
                " a copy of its certificate was used",
                created_at=datetime.fromtimestamp(int(self._now()), UTC),
                created_by="system",
            ),
        )
        await self._store.put(lock)
        self._on_lock()
        await self._journal.write(
            self._journal.event(
                CERT_GENERATION_MISMATCH,
                user=identity.name,
                bot_name=instance.sub_kind,
                bot_instance_id=instance.name,
                error=f"generation {identity.generation} was shown,"
                f" {instances.generation_of(instance)} is the newest",
            ),
            self._journal.event(
                LOCK_CREATED, name=lock.name, user="system", target={"bot_instance_id": instance.name}
            ),
        )

    def _now(self) -> float:
        return self._store.backend.clock()


def _checked(request: JoinBot | RenewBotCerts) -> str:
    """Stands for the keys, once they and the lifetime are in order."""
    if not 0 <= request.ttl_s <= limits.BOT_CERT_TTL_MAX_S:
        raise InputError("the certificates of a machine live at most 7 days")
    return instances.fingerprint(
        check_public_line(request.ssh_public_key), check_public_pem(request.tls_public_key)
    )


def _ttl(ttl_s: int) -> float:
    return max(float(ttl_s) or limits.BOT_CERT_TTL_S, limits.MIN_TTL_S)


def _join_key(request: JoinBot) -> str:
    """Under the hash of the whole request but its address: nobody finds it who has not sent it."""
    asked = msgspec.structs.replace(request, client_addr="")
    return f"/bot-join/{hashlib.sha256(msgspec.json.encode(asked)).hexdigest()}"
