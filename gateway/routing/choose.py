"""The stage that chooses between a route's weak and strong target, where the route leaves that to the request.

Behind the cache's look-up, before admission: what is reserved and sent is the plan that it sets. A route whose judge is
asked is settled by the second half, behind admission and the cache: what the judge costs is reserved and on the books,
and requests that share an answer ask it once. Costs a route without `classify` nothing. Fails safe: without a head, a
threshold or a score the strong target is chosen, and recorded; a vector that is late by `ENCODE_DEADLINE_S` is done
without.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.core.exchange import Exchange, Next, Reply
from gateway.encoder.port import Encoder, EncoderError
from gateway.policy.choosing import Classify, alternatives, pick_of
from gateway.routing.caps import StrongCaps
from gateway.routing.compare import Seen, in_sample
from gateway.routing.decide import FAILED, Scored, Threshold, choose, scores
from gateway.routing.judge import rated_gain
from gateway.routing.judge_ask import Judge
from gateway.routing.reading import Request, read_request
from gateway.routing.scorer import Scorer
from gateway.routing.view import view

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gateway.routing.neighbours_index import NeighbourIndex

ENCODE_DEADLINE_S = 0.05

log = logging.getLogger("farthing.routing")


class Choose:
    """See the module. `scorer`, `encoder` and `neighbours` give `None` while there is none; `judge` is asked if set."""

    def __init__(
        self,
        scorer: Callable[[], Scorer | None],
        encoder: Callable[[], Encoder | None],
        threshold_of: Callable[[Classify], Threshold],
        caps: StrongCaps,
        neighbours: "Callable[[], NeighbourIndex | None]" = lambda: None,
        judge: Judge | None = None,
    ) -> None:
        self._scorer = scorer
        self._encoder = encoder
        self._threshold_of = threshold_of
        self._caps = caps
        self._neighbours = neighbours
        self.judge = judge

    def __call__(self, exchange: Exchange, call_next: Next) -> Awaitable[Reply]:
        """The next stage, with the plan settled, or left to the second half."""
        if exchange.choosing is None or exchange.hit is not None:
            return call_next(exchange)
        return self._first(exchange, call_next)

    def judged(self, exchange: Exchange, call_next: Next) -> Awaitable[Reply]:
        """The second half: the next stage, with the plan settled."""
        if exchange.choosing is None or exchange.hit is not None:
            return call_next(exchange)
        return self._second(exchange, call_next)

    async def _first(self, exchange: Exchange, call_next: Next) -> Reply:
        rule: Classify = exchange.choosing
        plan = exchange.plan
        assert plan is not None, "resolve comes before choose"
        scored: Scored | None = None
        if scores(rule, plan, exchange.call):
            if rule.tier == "judge":
                exchange.plan = alternatives(rule, plan)[0]  # ends at the strong target: room for either is reserved
                return await call_next(exchange)
            scored = await self._score(exchange, rule, self._by_head)
        self._settle(exchange, rule, scored, self._threshold_of(rule))
        return await call_next(exchange)

    async def _second(self, exchange: Exchange, call_next: Next) -> Reply:
        rule: Classify = exchange.choosing
        threshold = self._threshold_of(rule)
        scored: Scored | None = None
        if threshold.value is not None or in_sample(exchange.id, rule):  # else the rating would be paid for in vain
            scored = await self._score(exchange, rule, self._by_judge)
        self._settle(exchange, rule, scored, threshold)
        return await call_next(exchange)

    def _settle(self, exchange: Exchange, rule: Classify, scored: Scored | None, threshold: Threshold) -> None:
        plan, identity = exchange.plan, exchange.identity
        assert plan is not None, "resolve comes before choose"
        assert identity is not None, "authenticate comes before choose"
        decision = choose(rule, plan, pick_of(exchange.call.model), scored, threshold, self._caps, identity.key)
        exchange.plan, exchange.choice, exchange.choosing = decision.plan, decision.choice, None

    async def _score(
        self, exchange: Exchange, rule: Classify, by: Callable[[Exchange, Classify, Scorer], Awaitable[Scored]]
    ) -> Scored:
        scorer = self._scorer()
        if scorer is None:
            return FAILED
        try:
            return await by(exchange, rule, scorer)
        except Exception:  # a defect of the classifier is no reason to refuse a request; it is recorded
            log.exception("request %s has no score", exchange.id)
            return FAILED

    async def _by_head(self, exchange: Exchange, rule: Classify, scorer: Scorer) -> Scored:
        request, identity = read_request(exchange.call), exchange.identity
        if rule.tier == "light":
            exchange.scored = Seen(rule)
            return scorer.score(request, identity)
        vector, late = await self._vector(exchange, request)
        scored = scorer.score(request, identity, vector, late=late)
        neighbours = self._neighbours() if rule.tier == "neighbours" else None
        if neighbours is not None and vector is not None and not scored.late and identity is not None:
            scored = neighbours.score(identity.tenant, rule, vector, scored)
        exchange.scored = Seen(rule, vector, scored.late)
        return scored

    async def _by_judge(self, exchange: Exchange, rule: Classify, scorer: Scorer) -> Scored:
        request = read_request(exchange.call)
        rating = await self.judge.rate(exchange, rule, request.text) if self.judge is not None else None
        exchange.scored = Seen(rule, late=rating is None)
        if rating is None:
            return msgspec.structs.replace(scorer.score(request, exchange.identity), late=True)
        return Scored(rated_gain(rating), "judge", scorer=rule.versions.get("judge"))

    async def _vector(self, exchange: Exchange, request: Request) -> "tuple[NDArray[np.float32] | None, bool]":
        """The text's vector if the cache's look-up has made it, else its view's; and whether it is missing."""
        ticket: Any = exchange.ticket
        if ticket is not None and ticket.vector is not None and ticket.text == request.text:
            return ticket.vector, False
        encoder = self._encoder()
        if encoder is None:
            return None, True
        try:
            async with asyncio.timeout(ENCODE_DEADLINE_S):
                encoding = await encoder.encode(view(request.text))
        except (TimeoutError, EncoderError):
            return None, True
        return (encoding.vector if encoding is not None else None), False
