"""The hot path's HTTP/1.1 client: one request on one pooled connection, with a deadline for every wait.

Written here, on asyncio and httptools, because it was measured: a relay on it costs about half the CPU of one on
the fastest client library (docs/decisions/002-upstream-client.md). It does what a gateway to known upstreams
needs and no more: no redirects, no cookies, no proxies, no HTTP/2. Everything else in the project uses httpx.

Each wait is bounded: connect, head (the first byte of an answer), idle (between two reads of a body), total.
A slow reader stops the reading from the upstream at 256 KiB per stream. Closing an unfinished response aborts
its connection, which is how an upstream learns that nobody listens any more. All failures are `UpstreamError`s.
"""

import asyncio
import contextlib
import ssl
import zlib
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

from gateway.core.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable

HIGH_WATER: Final = 256 << 10
IDLE_KEEP_S: Final = 60.0
MAX_HEADER_BYTES: Final = 64 << 10
Headers = list[tuple[bytes, bytes]]


class Origin:
    """One upstream host: where to connect and the connections that wait for a next request."""

    __slots__ = ("authority", "host", "idle", "path", "port", "ssl", "url")

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http(s) URL: {url!r}")
        self.url = url
        self.host = parts.hostname
        self.ssl = parts.scheme == "https"
        self.port = parts.port or (443 if self.ssl else 80)
        self.authority = parts.netloc.rpartition("@")[2].encode("idna" if not parts.netloc.isascii() else "ascii")
        self.path = parts.path.rstrip("/").encode("ascii")
        self.idle: list[_Connection] = []


