"""Waits of a session's steps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from pkgs.common.errors import UnavailableError


@contextlib.asynccontextmanager
async def within(seconds: float, late: str) -> AsyncIterator[None]:
    """Raises UnavailableError, saying what is late, when what is done inside takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise UnavailableError(f"{late} within {seconds:.0f} s") from exc
