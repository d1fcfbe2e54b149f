"""Reviews as they are stored: beside the list, newest kept, gone with it. The audit log has all of them."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from pkgs.auth.accesslists import limits
from pkgs.auth.backend.interface import Backend, Create, Delete, Operation
from pkgs.common.api.accesslists import ListReview
from pkgs.common.errors import UnavailableError

_PREFIX = "/access-list-review/"


def _prefix(list_name: str) -> str:
    return f"{_PREFIX}{quote(list_name, safe='')}/"


class ReviewLog:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def of(self, list_name: str) -> list[ListReview]:
        """Newest first."""
        items = await self._backend.all(_prefix(list_name))
        try:
            found = [msgspec.json.decode(item.value, type=ListReview) for item in items]
        except msgspec.DecodeError as error:
            raise UnavailableError("a stored review cannot be read", detail=str(error)) from error
        return found[::-1]

    async def recording(self, review: ListReview, now: float) -> list[Operation]:
        """What stores a review, and drops the oldest of those that are too many."""
        prefix = _prefix(review.access_list)
        older = [item.key for item in await self._backend.all(prefix)]
        # Keys are in the order of time; a moment has thirteen digits of milliseconds.
        key = f"{prefix}{int(now * 1000):013d}-{review.id}"
        too_many = older[: max(0, len(older) + 1 - limits.REVIEWS_KEPT)]
        return [Create(key, msgspec.json.encode(review)), *(Delete(old) for old in too_many)]

    async def removal(self, list_name: str) -> list[Operation]:
        return [Delete(item.key) for item in await self._backend.all(_prefix(list_name))]
