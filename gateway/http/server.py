"""The listener: uvicorn's httptools protocol, closed where it is open by default.

A request's head must arrive within a deadline and a size; what is not HTTP is answered in OpenAI's error shape;
and a lost connection cancels the request that it carried at once, with no watching task per request. Answers of
the hot path are written in one piece: ASGI's two messages are two system calls and a check of every header, a
sixth of a request's CPU (docs/decisions/001-server.md).
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.core.errors import error_body

HEAD_DEADLINE_S = 10.0
KEEP_ALIVE_S = 75.0
MAX_HEAD_BYTES = 64 << 10


Headers = list[tuple[bytes, bytes]]


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a head deadline, a head cap, JSON refusals and a disconnect callback.

    The application finds a `Writer` as `scope["farthing.writer"]` and sets `on_lost` while a request runs.
    """

    on_lost: Callable[[], object] | None = None
    _head_since: float | None = None
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _idle_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the one timer of the connection; it re-arms itself while heads are pending."""
        super().connection_made(transport)
        self._head_since = self.loop.time()
        self._head_timer = self.loop.call_later(HEAD_DEADLINE_S / 2, self._check_head)

    def _check_head(self) -> None:
        now = self.loop.time()
        if self._idle_since is not None:
            if now - self._idle_since >= KEEP_ALIVE_S:
                self.transport.close()
                return
        elif self._head_since is not None and now - self._head_since >= HEAD_DEADLINE_S:
            self._refuse(408, "The request's headers did not arrive in time.", "request_timeout")
            return
        self._head_timer = self.loop.call_later(HEAD_DEADLINE_S / 2, self._check_head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancels the request that runs on the connection."""
        super().connection_lost(exc)
        if self._head_timer is not None:
            self._head_timer.cancel()
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Counts the bytes of a head until it is complete."""
        self._idle_since = None
        if self._head_since is not None:
            room = MAX_HEAD_BYTES - self._head_bytes
            self._head_bytes += len(data)
            if len(data) > room and data.find(b"\r\n\r\n", 0, room) < 0:
                self._refuse(431, "The request's headers are too large.", "headers_too_large")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        if self._head_since is None:
            self._head_since = self.loop.time()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        scope: Any = cycle.scope
        scope["farthing.writer"] = Writer(self, cycle)
        super()._start_asgi_task(cycle, app)

    def on_headers_complete(self) -> None:
        """The head is here."""
        self._head_since = None
        self._head_bytes = 0
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """The next request may come; uvicorn's timer per request is replaced by the connection's one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self._idle_since = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for bytes that are not HTTP."""
        self._refuse(400, msg, "invalid_http")

    def _refuse(self, status: int, message: str, code: str) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()  # an answer is half sent: nothing may be written into it
            return
        body = error_body(message, "invalid_request_error", None, code)
        phrase = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}[status]
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\n" % (status, phrase)
            + b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()


class Writer:
    """The answer to one request, written to its connection without the detour of ASGI messages.

    Header names and values must hold no control characters: they are the gateway's own or came through a parser.
    """

    __slots__ = ("_chunked", "_cycle", "connection")

    def __init__(self, connection: GuardedProtocol, cycle: RequestResponseCycle) -> None:
        self.connection = connection
        self._cycle = cycle
        self._chunked = False

    @property
    def body_arrived(self) -> bool:
        """The whole request body is in memory."""
        return not self._cycle.more_body

    def _head(self, status: int, headers: Headers, ours: bytes, framing: bytes) -> list[bytes]:
        parts = [STATUS_LINE[status], ours]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(framing if self._cycle.keep_alive else framing + b"connection: close\r\n")
        parts.append(b"\r\n")
        return parts

    def respond(self, status: int, headers: Headers, ours: bytes, body: bytes, *, head_only: bool) -> None:
        """A whole answer. `ours` holds ready header lines; `head_only` leaves the body out and tells its length."""
        if self._cycle.disconnected:
            return
        parts = self._head(status, headers, ours, b"content-length: %d\r\n" % len(body))
        if not head_only:
            parts.append(body)
        self.connection.transport.write(b"".join(parts))
        self._complete()

    def begin(self, status: int, headers: Headers, ours: bytes, first: bytes) -> None:
        """The head of a streamed answer and its first bytes."""
        if self._cycle.disconnected:
            return
        self._cycle.response_started = True
        self._chunked = self._cycle.scope["http_version"] != "1.0"
        parts = self._head(status, headers, ours, b"transfer-encoding: chunked\r\n" if self._chunked else b"")
        parts.append(self._frame(first))
        self.connection.transport.write(b"".join(parts))

    async def write(self, data: bytes) -> None:
        """More bytes; waits while the caller reads too slowly."""
        if not self._cycle.disconnected:
            self.connection.transport.write(self._frame(data))
            if self.connection.flow.write_paused:
                await self.connection.flow.drain()

    def end(self) -> None:
        """The end of a streamed answer."""
        if self._cycle.disconnected:
            return
        if self._chunked:
            self.connection.transport.write(b"0\r\n\r\n")
        self._complete()

    def abort(self) -> None:
        """Ends the connection without an end of the answer: what was sent must not look complete."""
        self.connection.transport.abort()

    def _frame(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked and data else data

    def _complete(self) -> None:
        cycle = self._cycle
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.connection.transport.close()
        cycle.on_response()
