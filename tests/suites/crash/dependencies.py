"""What happens to Redis, PostgreSQL and the disk under load. Each scenario drives a `World` and returns its line."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import redis

from tests.suites.crash.books import read_ledger
from tests.suites.crash.load import Answer, Caller, Wish
from tests.suites.crash.processes import poll
from tests.suites.crash.signing import Ask
from tests.suites.crash.world import World, brief
from tests.support.postgres_server import PostgresServer
from tests.support.redis_server import RedisServer

CALLERS = 10
REFUSED_WITHIN_S = 1.0
"""A dependency that does not answer costs a caller at most this."""
BACK_WITHIN_S = 15.0
TMPFS_BYTES = 4 << 20
LEASE_MARGIN_S = 60.0
"""`gateway.access.stage.LEASE_MARGIN_S`: a lease is over so long after the last deadline of its request."""


@asynccontextmanager
async def under_load(world: World) -> AsyncIterator[None]:
    """Callers and a watch over the budgets, until the end of the block."""
    load = world.load()
    with world.watched():
        load.start(CALLERS)
        try:
            yield
        finally:
            await load.stop()


def since(world: World, mark: int) -> list[Answer]:
    return world.answers[mark:]


async def served(world: World, mark: int, what: str, number: int = 20) -> None:
    """Returns once so many answers since `mark` are good ones."""
    await asyncio.to_thread(
        poll, lambda: sum(answer.status == 200 for answer in since(world, mark)) >= number, what, BACK_WITHIN_S
    )


async def refused(world: World, mark: int, code: str, number: int = 20) -> None:
    """Returns once so many answers since `mark` are 503 with this code."""
    await asyncio.to_thread(
        poll,
        lambda: sum((answer.status, answer.error) == (503, code) for answer in since(world, mark)) >= number,
        f"503 {code}",
        BACK_WITHIN_S,
    )


def quickly_refused(world: World) -> None:
    slow = [answer for answer in world.answers if answer.status == 503 and answer.took_s > REFUSED_WITHIN_S]
    assert not slow, (
        f"{len(slow)} refusals took longer than {REFUSED_WITHIN_S:g} s, the slowest {max(a.took_s for a in slow):.2f} s"
    )


# Redis


async def redis_outages(world: World, server: RedisServer) -> str:
    """Frozen, back, killed, back empty, flushed: refused at once while it is away, the truth from the ledger after it."""
    await asyncio.to_thread(world.gateway.start)
    async with under_load(world):
        await served(world, 0, "a healthy start")
        for name, away, back in (("frozen", server.freeze, server.thaw), ("killed", server.stop, server.start)):
            mark = len(world.answers)
            await asyncio.to_thread(away)
            await refused(world, mark, "budgets_unavailable")
            await asyncio.to_thread(back)
            await served(world, len(world.answers), f"served after Redis was {name}")
        for _ in range(2):
            await asyncio.to_thread(_flush, server)
            await served(world, len(world.answers), "served after a flush", 60)
    quickly_refused(world)
    found = await world.closing()
    agrees_with_redis(world, server)
    return brief(world, "redis frozen, killed, flushed", found)


async def redis_and_sigkill(world: World, server: RedisServer, points: int, total_s: int) -> str:
    """A killed gateway leaves leases in Redis: they are over in time, committed as the ledger has charged them."""
    await asyncio.to_thread(world.gateway.start)
    load = world.load()
    with world.watched():
        load.start(CALLERS)
        for _ in range(points):
            await served(world, len(world.answers), "served after a restart")
            await asyncio.sleep(world.rng.uniform(0.0, 0.3))
            await asyncio.to_thread(world.gateway.kill)
            await asyncio.to_thread(world.gateway.start)
        await load.stop()
    await asyncio.to_thread(world.settled)
    lease_s = total_s + LEASE_MARGIN_S + 10
    await asyncio.to_thread(poll, lambda: not any(reserved_in(server).values()), "leases are over", lease_s)
    found = await world.closing()
    assert found.outcomes["crashed"] > 0
    agrees_with_redis(world, server)
    return brief(world, f"sigkill x{points} on redis", found, f"crashed {found.outcomes['crashed']}")


def _flush(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url, socket_timeout=5) as connection:
        connection.flushall()


def agrees_with_redis(world: World, server: RedisServer) -> None:
    """Every window in Redis holds what the rows say, and no reservation."""
    committed = read_ledger(world.gateway.database_url).committed()
    assert not any(reserved_in(server).values()), f"reserved for ever: {reserved_in(server)}"
    states = _windows(server, "c")
    assert states
    for window, spent in states.items():
        assert spent == committed.get(window, 0), f"{window}: Redis says {spent}, the rows {committed.get(window)}"


def reserved_in(server: RedisServer) -> dict[str, int]:
    """Micro-USD by window."""
    return _windows(server, "o")


def _windows(server: RedisServer, field: str) -> dict[str, int]:
    with redis.Redis.from_url(server.url, socket_timeout=5, decode_responses=True) as connection:
        found = {key.partition("window:")[2]: connection.hget(key, field) for key in connection.scan_iter("*window:*")}
    return {window: int(value) for window, value in found.items() if value is not None}


# PostgreSQL


async def postgres_outages(world: World, server: PostgresServer) -> str:
    """Frozen and killed: requests go on, their rows wait in the journal and are stored once it is back."""
    await asyncio.to_thread(world.gateway.start)
    async with under_load(world):
        await served(world, 0, "a healthy start")
        for name, away, back in (("frozen", server.freeze, server.thaw), ("killed", server.stop, server.start)):
            await asyncio.to_thread(away)
            mark = len(world.answers)
            await served(world, mark, f"served while PostgreSQL is {name}", 100)
            await asyncio.to_thread(back)
            await served(world, len(world.answers), "served with PostgreSQL back")
    assert not [answer for answer in world.answers if answer.status in (500, 503)]
    found = await world.closing()
    return brief(world, "postgres frozen, killed", found)


async def postgres_and_sigkill(world: World, server: PostgresServer) -> str:
    """Killed while PostgreSQL is away: the journal alone knows, and tells once both are back."""
    await asyncio.to_thread(world.gateway.start)
    load = world.load()
    load.start(CALLERS)
    await served(world, 0, "a healthy start")
    await asyncio.to_thread(server.stop)
    await served(world, len(world.answers), "served without PostgreSQL", 60)
    await asyncio.to_thread(world.gateway.kill)
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(world.gateway.start)
    await served(world, len(world.answers), "served again")
    await load.stop()
    found = await world.closing()
    return brief(world, "postgres killed, then sigkill", found)


# The disk


@contextmanager
def small_disk(folder: Path) -> Iterator["Ballast"]:
    """A tmpfs of a few megabytes at `folder`; skips where it cannot be mounted."""
    if os.getuid() != 0:
        pytest.skip("a small disk is a tmpfs, and only root can mount one")
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "none", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield Ballast(folder / "ballast")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Ballast:
    """Takes the room of a disk, and gives it back."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fill(self, leave_bytes: int) -> None:
        """Leaves so much room, to a page."""
        with self._path.open("wb", buffering=0) as file:
            free = os.statvfs(self._path).f_bavail * os.statvfs(self._path).f_frsize - leave_bytes
            with contextlib.suppress(OSError):
                file.write(bytes(max(0, free)))

    def remove(self) -> None:
        self._path.unlink()


