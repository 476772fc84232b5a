"""Two replicas that are asked the same at once: one of them asks the upstream, also when the first one fails."""

import asyncio
import time

import msgspec
import pytest

from gateway.cache.fill import Filler
from gateway.cache.labels import Labels
from gateway.cache.serve import Serve
from gateway.cache.store import StoreError
from gateway.cache.ticket import Ticket
from gateway.core.clock import SystemClock
from gateway.core.errors import UpstreamBroken
from gateway.core.exchange import Attempt, Call, Exchange, Identity, Plan, Reply, Usage
from gateway.policy.caching import CacheRule
from tests.support.cache_stores import IMITATION, DistributedWorld, digest

pytestmark = [pytest.mark.filterwarnings(each) for each in IMITATION]
RULE = CacheRule("r", "v", exact_ttl_s=60.0)
ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}  # fmt: skip


class Upstream:
    """Answers after a while; the first `failures` calls fail."""

    def __init__(self, failures=0):
        self.failures = failures
        self.calls = 0

    async def __call__(self, exchange):
        self.calls += 1
        fails = self.calls <= self.failures
        await asyncio.sleep(0.2)
        if fails:
            raise UpstreamBroken("cut")
        exchange.usage, exchange.outcome, exchange.model = Usage(3, output=2), "ok", "m"
        exchange.attempts.append(Attempt("t", None, 200, None, 0.0, 0.2, None, exchange.usage, 5))
        return Reply(200, [], msgspec.json.encode(ANSWER))


class Replica:
    """The second stage of a gateway, with its own flights."""

    def __init__(self, store, leases):
        clock, flights = SystemClock(), {}
        self.filler = Filler(store, lambda: None, Labels(None, clock.wall), flights)
        self.serve = Serve(store, self.filler, flights, clock, leases=leases)

    async def ask(self, number, upstream):
        call = Call("chat", "openai", "POST", "/v1/chat/completions", b"", [], b"{}", {"model": "m"}, "m")
        exchange = Exchange(f"{number:032x}", call, time.monotonic(), time.time())
        exchange.identity, exchange.plan = Identity("shop", "key"), Plan("r", ())
        exchange.ticket = Ticket(RULE, digest("the same"), read=True, write=True)
        exchange.cache = "miss"
        reply = await self.serve(exchange, upstream)
        return exchange, msgspec.json.decode(reply.body)


@pytest.fixture
async def replicas(redis_server, tmp_path):
    world = DistributedWorld(redis_server.url, tmp_path, None)
    store = await world.open()
    made = [Replica(store, store.answers) for _ in range(2)]
    tasks = [asyncio.create_task(replica.filler.run()) for replica in made]
    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await store.aclose()
    await world.close()


async def test_one_replica_asks_for_all(replicas):
    upstream = Upstream()
    answered = await asyncio.gather(*[replicas[n % 2].ask(n, upstream) for n in range(20)])
    assert upstream.calls == 1
    assert sorted({exchange.cache for exchange, _ in answered}) == ["coalesced", "miss"]
    assert {answer["choices"][0]["message"]["content"] for _, answer in answered} == {"Hello."}


async def test_when_the_replica_that_asks_fails_the_other_one_does(replicas):
    upstream = Upstream(failures=1)
    results = await asyncio.gather(replicas[0].ask(1, upstream), replicas[1].ask(2, upstream), return_exceptions=True)
    assert sum(isinstance(result, UpstreamBroken) for result in results) == 1
    assert upstream.calls == 2


class AwayLeases:
    async def lease(self, *_):
        raise StoreError("away")

    async def release(self, *_):
        raise StoreError("away")


async def test_without_the_leases_each_replica_asks_for_itself(replicas):
    alone = [Replica(replicas[0].filler._store, AwayLeases()) for _ in range(2)]
    upstream = Upstream()
    await asyncio.gather(*[replica.ask(n, upstream) for n, replica in enumerate(alone)])
    assert upstream.calls == 2
