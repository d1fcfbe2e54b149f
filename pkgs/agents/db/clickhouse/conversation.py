"""A ClickHouse session: requests and responses of HTTP/1.1 in turn, each put together anew for the other.

Two state machines of HTTP stand back to back: we are a server to the client and a client to the server.
"""

from __future__ import annotations

import json
import re

import h11

from pkgs.agents.db.clickhouse import limits, requests
from pkgs.agents.db.clickhouse.requests import Asked
from pkgs.agents.db.engine import Fact, Failed, Outcome, Statement, Step
from pkgs.agents.db.record.excerpt import excerpt
from pkgs.agents.db.record.passwords import HIDDEN, mask
from pkgs.common.errors import DeniedError, InputError, ProtocolError

_CODE = re.compile(r"Code: ([0-9]{1,6})")


class ClickhouseConversation:
    def __init__(self, user: str) -> None:
        self._user = user
        self._client = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.HEAD_MAX)
        self._server = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.HEAD_MAX)
        self._asked: Asked | None = None
        """The request under way, up to the end of its response."""
        self._text = bytearray()
        """Of its statement."""
        self._joined = False
        """Its body has begun."""
        self._told = True
        self._secret = False
        self._failed: h11.Response | None = None
        """A response that is an error."""
        self._error = bytearray()

    # --- the client

    def from_client(self, data: memoryview) -> Step:
        facts: list[Fact] = []
        try:
            return self._requests(bytes(data), facts)
        except h11.ProtocolError:
            # What it says repeats the line, with whatever password is in it.
            raise ProtocolError("the client does not speak HTTP/1.1 as it should") from None
        except DeniedError as exc:
            return self._refuse(requests.DENIED, exc, facts)
        except InputError as exc:
            return self._refuse(requests.BAD, exc, facts)

    def _requests(self, data: bytes, facts: list[Fact]) -> Step:
        if data:
            self._client.receive_data(data)
        out = []
        while True:
            event = self._client.next_event()
            if isinstance(event, h11.Request):
                out.append(self._begin(event))
            elif isinstance(event, h11.Data):
                self._keep(event.data, facts)
                out.append(self._server.send(event) or b"")
            elif isinstance(event, h11.EndOfMessage):
                out.append(self._server.send(h11.EndOfMessage()) or b"")
                self._tell(facts, cut=False)
            else:
                break
        if len(self._client.trailing_data[0]) > limits.AHEAD_MAX:
            raise ProtocolError("the client sends requests without waiting for responses")
        return Step(b"".join(out), facts=facts)

    def _begin(self, request: h11.Request) -> bytes:
        asked = requests.understand(request)
        onward = self._server.send(requests.onward(asked, self._user))
        self._asked, self._joined, self._told, self._secret = asked, False, False, False
        self._text[:] = asked.statement.encode("utf-8", "replace")[: limits.STATEMENT_KEPT]
        return onward or b""

    def _keep(self, data: bytes, facts: list[Fact]) -> None:
        if self._told:
            return
        if not self._joined and self._text:
            # As the server joins address and body.
            self._text += b"\n"
        self._joined = True
        room = max(0, limits.STATEMENT_KEPT - len(self._text))
        self._text += data[:room]
        if len(data) > room:
            self._tell(facts, cut=True)

    def _tell(self, facts: list[Fact], *, cut: bool) -> None:
        if self._told or self._asked is None:
            return
        self._told = True
        text = self._text.decode("utf-8", "backslashreplace")
        if not text:
            text = f"{self._asked.method} {excerpt(self._asked.path, limits.PARAMETER_KEPT)}"
        # Bytes that are no text take four characters each.
        cut = cut or len(text) > limits.STATEMENT_KEPT
        shown = mask(text[: limits.STATEMENT_KEPT])
        self._secret = shown.secret
        parameters = tuple(
            excerpt(value, limits.PARAMETER_KEPT)
            for value in self._asked.parameters[: limits.PARAMETERS_KEPT]
        )
        cut = cut or shown.cut or len(self._asked.statement) > limits.STATEMENT_KEPT
        facts.append(Statement(shown.text, parameters, cut))

    def _refuse(self, kind: tuple[int, int], exc: DeniedError | InputError, facts: list[Fact]) -> Step:
        """The response of ours to a request of which nothing went on; the connection ends."""
        facts.append(Failed(str(exc), str(kind[1])))
        back = requests.refusal(kind, str(exc)) if self._asked is None else b""
        return Step(back=back, facts=facts, over=True)

    # --- the server

    def from_server(self, data: memoryview) -> Step:
        facts: list[Fact] = []
        try:
            return self._responses(bytes(data), facts)
        except h11.ProtocolError:
            raise ProtocolError("the server does not speak HTTP/1.1 as it should") from None

    def _responses(self, data: bytes, facts: list[Fact]) -> Step:
        self._server.receive_data(data)
        out = []
        step = Step(facts=facts)
        while True:
            event = self._server.next_event()
            if isinstance(event, h11.Response):
                self._answered(event, facts)
                out.append(self._client.send(event) or b"")
            elif isinstance(event, h11.InformationalResponse):
                out.append(self._client.send(event) or b"")
            elif isinstance(event, h11.Data):
                if self._failed is not None:
                    self._error += event.data[: limits.ERROR_KEPT - len(self._error)]
                out.append(self._client.send(event) or b"")
            elif isinstance(event, h11.EndOfMessage):
                out.append(self._client.send(h11.EndOfMessage()) or b"")
                step.over = self._end(facts)
                if not step.over:
                    # What the client sent meanwhile.
                    later = self.from_client(memoryview(b""))
                    out.append(later.back)
                    step.back, step.over = bytes(later.onward), later.over
                    facts += later.facts
            else:
                break
        step.onward = b"".join(out)
        return step

    def _answered(self, response: h11.Response, facts: list[Fact]) -> None:
        # A server may answer before it has read all.
        self._tell(facts, cut=True)
        headers = dict(response.headers)
        if response.status_code >= 400:
            self._failed = response
            self._error.clear()
        elif (rows := _rows(headers.get(b"x-clickhouse-summary", b""))) is not None:
            facts.append(Outcome(rows))

    def _end(self, facts: list[Fact]) -> bool:
        """A response is whole. True when the connection ends with it."""
        if self._failed is not None:
            code = (
                dict(self._failed.headers).get(b"x-clickhouse-exception-code", b"").decode("ascii", "replace")
            )
            text = self._error.decode("utf-8", "replace").strip()
            if not code and (said := _CODE.match(text)):
                code = said[1]
            if self._secret:
                text = text.partition(".")[0] + f": {HIDDEN}"
            facts.append(Failed(text or f"HTTP {self._failed.status_code}", code))
            self._failed = None
        self._asked = None
        if self._client.our_state is not h11.DONE or self._client.their_state is not h11.DONE:
            return True
        self._client.start_next_cycle()
        self._server.start_next_cycle()
        return False

    def refusal(self, text: str) -> bytes:
        """Only where a response is awaited and has not begun."""
        if self._asked is None or self._client.our_state is not h11.SEND_RESPONSE:
            return b""
        return requests.refusal(requests.DENIED, text)


def _rows(summary: bytes) -> int | None:
    """Rows written or returned, as far as the server tells."""
    try:
        told = json.loads(summary)
        return int(told["written_rows"]) or int(told.get("result_rows", 0))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
