"""Waits of a session's steps, and what a step that failed is called."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from pkgs.common.errors import ProtocolError, TrustError, UnavailableError
from pkgs.common.net.stream import PeerGoneError
from pkgs.common.resources.kinds import Database


@contextlib.asynccontextmanager
async def within(seconds: float, late: str) -> AsyncIterator[None]:
    """Raises UnavailableError, saying what is late, when what is done inside takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise UnavailableError(f"{late} within {seconds:.0f} s") from exc


@contextlib.asynccontextmanager
async def logging_in(database: Database, seconds: float) -> AsyncIterator[None]:
    """Around what the agent says to a server before it is let in: what goes wrong is said of the database by
    its name, with what to do. A server's own refusal stays as it is."""
    name = database.name
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise UnavailableError(
            f"database {name} did not answer the agent's login within {seconds:.0f} s",
            hint=f"check that its server is well, and that {database.spec.uri} leads to it",
        ) from exc
    except PeerGoneError as exc:
        if "ALERT" in exc.detail:
            raise TrustError(
                f"database {name} does not take the agent's certificate",
                detail=exc.detail,
                hint="it must trust the clients' authority that `tctl auth sign` wrote (.cas)",
            ) from exc
        raise UnavailableError(
            f"database {name} closed the connection in the agent's login",
            detail=f"{exc.message} {exc.detail}".strip(),
            hint="its log says why; it must trust the clients' authority that `tctl auth sign` wrote (.cas)",
        ) from exc
    except ProtocolError as exc:
        raise ProtocolError(
            f"database {name} does not speak {database.spec.protocol}: {exc.message}",
            detail=exc.detail,
            hint=f"check that {database.spec.uri} leads to it, and the database's `protocol`",
        ) from exc
