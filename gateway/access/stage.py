"""The stage that admits a request: what its key may do, what its budgets hold, and the first line of its books.

After resolve, before anything that costs money. All limits that apply are asked at once for the worst case of the
plan; then the admission is made durable; then the request goes on. Fails closed: no room is 429, a store of budgets or
a journal that does not answer is 503, and what was reserved is given back.
"""

from collections.abc import Awaitable, Callable

import msgspec

from gateway.access.accounts import Accounts, Refusal
from gateway.access.alerts import Alerts
from gateway.access.grants import Grant
from gateway.access.keyring import Held, Keyring
from gateway.access.keystore import KeyLimits, permits
from gateway.access.refusals import limit_headers, refused
from gateway.core.clock import Clock
from gateway.core.errors import Forbidden, GatewayError
from gateway.core.exchange import Admission, Exchange, Identity, Next, Plan, Reply
from gateway.core.limits import Applies, Budget, Concurrency, Rate
from gateway.policy.table import Policy
from gateway.pricing.worst_case import NOTHING, PriceOf, Refuse, WorstCase, plan_worst_case, reservation

LEASE_MARGIN_S = 60.0
"""A lease outlives every deadline of its plan: what is still open then belongs to a worker that died."""
MEMO_ENTRIES = 16_384


class Admit:
    """See the module. `price_of` gives what a call can cost at most; `admit` makes an admission durable or raises."""

    def __init__(
        self,
        current: Callable[[], Policy],
        accounts: Accounts,
        keyring: Keyring,
        *,
        price_of: PriceOf,
        admit: Callable[[Admission], None],
        alerts: Alerts,
        clock: Clock,
    ) -> None:
        self._current = current
        self._accounts = accounts
        self._keyring = keyring
        self._price_of = price_of
        self._admit = admit
        self._alerts = alerts
        self._wall = clock.wall
        self._standings: dict[tuple[int, str, str], _Standing] = {}

    def __call__(self, exchange: Exchange, call_next: Next) -> Awaitable[Reply]:
        """A refusal, or the next stage with the request reserved and admitted."""
        identity, plan, call = exchange.identity, exchange.plan, exchange.call
        assert identity is not None, "authenticate comes before admit"
        assert plan is not None, "resolve comes before admit"
        policy: Policy = exchange.decided_by or self._current()
        standing = self._standing(policy, identity, plan.route)
        if standing.bounds is not None and not permits(standing.bounds, plan.route, call.model):
            raise _not_permitted(call.model)
        worst = NOTHING  # a cached answer costs nothing, but counts for rates and slots
        if exchange.hit is None:
            worst = plan_worst_case(call, plan, self._price_of, policy.money)
        amount = worst.micro_usd
        applies = standing.applies
        if applies is not None:
            if amount is None:
                amount = _unpriced(worst, policy, applies)
            tokens = len(call.raw) // 4 + (call.max_tokens or 0) * call.n  # four bytes a token, and what is allowed
            now = self._wall()
            answer = self._accounts.reserve_at_once(exchange.id, applies, amount, tokens, now, _lease_s(plan))
            if answer is None:
                return self._later(exchange, call_next, applies, amount, tokens)
            self._granted(exchange, answer, amount, now)
        self._accept(exchange, identity, plan, amount)
        return call_next(exchange)

    async def _later(self, exchange: Exchange, call_next: Next, applies: Applies, amount: int, tokens: int) -> Reply:
        """The rest where the store of budgets has to be waited for."""
        identity, plan, now = exchange.identity, exchange.plan, self._wall()
        assert identity is not None
        assert plan is not None
        answer = await self._accounts.reserve(exchange.id, applies, amount, tokens, now, _lease_s(plan))
        self._granted(exchange, answer, amount, now)
        self._accept(exchange, identity, plan, amount)
        return await call_next(exchange)

    def _granted(self, exchange: Exchange, answer: Grant | Refusal, amount: int, now: float) -> None:
        """What was answered, noted; raises the error of a refusal."""
        if isinstance(answer, Refusal):
            if answer.spent is not None:
                self._alerts.note((answer.spent,), now)
            raise refused(answer, amount)
        if answer.windows:
            exchange.windows, exchange.more = answer.windows, self._more
            if answer.spent:
                self._alerts.note(answer.spent, now)
        exchange.limit_headers = limit_headers(answer)

    def _accept(self, exchange: Exchange, identity: Identity, plan: Plan, amount: int | None) -> None:
        """Makes the admission durable; gives back what is reserved where that cannot be done."""
        exchange.reserved_micro_usd = amount
        try:
            self._admit(admission(exchange, identity, plan))
        except GatewayError:
            self._accounts.release(exchange.id, self._wall())
            raise
        exchange.admitted = True

    async def _more(self, exchange: Exchange, micro_usd: int) -> bool:
        assert exchange.plan is not None
        if not await self._accounts.extend(exchange.id, micro_usd, self._wall(), _lease_s(exchange.plan)):
            return False
        exchange.reserved_micro_usd = (exchange.reserved_micro_usd or 0) + micro_usd
        return True

    def _standing(self, policy: Policy, identity: Identity, route: str) -> "_Standing":
        """What holds for the caller on the route. A changed key has a new identity, so a standing is never outdated."""
        key = (id(identity), route, policy.hash)
        standing = self._standings.get(key)
        if standing is None or standing.identity is not identity:
            if len(self._standings) >= MEMO_ENTRIES:
                self._standings.clear()
            standing = self._standings[key] = _stand(policy, identity, route, self._keyring.by_id.get(identity.key))
        return standing