class _Connection(asyncio.Protocol):
    """A connection and the response that is being read from it; one at a time."""

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self.parser: httptools.HttpResponseParser | None = None
        self.reused = False
        self.closed = False
        self.idle_since = 0.0
        self.busy = False

    # -- one exchange ---------------------------------------------------------------------------------------

    def start(self, data: bytes, *, no_body: bool, total_at: float, head_at: float) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: Headers = []
        self.header_bytes = 0
        self.no_body = no_body
        self.framed = False
        self.chunks: list[bytes] = []
        self.buffered = 0
        self.paused = False
        self.head_done = self.complete = self.touched = self.keep_alive = False
        self.error: UpstreamError | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.busy = True
        self.total_at = total_at
        self.wait_until = head_at
        self.idle_s = 0.0
        self.phase = "first_token"
        self.timer = self.loop.call_at(min(head_at, total_at), self._expire)
        assert self.transport is not None
        self.transport.write(data)

    def _expire(self) -> None:
        """The one timer of an exchange: it fires at the earliest deadline and re-arms itself if that has moved."""
        now = self.loop.time()
        if now >= self.total_at:
            self.phase = "total"
        elif self.waiter is None or now < self.wait_until:
            # Nobody waits (a slow caller is not the upstream's silence), or the deadline moved on.
            at = self.wait_until if self.waiter is not None else now + max(self.idle_s, 0.05)
            self.timer = self.loop.call_at(min(at, self.total_at), self._expire)
            return
        self.fail(UpstreamTimeout(f"The upstream did not answer in time ({self.phase} deadline).", phase=self.phase))
        self.abort()

    def fail(self, error: UpstreamError) -> None:
        if self.error is None and not self.complete:
            self.error = error
        self.wake()

    def wake(self) -> None:
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Until something arrives or goes wrong; what arrived before a failure is still read first."""
        if self.error is None:
            self.waiter = self.loop.create_future()
            try:
                await self.waiter
            finally:
                self.waiter = None
        error: UpstreamError | None = self.error
        if error is not None and not self.chunks:
            raise error

    def abort(self) -> None:
        self.closed = True
        if self.busy:
            self.busy = False
            self.timer.cancel()
        if self.transport is not None:
            self.transport.abort()

    def release(self) -> None:
        """Back to the pool if the exchange ended as it should, else closed."""
        if not self.busy:
            return
        self.timer.cancel()
        if self.complete and not self.closed and not self.no_body and self.keep_alive:
            self.busy = False
            self.reused = True
            self.idle_since = self.loop.time()
            if self.paused and self.transport is not None:
                self.transport.resume_reading()
            self.origin.idle.append(self)
        else:
            self.abort()

    # -- asyncio.Protocol -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases

    def data_received(self, data: bytes) -> None:
        if not self.busy:  # bytes that nobody asked for: the connection cannot be trusted
            self.abort()
            self._leave_pool()
            return
        self.touched = True
        self.wait_until = self.loop.time() + self.idle_s if self.idle_s else self.wait_until
        assert self.parser is not None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self.fail(UpstreamBroken(f"The upstream's answer is not valid HTTP: {exc}."))
            self.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.busy:
            self._cut(exc)
        else:
            self._leave_pool()
        self.transport = self.parser = None  # both refer back here: only the collector could free the three

    def _cut(self, exc: Exception | None) -> None:
        if self.head_done and not self.complete and not self.framed and exc is None:
            self.on_message_complete()  # a body that ends where the connection ends
            return
        if not self.complete:
            if self.head_done:
                self.fail(UpstreamBroken("The upstream closed the connection in the middle of its answer."))
            else:
                self.fail(UpstreamUnreachable("The upstream closed the connection before it answered."))

    def _leave_pool(self) -> None:
        with contextlib.suppress(ValueError):
            self.origin.idle.remove(self)

    # -- httptools callbacks ----------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.header_bytes += len(name) + len(value)
        if self.header_bytes > MAX_HEADER_BYTES:
            self.fail(UpstreamBroken("The upstream's headers are too large."))
            self.abort()
        if name in (b"content-length", b"transfer-encoding"):
            self.framed = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self.parser is not None
        self.status = self.parser.get_status_code()
        if self.status < 200 and self.status != 101:
            return  # 100 Continue, 103 Early Hints: the answer is still to come
        self.head_done = True
        self.wake()

    def on_body(self, body: bytes) -> None:
        self.chunks.append(body)
        self.buffered += len(body)
        if self.buffered > HIGH_WATER and not self.paused and self.transport is not None:
            self.paused = True
            self.transport.pause_reading()
        if self.waiter is not None:
            self.wake()

    def on_message_complete(self) -> None:
        if not self.head_done:  # an interim response is complete, ours is not
            self.headers = []
            self.framed = False
            return
        assert self.parser is not None
        self.keep_alive = self.parser.should_keep_alive()  # true only while the message ends
        self.complete = True
        self.wake()


class Response:
    """A response whose head has arrived. Read it to its end or `close()` it: both in a `finally`."""

    __slots__ = ("_conn", "_open", "_unzip", "headers", "status")

    def __init__(self, conn: _Connection) -> None:
        self._conn = conn
        self._open = True
        self.status = conn.status
        self.headers = conn.headers
        self._unzip = _decoder(conn.headers)

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header by its lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def chunk(self, idle_s: float) -> bytes:
        """The next bytes of the body as they arrive; `b""` at its end.

        Raises `UpstreamTimeout` after `idle_s` of silence or at the total deadline, `UpstreamBroken` on a cut.
        """
        conn = self._conn
        while self._open:
            if conn.chunks:
                data = conn.chunks[0] if len(conn.chunks) == 1 else b"".join(conn.chunks)
                conn.chunks.clear()
                conn.buffered = 0
                if conn.paused and conn.transport is not None and not conn.closed:
                    conn.paused = False
                    conn.transport.resume_reading()
                if self._unzip is not None:
                    data = self._unzip.feed(data)
                    if not data:
                        continue
                return data
            if conn.complete:
                self.close()
                break
            self._arm(idle_s)
            await conn.wait()
        return b""

    def _arm(self, idle_s: float) -> None:
        conn = self._conn
        at = conn.loop.time() + idle_s
        earlier = at < conn.wait_until or conn.phase != "idle"
        conn.phase, conn.idle_s, conn.wait_until = "idle", idle_s, at
        if earlier and not conn.closed:
            conn.timer.cancel()
            conn.timer = conn.loop.call_at(min(at, conn.total_at), conn._expire)  # noqa: SLF001 - same module

    async def read(self, limit: int) -> bytes:
        """The whole body; raises `UpstreamBroken` over `limit` bytes. Only the total deadline applies."""
        conn = self._conn
        parts: list[bytes] = []
        size = 0
        conn.wait_until, conn.idle_s, conn.phase = conn.total_at, 0.0, "total"
        while True:
            if conn.chunks:
                parts += conn.chunks
                size += conn.buffered
                conn.chunks.clear()
                conn.buffered = 0
                if size > limit:
                    raise UpstreamBroken(f"The upstream's answer is over {limit >> 20} MiB.")
                if conn.paused and conn.transport is not None:
                    conn.paused = False
                    conn.transport.resume_reading()
            if conn.complete:
                break
            await conn.wait()
        self.close()
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return body if self._unzip is None else self._unzip.feed(body, limit)

    def unread(self) -> bytes:
        """What of the body has arrived and was not read; it can be read once. Raises `UpstreamBroken`."""
        if not self._open:
            return b""
        data = b"".join(self._conn.chunks)
        self._conn.chunks.clear()
        return data if self._unzip is None else self._unzip.feed(data)

    def close(self) -> None:
        """Ends the exchange: an unfinished one is aborted, so that the upstream stops working on it."""
        if self._open:
            self._open = False  # from here on the connection may be another exchange's
            self._conn.release()


class _Unzip:
    """Undoes a content coding that was not asked for, with a bound against bombs."""

    def __init__(self, wbits: int) -> None:
        self._z = zlib.decompressobj(wbits)

    def feed(self, data: bytes, limit: int = 64 << 20) -> bytes:
        try:
            out = self._z.decompress(data, limit)
        except zlib.error as exc:
            raise UpstreamBroken("The upstream's compressed answer is damaged.") from exc
        if self._z.unconsumed_tail:
            raise UpstreamBroken(f"The upstream's answer is over {limit >> 20} MiB uncompressed.")
        return out


def _decoder(headers: Headers) -> _Unzip | None:
    coding = b""
    for name, value in headers:
        if name == b"content-encoding":
            coding = value.strip().lower()
    if coding in (b"", b"identity"):
        return None
    if coding in (b"gzip", b"x-gzip"):
        return _Unzip(31)
    if coding == b"deflate":
        return _Unzip(15)
    raise UpstreamBroken(f"The upstream used the content coding {coding[:32]!r}, which was not asked for.")


class HttpClient:
    """Connections to all upstreams. One per event loop; `close()` at the end."""

    def __init__(self, ssl_context: ssl.SSLContext | None = None) -> None:
        self._ssl = ssl_context
        self._origins: dict[str, Origin] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def origin(self, url: str) -> Origin:
        """The `Origin` of a base URL, shared by all who use the same one."""
        found = self._origins.get(url)
        if found is None:
            found = self._origins[url] = Origin(url)
        return found

    async def send(
        self,
        origin: Origin,
        data: bytes,
        *,
        connect_s: float,
        head_s: float,
        total_s: float,
        no_body: bool = False,
    ) -> Response:
        """Sends one request (its exact bytes) and returns when the head of the answer is here.

        A pooled connection that the upstream closed before it sent a byte is the keep-alive race (RFC 9112,
        section 9.3.1): the request is sent once more, on a new connection. Raises `UpstreamUnreachable`,
        `UpstreamTimeout` (phase `connect`, `first_token` or `total`) or `UpstreamBroken`.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        total_at = loop.time() + total_s
        conn = self._pooled(origin, loop)
        while True:
            if conn is None:
                conn = await self._connect(origin, loop, min(connect_s, total_s))
            conn.start(data, no_body=no_body, total_at=total_at, head_at=loop.time() + head_s)
            try:
                while not conn.head_done:
                    await conn.wait()
                if no_body:
                    conn.complete = True
                return Response(conn)
            except UpstreamUnreachable:
                conn.abort()
                if not conn.reused or conn.touched:
                    raise
                conn = None
            except BaseException:
                conn.abort()
                raise

    def _pooled(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> _Connection | None:
        idle = origin.idle
        while idle:
            conn = idle.pop()
            if not conn.closed and loop.time() - conn.idle_since < IDLE_KEEP_S:
                return conn
            conn.abort()
        return None

    async def _connect(self, origin: Origin, loop: asyncio.AbstractEventLoop, connect_s: float) -> _Connection:
        context = self._tls() if origin.ssl else None
        try:
            async with asyncio.timeout(connect_s):
                _, conn = await loop.create_connection(
                    lambda: _Connection(origin, loop), origin.host, origin.port, ssl=context
                )
        except TimeoutError as exc:
            raise UpstreamTimeout("No connection to the upstream in time (connect deadline).", phase="connect") from exc
        except ssl.SSLError as exc:
            raise UpstreamUnreachable(f"TLS to the upstream failed: {exc.reason or exc}.") from exc
        except OSError as exc:
            raise UpstreamUnreachable(f"No connection to the upstream: {exc.strerror or exc}.") from exc
        return conn

    def _tls(self) -> ssl.SSLContext:
        if self._ssl is None:
            context = ssl.create_default_context()
            if not context.cert_store_stats()["x509_ca"]:  # a slim container without the system's store
                import certifi  # noqa: PLC0415 - only where it is needed

                context.load_verify_locations(certifi.where())
            self._ssl = context
        return self._ssl

    def close(self) -> None:
        """Closes the idle connections; busy ones end with their exchange."""
        for origin in self._origins.values():
            while origin.idle:
                origin.idle.pop().abort()
