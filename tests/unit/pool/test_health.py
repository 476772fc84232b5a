"""The prober against real sockets that answer well, badly, slowly or not at all."""

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from gateway.core.exchange import Pool
from gateway.pool.health import HealthProber
from gateway.pool.registry import PoolRegistry


class Hands:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def wall(self):
        return self.now


class Server:
    """Answers with `reply`; `None` holds the connection open without a word, `drip` sends a byte now and then."""

    def __init__(self, reply: bytes | None, *, drip: bool = False):
        self.reply = reply
        self.drip = drip
        self.paths: list[str] = []
        self.asked = asyncio.Event()
        self.tasks: set[asyncio.Task] = set()

    async def handle(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.paths.append(head.split()[1].decode())
            self.asked.set()
            if self.reply is not None:
                writer.write(self.reply)
            while self.drip:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.005)
            await reader.read()
        except (ConnectionError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self, port: int = 0):
        async with await asyncio.start_server(self.handle, "127.0.0.1", port) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            for task in self.tasks:
                task.cancel()
        await asyncio.gather(*self.tasks)


def answer(status: bytes) -> bytes:
    return b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n"


def prober(*pools: Pool, clock: Hands | None = None, timeout_s: float = 2.0, random: float = 0.5):
    registry = PoolRegistry(lambda: 0.0)
    registry.sync(pools)
    return registry, HealthProber(registry, clock or Hands(), lambda: random, timeout_s)


async def sweeps(health: HealthProber, clock: Hands, count: int, step_s: float = 5.0) -> None:
    async with health.client() as client:
        for _ in range(count):
            await health.sweep(client)
            clock.now += step_s


async def test_a_2xx_is_healthy_and_the_pools_path_is_asked():
    server, clock = Server(answer(b"204 No Content")), Hands()
    async with server.running() as url:
        registry, health = prober(Pool("p", (url,), health_path="/live"), clock=clock)
        registry.get("p").replicas[0].healthy = False
        await sweeps(health, clock, 1)
    assert registry.get("p").replicas[0].healthy
    assert server.paths == ["/live"]


@pytest.mark.parametrize(
    ("server", "error"),
    [
        (Server(answer(b"503 Service Unavailable")), "status 503"),
        (Server(b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"), "status 302"),
        (Server(None), "timeout"),
        (Server(b"HTTP/1.1 200 OK\r\nx-drip: ", drip=True), "timeout"),
        (Server(b"garbage\r\n\r\n"), "RemoteProtocolError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_two_bad_answers_eject(server, error):
    clock = Hands()
    async with server.running() as url:
        registry, health = prober(Pool("p", (url,)), clock=clock, timeout_s=0.15)
        replica = registry.get("p").replicas[0]
        await sweeps(health, clock, 1)
        assert (replica.healthy, replica.health_error) == (True, error)
        await sweeps(health, clock, 1)
        assert (replica.healthy, replica.health_error) == (False, error)


async def test_a_port_where_nobody_listens_ejects_and_a_good_answer_readmits():
    clock, server = Hands(), Server(answer(b"200 OK"))
    async with server.running() as url:
        pass
    registry, health = prober(Pool("p", (url,)), clock=clock)
    replica = registry.get("p").replicas[0]
    await sweeps(health, clock, 2)
    assert (replica.healthy, replica.health_error) == (False, "ConnectError")
    async with server.running(int(url.rpartition(":")[2])):
        await sweeps(health, clock, 1)
    assert (replica.healthy, replica.health_error) == (True, None)


@pytest.mark.parametrize("url", ["http://[::1", "nonsense", "http://127.0.0.1:99999"])
async def test_a_url_that_cannot_be_used_is_unhealthy_and_stops_nothing(url):
    clock, server = Hands(), Server(answer(b"200 OK"))
    async with server.running() as good:
        registry, health = prober(Pool("p", (url, good, good + "/")), clock=clock)
        await sweeps(health, clock, 2)
    assert [replica.healthy for replica in registry.get("p").replicas] == [False, True, True]


@pytest.mark.parametrize(("random", "due_at"), [(0.0, 4.5), (0.5, 5.0), (0.999999, 5.5)])
async def test_the_interval_is_jittered_by_a_tenth(random, due_at):
    clock, server = Hands(), Server(answer(b"200 OK"))
    async with server.running() as url:
        _, health = prober(Pool("p", (url,), health_interval_s=5.0), clock=clock, random=random)
        await sweeps(health, clock, 1, due_at - 0.01)
        await sweeps(health, clock, 1, 0.02)
        assert len(server.paths) == 1
        await sweeps(health, clock, 1)
        assert len(server.paths) == 2


async def test_replicas_are_probed_at_once_not_one_after_the_other():
    clock, silent, good = Hands(), Server(None), Server(answer(b"200 OK"))
    async with silent.running() as a, good.running() as b:
        registry, health = prober(Pool("p", (a, b)), clock=clock, timeout_s=60.0)
        async with health.client() as client:
            sweep = asyncio.create_task(health.sweep(client))
            await asyncio.gather(silent.asked.wait(), good.asked.wait())
            assert not sweep.done()
            sweep.cancel()
            await asyncio.wait([sweep])
    assert all(replica.healthy for replica in registry.get("p").replicas)


async def test_run_follows_a_reload_and_ends_when_cancelled():
    first, second = Server(answer(b"200 OK")), Server(answer(b"200 OK"))
    async with first.running() as a, second.running() as b:
        registry, health = prober(Pool("p", (a,)))
        task = asyncio.create_task(health.run())
        await asyncio.wait_for(first.asked.wait(), 5)
        registry.sync([Pool("p", (b,))])
        await asyncio.wait_for(second.asked.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert first.paths == ["/health"], "a replica that left is not probed again, one that is not due neither"


def test_importing_the_prober_does_not_import_httpx():
    code = "import sys, gateway.pool.health; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
