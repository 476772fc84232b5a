"""The price of a self-hosted token, from what the GPUs cost by the hour and what they deliver. Pure.

At full throughput a pool turns its hourly cost into tokens: input tokens at the prefill rate, output tokens at the
decode rate of the whole pool. That is the price at full utilisation; what idle hours cost is not in it and is shown
apart. Cached input costs no prefill work and is free here. Without measured rates the price is unknown.
"""

from decimal import ROUND_HALF_UP, Decimal

from gateway.core.exchange import Pool
from gateway.pricing.book import ModelPrice, Tier

_PICO_PER_USD = 10**12
_SECONDS_PER_HOUR = 3600


def pool_price(pool: Pool) -> ModelPrice | None:
    """Price per token of a pool; rates are tokens per second of all its replicas together."""
    if pool.gpu_hour_usd is None or not pool.input_tokens_per_s or not pool.output_tokens_per_s:
        return None
    per_second = Decimal(pool.gpu_hour_usd) * pool.gpus * _PICO_PER_USD / _SECONDS_PER_HOUR
    tier = Tier(
        input=_rounded(per_second / Decimal(str(pool.input_tokens_per_s))),
        output=_rounded(per_second / Decimal(str(pool.output_tokens_per_s))),
        cached_read=0,
    )
    return ModelPrice((tier,))


def _rounded(value: Decimal) -> int:
    return int(value.to_integral_value(rounding=ROUND_HALF_UP))
