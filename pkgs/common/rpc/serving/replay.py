"""Idempotency keys: a repeated call gets the first one's answer, or joins it while it runs.

Kept per caller, bounded in number, size and time. Only answers and definite refusals are kept: after
`unavailable`, `limit` or `internal` the same key may try again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable

import msgspec

from pkgs.common.errors import AlreadyExistsError, InputError, LimitExceededError
from pkgs.common.rpc import envelope
from pkgs.common.rpc.calls import Caller
from pkgs.common.rpc.limits import ServerLimits

Scope = tuple[str, ...]
Entry = tuple[Scope, str, str]


class Reply(msgspec.Struct, frozen=True):
    """What goes back: ANSWER or ERROR, and its body."""

    kind: int
    body: bytes
    lasting: bool = True
    """Whether the same key would get the same again."""


class _Kept:
    __slots__ = ("body_hash", "expires_at", "reply", "too_long")

    def __init__(self, body_hash: bytes, expires_at: float) -> None:
        self.body_hash = body_hash
        self.expires_at = expires_at
        self.reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.too_long = False


def scope_of(caller: Caller) -> Scope:
    """Keys of one caller never meet those of another."""
    if caller.identity is not None:
        return (caller.identity.kind, caller.identity.cluster, caller.identity.name)
    return ("admin", str(caller.local_uid)) if caller.admin else ("nobody", caller.remote_addr)


class Replays:
    """The keys of all callers."""

    def __init__(self, limits: ServerLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._kept: OrderedDict[Entry, _Kept] = OrderedDict()
        self._per_scope: Counter[Scope] = Counter()

    def begin(self, caller: Caller, method: str, key: str, body: bytes) -> asyncio.Future[Reply] | None:
        """None: this is the first, run it and `finish`. Else the reply, now or when the first one ends."""
        now = self._clock()
        self._expire(now)
        entry = (scope_of(caller), method, key)
        body_hash = hashlib.blake2b(body, digest_size=16).digest()
        kept = self._kept.get(entry)
        if kept is not None:
            if kept.body_hash != body_hash:
                raise InputError("this idempotency key was used for a different request")
            if kept.too_long:
                raise AlreadyExistsError(
                    "this request was carried out already; its answer was too long to keep"
                )
            return kept.reply
        if self._per_scope[entry[0]] >= self._limits.replays_per_identity and not self._evict(entry[0]):
            raise LimitExceededError("too many calls with idempotency keys at once")
        if len(self._kept) >= self._limits.replays and not self._evict(None):
            raise LimitExceededError("too many calls with idempotency keys at once")
        self._kept[entry] = _Kept(body_hash, now + self._limits.replay_ttl_s)
        self._per_scope[entry[0]] += 1
        return None

    def finish(self, caller: Caller, method: str, key: str, reply: Reply) -> None:
        """The first call has ended: who joined it gets the same."""
        entry = (scope_of(caller), method, key)
        kept = self._kept.get(entry)
        if kept is None:
            return
        if not kept.reply.done():
            kept.reply.set_result(reply)
        if not reply.lasting:
            self._forget(entry)
        elif len(reply.body) > self._limits.replay_bytes:
            kept.too_long = True
            kept.reply = asyncio.get_running_loop().create_future()
            kept.reply.set_result(Reply(envelope.ERROR, b""))

    def _expire(self, now: float) -> None:
        """Entries are in order of their beginning, and so of their end."""
        while self._kept:
            entry, kept = next(iter(self._kept.items()))
            if kept.expires_at > now or not kept.reply.done():
                return
            self._forget(entry)

    def _evict(self, scope: Scope | None) -> bool:
        """Forget the oldest finished one (of a scope); False when all still run."""
        for entry, kept in self._kept.items():
            if kept.reply.done() and (scope is None or entry[0] == scope):
                self._forget(entry)
                return True
        return False

    def _forget(self, entry: Entry) -> None:
        del self._kept[entry]
        self._per_scope[entry[0]] -= 1
        if not self._per_scope[entry[0]]:
            del self._per_scope[entry[0]]
