"""Asks some semantic hits anew, to measure how often they are wrong: a sample by the request's id, within a budget.

Each is a request of its own, on the ledger under the tenant `shadow:ROUTE`, whose budget the policy states. It runs
after its caller has been answered. Fails open: one that cannot be asked or judged teaches nothing. A hit that was wrong
is forgotten at once.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable

import msgspec

from gateway.cache.answers import answer_text
from gateway.cache.entry import Selector
from gateway.cache.fill import same_answers
from gateway.cache.labels import UNSURE, Label, Labels
from gateway.cache.semantic import Match, Semantic
from gateway.cache.store import CacheStore, StoreError
from gateway.cache.ticket import Ticket
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError
from gateway.core.exchange import Exchange, Identity, Next
from gateway.guarantee.sampling import sampled
from gateway.policy.compile_money import shadow_tenant
from gateway.protocol.own import unstreamed

MOST_WAITING = 256

log = logging.getLogger("farthing.cache")


class Asked(msgspec.Struct, frozen=True):
    """A hit that was served and is asked anew."""

    exchange: Exchange
    match: Match
    probability: float


class Shadow:
    """See the module. `ask` is the pipeline behind the cache, `finish` closes a request's books."""

    def __init__(
        self,
        ask: Next,
        finish: Callable[[Exchange, float], None],
        store: CacheStore,
        semantic: Callable[[], Semantic | None],
        labels: Labels,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._ask = ask
        self._finish = finish
        self._store = store
        self._semantic = semantic
        self._labels = labels
        self._clock = clock
        self._new_id = new_id
        self._waiting: deque[Asked] = deque()
        self._wake = asyncio.Event()
        self.calls: Counter[str] = Counter()
        """Hits that were asked anew, by what came of it: right, wrong, unsure, refused, failed, dropped."""

    def hit(self, exchange: Exchange, ticket: Ticket) -> None:
        """Takes a semantic hit, if it is one of the sample."""
        rule, match = ticket.rule.semantic, ticket.nearest
        if rule is None or match is None or not sampled(exchange.id, rule.shadow, ticket.rule.route):
            return
        if len(self._waiting) >= MOST_WAITING:
            self.calls["dropped"] += 1
            return
        self._waiting.append(Asked(exchange, match, rule.shadow))
        self._wake.set()

    async def run(self) -> None:
        """Asks, one at a time, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                asked = self._waiting.popleft()
                try:
                    self.calls[await self._measure(asked)] += 1
                except Exception:
                    self.calls["failed"] += 1
                    log.exception("request %s could not be asked anew", asked.exchange.id)

    async def _measure(self, asked: Asked) -> str:
        stored, semantic = asked.match.entry, self._semantic()
        assert semantic is not None, "it found the entry"
        fresh, why = await self._fresh(asked.exchange)
        same = await same_answers(semantic, fresh, answer_text(stored.endpoint, stored.body))
        if same is None:
            self._note(asked, semantic.models, UNSURE, 1 / asked.probability)
            self._note(asked, semantic.models, UNSURE, 1.0, sampled=True)
            return why
        await self._learn(asked, semantic.models, loss=0 if same else 1)
        return "right" if same else "wrong"

    async def _learn(self, asked: Asked, models: str, *, loss: int) -> None:
        match = asked.match
        self._note(asked, models, loss, 1 / asked.probability)
        self._note(asked, models, loss, 1.0, sampled=True)
        if loss:
            log.warning("the entry %s answered request %s wrongly and is removed", match.entry.id, asked.exchange.id)
            try:
                await self._store.delete(Selector(id=match.entry.id))
            except StoreError as exc:
                log.warning("the entry %s is still there: %s", match.entry.id, exc)

    def _note(self, asked: Asked, models: str, loss: int, weight: float, *, sampled: bool = False) -> None:
        match, plan = asked.match, asked.exchange.plan
        assert plan is not None, "it was served"
        row = (self._clock.wall(), plan.route, models, asked.exchange.id, match.entry.id, match.score, loss, weight)
        self._labels.note(Label(*row, sampled))

    async def _fresh(self, served: Exchange) -> tuple[str, str]:
        """What the upstream itself answers, as text; or nothing, and what came instead."""
        clock, plan = self._clock, served.plan
        assert plan is not None, "it was served"
        exchange = Exchange(self._new_id(), unstreamed(served.call), clock.monotonic(), clock.wall())
        exchange.identity = Identity(shadow_tenant(plan.route), "shadow")
        exchange.policy, exchange.plan, exchange.cache = served.policy, plan, "shadow"
        exchange.decided_by = served.decided_by
        try:
            reply = await self._ask(exchange)
            exchange.status = reply.status
        except GatewayError as error:
            exchange.status, exchange.error = error.status, error.code or error.type
            exchange.outcome = exchange.outcome or "client_error"
            return "", "refused"
        finally:
            self._finish(exchange, clock.monotonic())
        if reply.status != 200 or reply.stream is not None:
            return "", "failed"
        return answer_text(exchange.call.endpoint, reply.body), "unsure"
