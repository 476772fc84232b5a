"""The price of a self-hosted token, from what the GPUs cost by the hour and what they deliver. Pure.

Work is time of a replica: uncached input at the prefill rate plus output at the decode rate of the whole replica under
load. Cached input costs no prefill work and is free here. Three prices are made of it (docs/cost-model.md): at full
use; the full one, which is charged: the same over the utilisation; the marginal one, for decisions. Without rates the
price is unknown.
"""

from decimal import ROUND_HALF_UP, Decimal

import msgspec

from gateway.core.exchange import Pool
from gateway.pricing.book import ModelPrice, Tier

FLOOR = 0.2
"""The least utilisation that is charged for: an idle pool's tokens cost at most five times those of a busy one."""
ENERGY_SHARE = 0.04
"""Of a GPU-hour: 0.7 kW x PUE 1.3 x $0.10 per kWh is $0.09 of some $2.30."""
CALM = 0.5
"""Utilisation up to which another request disturbs nobody."""
QUEUE_FULL_S = 2.0
"""A predicted wait at which pressure is full."""
_MOST_PRESSURE = 0.99

_PICO_PER_USD = 10**12
_SECONDS_PER_HOUR = 3600


class Rates(msgspec.Struct, frozen=True, gc=False):
    """Tokens per second of one busy replica."""

    input: float
    output: float

    def work_s(self, uncached_input: int, output: int) -> float:
        """Seconds of a replica that these tokens take; times its GPUs, GPU-seconds."""
        return uncached_input / self.input + output / self.output


def configured_rates(pool: Pool) -> Rates | None:
    """What the policy says that a replica delivers; `None` unless it says both."""
    if not pool.input_tokens_per_s or not pool.output_tokens_per_s:
        return None
    return Rates(pool.input_tokens_per_s, pool.output_tokens_per_s)


def pool_price(pool: Pool) -> ModelPrice | None:
    """Price per token at full use and configured rates; `None` without `gpu_hour_usd` and rates."""
    rates = configured_rates(pool)
    return None if rates is None else scaled_price(pool, rates, 1.0)


def full_price(pool: Pool, rates: Rates, utilisation: float, floor: float = FLOOR) -> ModelPrice | None:
    """What a token is charged: the price at full use, divided by the utilisation in [`floor`, 1]."""
    return scaled_price(pool, rates, 1 / min(1.0, max(floor, utilisation)))


def marginal_price(
    pool: Pool, rates: Rates, pressure: float, external: ModelPrice | None, floor: float = FLOOR
) -> ModelPrice | None:
    """What one more request costs: its energy, and its congestion, which grows as pressure / (1 - pressure).

    Never above `external`, the cheapest price elsewhere, nor above the full price at the floor; never zero.
    """
    bounded = min(_MOST_PRESSURE, max(0.0, pressure))
    most = 1 / floor
    price = scaled_price(pool, rates, min(most, ENERGY_SHARE + bounded / (1 - bounded)))
    if price is None or external is None:
        return price
    own, other = price.tiers[0], external.tiers[0]
    return ModelPrice((Tier(min(own.input, other.input), min(own.output, other.output), cached_read=0),))


def pressure(utilisation: float, queue_s: float) -> float:
    """0 while the pool is calm, 1 when it is full or a request would wait `QUEUE_FULL_S` seconds."""
    return max(0.0, min(1.0, max((utilisation - CALM) / (1 - CALM), queue_s / QUEUE_FULL_S)))


def scaled_price(pool: Pool, rates: Rates, factor: float) -> ModelPrice | None:
    """`factor` times the price at full use, at least 1 pico-USD; `None` without `gpu_hour_usd`."""
    if pool.gpu_hour_usd is None:
        return None
    hour = Decimal(pool.gpu_hour_usd) * pool.gpus * _PICO_PER_USD
    per_second = hour * Decimal(repr(factor)) / _SECONDS_PER_HOUR
    return ModelPrice((Tier(_per_token(per_second, rates.input), _per_token(per_second, rates.output), cached_read=0),))


def _per_token(per_second: Decimal, rate: float) -> int:
    price = int((per_second / Decimal(repr(rate))).to_integral_value(rounding=ROUND_HALF_UP))
    return max(1, price) if per_second else 0
