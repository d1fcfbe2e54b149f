"""Attacks on masked columns by the order of messages: rows that the agent takes for those of another answer.

The two portals are described first. Then the agent is led to believe that a question is outstanding which the
server has never read, or the other way round: the description of one portal would be taken for the other's.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from pkgs.common.dbwire.postgres import frontend
from pkgs.common.dbwire.postgres.frontend import Bind, Named, Parse, Values, copy_fail, execute, query, sync
from pkgs.common.dbwire.postgres.startup import VERSION_3_0, Startup
from pkgs.common.resources.role import DbConditions, DbMask
from tests.integration.postgres_kit import Service, postgres, serving

pytestmark = pytest.mark.needs("psql", "pg_isready")

SECRET = b"@example.com"
DATA = frontend.message(b"d", b"1000\tx\tx\t2000-01-01\t1\n")
BAD_DATA = frontend.message(b"d", b"no number\n")
DONE = frontend.message(b"c")
COPY = query("copy customers from stdin")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with postgres() as server, serving(f"127.0.0.1:{server.port}") as running:
        running.restrictions = DbConditions(mask=(DbMask(column="email"),))
        yield running


def parse(name: bytes, text: bytes) -> bytes:
    return Parse(name, text).encode()


def bind(portal: bytes, statement: bytes) -> bytes:
    return Bind(portal, statement, Values((), ())).encode()


def describe(portal: bytes) -> bytes:
    return Named(frontend.PORTAL, portal).encode(b"D")


PORTALS = b"".join(
    (
        *(parse(b"a", b"select email from customers limit 3"), bind(b"hidden", b"a"), describe(b"hidden")),
        *(parse(b"b", b"select name from customers limit 3"), bind(b"shown", b"b"), sync()),
    )
)
MIXED = describe(b"shown") + execute(b"hidden") + sync()


def said(service: Service, *rounds: bytes) -> bytes:
    """All that the client gets to see; between rounds it waits for a moment, on which nothing hangs."""
    got = b""
    with socket.create_connection(("127.0.0.1", service.port), 30) as client:
        login = Startup(VERSION_3_0, ((b"user", b"alice"), (b"database", b"shop"))).encode()
        for sent in (login, query("begin"), PORTALS, query("savepoint s"), *rounds):
            try:
                client.sendall(sent)
                client.settimeout(30)
                while more := client.recv(1 << 16):
                    got += more
                    client.settimeout(0.1)
            except TimeoutError:
                continue
            except OSError:
                break
    service.settle()
    return got


def test_a_masked_column_is_masked(service: Service) -> None:
    got = said(service, MIXED)
    assert b"***" in got and SECRET not in got


@pytest.mark.parametrize(
    "rounds",
    [
        # Queries behind an error, which the server skips as everything else up to the Sync.
        (parse(b"", b"selec") + query("select 1") * 5 + sync(), query("rollback to s"), MIXED),
        # The end of the data comes before the server has asked for any: later Syncs are none of the COPY's.
        (COPY + DATA + DONE, sync() + MIXED + query("select 1") * 2),
        # A Sync that the server reads after an error in the data, and answers.
        (
            parse(b"", b"copy customers from stdin") + bind(b"", b"") + execute() + sync(),
            BAD_DATA + sync() + DONE,
            query("rollback to s"),
            MIXED + query("select 1") * 2,
        ),
        (
            COPY + DATA + sync() + copy_fail("x"),
            query("rollback to s") + sync() + MIXED + query("select 1") * 2,
        ),
        (COPY + query("select 1") * 3, query("rollback to s"), MIXED),
        # Portals and the cursors of SQL share their names.
        (
            describe(b"shown") + sync(),
            query("close shown; declare shown cursor for select email from customers"),
            execute(b"shown", 3) + sync(),
        ),
        (
            query("prepare c as select email from customers"),
            parse(b"c", b"select name from customers")
            + sync()
            + bind(b"x", b"c")
            + execute(b"x", 2)
            + sync(),
        ),
    ],
    ids=["skipped", "done early", "sync in bad data", "sync in data", "query in data", "cursor", "statement"],
)
def test_no_order_of_messages_shows_it(service: Service, rounds: tuple[bytes, ...]) -> None:
    assert SECRET not in said(service, *rounds)


def test_orderly_clients_copy_into_masked_tables(service: Service) -> None:
    """In the simple and the extended protocol, as libpq does."""
    prepared = parse(b"", b"copy customers from stdin") + bind(b"", b"") + execute() + sync()
    for rounds in (
        (COPY, DATA + DONE),
        (COPY + DATA + DONE,),
        (prepared, DATA + DONE + sync()),
        (COPY, BAD_DATA + DONE, query("rollback to s"), COPY, DATA + DONE),
    ):
        got = said(service, *rounds, query("select email from customers where id = 1000"))
        assert got.count(b"COPY 1\0") == 1 and b"***" in got, rounds
