"""A fake upstream on a real socket: HTTP/1.1 written by hand, so that it can misbehave in every way a real one does.

    async with Upstream() as up:
        up.script("/v1/chat/completions", [status(503), ok()])
        ... call up.url ...
        assert [request.path for request in up.requests] == [...]

Which behaviour answers a request: the next one of a script for its path, else of a script for `*`, else the fault
that its model's name asks for (`fault:reset:2`), else `up.default`. The behaviours are in `tests.support.faults`.
"""

import asyncio
import collections
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Self

from tests.support.faults import (
    Behaviour,
    Close,
    CloseOnReuse,
    Pause,
    Request,
    Reset,
    Stall,
    Step,
    Wait,
    by_model,
    ok,
    status,
)

_LINGER_RST = struct.pack("ii", 1, 0)


class Upstream:
    """The server. Everything it saw is in `requests`, in the order of arrival; `stop()` ends all of it at once."""

    def __init__(self, default: Behaviour | None = None) -> None:
        self.default: Behaviour = default or ok()
        self.requests: list[Request] = []
        self.connections = 0
        """How many were ever accepted."""
        self.reused_stale = 0
        """How many requests hit a connection that was closed at its reuse; they are not in `requests`."""
        self.in_flight = 0
        self.peak = 0
        """The most answers that were under way at the same time."""
        self._scripts: dict[str, collections.deque[Behaviour]] = {}
        self._live: set[_Connection] = set()
        self._arrived = asyncio.Event()
        self._seen: collections.Counter[tuple[str, str]] = collections.Counter()
        self._server: asyncio.Server | None = None
        self._failures: list[Exception] = []
        self._port = 0

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, without a slash; the same after `stop()` and `start()`."""
        return f"http://127.0.0.1:{self._port}"

    def script(self, path: str, behaviours: Iterable[Behaviour]) -> None:
        """The next requests to `path` (`*`: to any) get these behaviours, one each; then the default again."""
        self._scripts.setdefault(path, collections.deque()).extend(behaviours)

    def count(self, path: str | None = None) -> int:
        """Requests so far, to `path` or to any."""
        return sum(path in (None, request.path) for request in self.requests)

    async def received(self, number: int = 1, timeout_s: float = 5.0) -> Request:
        """The request of that number, from 1, as soon as it has arrived; raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while len(self.requests) < number:
                self._arrived.clear()
                await self._arrived.wait()
        return self.requests[number - 1]

    async def start(self) -> None:
        """Listens; on the port it had before, if it had one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self._port, backlog=1024)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stops listening and resets every connection, as a killed process does; raises a behaviour's own error."""
        if self._server is None:
            return
        self._server.close()
        live = list(self._live)
        for connection in live:
            connection.reset()
        for connection in live:
            await connection.ended.wait()
            await connection.task
        await self._server.wait_closed()
        self._server = None
        if self._failures:
            raise self._failures[0]

    async def drop_idle(self) -> None:
        """Closes the connections on which no answer is under way, as a server's keep-alive limit does."""
        idle = [connection for connection in self._live if not connection.answering]
        for connection in idle:
            connection.close()
        for connection in idle:
            await connection.ended.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def _behaviour(self, request: Request) -> Behaviour:
        for path in (request.path, "*"):
            if self._scripts.get(path):
                return self._scripts[path].popleft()
        try:
            return by_model(request.model) or self.default
        except (KeyError, TypeError, ValueError):
            return status(400, body=b'{"error":{"message":"unknown fault","type":null,"param":"model","code":null}}')

    def _record(self, request: Request) -> None:
        self.requests.append(request)
        self._arrived.set()
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)


class _Gone(Exception):
    """The connection ended under a waiting read or write."""


