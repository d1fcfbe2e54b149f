"""The user and the role that a bot has: made, changed and removed with it, and by nobody else."""

from __future__ import annotations

import contextlib

import msgspec

from pkgs.auth import limits
from pkgs.auth.backend.interface import Delete, Operation
from pkgs.auth.state.store import Store, create_operation, key_for, update_operation
from pkgs.common.access.matching.patterns import is_pattern
from pkgs.common.errors import AlreadyExistsError, ConflictError, InputError, NotFoundError
from pkgs.common.resources.bots import BOT_LABEL, bot_of, role_of, user_of
from pkgs.common.resources.durations import format_duration, parse_duration
from pkgs.common.resources.kinds import Bot, BotInstance, Resource, Token, User, UserSpec
from pkgs.common.resources.kinds.machines import BotStatus
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Impersonate, Role, RoleOptions, RoleSpec
from pkgs.common.resources.validate.joining import MAX_BOT_TTL_S

DELETED_AT_ONCE = 200
_ROUNDS = limits.BOT_TRIES + 2 * limits.MAX_BOT_INSTANCES // DELETED_AT_ONCE


def check_not_owned(resource: Resource | None, before: Resource | None) -> None:
    """A bot's user and role are changed by changing the bot, and nothing else may look like one."""
    for version in (before, resource):
        if isinstance(version, User | Role) and bot_of(version):
            raise InputError(
                f'{version.kind} "{version.name}" belongs to a bot and cannot be changed by hand',
                hint="change the bot: `tctl bots update`, `tctl bots rm`",
            )


def checked_bot(bot: Bot, store: Store) -> Bot:
    """As it is stored; raises InputError for roles that it could not take on."""
    spec = bot.spec
    if len(spec.roles) > limits.MAX_USER_ROLES:
        raise InputError(f"a bot may have {limits.MAX_USER_ROLES} roles")
    for name in spec.roles:
        role = store.get("role", name)
        if not isinstance(role, Role) or is_pattern(name) or "{{" in name or "}}" in name:
            raise InputError(f'role "{name}" does not exist', hint="`tctl get roles` lists those that do")
        if bot_of(role):
            raise InputError(f'role "{name}" belongs to a bot: what it takes on cannot be taken on again')
    names = [trait.name for trait in spec.traits]
    if len(names) > limits.MAX_TRAITS or len(set(names)) != len(names):
        raise InputError(f"spec.traits: each name once, and at most {limits.MAX_TRAITS}")
    for trait in spec.traits:
        if not trait.name or len(trait.values) > limits.MAX_TRAIT_VALUES:
            raise InputError(f"spec.traits: a name, and at most {limits.MAX_TRAIT_VALUES} values")
        if any(len(text) > limits.MAX_TRAIT_TEXT for text in (trait.name, *trait.values)):
            raise InputError(f"spec.traits: at most {limits.MAX_TRAIT_TEXT} characters")
    ttl_s = parse_duration(spec.max_session_ttl) or MAX_BOT_TTL_S
    spec = msgspec.structs.replace(spec, max_session_ttl=format_duration(ttl_s))
    status = BotStatus(user_name=user_of(bot.name), role_name=role_of(bot.name))
    return msgspec.structs.replace(bot, spec=spec, status=status)


def companions(bot: Bot, store: Store) -> list[Operation]:
    """What is written together with a bot: its user and its role."""
    operations: list[Operation] = []
    for made in (_user(bot), _role(bot)):
        before = store.get(made.kind, made.name)
        if before is None:
            operations.append(create_operation(made))
            continue
        if bot_of(before) != bot.name:
            raise AlreadyExistsError(
                f'{made.kind} "{made.name}" exists and is not this bot\'s', hint="give the bot another name"
            )
        metadata = msgspec.structs.replace(made.metadata, revision=before.metadata.revision)
        operations.append(update_operation(msgspec.structs.replace(made, metadata=metadata)))
    return operations


def guard(user: User) -> Operation:
    """The write that fails when the bot was changed or removed since its user was looked up."""
    return update_operation(user)


async def forget_belongings(bot: str, store: Store, keep: str = "") -> None:
    """Before a bot is made: no certificate and no token of an earlier one of this name comes to life again
    (attack A37), but for the token that the new one is made with."""
    for _ in range(_ROUNDS):
        tokens = [token for token in _tokens(bot, store) if token.name != keep]
        left = [*_instances(bot, store), *tokens]
        if not left:
            return
        with contextlib.suppress(NotFoundError):
            await store.backend.commit([Delete(key_for(one)) for one in left[:DELETED_AT_ONCE]])
    raise ConflictError(f'an earlier bot "{bot}" is being changed', hint="try again")


async def remove(bot: Bot, store: Store) -> None:
    """The bot with everything that is its own: its instances' certificates are worth nothing from now on."""
    for _ in range(_ROUNDS):
        # Tokens and instances first: a bot that comes back under this name must find none of them.
        belongings = [*_instances(bot.name, store), *_tokens(bot.name, store)]
        last = len(belongings) <= DELETED_AT_ONCE
        operations: list[Operation] = [Delete(key_for(one)) for one in belongings[:DELETED_AT_ONCE]]
        if last:
            own = [store.get("user", user_of(bot.name)), store.get("role", role_of(bot.name))]
            operations += [
                Delete(key_for(one), int(one.metadata.revision))
                for one in own
                if one is not None and bot_of(one) == bot.name
            ]
            operations.append(Delete(key_for(bot)))
        try:
            await store.backend.commit(operations)
        except (ConflictError, NotFoundError):
            # A machine joined, or something of the bot went by itself, at this very moment.
            last = store.get("bot", bot.name) is None
        if last:
            return
    raise ConflictError(f'bot "{bot.name}" is being changed', hint="try again")


def _instances(bot: str, store: Store) -> list[Resource]:
    return [one for one in store.all("bot_instance") if isinstance(one, BotInstance) and one.sub_kind == bot]


def _tokens(bot: str, store: Store) -> list[Resource]:
    return [
        token
        for token in store.all("token")
        if isinstance(token, Token)
        and token.spec.bot_name == bot
        and token.spec.join_method == "token"
        and not store.is_static(token.name)
    ]


def _user(bot: Bot) -> User:
    return User(
        metadata=Metadata(
            name=user_of(bot.name),
            description=f"The user of bot {bot.name}",
            labels={BOT_LABEL: bot.name},
            expires=bot.metadata.expires,
        ),
        spec=UserSpec(
            roles=[role_of(bot.name)], traits={trait.name: list(trait.values) for trait in bot.spec.traits}
        ),
    )


def _role(bot: Bot) -> Role:
    """Takes on the bot's roles and does nothing else."""
    return Role(
        metadata=Metadata(
            name=role_of(bot.name),
            description=f"What bot {bot.name} may take on",
            labels={BOT_LABEL: bot.name},
            expires=bot.metadata.expires,
        ),
        spec=RoleSpec(
            options=RoleOptions(
                max_session_ttl=bot.spec.max_session_ttl, port_forwarding=False, ssh_file_copy=False
            ),
            allow=Conditions(impersonate=Impersonate(roles=list(bot.spec.roles)) if bot.spec.roles else None),
        ),
    )
