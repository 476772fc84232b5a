import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.exchange import Attempt, Pool, Usage
from gateway.pricing.book import ModelPrice, Tier
from gateway.pricing.hosted import FLOOR, Rates, pool_price
from gateway.pricing.live import HostedPrices
from gateway.pricing.utilisation import BUCKET_S, DAY_BUCKETS, FARTHEST, Meter
from tests.support.records import record

POOL = Pool(
    "p", ("http://a", "http://b"), gpu_hour_usd="2.10", gpus=2, input_tokens_per_s=10_000, output_tokens_per_s=1_000
)
BARE = msgspec.structs.replace(POOL, input_tokens_per_s=None, output_tokens_per_s=None)
MIDNIGHT = 1_795_219_200.0
HOUR, DAY = 3_600, 86_400


class Wall:
    def __init__(self, now=MIDNIGHT):
        self.now = now

    def __call__(self):
        return self.now


def served(at, usage, cost=0, replica="http://a", ttft_s=None, stream=False, error=None):
    """A request that ended at `at`."""
    attempt = Attempt("t", replica, 200, error, 0.5, 1.5, ttft_s, usage, cost)
    return record(started_s=at - 2.0, attempts=(attempt,), stream=stream)


def charge(prices, wall, usage, pool=POOL):
    """One request served now, at the price in force."""
    cost = prices.price(pool).cost_total(usage)
    prices.observe(served(wall.now, usage, cost))
    return cost


def use(prices, wall, share, seconds):
    """Keeps the pool's two replicas busy for a share of the time."""
    for _ in range(0, int(seconds), BUCKET_S):
        wall.now += BUCKET_S
        prices.observe(served(wall.now - 1, Usage(output=round(2 * share * BUCKET_S * 1_000))))


def factor(price):
    """How many times the price at full use it is."""
    return price.tiers[0].output / pool_price(POOL).tiers[0].output


def test_a_pool_that_nobody_used_yet_is_charged_at_the_floor():
    assert factor(HostedPrices([POOL], Wall()).price(POOL)) == pytest.approx(1 / FLOOR)


@pytest.mark.parametrize(("share", "times"), [(1.0, 1.0), (0.5, 2.0), (0.25, 4.0), (0.01, 5.0)])
def test_the_price_is_that_at_full_use_over_the_utilisation(share, times):
    wall = Wall()
    prices = HostedPrices([POOL], wall)
    use(prices, wall, share, DAY)
    assert factor(prices.price(POOL)) == pytest.approx(times, rel=1e-2)


def test_an_hour_of_work_fades_over_a_day():
    wall = Wall()
    prices = HostedPrices([POOL], wall)
    use(prices, wall, 1.0, HOUR)
    assert factor(prices.price(POOL)) == pytest.approx(1.0, rel=0.05)
    wall.now += HOUR
    assert prices.snapshot()[0].utilisation == pytest.approx(0.5, rel=0.05)
    wall.now += DAY
    assert prices.snapshot()[0].utilisation == 0


def test_the_price_holds_for_five_minutes_falls_at_once_and_rises_by_a_tenth():
    wall = Wall()
    prices = HostedPrices([POOL], wall)
    at_the_floor = prices.price(POOL)
    prices.observe(served(wall.now + 200, Usage(output=600_000)))
    wall.now += BUCKET_S - 1
    assert prices.price(POOL) == at_the_floor
    wall.now += 1
    busy = prices.price(POOL)
    assert factor(busy) == pytest.approx(1.0)
    wall.now += BUCKET_S
    assert factor(prices.price(POOL)) == pytest.approx(1.1)
    wall.now += 3 * BUCKET_S
    assert factor(prices.price(POOL)) == pytest.approx(1.1**4, rel=1e-4)


@given(st.lists(st.tuples(st.floats(0, 900), st.floats(0, 1.2)), max_size=40), st.floats(0, 600))
@settings(deadline=None, max_examples=100)
def test_a_reservation_at_the_ceiling_holds_until_the_request_is_settled(steps, lasts):
    wall = Wall()
    prices = HostedPrices([POOL], wall)
    for wait, share in steps:
        wall.now += wait
        prices.observe(served(wall.now, Usage(output=round(share * 2_000 * wait))))
        reserved = prices.ceiling(POOL).tiers[0]
        at = wall.now
        wall.now += lasts / 2
        prices.price(POOL)
        wall.now = at + lasts
        settled = prices.price(POOL).tiers[0]
        assert settled.input <= reserved.input
        assert settled.output <= reserved.output


usages = st.builds(
    Usage, st.integers(0, 200_000), st.integers(0, 9_000), st.just(0), st.just(0), st.integers(0, 50_000)
)


