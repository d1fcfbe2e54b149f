"""Sessions with PostgreSQL as scripts: who says what, what goes on, what is told."""

from __future__ import annotations

from pkgs.agents.db.engine import Fact
from pkgs.agents.db.postgres.conversation import PostgresConversation
from pkgs.agents.db.postgres.masking import Masking
from pkgs.common.dbwire.postgres import backend, frontend, values
from pkgs.common.dbwire.postgres.backend import Column, Report
from pkgs.common.dbwire.postgres.fields import message
from pkgs.common.dbwire.postgres.frontend import Named, Values
from pkgs.common.resources.role import UNRESTRICTED, DbConditions, DbMask

READY = backend.ready()
SYNC = frontend.sync()
PARSED, BOUND, CLOSED, NO_DATA = (message(kind) for kind in (b"1", b"2", b"3", b"n"))
EXECUTE = frontend.execute()
DESCRIBE = Named(frontend.PORTAL, b"").encode(b"D")
ERROR = Report(((ord("S"), b"ERROR"), (ord("C"), b"42601"), (ord("M"), b"syntax error"))).encode()
NOTHING = Values((), ())
RULES = (DbMask(column="email", table="customers"), DbMask(column="balance"))
CUSTOMERS, OTHER, LATER = 500, 501, 9000
CATALOG = [
    (b"500", b"3", b"0"),
    (b"500", b"5", b"1"),
    (b"1000", None, None),
]


class Talk:
    """A session under way."""

    def __init__(self, policy: DbConditions = UNRESTRICTED) -> None:
        masks = None
        if policy.mask:
            masks = Masking(policy.mask, computed=policy.mask_computed, catalog=CATALOG)
        self.cancels = 0
        self.session = PostgresConversation(policy, masks, self._cancel)
        self.facts: list[Fact] = []
        self.back = b""
        self.over = False

    def _cancel(self) -> None:
        self.cancels += 1

    def client(self, *said: bytes) -> bytes:
        """What the server gets."""
        step = self.session.from_client(memoryview(b"".join(said)))
        assert not step.back
        self.facts += step.facts
        self.over = step.over
        return bytes(step.onward)

    def server(self, *said: bytes) -> bytes:
        """What the client gets."""
        step = self.session.from_server(memoryview(b"".join(said)))
        self.back = step.back
        self.facts += step.facts
        self.over = step.over
        return bytes(step.onward)

    def told(self) -> list[Fact]:
        facts, self.facts = self.facts, []
        return facts

    def passes(self, *said: bytes) -> None:
        assert self.client(*said) == b"".join(said)

    def answers(self, *said: bytes) -> None:
        assert self.server(*said) == b"".join(said)


def rows(count: int) -> list[bytes]:
    return [backend.data_row([b"%d" % index]) for index in range(count)]


def columns(*described: tuple[bytes, int, int, int]) -> bytes:
    return backend.row_description(
        tuple(Column(name, table, attribute, kind, 0, 0, 0) for name, table, attribute, kind in described)
    )


ONE_COLUMN = columns((b"n", 0, 0, values.INT4))
