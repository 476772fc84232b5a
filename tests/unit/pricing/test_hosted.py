import pytest

from gateway.core.exchange import Pool, Usage
from gateway.pricing.book import ModelPrice, Tier
from gateway.pricing.hosted import ENERGY_SHARE, FLOOR, Rates, full_price, marginal_price, pool_price, pressure

POOL = Pool("p", ("http://a", "http://b"), gpu_hour_usd="3.60", gpus=2)
RATES = Rates(10_000, 1_000)
"""Two GPUs at $3.60 are $0.002 a second: 200,000 pico-USD per input token, 2,000,000 per output token."""


def tier(price):
    return price.tiers[0].input, price.tiers[0].output


def test_work_is_the_time_that_tokens_keep_a_replica_busy():
    assert RATES.work_s(20_000, 500) == 2.5


def test_the_full_price_spreads_idle_time_over_the_work():
    assert tier(full_price(POOL, RATES, 1.0)) == (200_000, 2_000_000)
    assert tier(full_price(POOL, RATES, 0.5)) == (400_000, 4_000_000)


@pytest.mark.parametrize("utilisation", [0.0, 1e-9, FLOOR])
def test_an_idle_morning_costs_no_more_than_the_floor(utilisation):
    assert tier(full_price(POOL, RATES, utilisation)) == (1_000_000, 10_000_000)


def test_more_than_full_is_full():
    assert tier(full_price(POOL, RATES, 1.7)) == (200_000, 2_000_000)


def test_cached_input_costs_nothing_and_writing_it_what_input_costs():
    price = full_price(POOL, RATES, 1.0)
    assert price.cost_total(Usage(cache_read=10_000)) == 0
    assert price.cost_total(Usage(cache_write_5m=10_000)) == 2_000


def test_without_a_price_of_the_gpu_there_is_none():
    bare = Pool("p", ("http://a",))
    assert full_price(bare, RATES, 1.0) is None
    assert marginal_price(bare, RATES, 0.0, None) is None
    assert pool_price(bare) is None


def test_one_more_request_on_an_idle_pool_costs_its_energy():
    assert tier(marginal_price(POOL, RATES, 0.0, None)) == (8_000, 80_000)
    assert ENERGY_SHARE == 0.04


def test_congestion_raises_the_marginal_price_up_to_the_cheapest_elsewhere():
    external = ModelPrice((Tier(500_000, 2_500_000),))
    paid = [tier(marginal_price(POOL, RATES, each / 10, external)) for each in range(11)]
    assert paid == sorted(paid)
    assert paid[5] == (208_000, 2_080_000)
    assert paid[-1] == (500_000, 2_500_000)
    assert tier(marginal_price(POOL, RATES, 1.0, None)) == tier(full_price(POOL, RATES, 0.0))


def test_a_price_is_never_nothing():
    cheap = Pool("p", ("http://a",), gpu_hour_usd="0.000001")
    assert tier(marginal_price(cheap, Rates(1e9, 1e9), 0.0, None)) == (1, 1)


@pytest.mark.parametrize(
    ("utilisation", "queue_s", "felt"), [(0, 0, 0), (0.5, 0, 0), (0.75, 0, 0.5), (2, 0, 1), (0, 1, 0.5), (0.75, 9, 1)]
)
def test_pressure_comes_from_use_and_from_waiting(utilisation, queue_s, felt):
    assert pressure(utilisation, queue_s) == felt
