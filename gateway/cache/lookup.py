"""The stage that looks for a stored answer: exactly this request's, else that of the same question in other words.

After resolve, before admission: a request that is answered from here reserves nothing. It decides and writes down what
it found (`exchange.ticket`, `exchange.hit`); `serve` answers. Fails open: a store, an encoder or a verifier that is
away or late is a recorded miss. Only a request that asks for a stored answer or none (`only`) is refused.
"""

import math
from collections.abc import Callable

from gateway.cache.admission import AdmissionRule, refuse, refuse_exact
from gateway.cache.certificates import Certificates
from gateway.cache.controls import Controls, controls
from gateway.cache.drift import Drift
from gateway.cache.entry import Entry
from gateway.cache.flight import Flight
from gateway.cache.keys import Partition, exact_key, scope_key, user_of
from gateway.cache.semantic import Match, Semantic
from gateway.cache.store import CacheStore, StoreError
from gateway.cache.ticket import Ticket
from gateway.core.clock import Clock
from gateway.core.errors import NotCached
from gateway.core.exchange import CacheHit, Exchange, Next, Reply
from gateway.policy.caching import CacheRule
from gateway.policy.table import Policy


class Lookup:
    """See the module. `semantic` gives `None` until there is an encoder: then only exact answers are found."""

    def __init__(
        self,
        current: Callable[[], Policy],
        store: CacheStore,
        semantic: Callable[[], Semantic | None],
        certificates: Certificates,
        flights: dict[str, Flight],
        clock: Clock,
    ) -> None:
        self._current = current
        self._store = store
        self._semantic = semantic
        self._certificates = certificates
        self._flights = flights
        self._wall = clock.wall
        self.drift = Drift()

    async def __call__(self, exchange: Exchange, call_next: Next) -> Reply:
        """The next stage, with a ticket where the route caches; raises `NotCached` or `BadRequest`."""
        assert exchange.plan is not None, "resolve comes before the cache"
        policy: Policy = exchange.decided_by or self._current()
        rule = policy.caching.get(exchange.plan.route)
        if rule is not None:
            asked = controls(exchange.call)
            await self.look(exchange, rule, asked)
            self._count(exchange.ticket)
            if exchange.hit is not None:
                self._store.touch(exchange.hit.entry)
            elif asked.only:
                raise NotCached("No stored answer serves this request, and it asked for no other.")
        return await call_next(exchange)

    def _count(self, ticket: Ticket | None) -> None:
        """Shows the score to the watch over drift."""
        if ticket is not None and ticket.certificate is not None:
            match = ticket.nearest
            self.drift.add(ticket.certificate, match.score if match is not None and match.veto is None else -math.inf)

    async def look(self, exchange: Exchange, rule: CacheRule, asked: Controls) -> None:
        """Writes on the exchange what the request finds, and changes nothing else: it serves to explain, too."""
        call, identity = exchange.call, exchange.identity
        assert identity is not None, "authenticate comes before the cache"
        user = user_of(call)
        reason = refuse_exact(call, user, admission_rule(rule))
        if reason is not None or not (asked.read or asked.write):
            exchange.cache, exchange.cache_reason = "bypass", reason or "asked"
            return
        shared = user if rule.share == "user" else None
        partition = Partition(identity.tenant, call.model or "", rule.version, shared)
        ticket = exchange.ticket = Ticket(rule, exact_key(call, partition), read=asked.read, write=asked.write)
        exchange.cache = "miss"
        try:
            if asked.read and await self._exact(exchange, ticket, asked):
                return
            semantic = self._semantic() if rule.semantic is not None else None
            if semantic is not None and ticket.exact not in self._flights:
                exchange.cache_reason = await self._similar(exchange, ticket, asked, partition, semantic)
        except StoreError:
            exchange.cache_reason = "unavailable"

    async def _exact(self, exchange: Exchange, ticket: Ticket, asked: Controls) -> bool:
        ttl_s = ticket.rule.exact_ttl_s
        if ttl_s is None:
            return False
        now = self._wall()
        entry = await self._store.get(ticket.exact, now)
        if entry is None or not fresh(entry, now, ttl_s, asked):
            return False
        self._found(exchange, ticket, entry, None, now)
        return True

    async def _similar(
        self, exchange: Exchange, ticket: Ticket, asked: Controls, partition: Partition, semantic: Semantic
    ) -> str | None:
        """Why nothing was found, `None` where there was no neighbour or a hit."""
        rule = ticket.rule
        assert rule.semantic is not None, "asked for by the caller"
        scope = scope_key(exchange.call, partition, semantic.models)
        text = scope.text if scope is not None else None
        reason = refuse(exchange.call, text, partition.user or user_of(exchange.call), admission_rule(rule))
        if reason is not None or scope is None:
            return reason
        encoding = await semantic.encode(scope.text)
        if encoding is None:
            return "too_long"
        if encoding.unknown:
            return "unknown_words"
        ticket.scope, ticket.text, ticket.vector = scope.key, scope.text, encoding.vector
        if not asked.read or not asked.semantic:
            return "asked"
        now = self._wall()
        try:
            matches = await semantic.matches(scope.key, scope.text, encoding.vector, now)
        except StoreError:
            ticket.judged = False
            raise
        certificate = ticket.certificate = self._certificates.of(rule, semantic.versions)
        match = next((each for each in matches if fresh(each.entry, now, rule.semantic.ttl_s, asked)), None)
        if match is None:
            return None
        ticket.nearest = match
        exchange.nearest = (match.similarity, match.score)
        if certificate is None:
            return "shadow"
        if match.veto is not None:
            return f"veto_{match.veto}"
        if not self.drift.accepts(certificate, match.score):
            return "drifted" if certificate.accepts(match.score) else "below_threshold"
        self._found(exchange, ticket, match.entry, match, now)
        return None

    def _found(self, exchange: Exchange, ticket: Ticket, entry: Entry, match: Match | None, now: float) -> None:
        ticket.found = entry
        age_s = max(0.0, now - entry.stored_s)
        hit = exchange.hit = CacheHit(
            "exact" if match is None else "semantic",
            entry.id,
            entry.usage,
            entry.took_s,
            age_s,
            match.similarity if match is not None else None,
            match.score if match is not None else None,
        )
        exchange.cache = hit.kind
        lines = f"x-farthing-cache-entry: {entry.id}\r\nage: {int(age_s)}\r\n"
        if match is not None:
            lines += f"x-farthing-cache-similarity: {match.similarity:.4f}\r\n"
            lines += f"x-farthing-cache-score: {match.score:.4f}\r\n"
        exchange.cache_headers = lines.encode()


def admission_rule(rule: CacheRule) -> AdmissionRule:
    """What a route's rule means for admission."""
    semantic = rule.semantic
    if semantic is None:
        return AdmissionRule(user_scoped=rule.share == "user")
    return AdmissionRule(
        max_temperature=semantic.max_temperature, personal=semantic.personal, user_scoped=rule.share == "user"
    )


def fresh(entry: Entry, now: float, ttl_s: float, asked: Controls) -> bool:
    """Whether the entry is young enough for the rule and for the request."""
    age_s = now - entry.stored_s
    return age_s <= ttl_s and (asked.max_age_s is None or age_s <= asked.max_age_s)
