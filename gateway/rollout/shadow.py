"""What the policy in shadow would have done with a request that has been answered, and whether that is the same.

Runs behind the answer, calls nobody and changes nothing: it decides by rules, draws and scores that are at hand. A
choice that would take a pass of the encoder or a judge's rating is left undecided. Fails open: whatever goes wrong is
counted as `failed`. Budgets and rates are not asked, and answers from the cache are not compared.
"""

import logging
from collections.abc import Callable

from gateway.core.errors import GatewayError
from gateway.core.exchange import Call, Exchange, Identity, Plan, Shadowed, Target, Usage
from gateway.policy.choosing import Classify
from gateway.policy.table import Policy
from gateway.routing.caps import StrongCaps
from gateway.routing.decide import FAILED, Scored, ThresholdOf, decide
from gateway.routing.reading import read_request
from gateway.routing.scorer import Scorer

REFUSED = "refused"

log = logging.getLogger("farthing.rollout")

Price = Callable[[Target, str, Usage], int | None]


class _Undecided(Exception):
    """The choice needs what is not at hand."""


class Shadow:
    """See the module. `scorer` gives `None` while there is none; `price` is in micro-USD.

    The strong calls that a key may make are counted apart from those that it does make.
    """

    def __init__(self, scorer: Callable[[], Scorer | None], threshold_of: ThresholdOf, price: Price) -> None:
        self._scorer = scorer
        self._threshold_of = threshold_of
        self._price = price
        self._caps = StrongCaps()
        self._told = ""

    def compare(self, exchange: Exchange, candidate: Policy) -> Shadowed | None:
        """What `candidate` would have done; `None` for what cannot be compared. Never raises."""
        identity = exchange.identity
        if identity is None or exchange.call.endpoint == "other":
            return None
        if exchange.hit is not None or exchange.choosing is not None:  # it ended before its target was chosen
            return None
        try:
            there = self._plan(exchange, identity, candidate)
            return self._compared(exchange, candidate.hash, there)
        except _Undecided:
            return Shadowed(candidate.hash, "undecided")
        except Exception:
            if self._told != candidate.hash:  # once: it may go wrong on every request
                self._told = candidate.hash
                log.exception("the policy %s in shadow failed on request %s", candidate.hash, exchange.id)
            return Shadowed(candidate.hash, "failed")

    def _plan(self, exchange: Exchange, identity: Identity, candidate: Policy) -> Plan | None:
        """The plan that it would have; `None` for a refusal."""

        def score_of(rule: Classify, call: Call, identity: Identity) -> Scored:
            return self._score(exchange, rule, call, identity)

        try:
            return decide(
                candidate,
                identity,
                exchange.call,
                wall_s=exchange.started_wall,
                draw=exchange.draw,
                threshold_of=self._threshold_of,
                score_of=score_of,
                caps=self._caps,
            ).plan
        except GatewayError:
            return None

    def _score(self, exchange: Exchange, rule: Classify, call: Call, identity: Identity) -> Scored:
        scorer = self._scorer()
        if scorer is None:
            return FAILED
        request = read_request(call)
        if rule.tier == "light":
            return scorer.score(request, identity)
        ticket, seen = exchange.ticket, exchange.scored
        if rule.tier == "embed":
            if ticket is not None and ticket.vector is not None and ticket.text == request.text:
                return scorer.score(request, identity, ticket.vector)
            if seen is not None and seen.vector is not None:
                return scorer.score(request, identity, seen.vector)
        raise _Undecided

    def _compared(self, exchange: Exchange, hash_: str, there: Plan | None) -> Shadowed:
        here = exchange.plan
        origin, target = _first(here), _first(there)
        model = exchange.call.model or ""
        if origin is None or target is None:
            return Shadowed(hash_, "same" if origin is target else "other", _place(origin), _place(target))
        same = _goes(origin) == _goes(target)
        more: int | None = None
        if exchange.usage is not None:
            costs = [self._price(each, each.model or model, exchange.usage) for each in (origin, target)]
            more = costs[1] - costs[0] if costs[0] is not None and costs[1] is not None else None
        return Shadowed(hash_, "same" if same else "other", origin.place, target.place, more)


def _first(plan: Plan | None) -> Target | None:
    return plan.targets[0] if plan is not None else None


def _place(target: Target | None) -> str:
    return REFUSED if target is None else target.place


def _goes(target: Target) -> tuple[object, ...]:
    """Where a request goes: what else a target has (deadlines, prices) does not change that."""
    pool = target.pool
    return target.name, target.provider, target.model, target.base_url, pool.replicas if pool is not None else None
