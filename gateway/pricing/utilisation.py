"""What a pool did and cost over the trailing day: tokens, charges and paid time in buckets of five minutes. No I/O.

Time is an argument, wall seconds. From the buckets follow the utilisation, the rates that replicas have shown, and what
is left of the pool's cost when all charges are taken off: the idle line. Costs are integer micro-USD, cut at absolute
times, so that the cost of two neighbouring spans is that of both together, to the micro-dollar.
"""

from collections import deque
from collections.abc import Iterator
from statistics import median

from gateway.core.exchange import Attempt, Pool
from gateway.core.money import micro_usd
from gateway.pricing.hosted import Rates, configured_rates

BUCKET_S = 300
DAY_BUCKETS = 86_400 // BUCKET_S
SAMPLES = 256
PRIOR_SAMPLES = 20
"""How many measurements a configured rate counts for."""
ENOUGH_SAMPLES = 50
ENOUGH_BUCKETS = 12
"""Prefills and busy buckets without which an unconfigured rate stays unknown."""
LONG_PROMPT = 512
"""Tokens from which the time to the first token tells of prefill rather than of the network."""
FARTHEST = 4.0
"""How far, as a factor, measurements move a configured rate."""

_BUCKET_MS = BUCKET_S * 1000
_HOUR_MS = 3_600_000


class Bucket:
    """Five minutes of a pool: paid replica-seconds and micro-USD, tokens done, micro-USD charged for them."""

    __slots__ = ("charged", "cost", "input", "output", "replica_s")

    def __init__(self) -> None:
        self.replica_s = 0.0
        self.cost = 0
        self.input = 0
        self.output = 0
        self.charged = 0


class Meter:
    """The trailing day of one pool, from `since` on. The pool's replicas, GPUs and price hold until `change`."""

    def __init__(self, pool: Pool, since: float) -> None:
        self.pool = pool
        self._buckets: dict[int, Bucket] = {}
        self._until_ms = int(since * 1000)
        self._prefills: deque[float] = deque(maxlen=SAMPLES)
        self._micro_per_hour = _micro_per_hour(pool)

    def change(self, pool: Pool, now: float) -> None:
        """From `now` on the pool is this one."""
        self.accrue(now)
        self.pool = pool
        self._micro_per_hour = _micro_per_hour(pool)

    def accrue(self, now: float) -> None:
        """Pays for the time up to `now`; time that has been paid for is not paid again when the clock steps back."""
        until = int(now * 1000)
        at = max(self._until_ms, until - (DAY_BUCKETS + 1) * _BUCKET_MS)
        while at < until:
            index = at // _BUCKET_MS
            end = min(until, (index + 1) * _BUCKET_MS)
            bucket = self._bucket(index)
            bucket.replica_s += len(self.pool.replicas) * (end - at) / 1000
            bucket.cost += self._cost_until(end) - self._cost_until(at)
            at = end
        self._until_ms = max(self._until_ms, until)

    def add(self, at: float, uncached_input: int, output: int, charged: int) -> None:
        """Tokens that were done at `at`, and what was charged for them."""
        bucket = self._bucket(int(at * 1000) // _BUCKET_MS)
        bucket.input += uncached_input
        bucket.output += output
        bucket.charged += charged

    def measure(self, attempt: Attempt) -> None:
        """Takes a streamed attempt's prefill as a measurement, where it is one."""
        usage = attempt.usage
        if usage is None or usage.source != "reported" or attempt.error is not None or not attempt.ttft_s:
            return
        if usage.uncached_input >= LONG_PROMPT:
            self._prefills.append(usage.uncached_input / attempt.ttft_s)

    def rates(self) -> Rates | None:
        """What a busy replica delivers, by configuration and measurement; `None` while neither tells enough.

        Input: the median of prefill measurements, the configured rate counting for twenty. Output: the busiest
        five minutes but for one in twenty; a quiet pool tells nothing of what it could do, so this only raises a
        configured rate.
        """
        prior = configured_rates(self.pool)
        shown = sorted(each.output / each.replica_s for each in self._paid() if each.output)
        busiest = shown[int(0.95 * (len(shown) - 1))] if shown else 0.0
        if prior is not None:
            middle = median([*self._prefills, *[prior.input] * PRIOR_SAMPLES])
            return Rates(
                min(max(middle, prior.input / FARTHEST), prior.input * FARTHEST),
                min(max(busiest, prior.output), prior.output * FARTHEST),
            )
        if len(self._prefills) < ENOUGH_SAMPLES or len(shown) < ENOUGH_BUCKETS:
            return None
        return Rates(median(self._prefills), busiest)

    def utilisation(self, rates: Rates, buckets: int = DAY_BUCKETS) -> float:
        """Work done over time paid for in the last so many buckets; 0 before any time has passed."""
        newest = self._until_ms // _BUCKET_MS
        paid, into, out = 0.0, 0, 0
        for index in range(newest - buckets + 1, newest + 1):
            bucket = self._buckets.get(index)
            if bucket is not None:
                paid += bucket.replica_s
                into += bucket.input
                out += bucket.output
        return rates.work_s(into, out) / paid if paid else 0.0

    def totals(self, since: float, until: float | None = None) -> tuple[int, int]:
        """(cost, charged) in micro-USD of the whole buckets from `since` to before `until`, within the trailing day."""
        first = int(since * 1000) // _BUCKET_MS
        end = None if until is None else int(until * 1000) // _BUCKET_MS
        chosen = [each for index, each in self._buckets.items() if index >= first and (end is None or index < end)]
        return sum(each.cost for each in chosen), sum(each.charged for each in chosen)

    def _paid(self) -> Iterator[Bucket]:
        return (bucket for bucket in self._buckets.values() if bucket.replica_s > 0)

    def _bucket(self, index: int) -> Bucket:
        bucket = self._buckets.get(index)
        if bucket is None:
            bucket = self._buckets[index] = Bucket()
            newest = max(self._buckets)
            for old in [each for each in self._buckets if each < newest - DAY_BUCKETS]:
                del self._buckets[old]
        return bucket

    def _cost_until(self, at_ms: int) -> int:
        return self._micro_per_hour * at_ms // _HOUR_MS


def _micro_per_hour(pool: Pool) -> int:
    """What all replicas of the pool cost an hour; 0 when nobody said."""
    replica = micro_usd(pool.gpu_hour_usd) * pool.gpus if pool.gpu_hour_usd is not None else 0
    return replica * len(pool.replicas)
