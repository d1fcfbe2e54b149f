"""A stream to a server that survives the loss of its connection: `tsh proxy ssh`, unless told otherwise.

    dial -> offer? --no--> the plain splice
                   --yes-> pump <--> reconnect (a minute at most)

One thread, one poll, as in `splice`. A connection that takes nothing or is silent for some seconds counts as
lost, since the other end of a laptop's old network never tells. The newest connection wins at the server,
which also decides anew whether it may go on.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections import deque

from pkgs.clients.tsh.connections.splice import CHUNK, TlsStream, nonblocking, write_some
from pkgs.common.errors import AccessError, DeniedError, TrustError, UnavailableError
from pkgs.common.net.resume.limits import KEPT_S
from pkgs.common.net.resume.state import Resumable
from pkgs.common.net.resume.wire import ACCEPT, HELLO, KNOWN, NEW, OFFER, TicketReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from collections.abc import Callable

SILENT_S = 15
"""A connection that acknowledges nothing for so long is taken for lost."""
ATTEMPT_S = 5.0
"""For each step of one attempt to connect again."""
PAUSE_FIRST_S = 0.3
PAUSE_MOST_S = 3.0
QUIET_S = 2.0
"""An interruption that was shorter is not worth a line."""
FAREWELL_S = 2.0
"""For the last bytes when the program that uses us is gone."""
_ENDING = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)

if TYPE_CHECKING:
    Dial = Callable[[str, float], TlsStream]
    """Target and deadline in seconds to an open stream. Raises AccessError."""


def connect(
    dial: Dial, target: str, source: int, sink: int, say: Callable[[str], None], deadline_s: float
) -> bool:
    """Copy until both directions have ended; False when the server ended first and had said nothing. `say` is
    told what a person should know. Raises AccessError when the stream is lost for good."""
    stream = dial(target, deadline_s)
    try:
        stream.write(HELLO)
        heard = _first_words(stream)
    except UnavailableError:
        stream.close()
        return False
    if heard != OFFER:
        return stream.splice(source, sink, heard=heard, said=HELLO)
    stream.write(ACCEPT + NEW)
    stream.lose_after(SILENT_S)
    with nonblocking(source, sink), _Signals() as signals:
        return _Pump(dial, stream, source, sink, say, signals).run()


def _first_words(stream: TlsStream) -> bytes:
    """The offer, or as much of another greeting as tells that it is none."""
    heard = b""
    while heard != OFFER and OFFER.startswith(heard):
        heard += stream.exactly(1)
    return heard


class _Signals:
    """While it lasts, a signal to end wakes the poll instead: OpenSSH sends one to its ProxyCommand, which
    must tell the server that it is over, or the server would wait for a client to come back."""

    def __init__(self) -> None:
        self.ending = False

    def __enter__(self) -> _Signals:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old_fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        # What a program that starts us has us ignore (`nohup`; `sftp`, of Ctrl-C) stays ignored.
        heeded = [number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN]
        self._old = [(number, signal.signal(number, self._note)) for number in heeded]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old:
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        os.close(self._reader)
        os.close(self._writer)

    def _note(self, *_: object) -> None:
        self.ending = True

    def fileno(self) -> int:
        return self._reader


class _Pump:
    """The stream while it lasts, and the connections that carry it."""

    def __init__(
        self,
        dial: Dial,
        stream: TlsStream,
        source: int,
        sink: int,
        say: Callable[[str], None],
        signals: _Signals,
    ) -> None:
        self._dial = dial
        self._stream = stream
        self._source = source
        self._sink = sink
        # Kept: a fresh one of this size costs more system calls than what is read into it.
        self._buffer = memoryview(bytearray(CHUNK))
        self._say = say
        self._signals = signals
        self._state = Resumable()
        self._ticket: TicketReader | None = TicketReader()
        self._token, self._host_id = b"", ""
        self._inbox: deque[memoryview] = deque()
        self._reading = True
        self._sink_open = True

    def run(self) -> bool:
        try:
            while not self._state.over:
                with self._stream:
                    try:
                        self._move()
                    except BrokenPipeError:
                        # Whoever used us is gone: there is nobody to go on for.
                        self._say_all()
                        return True
                    except UnavailableError as problem:
                        lost = problem
                    else:
                        break
                if self._state.peer_closed:
                    break
                if not self._reconnect(lost):
                    return True
            self._deliver_rest()
            return True
        finally:
            self._stream.close()

    def _move(self) -> None:
        """Until everything was said, or UnavailableError when the connection is lost."""
        self._take(self._stream.decrypt())
        while True:
            if self._signals.ending:
                raise BrokenPipeError
            self._push()
            if self._state.peer_closed and not self._inbox:
                self._end_sink()
                # A server that has ended takes nothing any more.
                self._state.end()
                self._push()
            if self._state.over and not self._stream.blocked:
                return
            if self._stream.ended and not self._state.over:
                raise UnavailableError("the proxy closed the connection")
            self._step(self._wait())

    def _wait(self) -> dict[int, int]:
        poller = select.poll()
        # An acknowledgement that we wait for may be behind what our own reader does not take. A peer that has
        # ended sends nothing to be held, but its connection's end.
        takes_more = not self._inbox or not self._state.room or self._state.peer_closed
        events = (select.POLLIN if takes_more else 0) | (select.POLLOUT if self._stream.blocked else 0)
        poller.register(self._stream, events)
        poller.register(self._signals, select.POLLIN)
        if self._reading and self._state.room and not self._stream.blocked:
            poller.register(self._source, select.POLLIN)
        if self._inbox:
            poller.register(self._sink, select.POLLOUT)
        return dict(poller.poll())

    def _step(self, ready: dict[int, int]) -> None:
        if self._sink in ready:
            self._write_inbox()
        if self._stream.fileno() in ready:
            if self._stream.blocked:
                self._stream.flush()
            self._take(self._stream.fill())
        if self._source in ready:
            self._read_source()

    def _read_source(self) -> None:
        try:
            count = os.readv(self._source, [self._buffer[: self._state.room]])
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if count:
            self._state.put(bytes(self._buffer[:count]))
        else:
            self._reading = False
            self._state.end()

    def _take(self, data: memoryview) -> None:
        if self._ticket is not None and data:
            rest = self._ticket.feed(bytes(data))
            if rest is None:
                return
            self._token, self._host_id = self._ticket.token, self._ticket.host_id
            self._ticket = None
            data = memoryview(rest)
        if data := self._state.receive(data):
            written = write_some(self._sink, data) if not self._inbox else 0
            self._state.consumed(written)
            if written < len(data):
                self._inbox.append(memoryview(bytes(data[written:])))

    def _write_inbox(self) -> None:
        while self._inbox:
            written = write_some(self._sink, self._inbox[0])
            self._state.consumed(written)
            if written < len(self._inbox[0]):
                self._inbox[0] = self._inbox[0][written:]
                return
            self._inbox.popleft()

    def _push(self) -> None:
        while not self._stream.blocked and (data := self._state.pull()):
            self._stream.send(data)

    def _end_sink(self) -> None:
        if self._sink_open:
            self._sink_open = False
            os.close(self._sink)

    # The end.

    def _say_all(self) -> None:
        """What was read last goes to the server, and that it was the last; briefly."""
        if self._reading and self._state.room:
            self._read_source()
        self._state.end()
        until = time.monotonic() + FAREWELL_S
        try:
            self._push()
            while self._stream.blocked and (left := until - time.monotonic()) > 0:
                select.select([], [self._stream], [], left)
                self._stream.flush()
                self._push()
        except UnavailableError:
            # The server waits for a minute, then ends it by itself.
            return

    def _deliver_rest(self) -> None:
        poller = select.poll()
        poller.register(self._signals, select.POLLIN)
        poller.register(self._sink, select.POLLOUT)
        while self._inbox and not self._signals.ending:
            poller.poll()
            try:
                self._write_inbox()
            except BrokenPipeError:
                return
        self._end_sink()

    # Coming back.

    def _reconnect(self, lost: AccessError) -> bool:
        """Carry on over another connection; False when we are told to end. Raises AccessError: among others
        for a program that has said all, which is gone, or which the server takes for gone."""
        if not self._token or not self._reading:
            raise lost
        from pkgs.common.runtime.backoff import Backoff

        self._state.lost()
        began, pauses = time.monotonic(), Backoff(PAUSE_FIRST_S, PAUSE_MOST_S)
        problem, told = lost, False
        while (left := began + KEPT_S - time.monotonic()) > 0:
            if self._is_abandoned(min(left, pauses.next())):
                raise lost
            if self._signals.ending:
                return False
            try:
                self._stream = self._resumed(min(ATTEMPT_S, left))
            except (DeniedError, TrustError) as refusal:
                raise type(refusal)(
                    f"the connection was lost, and is not resumed: {refusal.message}", hint=refusal.hint
                ) from refusal
            except AccessError as failed:
                problem = failed
                if not told and time.monotonic() - began > QUIET_S:
                    self._say(f"the connection was lost; trying for a minute to resume it ({failed.message})")
                    told = True
                continue
            self._state.attach()
            if (took := time.monotonic() - began) > QUIET_S:
                self._say(f"the connection was lost, and is resumed after {took:.0f} seconds")
            return True
        raise UnavailableError(
            f"the connection was lost, and could not be resumed for a minute: {problem.message}",
            hint="start again; what runs on the server ends too",
        ) from problem

    def _is_abandoned(self, pause_s: float) -> bool:
        """Rest for a while; True when the program that uses us is gone."""
        until = time.monotonic() + pause_s
        poller = select.poll()
        poller.register(self._signals, select.POLLIN)
        poller.register(self._source, 0)
        while not self._signals.ending and (left := until - time.monotonic()) > 0:
            if any(fd == self._source for fd, _ in poller.poll(1000 * left)):
                return True
        return False

    def _resumed(self, deadline_s: float) -> TlsStream:
        stream = self._dial(self._host_id, deadline_s)
        try:
            stream.write(HELLO)
            if _first_words(stream) != OFFER:
                raise UnavailableError("the server takes up no connections at the moment")
            stream.write(ACCEPT + self._token)
            if stream.exactly(1) != KNOWN:
                raise DeniedError("the server does not let it go on", hint="start again")
        except BaseException:
            stream.close()
            raise
        stream.lose_after(SILENT_S)
        return stream
