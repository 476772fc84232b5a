"""What happens to Redis, PostgreSQL and the disk under load. Each scenario drives a `World` and returns its line."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import redis

from gateway.ledger.segment import Reading
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
LATE_TRIES = 4
"""After so many the gateway waits four seconds for the next: it learns late that PostgreSQL is back."""


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


def _ways(server: RedisServer | PostgresServer) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """How a server goes away and comes back."""
    return {"frozen": (server.freeze, server.thaw), "killed": (server.stop, server.start)}


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


async def redis_outages(
    world: World, server: RedisServer, outages: Sequence[str] = ("frozen", "killed"), flushes: int = 2
) -> str:
    """Frozen, back, killed, back empty, flushed: refused at once while it is away, the truth from the ledger after it."""
    await world.up()
    async with under_load(world):
        await served(world, len(world.answers), "a healthy start")
        for name in outages:
            away, back = _ways(server)[name]
            mark = len(world.answers)
            await asyncio.to_thread(away)
            await refused(world, mark, "budgets_unavailable")
            await asyncio.to_thread(back)
            await served(world, len(world.answers), f"served after Redis was {name}")
        for _ in range(flushes):
            await asyncio.to_thread(_flush, server)
            await served(world, len(world.answers), "served after a flush", 60)
    quickly_refused(world)
    found = await world.closing()
    await asyncio.to_thread(agrees_with_redis, world, server)
    return brief(world, f"redis {', '.join([*outages, *['flushed'] * flushes])}", found)


async def redis_and_sigkill(world: World, server: RedisServer, points: int) -> str:
    """A killed gateway leaves leases in Redis: its next start ends them, at what rows are charged, or at nothing."""
    await world.up()
    load = world.load()
    unsent: set[str] = set()
    with world.watched():
        load.start(CALLERS)
        for _ in range(points):
            await served(world, len(world.answers), "served after a restart")
            await asyncio.sleep(world.rng.uniform(0.0, 0.3))
            await asyncio.to_thread(world.gateway.kill)
            unsent |= await asyncio.to_thread(_unsent, world, server)
            await world.up()
        await load.stop()
    await asyncio.to_thread(world.settled)
    await asyncio.to_thread(agrees_with_redis, world, server)
    found = await world.closing()
    assert found.outcomes["crashed"] > 0
    await asyncio.to_thread(agrees_with_redis, world, server)
    more = f"crashed {found.outcomes['crashed']}", f"{len(unsent)} leases left unsent, none kept"
    return brief(world, f"sigkill x{points} on redis", found, *more)


async def redis_away_and_sigkill(world: World, server: RedisServer) -> str:
    """Killed while ends wait for a frozen Redis, their rows being stored: the journal forgot them, the ledger did not."""
    await world.up()
    load = world.load()
    with world.watched():
        load.start(CALLERS)
        await served(world, 0, "a healthy start", 60)
        await asyncio.to_thread(server.freeze)
        waiting = await asyncio.to_thread(poll, lambda: _stored_and_waiting(world), "ends wait", BACK_WITHIN_S)
        await asyncio.to_thread(world.gateway.kill)
        await asyncio.to_thread(server.thaw)
        await world.up()
        await served(world, len(world.answers), "served again")
        await load.stop()
    await asyncio.to_thread(world.settled)
    await asyncio.to_thread(agrees_with_redis, world, server)
    found = await world.closing()
    await asyncio.to_thread(agrees_with_redis, world, server)
    return brief(world, "redis frozen, then sigkill", found, f"{waiting:.0f} ends had not reached Redis")


def _stored_and_waiting(world: World) -> float | None:
    """Ends that wait for Redis, once every row is stored."""
    waiting = (world.gateway.metrics("farthing_settlements_waiting") or {}).get("", 0.0)
    return waiting if world.gateway.metrics("farthing_ledger_lag_rows") == {"": 0.0} else None


async def redis_and_a_dead_replica(world: World, server: RedisServer, total_s: int) -> str:
    """One of two is killed and stays away: its leases are over in time. When it comes back, they are what rows say."""
    alive, dead = world.gateways
    for gateway in world.gateways:
        await asyncio.to_thread(gateway.start)
    async with under_load(world):
        await served(world, 0, "a healthy start", 60)
        await asyncio.to_thread(dead.kill)
        await served(world, len(world.answers), "served by the other one")
    await asyncio.to_thread(
        poll, lambda: alive.metrics("farthing_in_flight") == {"": 0.0}, "requests end", BACK_WITHIN_S
    )
    held = sum(reserved_in(server).values())
    assert held > 0, "no request was under way at the kill"
    lease_s = total_s + LEASE_MARGIN_S + BACK_WITHIN_S
    await asyncio.to_thread(poll, lambda: not any(reserved_in(server).values()), "leases are over", lease_s)
    await asyncio.to_thread(dead.start)
    await asyncio.to_thread(world.settled)
    await asyncio.to_thread(agrees_with_redis, world, server)
    found = await asyncio.to_thread(world.audited)
    return brief(world, "one of two replicas dead", found, f"{held} micro-USD held until leases were over")


async def redis_flushed_without_postgres(world: World, server: RedisServer, postgres: PostgresServer) -> str:
    """Flushed while rows wait in the journal: nothing is granted until the ledger can tell what they have cost."""
    await world.up()
    async with under_load(world):
        await served(world, 0, "a healthy start")
        await asyncio.to_thread(postgres.stop)
        await served(world, len(world.answers), "served without PostgreSQL", 60)
        mark = len(world.answers)
        await asyncio.to_thread(_flush, server)
        await refused(world, mark, "budgets_unavailable")
        await asyncio.to_thread(
            poll,
            lambda: (world.gateway.metrics("farthing_ledger_store_errors_total") or {}).get("", 0) >= LATE_TRIES,
            "the store is tried in vain",
            BACK_WITHIN_S,
        )
        await asyncio.to_thread(postgres.start)
        await served(world, len(world.answers), "served with both back", 60)
    found = await world.closing()
    await asyncio.to_thread(agrees_with_redis, world, server)
    return brief(world, "redis flushed without postgres", found)


def _flush(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url, socket_timeout=5) as connection:
        connection.flushall()


def agrees_with_redis(world: World, server: RedisServer) -> None:
    """No lease is left, and every window in Redis holds what its rows say, to the micro-dollar."""
    poll(lambda: not _leases(server), "leases of killed gateways are ended", BACK_WITHIN_S)
    committed, states = read_ledger(world.gateway.database_url).committed(), _windows(server, "c")
    assert states
    assert states == {window: committed.get(window, 0) for window in states}
    assert not any(reserved_in(server).values()), "reserved without a lease"


def _unsent(world: World, server: RedisServer) -> set[str]:
    """Ids of leases that the journal of a gateway does not know: killed between the two."""
    journaled = {
        value.request_id
        for path in (world.gateway.data / "journal").glob("*.journal")
        for entry in Reading(path)
        if (value := entry.decode()) is not None
    }
    return _leases(server) - journaled - read_ledger(world.gateway.database_url).by_id.keys()


def _leases(server: RedisServer) -> set[str]:
    """Ids of requests that have not ended in Redis, also of those whose lease is over."""
    with redis.Redis.from_url(server.url, socket_timeout=5, decode_responses=True) as connection:
        return {key.partition("lease:")[2] for key in connection.scan_iter("*lease:*")}


def reserved_in(server: RedisServer) -> dict[str, int]:
    """Micro-USD by window."""
    return _windows(server, "o")


def _windows(server: RedisServer, field: str) -> dict[str, int]:
    with redis.Redis.from_url(server.url, socket_timeout=5, decode_responses=True) as connection:
        found = {key.partition("window:")[2]: connection.hget(key, field) for key in connection.scan_iter("*window:*")}
    return {window: int(value) for window, value in found.items() if value is not None}


# PostgreSQL


async def postgres_outages(world: World, server: PostgresServer, outages: Sequence[str] = ("frozen", "killed")) -> str:
    """Frozen and killed: requests go on, their rows wait in the journal and are stored once it is back."""
    await world.up()
    begun = len(world.answers)
    async with under_load(world):
        await served(world, begun, "a healthy start")
        for name in outages:
            away, back = _ways(server)[name]
            await asyncio.to_thread(away)
            await served(world, len(world.answers), f"served while PostgreSQL is {name}", 100)
            await asyncio.to_thread(back)
            await served(world, len(world.answers), "served with PostgreSQL back")
    assert not [answer for answer in since(world, begun) if answer.status in (500, 503)]
    found = await world.closing()
    return brief(world, f"postgres {', '.join(outages)}", found)


async def postgres_and_sigkill(world: World, server: PostgresServer) -> str:
    """Killed while PostgreSQL is away: the journal alone knows, and tells once both are back."""
    await world.up()
    load = world.load()
    load.start(CALLERS)
    await served(world, 0, "a healthy start")
    await asyncio.to_thread(server.stop)
    await served(world, len(world.answers), "served without PostgreSQL", 60)
    await asyncio.to_thread(world.gateway.kill)
    await asyncio.to_thread(server.start)
    await world.up()
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


async def journal_disk_full(world: World, ballast: Ballast, *, restart: bool = True) -> str:
    """New requests are refused, those under way end whole and keep their rows, and all goes on once there is room."""
    await world.up()
    open_streams: list[asyncio.Task[Answer]] = []
    async with under_load(world):
        await served(world, 0, "a healthy start")
        open_streams = [asyncio.create_task(_long_stream(world)) for _ in range(10)]
        await asyncio.sleep(0.3)
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
    assert "requests are refused" in world.gateway.log
    assert "takes requests again" in world.gateway.log
    found = await world.closing()
    await asyncio.to_thread(world.gateway.kill)  # nothing is owed to the disk
    await world.up()
    await asyncio.to_thread(world.audited)
    return brief(world, "journal's disk full", found)


async def database_disk_full(world: World, ballast: Ballast) -> str:
    """Rows wait in the journal until the database has room."""
    await world.up()
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
        return await caller.ask(Wish(Ask("dock", world.nonce(), 30, 20, 100), stream=True, max_tokens=40))
    finally:
        await caller.close()
