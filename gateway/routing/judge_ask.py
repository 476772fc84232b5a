"""Asks a route's judge how difficult a waiting request is; what that costs is on the request's own row, as own cost.

The call goes through the dispatcher, so that prices, breakers and what sensitivity forbids hold for it as for any
other. Fails open: no judge that may see the request, none ready, no room in the budgets, no answer in time or one that
is no rating are `None`, counted, and a tier below scores the request. A text that was rated is remembered, so that a
retry does not pay twice; a judge that is late again and again is left alone for a while.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from hashlib import blake2b

import msgspec

from gateway.cache.answers import answer_text
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError
from gateway.core.exchange import Exchange, Next, Plan, Retries
from gateway.dispatch.attempt import total_cost
from gateway.dispatch.breaker import Breaker
from gateway.policy.choosing import Classify, confined
from gateway.policy.limits import MoneyRules
from gateway.pricing.worst_case import PriceOf, Refuse, plan_worst_case, reservation
from gateway.protocol.own import chat_call
from gateway.routing.judge import judge_request, read_rating

MOST_REMEMBERED = 4096
_ONCE = Retries(attempts=1, budget=0.0)

_Key = tuple[str, str, str, bytes]


class Judge:
    """See the module. `dispatch` sends an exchange upstream.

    What a call can cost at most follows from `price_of` and the `money` rules of the request that waits for it.
    `results` counts, by route: rated, remembered, sensitive, unfunded, resting, late, failed, unread.
    """

    def __init__(
        self,
        dispatch: Next,
        clock: Clock,
        rng: Callable[[], float],
        price_of: PriceOf,
        money: Callable[[Exchange], MoneyRules],
    ) -> None:
        self._dispatch = dispatch
        self._clock = clock
        self._rng = rng
        self._price_of = price_of
        self._money = money
        self._ratings: OrderedDict[_Key, int] = OrderedDict()
        self._breakers: dict[str, Breaker] = {}
        self.results: Counter[tuple[str, str]] = Counter()

    async def rate(self, exchange: Exchange, rule: Classify, text: str) -> int | None:
        """1 to 5, or `None`. `text` is the last user text of `exchange`, which is admitted and pays."""
        rating, result = await self._rate(exchange, rule, text)
        self.results[rule.route, result] += 1
        return rating

    async def _rate(self, exchange: Exchange, rule: Classify, text: str) -> tuple[int | None, str]:
        plan = judge_plan(rule, exchange.plan)
        if plan is None:
            return None, "sensitive"
        target = plan.targets[0]
        tenant = exchange.identity.tenant if exchange.identity is not None else ""
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        key = (tenant, target.name, target.model or "", digest)
        known = self._ratings.get(key)
        if known is not None:
            self._ratings.move_to_end(key)
            return known, "remembered"
        rating, result = await self._ask(exchange, rule, plan, text)
        if rating is not None:
            self._ratings[key] = rating
            if len(self._ratings) > MOST_REMEMBERED:
                self._ratings.popitem(last=False)
        return rating, result

    async def _ask(self, exchange: Exchange, rule: Classify, plan: Plan, text: str) -> tuple[int | None, str]:
        monotonic, target = self._clock.monotonic, plan.targets[0]
        breaker = self._breakers.get(target.place)
        if breaker is None:
            breaker = self._breakers[target.place] = Breaker(self._rng)
        permit = breaker.try_acquire(monotonic())
        if not permit:
            return None, "resting"
        own = Exchange(exchange.id, chat_call(judge_request(text, target.model or "")), monotonic(), self._clock.wall())
        own.identity, own.policy, own.plan = exchange.identity, exchange.policy, plan
        late = False
        try:
            if not await self._fund(exchange, own, plan):
                return None, "unfunded"
            async with asyncio.timeout(rule.judge_timeout_s):
                reply = await self._dispatch(own)
        except TimeoutError:
            late = True
            return None, "late"
        except GatewayError:
            return None, "failed"
        else:
            if reply.status != 200 or reply.stream is not None:
                return None, "failed"
            rating = read_rating(answer_text("chat", reply.body))
            return rating, "unread" if rating is None else "rated"
        finally:
            if late:
                breaker.on_failure(monotonic(), permit, "timeout")
            elif own.attempts and own.attempts[-1].error is None:
                breaker.on_success(monotonic(), permit)
            else:  # refused, or the caller has left: nothing was learnt of how long it takes
                breaker.on_abandoned(monotonic(), permit)
            _book(exchange, own, late=late)

    async def _fund(self, exchange: Exchange, own: Exchange, plan: Plan) -> bool:
        """Reserves what the call can cost beside what the request holds, where a budget applies."""
        money = self._money(exchange)
        worst = plan_worst_case(own.call, plan, self._price_of, money)
        own.reserved_micro_usd = worst.micro_usd
        if exchange.more is None:
            return True
        amount = reservation(worst, money)
        return not isinstance(amount, Refuse) and await exchange.more(exchange, amount)


def judge_plan(rule: Classify, plan: Plan | None) -> Plan | None:
    """Where the judge of a request with `plan` is asked, once; `None` where it may not see the request."""
    judge = rule.judge
    if judge is None or plan is None:
        return None
    if plan.sensitive is not None:
        judge = confined(judge, plan.sensitive)
        if judge is None:
            return None
    return msgspec.structs.replace(judge, targets=(msgspec.structs.replace(judge.targets[0], retries=_ONCE),))


def _book(exchange: Exchange, own: Exchange, *, late: bool) -> None:
    """Writes the call down as one that `exchange` caused and pays."""
    later_s = own.started - exchange.started
    for each in own.attempts:
        error = "upstream_timeout" if late else each.error
        booked = msgspec.structs.replace(each, own=True, offset_s=each.offset_s + later_s, error=error)
        exchange.attempts.append(booked)
    if own.attempts:
        exchange.cost_micro_usd = total_cost(exchange.attempts)