@given(
    st.lists(st.tuples(st.integers(0, DAY - 1), usages), max_size=60),
    st.integers(1, 4),
    st.integers(1, 8),
    st.decimals("0.01", "9.99", places=4),
)
@settings(deadline=None, max_examples=100)
def test_over_a_day_what_was_charged_and_what_was_idle_are_what_the_pods_cost(requests, replicas, gpus, hour):
    pool = msgspec.structs.replace(
        POOL, replicas=(*[f"http://{n}" for n in range(replicas)], "http://a"), gpus=gpus, gpu_hour_usd=str(hour)
    )
    wall = Wall()
    prices = HostedPrices([pool], wall)
    full = pool_price(pool).tiers[0]
    charged = 0
    for at, usage in sorted(requests, key=lambda each: each[0]):
        wall.now = MIDNIGHT + at
        price = prices.price(pool).tiers[0]
        assert full.output / FARTHEST - 1 <= price.output <= (full.output + 1) / FLOOR
        assert price.output > 0
        charged += charge(prices, wall, usage, pool)
    wall.now = MIDNIGHT + DAY
    cost = int(hour * 1_000_000) * gpus * (replicas + 1) * 24
    assert charged + prices.idle(pool, MIDNIGHT) == cost
    halves = prices.idle(pool, MIDNIGHT, MIDNIGHT + DAY / 2) + prices.idle(pool, MIDNIGHT + DAY / 2)
    assert halves == prices.idle(pool, MIDNIGHT)
    shown = prices.snapshot()[0]
    assert (shown.cost, shown.charged, shown.idle) == (cost, charged, cost - charged)


def test_at_the_floor_what_is_not_charged_is_shown_as_idle():
    """Two replicas of two GPUs at $2.10 cost $201.60 a day; a hundredth of it worked, charged five times over."""
    wall = Wall()
    prices = HostedPrices([POOL], wall)
    charged = 0
    for _ in range(DAY_BUCKETS):
        charged += charge(prices, wall, Usage(output=6_000))
        wall.now += BUCKET_S
    assert charged == pytest.approx(201_600_000 * 0.01 * 5, rel=1e-3)
    assert prices.idle(POOL, MIDNIGHT) == 201_600_000 - charged


def test_in_a_steady_day_the_charges_cover_the_pods():
    wall = Wall()
    prices = HostedPrices([POOL], wall)
    use(prices, wall, 0.5, DAY)
    start = wall.now
    charged = 0
    for _ in range(DAY_BUCKETS):
        charged += charge(prices, wall, Usage(output=300_000))
        wall.now += BUCKET_S
    assert charged + prices.idle(POOL, start) == 201_600_000
    assert abs(prices.idle(POOL, start)) < 0.01 * 201_600_000


def test_history_that_is_replayed_counts_from_its_beginning():
    wall = Wall(MIDNIGHT + DAY)
    prices = HostedPrices([POOL], wall, since=MIDNIGHT)
    for n in range(1, 289):
        prices.observe(served(MIDNIGHT + n * BUCKET_S - 1, Usage(output=300_000), 10))
    assert prices.snapshot()[0].utilisation == pytest.approx(0.5, rel=0.01)
    assert prices.idle(POOL, MIDNIGHT) == 201_600_000 - 2_880


def test_a_pool_that_changes_is_paid_for_as_it_was():
    wall = Wall()
    prices = HostedPrices([POOL], wall)
    wall.now += HOUR
    smaller = msgspec.structs.replace(POOL, replicas=("http://a",))
    prices.sync([smaller])
    wall.now += HOUR
    assert prices.idle(smaller, MIDNIGHT) == 8_400_000 + 4_200_000
    prices.observe(served(wall.now, Usage(output=1_000), 7, replica="http://b"))
    assert prices.idle(smaller, MIDNIGHT) == 12_600_000


def test_what_is_not_of_a_pool_or_was_not_answered_counts_for_nothing():
    wall = Wall()
    prices = HostedPrices([POOL], wall)
    prices.observe(served(wall.now, Usage(output=10**9), 5, replica=None))
    prices.observe(served(wall.now, Usage(output=10**9), 5, replica="http://elsewhere"))
    prices.observe(served(wall.now, None, None, error="connect"))
    assert prices.snapshot()[0].utilisation == 0
    assert prices.idle(POOL, MIDNIGHT) == 0
    assert prices.price(Pool("unknown", ("http://u",))) is None
    assert prices.marginal(Pool("unknown", ("http://u",))) is None
    assert prices.idle(Pool("unknown", ("http://u",)), 0) == 0


def test_a_clock_that_steps_back_pays_for_no_time_twice():
    wall = Wall()
    prices = HostedPrices([POOL], wall)
    wall.now += HOUR
    assert prices.idle(POOL, MIDNIGHT) == 8_400_000
    wall.now -= HOUR / 2
    assert prices.idle(POOL, MIDNIGHT) == 8_400_000
    assert prices.price(POOL) is not None
    wall.now += HOUR
    assert prices.idle(POOL, MIDNIGHT) == 12_600_000


