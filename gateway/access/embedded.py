"""Budgets, rates and slots of one process: plain dictionaries under one event loop, no locks and no I/O of its own.

What is committed in a window comes from the ledger at its first touch, so a restart forgets nothing but leases, and
those the ledger closes itself. Fails closed for budgets when the ledger does not answer; rates and slots cannot fail.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from gateway.access.accounts import Grant, Level, Refusal, Spent, Unavailable, Window, first_soft
from gateway.access.buckets import Bucket, level_of, wait_s
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
_HEAP_SLACK = 1024
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


class _Bound:
    """What a set of limits comes to while none of its windows ends: an account and a limit for each of its budgets.

    `limits` has with each account the money that it may hold, and from how much on somebody is to be warned; `rates`
    with each rate whether it counts tokens.
    """

    __slots__ = ("accounts", "applies", "from_s", "generation", "limits", "rates", "taken", "until_s", "windows")

    def __init__(self, applies: Applies, accounts: Sequence[_Account], generation: int) -> None:
        self.applies = applies
        self.accounts = accounts
        self.limits = [
            (account, budget.limit_micro_usd, first_soft(budget), budget)
            for account, budget in zip(accounts, applies.budgets, strict=True)
        ]
        self.rates = [(rate, rate.id, rate.kind == "tokens") for rate in applies.rates]
        self.taken = [rate for rate in applies.rates if rate.kind == "tokens"]
        self.windows = tuple([account.window.id for account in accounts])
        self.from_s = max((account.window.starts_s for account in accounts), default=0)
        self.until_s = min((account.ends_s for account in accounts), default=float("inf"))
        self.generation = generation


class _Lease:
    """What one request holds. `taken`: rates that get the difference to the estimate back."""

    __slots__ = ("accounts", "expires_s", "grant", "reserved", "slots", "taken", "tokens")

    def __init__(
        self,
        accounts: Sequence[_Account],
        taken: Sequence[Rate],
        slots: Sequence[Concurrency],
        reserved: int,
        tokens: int,
        expires_s: float,
        grant: Grant,
    ) -> None:
        self.accounts = accounts
        self.taken = taken
        self.slots = slots
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
        self._slots: dict[str, int] = {}
        self._leases: dict[str, _Lease] = {}
        self._expiries: list[tuple[float, str]] = []
        self._expired: OrderedDict[str, _Lease] = OrderedDict()
        self._bound: dict[int, _Bound] = {}
        self._generation = 0
        """Changes when an account is forgotten: what was bound to it is bound anew."""

    async def reserve(
        self, request_id: str, applies: Applies, micro_usd: int, tokens: int, now: float, lease_s: float
    ) -> Grant | Refusal:
        """All or nothing. Raises `Unavailable` when a window is new and the ledger does not answer."""
        if self._expiries and self._expiries[0][0] <= now:
            self.sweep(now)
        bound = self._bound.get(id(applies))
        if (
            bound is None
            or bound.applies is not applies
            or not bound.from_s <= now < bound.until_s
            or bound.generation != self._generation
        ):
            bound = await self._bind(applies, now)
        # From here on nothing awaits: the checks and what they allow are one step.
        held = self._leases.get(request_id)
        if held is not None:
            return held.grant
        if request_id in self._expired:
            raise Unavailable("The lease of this request is over.", retry_after_s=1.0)
        calm = True
        for account, limit, soft, budget in bound.limits:
            used = account.committed + account.reserved + micro_usd
            if used > limit:
                return _no_money(account, budget, micro_usd)
            calm = calm and used < soft
        levels: list[Level] = []
        for rate, id_, of_tokens in bound.rates:
            bucket = self._buckets.get(id_) or self._new_bucket(rate, now)
            level = bucket.take(rate, tokens if of_tokens else 1, now)
            if level is None:
                self._untake(bound, len(levels), tokens, now)
                wait = wait_s(bucket.lack_s, (tokens if of_tokens else 1) * bucket.unit_s)
                return Refusal(level=level_of(rate, bucket.lack_s), retry_after_s=wait)
            levels.append(level)
        slots = self._slots
        for slot in applies.concurrency:
            if slots.get(slot.id, 0) >= slot.most:
                self._untake(bound, len(levels), tokens, now)
                return Refusal(concurrency=slot, retry_after_s=SLOT_RETRY_S)
        # Nothing refuses any more.
        for account in bound.accounts:
            account.reserved += micro_usd
        spent = () if calm else tuple([account.spent() for account in bound.accounts])
        for slot in applies.concurrency:
            slots[slot.id] = slots.get(slot.id, 0) + 1
        grant = Grant(bound.windows, spent, tuple(levels))
        expires_s = now + lease_s
        self._leases[request_id] = _Lease(
            bound.accounts, bound.taken, applies.concurrency, micro_usd, tokens, expires_s, grant
        )
        expiries = self._expiries
        heappush(expiries, (expires_s, request_id))
        if len(expiries) > 2 * len(self._leases) + _HEAP_SLACK:
            # Most leases end long before they are over; their entries go when they are the greater part.
            self._expiries = [(lease.expires_s, id_) for id_, lease in self._leases.items()]
            heapify(self._expiries)
        return grant

    async def extend(self, request_id: str, micro_usd: int, now: float, lease_s: float) -> bool:
        """False as well when the lease is unknown or over."""
        if self._expiries and self._expiries[0][0] <= now:
            self.sweep(now)
        lease = self._leases.get(request_id)
        if lease is None:
            return False
        for account in lease.accounts:
            if micro_usd and account.committed + account.reserved + micro_usd > account.window.budget.limit_micro_usd:
                return False
        for account in lease.accounts:
            account.reserved += micro_usd
        lease.reserved += micro_usd
        lease.expires_s = max(lease.expires_s, now + lease_s)
        return True

    def settle(self, request_id: str, charged_micro_usd: int, tokens: int, now: float) -> None:
        """Commits what was charged; corrects a lease that is over and was committed at its reservation."""
        lease = self._leases.pop(request_id, None)
        if lease is not None:
            reserved = lease.reserved
            for account in lease.accounts:
                account.reserved -= reserved
                account.committed += charged_micro_usd
            self._free(lease.slots)
        else:
            lease = self._expired.pop(request_id, None)
            if lease is None:
                return
            for account in lease.accounts:
                account.committed += charged_micro_usd - lease.reserved
        for rate in lease.taken:
            # A bucket that was full was forgotten; what the answer used beyond its estimate needs one again.
            (self._buckets.get(rate.id) or self._new_bucket(rate, now)).give_back(lease.tokens - tokens, now)

    def release(self, request_id: str, now: float) -> None:
        """As if it had been settled at nothing; the request itself stays counted by rates of requests."""
        self.settle(request_id, 0, 0, now)

    def sweep(self, now: float) -> None:
        """Commits the leases that are over at their reservation (expired, estimated) and frees their slots.

        Costs what has expired. Reserve does it as well; call it now and then where no requests come.
        """
        expiries = self._expiries
        while expiries and expiries[0][0] <= now:
            request_id = heappop(expiries)[1]
            lease = self._leases.get(request_id)
            if lease is None:
                continue
            if lease.expires_s > now:
                heappush(expiries, (lease.expires_s, request_id))
                continue
            del self._leases[request_id]
            self._expired[request_id] = lease
            for account in lease.accounts:
                account.reserved -= lease.reserved
                account.committed += lease.reserved
            self._free(lease.slots)
        while self._expired and next(iter(self._expired.values())).expires_s + FORGET_EXPIRED_S <= now:
            self._expired.popitem(last=False)

    def snapshot(self, now: float) -> list[Spent]:
        """The windows that are open now and were touched, for metrics."""
        return [
            account.spent() for account in self._accounts.values() if account.window.starts_s <= now < account.ends_s
        ]

    def _untake(self, bound: _Bound, rates: int, tokens: int, now: float) -> None:
        """The first so many rates get back what they have given to a request that is refused."""
        for _, id_, of_tokens in bound.rates[:rates]:
            self._buckets[id_].give_back(tokens if of_tokens else 1, now)

    def _free(self, slots: Sequence[Concurrency]) -> None:
        for slot in slots:
            used = self._slots[slot.id] - 1
            if used:
                self._slots[slot.id] = used
            else:
                del self._slots[slot.id]

    async def _bind(self, applies: Applies, now: float) -> _Bound:
        accounts: list[_Account] = []
        for budget in applies.budgets:
            window = self._windows.of(budget, now)
            account = self._accounts.get(window.id) or await self._open(window, now)
            account.window = window
            accounts.append(account)
        if len(self._bound) >= _MOST_BOUND:
            self._bound.clear()
        bound = self._bound[id(applies)] = _Bound(applies, accounts, self._generation)
        return bound

    async def _open(self, window: Window, now: float) -> _Account:
        committed = (await self._questions.ask(window)).micro_usd
        account = self._accounts.get(window.id)
        if account is None:
            account = self._accounts[window.id] = _Account(window, committed)
            self._forget_windows(now)
        return account

    def _new_bucket(self, rate: Rate, now: float) -> Bucket:
        bucket = self._buckets[rate.id] = Bucket(rate.per_minute, now)
        self._forget_buckets(now)
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
            if bucket.at_s < now and not bucket.refill(bucket.per_minute, now):
                del self._buckets[id_]


def _no_money(account: _Account, budget: Budget, micro_usd: int) -> Refusal:
    held_by_others = account.committed + micro_usd <= budget.limit_micro_usd
    return Refusal(spent=account.spent(), retry_after_s=RESERVED_RETRY_S if held_by_others else None)