class _Connection(asyncio.Protocol):
    """One accepted connection: reads requests one after another and plays a behaviour for each."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._buffer = bytearray()
        self._changed = asyncio.Event()  # bytes came, the peer left, or writing may go on
        self._writable = True
        self._gone = False
        self._doomed = False
        self.answering = False
        self.ended = asyncio.Event()

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._number = self._upstream.connections
        self._upstream.connections += 1
        self._upstream._live.add(self)
        self.task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        if self._doomed:
            self._upstream.reused_stale += 1
            self.reset()
            return
        self._buffer += data
        self._changed.set()

    def eof_received(self) -> bool:
        self._leave()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._upstream._live.discard(self)
        self.ended.set()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._changed.set()

    def _leave(self) -> None:
        self._gone = True
        self._changed.set()

    def reset(self) -> None:
        """Ends the connection with RST."""
        with contextlib.suppress(OSError):
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RST)
        self._transport.abort()
        self._leave()

    def close(self) -> None:
        """Ends the connection with FIN, after what was written."""
        self._transport.close()

    # -- requests -------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        try:
            while True:
                request = await self._read()
                self._upstream._record(request)
                self.answering = True
                try:
                    await self._play(request, self._upstream._behaviour(request)(request))
                finally:
                    self.answering = False
                    self._upstream.in_flight -= 1
                    request.over.set()
                if (request.header("connection") or "").lower() == "close":
                    break
        except _Gone:
            pass
        except ValueError:  # not a request that this server understands
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        except Exception as exc:  # a behaviour with a mistake: `stop()` raises it
            self._upstream._failures.append(exc)
            self.reset()
        self.close()

    async def _until(self, ready: Callable[[], bool], timeout_s: float | None = None) -> None:
        """Waits for `ready`; raises `_Gone` when the connection ends, `TimeoutError` after `timeout_s`."""
        async with asyncio.timeout(timeout_s):
            while not ready():
                if self._gone:
                    raise _Gone
                self._changed.clear()
                await self._changed.wait()

    async def _awaited(self, event: asyncio.Event) -> None:
        """Waits for `event`; raises `_Gone` when the connection ends before it."""
        waiting = asyncio.ensure_future(event.wait())
        waiting.add_done_callback(lambda _: self._changed.set())
        try:
            await self._until(waiting.done)
        finally:
            waiting.cancel()

    async def _take_line_block(self, mark: bytes) -> bytes:
        await self._until(lambda: mark in self._buffer)
        end = self._buffer.index(mark) + len(mark)
        block = bytes(self._buffer[:end])
        del self._buffer[:end]
        return block

    async def _take(self, size: int) -> bytes:
        await self._until(lambda: len(self._buffer) >= size)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _read(self) -> Request:
        lines = (await self._take_line_block(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        pairs = [line.partition(":") for line in lines[1:] if line]
        headers = [(name, value.strip()) for name, _, value in pairs]
        lowered = {name.lower(): value for name, value in headers}
        if lowered.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if lowered.get("transfer-encoding", "").lower() == "chunked":
            body = await self._read_chunked()
        else:
            body = await self._take(int(lowered.get("content-length", "0")))
        path, _, query = target.partition("?")
        request = Request(method, path, query, headers, body, time.monotonic(), self._number, 0)
        key = (path, request.model)
        request.nth = self._upstream._seen[key]
        self._upstream._seen[key] += 1
        return request

    async def _read_chunked(self) -> bytes:
        body = b""
        while True:
            size = int((await self._take_line_block(b"\r\n")).split(b";")[0], 16)
            if not size:
                while await self._take_line_block(b"\r\n") != b"\r\n":
                    pass  # trailers
                return body
            body += await self._take(size)
            await self._take(2)

    # -- answers --------------------------------------------------------------------------------------------------

    async def _play(self, request: Request, steps: Iterable[Step]) -> None:
        """Plays the steps; raises `_Gone` when the connection is over, whoever ended it."""
        for step in steps:
            if isinstance(step, Close | Reset):
                request.completed = True
                self.close() if isinstance(step, Close) else self.reset()
                raise _Gone
            if isinstance(step, CloseOnReuse):
                self._doomed = True
                continue
            try:
                await self._step(step)
            except _Gone:
                request.aborted_at = time.monotonic()
                request.aborted.set()
                raise
            request.sent += isinstance(step, bytes)
        request.completed = True

    async def _step(self, step: bytes | Pause | Wait | Stall) -> None:
        if isinstance(step, bytes):
            if self._gone:
                raise _Gone
            self._transport.write(step)
            # Each step is its own segment, and the client gets its turn between two of them.
            await asyncio.sleep(0)
            await self._until(lambda: self._writable)
        elif isinstance(step, Pause):
            with contextlib.suppress(TimeoutError):
                await self._until(lambda: False, step.seconds)
        elif isinstance(step, Wait):
            await self._awaited(step.event)
        else:
            await self._until(lambda: False)


@contextlib.contextmanager
def refused_url() -> Iterator[str]:
    """A URL at which connections are refused; its port is held, so that nobody else can listen there."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@contextlib.contextmanager
def silent_url() -> Iterator[str]:
    """A URL at which connections are made but never accepted nor answered: a frozen process."""
    with socket.socket() as frozen:
        frozen.bind(("127.0.0.1", 0))
        frozen.listen(16)
        yield f"http://127.0.0.1:{frozen.getsockname()[1]}"


@contextlib.contextmanager
def unreachable_url() -> Iterator[str]:
    """A URL at which connecting never ends: the listener's queue is full, so the kernel drops each SYN."""
    with socket.socket() as full, contextlib.ExitStack() as fillers:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}"
