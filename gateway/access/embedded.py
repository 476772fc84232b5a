"""Budgets, rates and slots of one process: plain dictionaries under one event loop, no locks and no I/O of its own.

What is committed in a window comes from the ledger at its first touch, so a restart forgets nothing but leases, and
those the ledger closes itself. Fails closed for budgets when the ledger does not answer; rates and slots cannot fail.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from math import ceil

from gateway.access.accounts import Refusal, Spent, Unavailable, Window, first_soft
from gateway.access.buckets import Bucket, wait_s
from gateway.access.grants import Grant, Level, Shown
from gateway.access.truth import Questions, Truth
from gateway.access.windows import Windows
from gateway.core.limits import Applies, Budget, Concurrency, Rate

SLOT_RETRY_S = 1.0
"""A slot frees when somebody's answer ends, and nobody knows when."""
RESERVED_RETRY_S = 1.0
"""The budget has money left, but requests under way hold it: most settle below their worst case."""
FORGET_WINDOW_S = 7200
"""How long an ended window is kept: longer than a clock steps back."""
FORGET_EXPIRED_S = 86_400
"""How long a settle may come after its lease was over."""
FORGET_BUCKET_S = 600
"""How long a bucket is kept that nobody takes from; to make one anew for each request of many keys costs more."""
_MOST_BOUND = 16_384


class _Account:
    """The counters of one window."""

    __slots__ = ("committed", "ends_s", "reserved", "window")

    def __init__(self, window: Window, committed: int) -> None:
        self.window = window
        self.ends_s = float("inf") if window.ends_s is None else window.ends_s
        self.committed = committed
        self.reserved = 0

    def spent(self) -> Spent:
        return Spent(self.window, self.committed, self.reserved)


