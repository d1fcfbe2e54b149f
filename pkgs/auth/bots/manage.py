"""What people call: making a bot with its first token, and tokens for further instances."""

from __future__ import annotations

import secrets

from pkgs.auth import limits
from pkgs.auth.audit.journal import Journal
from pkgs.auth.bots.owned import checked_bot, companions, forget_belongings
from pkgs.auth.permissions import Permissions
from pkgs.auth.state.store import Store, create_operation, expires_of, with_expiry
from pkgs.common.access.validate import validate
from pkgs.common.api.bots import AddBotInstance, BotToken, CreateBot
from pkgs.common.errors import AlreadyExistsError, InputError, NotFoundError
from pkgs.common.events.codes import BOT_CREATE, TOKEN_CREATE
from pkgs.common.events.format import rfc3339
from pkgs.common.events.types import Event
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.bots import role_of, user_of
from pkgs.common.resources.kinds import Bot, Token, TokenSpec
from pkgs.common.resources.kinds.machines import BotSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import LabelValues
from pkgs.common.resources.secrets import masked
from pkgs.common.rpc.calls import Caller


class BotHandlers:
    def __init__(self, store: Store, permissions: Permissions, journal: Journal) -> None:
        self._store = store
        self._permissions = permissions
        self._journal = journal

    async def create(self, caller: Caller, request: CreateBot) -> BotToken:
        self._permissions.require(caller, "bot", "create", any_object=True)
        spec = BotSpec(
            roles=list(dict.fromkeys(request.roles)),
            traits=[LabelValues(name=name, values=values) for name, values in request.traits.items()],
            max_session_ttl=request.max_session_ttl or BotSpec().max_session_ttl,
        )
        bot = Bot(metadata=Metadata(name=request.name), spec=spec)
        validate(bot)
        bot = checked_bot(bot, self._store)
        self._permissions.require(caller, "bot", "create", resource=bot)
        if self._store.get("bot", bot.name) is not None:
            raise AlreadyExistsError(f'bot "{bot.name}" already exists', hint="see `tctl bots update`")
        token, is_new = self._token(caller, bot, request.token, request.ttl_s)
        await forget_belongings(bot.name, self._store, token.name)
        operations = companions(bot, self._store)
        if is_new:
            operations.append(create_operation(token))
        await self._store.create(bot, *operations)
        actor = self._journal.actor(caller)
        events = [self._journal.event(BOT_CREATE, name=bot.name, user=actor, updated_by=actor)]
        await self._journal.write(*events, *([self._made(token, actor)] if is_new else []))
        return _told(bot, token)

    async def add_instance(self, caller: Caller, request: AddBotInstance) -> BotToken:
        bot = self._store.get("bot", request.bot)
        # Whoever can make a token for a bot can be it.
        self._permissions.require(caller, "bot", "update", resource=bot)
        if not isinstance(bot, Bot):
            raise NotFoundError(f'bot "{request.bot[:80]}" not found')
        token, is_new = self._token(caller, bot, request.token, request.ttl_s)
        if is_new:
            await self._store.create(token)
            await self._journal.write(self._made(token, self._journal.actor(caller)))
        return _told(bot, token)

    def _token(self, caller: Caller, bot: Bot, name: str, ttl_s: int) -> tuple[Token, bool]:
        """The named token, or a new one that is yet to be stored."""
        if name:
            found = self._store.get("token", name)
            self._permissions.require(caller, "token", "read", resource=found)
            if not isinstance(found, Token):
                raise NotFoundError("this token does not exist, or has expired")
            if SystemRole.BOT.value not in found.spec.roles or found.spec.bot_name != bot.name:
                raise InputError(
                    f'this token is not for bot "{bot.name}"', hint="it needs role Bot and spec.bot_name"
                )
            return found, False
        if not 0 <= ttl_s <= limits.BOT_TOKEN_TTL_MAX_S:
            raise InputError("a token for a bot lives at most 7 days")
        token = Token(
            metadata=Metadata(name=secrets.token_hex(limits.TOKEN_BYTES)),
            spec=TokenSpec(roles=[SystemRole.BOT.value], bot_name=bot.name),
        )
        token = with_expiry(token, self._store.backend.clock() + (ttl_s or limits.BOT_TOKEN_TTL_S))
        self._permissions.require(caller, "token", "create", resource=token)
        return token, True

    def _made(self, token: Token, actor: str) -> Event:
        expires = expires_of(token)
        return self._journal.event(
            TOKEN_CREATE,
            name=masked(token.name),
            user=actor,
            updated_by=actor,
            roles=list(token.spec.roles),
            join_method=token.spec.join_method,
            bot_name=token.spec.bot_name,
            expires=rfc3339(expires) if expires is not None else None,
        )


def _told(bot: Bot, token: Token) -> BotToken:
    return BotToken(
        bot_name=bot.name,
        user_name=user_of(bot.name),
        role_name=role_of(bot.name),
        token=token.name,
        expires_at=expires_of(token) or 0.0,
    )
