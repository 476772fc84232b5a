"""The stage that admits a request: what its key may do, what its budgets hold, and the first line of its books.

After resolve, before anything that costs money. All limits that apply are asked at once for the worst case of the
plan; then the admission is made durable; then the request goes on. Fails closed: no room is 429, a store of budgets or
a journal that does not answer is 503, and what was reserved is given back.
"""

from collections.abc import Callable
from functools import partial

import msgspec

from gateway.access.accounts import Accounts, Grant, Refusal
from gateway.access.alerts import Alerts
from gateway.access.keyring import Keyring
from gateway.access.keystore import permits
from gateway.access.refusals import limit_headers, refused
from gateway.core.clock import Clock
from gateway.core.errors import Forbidden, GatewayError
from gateway.core.exchange import Admission, Call, Exchange, Identity, Next, Plan, Reply
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
        self._memo: dict[tuple[Identity, str, str], tuple[Applies | None, Applies]] = {}

    async def __call__(self, exchange: Exchange, call_next: Next) -> Reply:
        """A refusal, or the next stage with the request reserved and admitted."""
        identity, plan = exchange.identity, exchange.plan
        assert identity is not None, "authenticate comes before admit"
        assert plan is not None, "resolve comes before admit"
        policy: Policy = exchange.decided_by or self._current()
        applies = self._applies(policy, identity, plan.route, exchange.call.model)
        worst = NOTHING  # a cached answer costs nothing, but counts for rates and slots
        if exchange.hit is None:
            worst = plan_worst_case(exchange.call, plan, self._price_of, policy.money)
        exchange.reserved_micro_usd = worst.micro_usd
        if applies:
            amount, tokens = _amount(worst, policy, applies), _tokens(exchange.call)
            now, lease_s = self._wall(), _lease_s(plan)
            answer = await self._accounts.reserve(exchange.id, applies, amount, tokens, now, lease_s)
            self._take(exchange, answer, amount, now, lease_s)
        try:
            self._admit(admission(exchange, identity, plan))
        except GatewayError:
            self._accounts.release(exchange.id, self._wall())
            raise
        exchange.admitted = True
        return await call_next(exchange)

    def _take(self, exchange: Exchange, answer: Grant | Refusal, amount: int, now: float, lease_s: float) -> None:
        """What the store answered, on the exchange; raises what the caller is told of a refusal."""
        if isinstance(answer, Refusal):
            if answer.spent is not None:
                self._alerts.note((answer.spent,), now)
            raise refused(answer, amount)
        exchange.reserved_micro_usd = amount
        exchange.windows = answer.windows
        if answer.windows:
            exchange.more = partial(self._more, lease_s)
            if answer.spent:
                self._alerts.note(answer.spent, now)
        exchange.limit_headers = limit_headers(answer)

    async def _more(self, lease_s: float, exchange: Exchange, micro_usd: int) -> bool:
        if not await self._accounts.extend(exchange.id, micro_usd, self._wall(), lease_s):
            return False
        exchange.reserved_micro_usd = (exchange.reserved_micro_usd or 0) + micro_usd
        return True

    def _applies(self, policy: Policy, identity: Identity, route: str, model: str | None) -> Applies:
        """The limits of the policy and of the key together; raises `Forbidden` for what the key may not do."""
        held = self._keyring.by_id.get(identity.key)
        if held is not None and not permits(held.limits, route, model):
            raise Forbidden(
                f"This key may not use the model `{model}`." if model else "This key is limited to models by name.",
                code="model_not_allowed",
                param="model",
            )
        own = held.applies if held is not None else None
        memo = self._memo.get((identity, route, policy.hash))
        if memo is not None and memo[0] is own:
            return memo[1]
        applies = policy.limits(identity, route)
        if own:
            applies = merged(applies, own, policy.money.timezone)
        if len(self._memo) >= MEMO_ENTRIES:
            self._memo.clear()
        self._memo[identity, route, policy.hash] = (own, applies)
        return applies


def _amount(worst: WorstCase, policy: Policy, applies: Applies) -> int:
    """What to reserve; raises `Forbidden` where the policy refuses an unknown price."""
    if worst.micro_usd is not None or not applies.budgets:
        return worst.micro_usd or 0
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


def _tokens(call: Call) -> int:
    """What rates of tokens count before the usage is known: four bytes a token, and what the caller allows."""
    return len(call.raw) // 4 + (call.max_tokens or 0) * call.n


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
