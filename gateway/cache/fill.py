"""Keeps answers after they have been given, and learns from each that had a neighbour; never on a request's path.

Fails open: an answer that cannot be kept is counted and gone.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence

import msgspec

from gateway.cache import replay
from gateway.cache.admission import refuse_answer
from gateway.cache.answers import answer_text
from gateway.cache.doorkeeper import Doorkeeper
from gateway.cache.entry import Entry, Selector
from gateway.cache.flight import Flight
from gateway.cache.labels import UNSURE, Label, Labels
from gateway.cache.lookup import admission_rule
from gateway.cache.same import same_answer
from gateway.cache.semantic import Semantic
from gateway.cache.store import CacheStore, StoreError
from gateway.cache.ticket import Ticket
from gateway.core.exchange import Exchange
from gateway.guarantee.sampling import sampled

MOST_WAITING = 1_000
PURGES_S = 900.0
"""No request that was under way at a purge is under way this much later."""
DOORS = 65_536
"""Questions that a doorkeeper remembers."""

log = logging.getLogger("farthing.cache")


class Draft(msgspec.Struct, frozen=True):
    """A finished answer: its JSON, or its stream's chunks. `ended_s` is Unix seconds; `done` is called at the end."""

    exchange: Exchange
    ticket: Ticket
    flight: Flight | None
    answer: bytes | list[bytes]
    ended_s: float
    done: Callable[[], None]


class Filler:
    """See the module. One `run` per process."""

    def __init__(
        self,
        store: CacheStore,
        semantic: Callable[[], Semantic | None],
        labels: Labels,
        flights: dict[str, Flight],
    ) -> None:
        self._store = store
        self._semantic = semantic
        self._labels = labels
        self._flights = flights
        self._waiting: deque[Draft] = deque()
        self._wake = asyncio.Event()
        self._doorkeeper = Doorkeeper(DOORS)
        self.kept = 0
        self.dropped = 0
        self.refused: Counter[str] = Counter()
        """Answers that were not kept, by reason."""
        self._purges: list[tuple[float, Selector]] = []

    def purged(self, selector: Selector, now: float) -> None:
        """What was asked before `now` and matches is not kept when its answer comes: it may say what was purged."""
        self._purges = [(at_s, each) for at_s, each in self._purges if now - at_s < PURGES_S]
        self._purges.append((now, selector))

    def put(self, draft: Draft) -> bool:
        """Takes a draft, or not when too many wait."""
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return False
        self._waiting.append(draft)
        self._wake.set()
        return True

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._take(self._waiting.popleft())

    async def _take(self, draft: Draft) -> None:
        entry = None
        try:
            entry = await self._keep(draft)
        except StoreError as exc:
            self.refused["unavailable"] += 1
            log.debug("an answer is not kept: %s", exc)
        except Exception:
            log.exception("an answer of request %s is not kept", draft.exchange.id)
        finally:
            flight = draft.flight
            if flight is not None:
                if self._flights.get(draft.ticket.exact) is flight:
                    del self._flights[draft.ticket.exact]
                flight.settle(entry)
                draft.done()
        if entry is not None:
            try:
                await self._learn(draft, entry)
            except Exception:
                log.exception("nothing is learnt from request %s", draft.exchange.id)

    async def _keep(self, draft: Draft) -> Entry | None:
        """The answer as an entry for those who wait for it, kept if it may be."""
        exchange, ticket = draft.exchange, draft.ticket
        body = await _whole(draft)
        if body is None or exchange.usage is None:
            self.refused["damaged" if body is None else "no_usage"] += 1
            return None
        entry = _entry(draft, body)
        if draft.flight is not None and not draft.flight.settled:
            draft.flight.settle(entry)
        rule = admission_rule(ticket.rule)
        reason = refuse_answer(exchange.call, 200, body, entry.usage, rule, semantic=False)
        if reason is None and not replay.replayable(entry.endpoint, body, exchange.call):
            reason = "not_replayable"
        if reason is None and not ticket.write:
            reason = "asked"
        if reason is None and any(exchange.started_wall <= at_s and each.matches(entry) for at_s, each in self._purges):
            reason = "purged"
        if reason is None and ticket.rule.second_sighting and not self._doorkeeper.seen(ticket.exact):
            reason = "first_sighting"
        if reason is not None:
            self.refused[reason] += 1
            return entry
        vector = ticket.vector
        if refuse_answer(exchange.call, 200, body, entry.usage, rule, semantic=True) is not None:
            vector = None
        if vector is None:
            entry = msgspec.structs.replace(entry, scope="", text=None)
            if ticket.rule.exact_ttl_s is None:
                return entry
        await self._store.put(entry, vector)
        self.kept += 1
        return entry

    async def _learn(self, draft: Draft, entry: Entry) -> None:
        """A fresh answer beside its neighbour's: a free label."""
        ticket, semantic = draft.ticket, self._semantic()
        rule = ticket.rule.semantic
        if semantic is None or rule is None or ticket.vector is None or not ticket.judged:
            return
        route = ticket.rule.route
        watched = sampled(entry.id, rule.shadow, route)
        match = ticket.nearest
        if watched:
            score = match.score if match is not None else None
            self._labels.note(Label(draft.ended_s, route, semantic.models, entry.id, None, score, 0, 1.0, sampled=True))
        if match is None or match.veto is not None:
            self._labels.alone(route, semantic.models)
            return
        texts = [answer_text(each.endpoint, each.body) for each in (entry, match.entry)]
        same = await same_answers(semantic, *texts)
        loss = UNSURE if same is None else 0 if same else 1
        label = Label(draft.ended_s, route, semantic.models, entry.id, match.entry.id, match.score, loss, 1.0)
        self._labels.note(label)


async def same_answers(semantic: Semantic, fresh: str, stored: str) -> bool | None:
    """Whether two answers say the same; `None` where that is not sure."""
    if not fresh or not stored:
        return None
    plain = same_answer(fresh, stored)
    if plain is not None:
        return plain
    try:
        one, other = await semantic.encode(fresh), await semantic.encode(stored)
    except StoreError:
        return None
    if one is None or other is None:
        return None
    return same_answer(fresh, stored, cosine=float(one.vector @ other.vector))


async def _whole(draft: Draft) -> bytes | None:
    answer = draft.answer
    if isinstance(answer, bytes):
        return answer
    exchange = draft.exchange
    return await asyncio.to_thread(_assembled, exchange, answer)


def _assembled(exchange: Exchange, chunks: Sequence[bytes]) -> bytes | None:
    return replay.assemble(exchange.call.endpoint, b"".join(chunks), exchange.usage)


def _entry(draft: Draft, body: bytes) -> Entry:
    exchange, ticket = draft.exchange, draft.ticket
    rule, identity, usage = ticket.rule, exchange.identity, exchange.usage
    assert identity is not None, "authenticated before"
    assert usage is not None, "looked at before"
    ttl_s = max(rule.exact_ttl_s or 0.0, rule.semantic.ttl_s if rule.semantic is not None else 0.0)
    return Entry(
        id=exchange.id,
        exact=ticket.exact,
        scope=ticket.scope,
        text=ticket.text,
        endpoint=exchange.call.endpoint,
        body=body,
        usage=usage,
        cost_micro_usd=exchange.cost_micro_usd,
        tenant=identity.tenant,
        key=identity.key,
        route=rule.route,
        target=exchange.target,
        provider=exchange.provider,
        model=exchange.model,
        tags=rule.tags,
        stored_s=draft.ended_s,
        expires_s=draft.ended_s + ttl_s,
        took_s=exchange.attempts[-1].duration_s if exchange.attempts else 0.0,
    )
