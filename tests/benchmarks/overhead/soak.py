"""Memory over many requests: JSON, streams and callers who hang up, and whether what is resident keeps growing."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks.overhead.load import PATH, request_body
from tests.benchmarks.overhead.machine import BenchmarkError, alive, rss_mb, wait_quiet
from tests.benchmarks.overhead.measure import Running
from tests.benchmarks.overhead.report import Goal, Verdict, table

STEPS = 10
_CONNECTIONS = 32
_SSE_SHARE = 0.3
_HANG_UP_SHARE = 0.1
_MOST_GROWTH_MB = 5.0
_DRAIN_LIMIT_S = 20


@dataclass(frozen=True)
class Point:
    """Memory after so many requests."""

    requests: int
    rss_mb: float


@dataclass(frozen=True)
class Soak:
    """Points after each tenth of the requests; the first tenth is the warm-up. `faults` counts answers gone wrong."""

    points: tuple[Point, ...]
    hung_up: int
    faults: int
    first_fault: str

    @property
    def growth_mb(self) -> float:
        """From the end of the warm-up to the end."""
        return self.points[-1].rss_mb - self.points[0].rss_mb

    @property
    def slope_kb(self) -> float:
        """KB (10^3 bytes) per 1,000 requests, by least squares over the points."""
        return slope([(p.requests / 1000, p.rss_mb * 1000) for p in self.points])


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the least-squares line; 0 for fewer than two different x."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def soak(live: Running, total: int, seed: int, progress: Callable[[str], None]) -> Soak:
    """Sends `total` requests; raises `BenchmarkError` if the gateway ends meanwhile."""
    return asyncio.run(_soak(live, total, random.Random(seed), progress))


def goal(found: Soak) -> Goal:
    """Whether memory is flat; a soak with wrong answers shows nothing."""
    text = f"RSS grows at most {_MOST_GROWTH_MB:.0f} MB after the warm-up"
    if found.faults:
        return Goal("MISS", text, f"{found.faults} answers went wrong, the first: {found.first_fault}")
    verdict: Verdict = "PASS" if found.growth_mb <= _MOST_GROWTH_MB else "MISS"
    return Goal(verdict, text, f"{found.growth_mb:+.1f} MB, slope {found.slope_kb:+.2f} KB per 1,000 requests")


def show(found: Soak) -> str:
    """The points as a table."""
    return table(["requests", "RSS MB"], [[f"{p.requests:,}", f"{p.rss_mb:.1f}"] for p in found.points])


async def _soak(live: Running, total: int, rng: random.Random, progress: Callable[[str], None]) -> Soak:
    points = []
    clients = [_Client(live, random.Random(rng.random())) for _ in range(_CONNECTIONS)]
    sent = 0
    for step in range(1, STEPS + 1):
        began = time.monotonic()
        share = total * step // STEPS - sent
        sent += share
        counts = [share // _CONNECTIONS + (i < share % _CONNECTIONS) for i in range(_CONNECTIONS)]
        await asyncio.gather(*(client.send(count) for client, count in zip(clients, counts, strict=True)))
        rate = share / (time.monotonic() - began)
        if not alive(live.pid):
            raise BenchmarkError(f"ended within {sent} requests")
        await asyncio.to_thread(wait_quiet, live.pid, _DRAIN_LIMIT_S)
        points.append(Point(sent, rss_mb(live.pid)))
        progress(f"{live.gateway.name}: {sent:,} of {total:,} requests, {rate:.0f}/s, RSS {points[-1].rss_mb:.1f} MB")
    for client in clients:
        client.close()
    wrong = [fault for client in clients for fault in client.faults]
    return Soak(tuple(points), sum(c.hung_up for c in clients), len(wrong), wrong[0] if wrong else "")


class _Client:
    """One caller with one connection, opened again after it hung up."""

    def __init__(self, live: Running, rng: random.Random) -> None:
        self._port = live.gateway.port
        self._head = "".join(f"{name}: {value}\r\n" for name, value in live.gateway.headers.items())
        self._rng = rng
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.hung_up = 0
        self.faults: list[str] = []

    async def send(self, count: int) -> None:
        """One request after the other; what goes wrong is kept in `faults`."""
        for _ in range(count):
            try:
                await self._one()
            except (OSError, EOFError, ValueError) as exc:
                self.faults.append(repr(exc))
                self.close()

    def close(self) -> None:
        """Closes the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _one(self) -> None:
        draw = self._rng.random()
        streamed = draw < _SSE_SHARE + _HANG_UP_SHARE
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        body = request_body("sse" if streamed else "json", self._rng.getrandbits(40))
        head = f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{self._head}"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in answer.split(b"\r\n", 1)[0]:
            raise ValueError(answer.split(b"\r\n", 1)[0].decode(errors="replace"))
        if draw < _HANG_UP_SHARE:
            await reader.readuntil(b"token%d " % self._rng.randrange(1, 40))
            self.hung_up += 1
            self.close()
        else:
            await _read_body(reader, answer.lower())


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> None:
    """Reads a body to its end, by its length or in chunks; raises `ValueError` for one that has neither."""
    if b"transfer-encoding: chunked" in head:
        tail = await reader.readuntil(b"\r\n0\r\n\r\n")
        if b"[DONE]" not in tail:
            raise ValueError("a stream without [DONE]")
    elif b"content-length: " in head:
        length = int(head.split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        if length != len(await reader.readexactly(length)) or length < 400:
            raise ValueError(f"an answer of {length} bytes")
    else:
        raise ValueError("an answer without a length")
