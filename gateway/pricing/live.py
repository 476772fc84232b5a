"""Live prices of self-hosted pools, fed from finished requests: to charge, to reserve, to decide by. No I/O.

The charged price is set anew every five minutes from the trailing day. It may fall at once and rises a tenth at most,
so that a reservation at `ceiling` holds whatever happens before the request is settled.
"""

from collections.abc import Callable, Iterable

import msgspec

from gateway.core.exchange import Pool, RequestRecord
from gateway.pricing.book import ModelPrice, Tier
from gateway.pricing.hosted import FLOOR, Rates, full_price, marginal_price, pressure
from gateway.pricing.utilisation import BUCKET_S, DAY_BUCKETS, Meter


class PoolPrice(msgspec.Struct, frozen=True):
    """A pool as metrics show it, over the trailing day; money in micro-USD, `None` where rates or price are unknown.

    `cost` is what its GPUs cost, `charged` what requests paid for them, `idle` the rest (negative: more was charged).
    """

    pool: str
    utilisation: float | None
    rates: Rates | None
    price: ModelPrice | None
    cost: int
    charged: int
    idle: int


class _Live:
    """One pool's meter, and the rates and the price in force since bucket `bucket`."""

    __slots__ = ("bucket", "meter", "price", "rates")

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.bucket: int | None = None
        self.rates: Rates | None = None
        self.price: ModelPrice | None = None

    def refresh(self, now: float, floor: float) -> None:
        """Sets rates and price anew where a bucket has begun since."""
        bucket = int(now // BUCKET_S)
        if self.bucket is not None and bucket <= self.bucket:
            return
        self.meter.accrue(now)
        self.rates = rates = self.meter.rates()
        made = full_price(self.meter.pool, rates, self.meter.utilisation(rates), floor) if rates is not None else None
        if made is not None and self.price is not None and self.bucket is not None:
            made = _at_most(made, _risen(self.price, bucket - self.bucket))
        self.price, self.bucket = made, bucket


class HostedPrices:
    """See the module. `wall` is seconds since the epoch; records from `since` on (default: now) will be observed.

    Records of all gateway replicas belong in: one that sees only its share takes the pool for idler than it is.
    """

    def __init__(
        self, pools: Iterable[Pool], wall: Callable[[], float], *, since: float | None = None, floor: float = FLOOR
    ) -> None:
        self._wall = wall
        self._floor = floor
        self._live: dict[str, _Live] = {}
        self._by_url: dict[str, list[_Live]] = {}
        self._take(pools, wall() if since is None else since)

    def sync(self, pools: Iterable[Pool]) -> None:
        """After a change of policy: a pool keeps its history by its name."""
        self._take(pools, self._wall())

    def _take(self, pools: Iterable[Pool], since: float) -> None:
        before, self._live = self._live, {}
        for pool in pools:
            live = before.get(pool.name) or _Live(Meter(pool, since))
            if live.meter.pool != pool:
                live.meter.change(pool, since)
                live.bucket = live.price = None
            self._live[pool.name] = live
        self._by_url = {}
        for live in self._live.values():
            for url in live.meter.pool.replicas:
                self._by_url.setdefault(url, []).append(live)

    def observe(self, record: RequestRecord) -> None:
        """Counts a finished request's attempts on replicas of the pools; call it once per record."""
        for attempt in record.attempts:
            usage = attempt.usage
            if attempt.replica is None or usage is None:
                continue
            at = record.started_s + attempt.offset_s + attempt.duration_s
            written = usage.uncached_input + usage.cache_write_5m + usage.cache_write_1h
            for live in self._by_url.get(attempt.replica, ()):
                live.meter.add(at, written, usage.output, attempt.cost_micro_usd or 0)
                if record.stream:
                    live.meter.measure(attempt)

    def price(self, pool: Pool) -> ModelPrice | None:
        """What is charged now; `None` while rates or `gpu_hour_usd` are unknown."""
        live = self._live.get(pool.name)
        if live is None:
            return None
        live.refresh(self._wall(), self._floor)
        return live.price

    def ceiling(self, pool: Pool, within_s: float = 600.0) -> ModelPrice | None:
        """What will not be passed within `within_s` seconds, the longest that a request takes: reserve at this."""
        price = self.price(pool)
        return None if price is None else _risen(price, int(within_s // BUCKET_S) + 1)

    def marginal(self, pool: Pool, *, external: ModelPrice | None = None, queue_s: float = 0.0) -> ModelPrice | None:
        """What one more request costs now, for decisions; `queue_s` is the wait that it would have."""
        live = self._live.get(pool.name)
        if live is None:
            return None
        live.refresh(self._wall(), self._floor)
        if live.rates is None:
            return None
        live.meter.accrue(self._wall())
        squeeze = pressure(live.meter.utilisation(live.rates, 2), queue_s)
        return marginal_price(live.meter.pool, live.rates, squeeze, external, self._floor)

    def idle(self, pool: Pool, since: float, until: float | None = None) -> int:
        """Micro-USD that the pool cost and nobody was charged for, in whole buckets of the trailing day.

        Negative when more was charged: a price set in quiet hours met busy ones.
        """
        live = self._live.get(pool.name)
        if live is None:
            return 0
        live.meter.accrue(self._wall())
        cost, charged = live.meter.totals(since, until)
        return cost - charged

    def snapshot(self) -> list[PoolPrice]:
        """All pools, for metrics."""
        now = self._wall()
        return [self._shown(name, live, now) for name, live in self._live.items()]

    def _shown(self, name: str, live: _Live, now: float) -> PoolPrice:
        live.refresh(now, self._floor)
        live.meter.accrue(now)
        cost, charged = live.meter.totals(now - DAY_BUCKETS * BUCKET_S)
        utilisation = live.meter.utilisation(live.rates) if live.rates is not None else None
        return PoolPrice(name, utilisation, live.rates, live.price, cost, charged, cost - charged)


def _risen(price: ModelPrice, steps: int) -> ModelPrice:
    """`price` after that many rises of a tenth."""
    tier = price.tiers[0]
    into, out = tier.input, tier.output
    for _ in range(min(steps, DAY_BUCKETS)):
        into, out = into + into // 10 + 1, out + out // 10 + 1
    return ModelPrice((Tier(into, out, cached_read=tier.cached_read),))


def _at_most(price: ModelPrice, most: ModelPrice) -> ModelPrice:
    own, limit = price.tiers[0], most.tiers[0]
    return ModelPrice((Tier(min(own.input, limit.input), min(own.output, limit.output), cached_read=own.cached_read),))
