"""How busy the replayed traffic keeps the operator's pools, hour by hour, at the rates that the policy states. Pure.

An hour's mean says nothing of bursts within it, and hits, refusals and failures are no work. What a request asks of a
replica is what its tokens are priced by: `gateway.pricing.hosted`.
"""

from typing import Final

import msgspec

from gateway.core.exchange import Pool, Usage
from gateway.pricing.hosted import Rates, configured_rates

HOUR_S: Final = 3600


class PoolUse(msgspec.Struct, frozen=True):
    """Shares of what all replicas of a pool do at their stated rates; `None` where it states none.

    `mean` is over the hours from the first request of the traffic to the last, `busiest` that of the fullest hour,
    which begins at `busiest_s` (Unix seconds; `None` without any work). `unknown` counts requests whose tokens are not
    known.
    """

    pool: str
    replicas: int
    requests: int
    unknown: int
    mean: float | None
    busiest: float | None
    busiest_s: int | None


class PoolLoads:
    """The work of each pool."""

    def __init__(self) -> None:
        self._work: dict[str, dict[int, float]] = {}
        self._requests: dict[str, int] = {}
        self._unknown: dict[str, int] = {}
        self._rates: dict[str, Rates | None] = {}

    def add(self, pool: Pool, usage: Usage | None, at_s: float) -> None:
        """Counts one request that the pool serves; `usage` is `None` where its tokens are not known."""
        name = pool.name
        if name not in self._rates:
            self._rates[name], self._work[name] = configured_rates(pool), {}
            self._requests[name] = self._unknown[name] = 0
        self._requests[name] += 1
        rates = self._rates[name]
        if usage is None:
            self._unknown[name] += 1
        elif rates is not None:
            hours, hour = self._work[name], int(at_s // HOUR_S)
            hours[hour] = hours.get(hour, 0.0) + rates.work_s(usage.input - usage.cache_read, usage.output)

    def use(self, pools: dict[str, Pool], since_s: float | None, until_s: float | None) -> tuple[PoolUse, ...]:
        """By pool, in the order of `pools`; the moments of the first and the last request, `None` without any."""
        hours = 1 if since_s is None or until_s is None else int(until_s // HOUR_S) - int(since_s // HOUR_S) + 1
        return tuple(self._use(pool, hours) for pool in pools.values())

    def _use(self, pool: Pool, hours: int) -> PoolUse:
        work = self._work.get(pool.name, {})
        requests, unknown = self._requests.get(pool.name, 0), self._unknown.get(pool.name, 0)
        replicas = len(pool.replicas)
        if configured_rates(pool) is None or (unknown and unknown == requests):
            return PoolUse(pool.name, replicas, requests, unknown, None, None, None)
        whole = replicas * HOUR_S
        top = max(work, key=work.__getitem__, default=None)
        busiest = work[top] / whole if top is not None else 0.0
        mean = sum(work.values()) / (whole * hours)
        return PoolUse(pool.name, replicas, requests, unknown, mean, busiest, top * HOUR_S if top is not None else None)