async def journal_disk_full(world: World, ballast: Ballast) -> str:
    """New requests are refused, those under way end whole and keep their rows, and all goes on once there is room."""
    await asyncio.to_thread(world.gateway.start)
    open_streams: list[asyncio.Task[Answer]] = []
    async with under_load(world):
        await served(world, 0, "a healthy start")
        open_streams = [asyncio.create_task(_long_stream(world)) for _ in range(10)]
        await asyncio.sleep(0.5)
        mark = len(world.answers)
        await asyncio.to_thread(ballast.fill, 16 << 10)
        await refused(world, mark, "ledger_unavailable")
        before = len(world.answers)
        answers = await asyncio.gather(*open_streams)
        world.answers += answers
        await refused(world, before, "ledger_unavailable")
        await asyncio.to_thread(ballast.remove)
        await served(world, len(world.answers), "served once there is room")
    assert [answer.end for answer in answers] == ["whole"] * len(answers)
    found = await world.closing()
    await asyncio.to_thread(world.gateway.kill)  # nothing is owed to the disk
    await asyncio.to_thread(world.gateway.start)
    await asyncio.to_thread(world.audited)
    return brief(world, "journal's disk full", found)


async def database_disk_full(world: World, ballast: Ballast) -> str:
    """Rows wait in the journal until the database has room."""
    await asyncio.to_thread(world.gateway.start)
    async with under_load(world):
        await served(world, 0, "a healthy start")
        await asyncio.to_thread(ballast.fill, 0)
        await asyncio.to_thread(
            poll,
            lambda: world.gateway.metrics("farthing_ledger_up") == {"": 0.0},
            "the database is full",
            BACK_WITHIN_S,
        )
        await served(world, len(world.answers), "served while the database is full", 60)
        await asyncio.to_thread(ballast.remove)
        await asyncio.to_thread(
            poll,
            lambda: world.gateway.metrics("farthing_ledger_up") == {"": 1.0},
            "the database takes rows",
            2 * BACK_WITHIN_S,
        )
    found = await world.closing()
    return brief(world, "database's disk full", found)


async def _long_stream(world: World) -> Answer:
    caller = Caller(world.gateway.port, world.keys["dock"])
    try:
        return await caller.ask(Wish(Ask("dock", world.nonce(), 40, 20, 100), stream=True, max_tokens=40))
    finally:
        await caller.close()