class _Slots:
    """How many requests of a scope are under way."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0


class _Money:
    """A budget among those that apply: its account, what it may hold, from how much on somebody is to be warned."""

    __slots__ = ("account", "budget", "most", "warns_from")

    def __init__(self, account: _Account, budget: Budget) -> None:
        self.account = account
        self.budget = budget
        self.most = budget.limit_micro_usd
        self.warns_from = ceil(first_soft(budget)) if budget.soft else self.most + 1


class _Flow:
    """A rate among those that apply, and its bucket; `None` before the first request."""

    __slots__ = ("bucket", "of_tokens", "per_minute", "shown")

    def __init__(self, rate: Rate) -> None:
        self.shown = Shown(rate)
        self.per_minute = rate.per_minute
        self.of_tokens = self.shown.of_tokens
        self.bucket: Bucket | None = None


class _Room:
    """A limit of requests at once among those that apply, and what its scope uses of it."""

    __slots__ = ("concurrency", "most", "slots")

    def __init__(self, concurrency: Concurrency, slots: _Slots) -> None:
        self.concurrency = concurrency
        self.most = concurrency.most
        self.slots = slots


class _Bound:
    """What a set of limits comes to while none of its windows ends: the counters themselves, so none is looked up."""

    __slots__ = ("applies", "flows", "from_s", "generation", "money", "rooms", "until_s", "windows")

    def __init__(
        self, applies: Applies, accounts: Sequence[_Account], slots: Sequence[_Slots], generation: int
    ) -> None:
        self.applies = applies
        self.money = [_Money(account, budget) for account, budget in zip(accounts, applies.budgets, strict=True)]
        self.flows = [_Flow(rate) for rate in applies.rates]
        self.rooms = [_Room(limit, used) for limit, used in zip(applies.concurrency, slots, strict=True)]
        self.windows = tuple([account.window.id for account in accounts])
        self.from_s = max((account.window.starts_s for account in accounts), default=0)
        self.until_s = min((account.ends_s for account in accounts), default=float("inf"))
        self.generation = generation


class _Lease:
    """What one request holds of `bound`."""

    __slots__ = ("bound", "expires_s", "grant", "reserved", "tokens")

    def __init__(self, bound: _Bound, reserved: int, tokens: int, expires_s: float, grant: Grant) -> None:
        self.bound = bound
        self.reserved = reserved
        self.tokens = tokens
        self.expires_s = expires_s
        self.grant = grant


class EmbeddedAccounts:
    """The `Accounts` of one process. Memory is bounded by what is in use: see `sweep`."""

    def __init__(self, truth: Truth) -> None:
        self._questions = Questions(truth, time.monotonic)
        self._windows = Windows()
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._slots: dict[str, _Slots] = {}
        self._leases: dict[str, _Lease] = {}
        self._sweeps_at_s = float("inf")
        """No lease is over before."""
        self._expired: OrderedDict[str, _Lease] = OrderedDict()
        self._bound: dict[int, _Bound] = {}
        self._generation = 0
        """Changes when an account is forgotten: what was bound to it is bound anew."""

    async def reserve(
        self, request_id: str, applies: Applies, micro_usd: int, tokens: int, now: float, lease_s: float
    ) -> Grant | Refusal:
        """All or nothing. Raises `Unavailable` when a window is new and the ledger does not answer."""
        while True:
            answer = self.reserve_at_once(request_id, applies, micro_usd, tokens, now, lease_s)
            if answer is not None:
                return answer
            await self._bind(applies, now)

    def reserve_at_once(
        self, request_id: str, applies: Applies, micro_usd: int, tokens: int, now: float, lease_s: float
    ) -> Grant | Refusal | None:
        """As `reserve`; `None` when the ledger must be asked for a window. `Unavailable` for a lease that is over."""
        if now >= self._sweeps_at_s:
            self.sweep(now)
        held = self._leases.get(request_id)
        if held is not None:
            return held.grant
        if self._expired and request_id in self._expired:
            raise Unavailable("The lease of this request is over.", retry_after_s=1.0)
        bound = self._bound.get(id(applies))
        if (
            bound is None
            or bound.applies is not applies
            or not bound.from_s <= now < bound.until_s
            or bound.generation != self._generation
        ):
            return None
        calm = True
        for money in bound.money:
            account = money.account
            used = account.committed + account.reserved + micro_usd
            if used > money.most:
                return _no_money(account, money.budget, micro_usd)
            if used >= money.warns_from:
                calm = False
        levels: list[Level] = []
        for flow in bound.flows:
            units = tokens if flow.of_tokens else 1
            bucket = self._bucket(flow, now)
            if not bucket.take(units, flow.per_minute, now):
                self._untake(bound, len(levels), tokens, now)
                wait = wait_s(bucket.lack_s, units * bucket.unit_s)
                return Refusal(level=bucket.level(flow.shown), retry_after_s=wait)
            levels.append(bucket.level(flow.shown))
        for room in bound.rooms:
            if room.slots.used >= room.most:
                self._untake(bound, len(levels), tokens, now)
                return Refusal(concurrency=room.concurrency, retry_after_s=SLOT_RETRY_S)
        # Nothing refuses any more.
        for money in bound.money:
            money.account.reserved += micro_usd
        for room in bound.rooms:
            room.slots.used += 1
        spent = () if calm else tuple([money.account.spent() for money in bound.money])
        grant = Grant(bound.windows, spent, levels)
        expires_s = now + lease_s
        self._leases[request_id] = _Lease(bound, micro_usd, tokens, expires_s, grant)
        self._sweeps_at_s = min(self._sweeps_at_s, expires_s)
        return grant

    async def extend(self, request_id: str, micro_usd: int, now: float, lease_s: float) -> bool:
        """False as well when the lease is unknown or over."""
        self.sweep(now)
        lease = self._leases.get(request_id)
        if lease is None:
            return False
        accounts = [money.account for money in lease.bound.money]
        for account in accounts:
            if micro_usd and account.committed + account.reserved + micro_usd > account.window.budget.limit_micro_usd:
                return False
        for account in accounts:
            account.reserved += micro_usd
        lease.reserved += micro_usd
        lease.expires_s = max(lease.expires_s, now + lease_s)
        return True

    def settle(self, request_id: str, charged_micro_usd: int, tokens: int, now: float) -> None:
        """Commits what was charged; corrects a lease that is over and was committed at its reservation."""
        lease = self._leases.pop(request_id, None)
        if lease is not None:
            self._end(lease, charged_micro_usd)
        else:
            lease = self._expired.pop(request_id, None)
            if lease is None:
                return
            for money in lease.bound.money:
                money.account.committed += charged_micro_usd - lease.reserved
        for flow in lease.bound.flows:
            if flow.of_tokens:
                self._bucket(flow, now).give_back(lease.tokens - tokens, now)

    def release(self, request_id: str, now: float) -> None:
        """As if it had been settled at nothing; the request itself stays counted by rates of requests."""
        self.settle(request_id, 0, 0, now)

    def sweep(self, now: float) -> None:
        """Commits the leases that are over at their reservation (expired, estimated) and frees their slots.

        Looks at all leases when the first of them may be over, which is long after most have ended. Reserve does it as
        well; call it now and then where no requests come.
        """
        if now >= self._sweeps_at_s:
            over = [(id_, lease) for id_, lease in self._leases.items() if lease.expires_s <= now]
            for request_id, lease in over:
                del self._leases[request_id]
                self._expired[request_id] = lease
                self._end(lease, lease.reserved)
            self._sweeps_at_s = min([lease.expires_s for lease in self._leases.values()], default=float("inf"))
        while self._expired and next(iter(self._expired.values())).expires_s + FORGET_EXPIRED_S <= now:
            self._expired.popitem(last=False)

    def snapshot(self, now: float) -> list[Spent]:
        """The windows that are open now and were touched, for metrics."""
        return [
            account.spent() for account in self._accounts.values() if account.window.starts_s <= now < account.ends_s
        ]

    def _untake(self, bound: _Bound, flows: int, tokens: int, now: float) -> None:
        """The first so many rates get back what they have given to a request that is refused."""
        for flow in bound.flows[:flows]:
            self._bucket(flow, now).give_back(tokens if flow.of_tokens else 1, now)

    def _end(self, lease: _Lease, charged_micro_usd: int) -> None:
        reserved = lease.reserved
        for money in lease.bound.money:
            account = money.account
            account.reserved -= reserved
            account.committed += charged_micro_usd
        for room in lease.bound.rooms:
            room.slots.used -= 1

    async def _bind(self, applies: Applies, now: float) -> None:
        accounts: list[_Account] = []
        for budget in applies.budgets:
            window = self._windows.of(budget, now)
            account = self._accounts.get(window.id) or await self._open(window, now)
            account.window = window
            accounts.append(account)
        if len(self._bound) >= _MOST_BOUND:
            self._bound.clear()
            self._slots = {id_: slots for id_, slots in self._slots.items() if slots.used}
        slots = [self._slots.setdefault(limit.id, _Slots()) for limit in applies.concurrency]
        self._bound[id(applies)] = _Bound(applies, accounts, slots, self._generation)

    async def _open(self, window: Window, now: float) -> _Account:
        committed = (await self._questions.ask(window)).micro_usd
        account = self._accounts.get(window.id)
        if account is None:
            account = self._accounts[window.id] = _Account(window, committed)
            self._forget_windows(now)
        return account

    def _bucket(self, flow: _Flow, now: float) -> Bucket:
        """What a rate's units come from. One that was full may have been forgotten: then it is the next one's."""
        bucket = flow.bucket
        if bucket is None or bucket.forgotten:
            rate = flow.shown.rate
            bucket = self._buckets.get(rate.id)
            if bucket is None:
                bucket = self._buckets[rate.id] = Bucket(rate.per_minute, now)
                self._forget_buckets(now)
            flow.bucket = bucket
        return bucket

    # Both look at the two oldest entries whenever one is added: what is of no more use goes at least as fast as new
    # entries come, and no request pays for a walk over all of them.

    def _forget_windows(self, now: float) -> None:
        for _ in range(2):
            id_, account = next(iter(self._accounts.items()))
            if account.ends_s + FORGET_WINDOW_S <= now and not account.reserved:
                del self._accounts[id_]
                self._generation += 1
            else:
                self._accounts.move_to_end(id_)

    def _forget_buckets(self, now: float) -> None:
        for _ in range(2):
            id_, bucket = next(iter(self._buckets.items()))
            self._buckets.move_to_end(id_)
            if bucket.at_s + FORGET_BUCKET_S < now and not bucket.refill(bucket.per_minute, now):
                del self._buckets[id_]
                bucket.forgotten = True


def _no_money(account: _Account, budget: Budget, micro_usd: int) -> Refusal:
    held_by_others = account.committed + micro_usd <= budget.limit_micro_usd
    return Refusal(spent=account.spent(), retry_after_s=RESERVED_RETRY_S if held_by_others else None)
