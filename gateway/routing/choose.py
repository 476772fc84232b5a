"""The stage that chooses between a route's weak and strong target, where the route leaves that to the request.

Behind the cache's look-up, before admission: what is reserved and sent is the plan that it sets. Costs a route without
`classify` nothing. Fails safe: without a head, a threshold or a score the strong target is chosen, and recorded; a
vector that is late by `ENCODE_DEADLINE_S` is done without.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from gateway.core.exchange import Exchange, Next, Reply
from gateway.encoder.port import Encoder, EncoderError
from gateway.policy.choosing import Classify, pick_of
from gateway.routing.caps import StrongCaps
from gateway.routing.decide import FAILED, Scored, Threshold, choose, scores
from gateway.routing.reading import Request, read_request
from gateway.routing.scorer import Scorer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENCODE_DEADLINE_S = 0.05

log = logging.getLogger("farthing.routing")


class Choose:
    """See the module. `scorer` and `encoder` give `None` while there is none."""

    def __init__(
        self,
        scorer: Callable[[], Scorer | None],
        encoder: Callable[[], Encoder | None],
        threshold_of: Callable[[Classify], Threshold],
        caps: StrongCaps,
    ) -> None:
        self._scorer = scorer
        self._encoder = encoder
        self._threshold_of = threshold_of
        self._caps = caps

    def __call__(self, exchange: Exchange, call_next: Next) -> Awaitable[Reply]:
        """The next stage, with the plan settled."""
        if exchange.choosing is None or exchange.hit is not None:
            return call_next(exchange)
        return self._settle(exchange, call_next)

    async def _settle(self, exchange: Exchange, call_next: Next) -> Reply:
        rule: Classify = exchange.choosing
        call, plan, identity = exchange.call, exchange.plan, exchange.identity
        assert plan is not None, "resolve comes before choose"
        assert identity is not None, "authenticate comes before choose"
        scored = await self._score(exchange, rule) if scores(rule, plan, call) else None
        decision = choose(rule, plan, pick_of(call.model), scored, self._threshold_of(rule), self._caps, identity.key)
        exchange.plan, exchange.choice, exchange.choosing = decision.plan, decision.choice, None
        return await call_next(exchange)

    async def _score(self, exchange: Exchange, rule: Classify) -> Scored:
        scorer = self._scorer()
        if scorer is None:
            return FAILED
        try:
            request = read_request(exchange.call)
            if rule.tier == "light":
                return scorer.score(request, exchange.identity)
            vector, late = await self._vector(exchange, request)
            return scorer.score(request, exchange.identity, vector, late=late)
        except Exception:  # a defect of the classifier is no reason to refuse a request; it is recorded
            log.exception("request %s has no score", exchange.id)
            return FAILED

    async def _vector(self, exchange: Exchange, request: Request) -> "tuple[NDArray[np.float32] | None, bool]":
        """The vector of the text, from the cache's look-up where that has made it; and whether it is missing."""
        ticket = exchange.ticket
        if ticket is not None and ticket.vector is not None and ticket.text == request.text:
            return ticket.vector, False
        encoder = self._encoder()
        if encoder is None:
            return None, True
        try:
            async with asyncio.timeout(ENCODE_DEADLINE_S):
                encoding = await encoder.encode(request.text)
        except (TimeoutError, EncoderError):
            return None, True
        return (encoding.vector if encoding is not None else None), False
