"""Typed resources over the backend, all of them kept decoded in memory.

The memory is filled at start and then kept by the backend's subscription, which is called before a write
is acknowledged: a read never sees less than what was acknowledged. Writes go to the backend and are
decided there (revisions), so what is in memory is never trusted to be the newest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote

import msgspec

from pkgs.auth.backend.fanout import Change, Item
from pkgs.auth.backend.interface import Backend, Create, Delete, Operation, Put, Update
from pkgs.common.errors import AlreadyExistsError, ConflictError, InputError, NotFoundError, UnavailableError
from pkgs.common.resources.kinds import Resource, Token

PREFIX = "/resource/"
R = TypeVar("R", bound=Resource)
_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Resource] = msgspec.json.Decoder(Resource)


def key_of(kind: str, name: str, sub_kind: str = "") -> str:
    """Where a resource is stored. A token lies under the hash of its name, because the name is a secret:
    looking one up does not compare secrets."""
    if kind == "token":
        return f"{PREFIX}token/{hashlib.sha256(name.encode()).hexdigest()}"
    middle = f"{quote(sub_kind, safe='')}/" if sub_kind else ""
    return f"{PREFIX}{kind}/{middle}{quote(name, safe='')}"


def key_for(resource: Resource) -> str:
    return key_of(resource.kind, resource.name, resource.sub_kind)


def encode(resource: Resource) -> bytes:
    """The stored form; the revision belongs to the key, not to the value."""
    return _encode(with_revision(resource, ""))


def expires_of(resource: Resource) -> float | None:
    expires = resource.metadata.expires
    if expires is None:
        return None
    return (expires if expires.tzinfo is not None else expires.replace(tzinfo=UTC)).timestamp()


def with_revision(resource: R, revision: str) -> R:
    if resource.metadata.revision == revision:
        return resource
    return msgspec.structs.replace(
        resource, metadata=msgspec.structs.replace(resource.metadata, revision=revision)
    )


def with_expiry(resource: R, expires: float) -> R:
    moment = datetime.fromtimestamp(expires, UTC)
    return msgspec.structs.replace(
        resource, metadata=msgspec.structs.replace(resource.metadata, expires=moment)
    )


class _Kind:
    """The resources of one kind by key, and their keys in order."""

    __slots__ = ("by_key", "ordered")

    def __init__(self) -> None:
        self.by_key: dict[str, tuple[Resource, float | None]] = {}
        self.ordered: list[str] | None = None


class Store:
    """Reads are plain calls; writes are awaited and durable when they return."""

    def __init__(self, backend: Backend, static: Sequence[Token] = ()) -> None:
        self.backend = backend
        self._kinds: dict[str, _Kind] = {}
        self._static = {key_for(token): token for token in static}
        self._stop: Callable[[], None] | None = None

    async def load(self) -> None:
        """Read everything; to be called once before the first use."""
        for item in await self.backend.all(PREFIX):
            self._set(item)
        self._stop = self.backend.subscribe(PREFIX, self._changed)

    def close(self) -> None:
        if self._stop is not None:
            self._stop()

    def set_static(self, tokens: Sequence[Token]) -> None:
        """Join tokens written in the configuration file; kept in memory only."""
        self._static = {key_for(token): token for token in tokens}

    def is_static(self, name: str) -> bool:
        return key_of("token", name) in self._static

    def get(self, kind: str, name: str, sub_kind: str = "") -> Resource | None:
        key = key_of(kind, name, sub_kind)
        if kind == "token" and key in self._static:
            return self._static[key]
        found = self._kinds.get(kind)
        entry = found.by_key.get(key) if found else None
        if entry is None or (entry[1] is not None and entry[1] <= self.backend.clock()):
            return None
        return entry[0]

    def must(self, kind: str, name: str, sub_kind: str = "") -> Resource:
        resource = self.get(kind, name, sub_kind)
        if resource is None:
            raise NotFoundError(f'{kind} "{name}" not found')
        return resource

    def assumes(self, kind: str, name: str) -> bool:
        """Whether something of this name is only planned; never in a store that is not a plan."""
        return False

    def all(self, kind: str) -> list[Resource]:
        """All of a kind that have not expired, in key order."""
        static: list[Resource] = list(self._static.values()) if kind == "token" else []
        found = self._kinds.get(kind)
        if found is None:
            return static
        if found.ordered is None:
            found.ordered = sorted(found.by_key)
        now = self.backend.clock()
        return static + [
            entry[0]
            for entry in map(found.by_key.__getitem__, found.ordered)
            if entry[1] is None or entry[1] > now
        ]

    def expired(self, kind: str) -> list[Resource]:
        """Those of a kind that are over and were not swept yet."""
        found = self._kinds.get(kind)
        now = self.backend.clock()
        entries = found.by_key.values() if found is not None else ()
        return [entry[0] for entry in entries if entry[1] is not None and entry[1] <= now]

    async def create(self, resource: R, *also: Operation) -> R:
        """`also` is done in the same commit."""
        return await self._write(resource, create_operation(resource), *also)

    async def put(self, resource: R, *also: Operation) -> R:
        operation = Put(key_for(resource), encode(resource), expires_of(resource))
        return await self._write(resource, operation, *also)

    async def update(self, resource: R) -> R:
        """Only if the stored revision is still the one in the resource's metadata."""
        return await self._write(resource, update_operation(resource))

    async def delete(self, kind: str, name: str, sub_kind: str = "") -> None:
        try:
            await self.backend.delete(key_of(kind, name, sub_kind))
        except NotFoundError:
            raise NotFoundError(f'{kind} "{name}" not found') from None

    async def remove(self, resource: Resource, *also: Operation) -> None:
        """Delete what was read, if it is still what it was; `also` is done in the same commit."""
        await self._write(resource, Delete(key_for(resource), int(resource.metadata.revision)), *also)

    async def _write(self, resource: R, *operations: Operation) -> R:
        try:
            revision = await self.backend.commit(operations)
        except AlreadyExistsError:
            raise AlreadyExistsError(
                f'{resource.kind} "{resource.name}" already exists',
                hint="use -f or --force flag to overwrite",
            ) from None
        except NotFoundError:
            raise NotFoundError(f'{resource.kind} "{resource.name}" not found') from None
        except ConflictError:
            raise ConflictError(
                f'{resource.kind} "{resource.name}" was changed by somebody else in the meantime',
                hint="fetch it again and repeat the change",
            ) from None
        return with_revision(resource, str(revision))

    def _changed(self, change: Change) -> None:
        if change.item is not None:
            self._set(change.item)
            return
        kind = self._kinds.get(_kind_of(change.key))
        if kind is not None and kind.by_key.pop(change.key, None) is not None:
            kind.ordered = None

    def _set(self, item: Item) -> None:
        kind = self._kinds.setdefault(_kind_of(item.key), _Kind())
        if item.key not in kind.by_key:
            kind.ordered = None
        kind.by_key[item.key] = (decode(item), item.expires)


def decode(item: Item) -> Resource:
    try:
        resource = _decoder.decode(item.value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnavailableError(
            f'the stored object "{item.key}" cannot be read',
            detail=str(error),
            hint="was it written by a newer version?",
        ) from error
    return with_revision(resource, str(item.revision))


def update_operation(resource: Resource) -> Update:
    revision = resource.metadata.revision
    if not revision.isdecimal():
        raise InputError(
            f'{resource.kind} "{resource.name}": metadata.revision is not one of ours',
            hint="fetch the resource, change it, and send it back with its revision",
        )
    return Update(key_for(resource), encode(resource), int(revision), expires_of(resource))


def create_operation(resource: Resource) -> Create:
    return Create(key_for(resource), encode(resource), expires_of(resource))


def delete_operation(resource: Resource) -> Delete:
    return Delete(key_for(resource))


def _kind_of(key: str) -> str:
    return key[len(PREFIX) :].partition("/")[0]
