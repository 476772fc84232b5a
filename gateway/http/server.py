"""The listener: uvicorn's httptools protocol, closed where it is open by default.

A request's head must arrive within a deadline and a size; what is not HTTP is answered in OpenAI's error shape;
and a lost connection cancels the request that it carried at once, with no watching task per request.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.core.errors import error_body

HEAD_DEADLINE_S = 10.0
MAX_HEAD_BYTES = 64 << 10


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a head deadline, a head cap, JSON refusals and a disconnect callback.

    The application finds it as `scope["farthing.connection"]` and sets `on_lost` while a request runs.
    """

    on_lost: Callable[[], object] | None = None
    _head_since: float | None = None
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the one timer of the connection; it re-arms itself while heads are pending."""
        super().connection_made(transport)
        self._head_since = self.loop.time()
        self._head_timer = self.loop.call_later(HEAD_DEADLINE_S, self._check_head)

    def _check_head(self) -> None:
        since = self._head_since
        now = self.loop.time()
        if since is not None and now - since >= HEAD_DEADLINE_S:
            self._refuse(408, "The request's headers did not arrive in time.", "request_timeout")
            return
        self._head_timer = self.loop.call_at((since or now) + HEAD_DEADLINE_S, self._check_head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancels the request that runs on the connection."""
        super().connection_lost(exc)
        if self._head_timer is not None:
            self._head_timer.cancel()
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Counts the bytes of a head until it is complete."""
        if self._head_since is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_since is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, "The request's headers are too large.", "headers_too_large")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        if self._head_since is None:
            self._head_since = self.loop.time()
        scope: Any = self.scope
        scope["farthing.connection"] = self

    def on_headers_complete(self) -> None:
        """The head is here."""
        self._head_since = None
        self._head_bytes = 0
        super().on_headers_complete()

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
