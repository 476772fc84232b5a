"""Money is integer micro-USD; prices are integer pico-USD per token; an unknown amount is `None`, never 0.

1 USD = 1_000_000 micro-USD. A price of $0.15 per million tokens is 150_000 pico-USD per token, so every
published price is an exact integer and a cost is one multiplication and one rounding.
"""

from decimal import Decimal

MICRO = 1_000_000
PICO_PER_MICRO = 1_000_000


def cost_micro_usd(tokens: int, pico_usd_per_token: int) -> int:
    """Cost of `tokens` in micro-USD, rounded half up (once per price component)."""
    return (tokens * pico_usd_per_token + PICO_PER_MICRO // 2) // PICO_PER_MICRO


def usd(micro_usd: int | None) -> str:
    """`micro_usd` as a decimal USD string with six places (`0.000123`); unknown is `unknown`."""
    if micro_usd is None:
        return "unknown"
    sign = "-" if micro_usd < 0 else ""
    whole, rest = divmod(abs(micro_usd), MICRO)
    return f"{sign}{whole}.{rest:06d}"


def micro_usd(amount: str | float | Decimal) -> int:
    """USD to micro-USD, rounded half up; floats go through their shortest decimal form."""
    return int((Decimal(str(amount)) * MICRO).to_integral_value(rounding="ROUND_HALF_UP"))
