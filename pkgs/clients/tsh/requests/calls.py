"""What is asked of the Auth Service about requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pkgs.clients.tsh.connections.dial import auth_client
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.api.requests import (
    CreateAccessRequest,
    GetRequestCapabilities,
    ListAccessRequests,
    RequestCapabilities,
    RequestShown,
)
from pkgs.common.rpc.calls import BlockingClient

LIST_DEADLINE_S = 60.0
Which = Literal["all", "mine", "reviewable", "suggested"]


@contextmanager
def connected(login: Login) -> Iterator[BlockingClient]:
    client = auth_client(login)
    try:
        yield client
    finally:
        client.close()


def created(login: Login, request: CreateAccessRequest) -> RequestShown:
    with connected(login) as client:
        return client.call(request)


def capabilities(login: Login) -> RequestCapabilities:
    with connected(login) as client:
        return client.call(GetRequestCapabilities())


def listed(client: BlockingClient, which: Which = "all") -> list[RequestShown]:
    """The newest first."""
    chunks = client.stream(ListAccessRequests(which=which), deadline_s=LIST_DEADLINE_S)
    return [shown for chunk in chunks for shown in chunk.requests]