def test_memory_holds_a_day_however_long_it_runs():
    wall = Wall()
    prices = HostedPrices([POOL], wall)
    for _ in range(3 * DAY_BUCKETS):
        wall.now += BUCKET_S
        prices.price(POOL)
    wall.now += 30 * DAY
    prices.price(POOL)
    assert len(prices._live["p"].meter._buckets) <= DAY_BUCKETS + 2


def test_one_more_request_is_cheap_while_idle_and_dear_while_busy():
    wall = Wall()
    prices = HostedPrices([POOL], wall)
    external = ModelPrice((Tier(400_000, 1_600_000),))
    full = pool_price(POOL).tiers[0]
    assert prices.marginal(POOL).tiers[0].output == pytest.approx(0.04 * full.output, rel=1e-3)
    assert prices.marginal(POOL, queue_s=1.0).tiers[0].output == pytest.approx(1.04 * full.output, rel=1e-3)
    use(prices, wall, 1.1, HOUR)
    assert prices.marginal(POOL, external=external) == ModelPrice((Tier(400_000, 1_600_000, cached_read=0),))


def metered(pool, prefills=(), throughput=()):
    meter = Meter(pool, MIDNIGHT)
    for rate in prefills:
        meter.measure(Attempt("t", "http://a", 200, None, 0, 2, ttft_s=1.0, usage=Usage(uncached_input=rate)))
    for n, rate in enumerate(throughput):
        meter.add(MIDNIGHT + n * BUCKET_S, 0, rate * 2 * BUCKET_S, 0)
    meter.accrue(MIDNIGHT + max(1, len(throughput)) * BUCKET_S)
    return meter.rates()


def test_configured_rates_hold_until_measurements_outweigh_them():
    assert metered(POOL) == Rates(10_000, 1_000)
    assert metered(POOL, prefills=[20_000] * 5) == Rates(10_000, 1_000)
    assert metered(POOL, prefills=[20_000] * 30) == Rates(20_000, 1_000)


def test_measurements_that_are_far_off_do_not_carry_the_rate_away():
    assert metered(POOL, prefills=[10_000_000] * 200).input == FARTHEST * 10_000
    assert metered(POOL, prefills=[600] * 200).input == 10_000 / FARTHEST
    assert metered(POOL, prefills=[20_000] * 100 + [10_000_000] * 90).input == 20_000


def test_a_quiet_pool_does_not_lower_its_output_rate_and_a_busy_one_raises_it():
    assert metered(POOL, throughput=[10] * 100).output == 1_000
    assert metered(POOL, throughput=[10] * 80 + [1_500] * 20).output == 1_500
    assert metered(POOL, throughput=[10] * 80 + [90_000] * 20).output == FARTHEST * 1_000


def test_unconfigured_rates_are_learnt_from_enough_traffic():
    assert metered(BARE, [8_000] * 49, [700] * 20) is None
    assert metered(BARE, [8_000] * 60, [700] * 11) is None
    assert metered(BARE, [8_000] * 60, [700] * 20) == Rates(8_000, 700)


def test_a_pool_without_rates_has_no_price_until_they_are_learnt():
    wall = Wall()
    prices = HostedPrices([BARE], wall)
    assert prices.price(BARE) is None
    assert prices.marginal(BARE) is None
    assert prices.ceiling(BARE) is None
    for _ in range(80):
        wall.now += BUCKET_S
        usage = Usage(uncached_input=3_000, output=210_000)
        prices.observe(served(wall.now, usage, stream=True, ttft_s=0.3))
    price = prices.price(BARE)
    assert price is not None
    assert prices.snapshot()[0].rates.input == pytest.approx(10_000)
    spent = price.cost_total(Usage(uncached_input=3_000 * 80, output=210_000 * 80))
    assert spent == pytest.approx(8_400_000 * 80 * BUCKET_S / HOUR, rel=0.05)


@pytest.mark.parametrize(
    "attempt",
    [
        Attempt("t", "http://a", 200, "broken", 0, 2, ttft_s=1.0, usage=Usage(uncached_input=90_000)),
        Attempt("t", "http://a", 200, None, 0, 2, ttft_s=None, usage=Usage(uncached_input=90_000)),
        Attempt("t", "http://a", 200, None, 0, 2, ttft_s=1.0, usage=Usage(uncached_input=90_000, source="estimated")),
        Attempt("t", "http://a", 200, None, 0, 2, ttft_s=0.001, usage=Usage(uncached_input=90)),
        Attempt("t", "http://a", 200, None, 0, 2, ttft_s=1.0, usage=None),
    ],
)
def test_what_tells_nothing_of_prefill_is_not_measured(attempt):
    meter = Meter(POOL, MIDNIGHT)
    meter.measure(attempt)
    assert not meter._prefills