class _Standing(msgspec.Struct, frozen=True):
    """What holds for a caller on a route: the limits of the policy and of the key together, `None` for none at all.

    `bounds` are the key's where they permit not every route and model. `identity` is held: its id stays its own.
    """

    identity: Identity
    bounds: KeyLimits | None
    applies: Applies | None


def _stand(policy: Policy, identity: Identity, route: str, held: Held | None) -> _Standing:
    applies, bounds = policy.limits(identity, route), None
    if held is not None:
        if held.applies:
            applies = merged(applies, held.applies, policy.money.timezone)
        if held.limits.routes is not None or held.limits.models is not None:
            bounds = held.limits
    return _Standing(identity, bounds, applies or None)


def _not_permitted(model: str | None) -> Forbidden:
    return Forbidden(
        f"This key may not use the model `{model}`." if model else "This key is limited to models by name.",
        code="model_not_allowed",
        param="model",
    )


def _unpriced(worst: WorstCase, policy: Policy, applies: Applies) -> int:
    """What to reserve for an unknown price; raises `Forbidden` where the policy refuses it."""
    if not applies.budgets:
        return 0
    amount = reservation(worst, policy.money)
    if isinstance(amount, Refuse):
        raise Forbidden(
            f"A budget applies to this request, and it cannot be counted: {amount.why}. The policy can state a price, "
            "or a ceiling for unknown ones (money.unknown_price).",
            code="price_unknown",
        )
    return amount


def _lease_s(plan: Plan) -> float:
    targets = plan.targets
    if len(targets) == 1:
        return targets[0].deadlines.total_s + LEASE_MARGIN_S
    return max([target.deadlines.total_s for target in targets]) + LEASE_MARGIN_S


def merged(policy: Applies, key: Applies, timezone: str) -> Applies:
    """Both; of limits with one id the lower, so that none is counted twice. Days begin where the policy says."""
    budgets: dict[str, Budget] = {}
    for budget in (*policy.budgets, *key.budgets):
        here = msgspec.structs.replace(budget, timezone=timezone)
        there = budgets.get(budget.id)
        if there is None or here.limit_micro_usd < there.limit_micro_usd:
            budgets[budget.id] = here
    rates: dict[str, Rate] = {}
    for rate in (*policy.rates, *key.rates):
        if rate.id not in rates or rate.per_minute < rates[rate.id].per_minute:
            rates[rate.id] = rate
    slots: dict[str, Concurrency] = {}
    for slot in (*policy.concurrency, *key.concurrency):
        if slot.id not in slots or slot.most < slots[slot.id].most:
            slots[slot.id] = slot
    return Applies(tuple(budgets.values()), tuple(rates.values()), tuple(slots.values()))


def admission(exchange: Exchange, identity: Identity, plan: Plan) -> Admission:
    """What the journal holds while the request is under way."""
    call, target = exchange.call, plan.targets[0]
    return Admission(  # positional, in the order of the fields: it is built once per request
        exchange.id,
        exchange.started_wall,
        identity.tenant,
        identity.key,
        tuple(sorted(identity.tags)) if identity.tags else (),
        call.dialect,
        call.endpoint,
        exchange.policy,
        plan.route,
        call.model or "",
        target.name,
        target.provider,
        target.model or call.model or "",
        call.stream,
        exchange.reserved_micro_usd,
        exchange.windows,
    )
