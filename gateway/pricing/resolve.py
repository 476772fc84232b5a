"""Which price holds for a target: its own in the policy, its pool's GPUs, a named row, else its provider's list.

Pure. `None` is unknown: counted and shown, never taken for zero.
"""

from collections.abc import Callable
from datetime import date

from gateway.core.exchange import Pool, Target
from gateway.pricing.book import ModelPrice, PriceBook, Tier, pico_per_token
from gateway.pricing.hosted import pool_price

_SANDBOX = {
    "small": ModelPrice((Tier(pico_per_token("0.10"), pico_per_token("0.40")),), simulated=True),
    "large": ModelPrice((Tier(pico_per_token("2.50"), pico_per_token("10")),), simulated=True),
}
_LISTS = {"azure": ("azure", "openai")}

PoolPrice = Callable[[Pool], ModelPrice | None]


def price_of(
    target: Target, served_model: str, book: PriceBook, on: date, hosted: PoolPrice = pool_price
) -> ModelPrice | None:
    """The price of a call to `target` that `served_model` answered, on that day; `None` when nobody stated one.

    `hosted` prices pools: at full use by default, else `HostedPrices.price` (to charge) or `.ceiling` (to reserve).
    """
    inline = target.options.get("price")
    if inline is not None:
        tier = Tier(inline["input"], inline["output"], cached_read=inline.get("cached"))
        row = _by_names(target, served_model, book, on)
        if row is None:
            return ModelPrice((tier,))
        return ModelPrice((tier,), max_input_tokens=row.max_input_tokens, max_output_tokens=row.max_output_tokens)
    if target.price_key is not None:
        provider, _, model = target.price_key.rpartition("/")
        return _listed(book, provider or _preset(target), model, on)
    if target.pool is not None:
        return hosted(target.pool)
    if target.provider == "sandbox":
        size = target.options.get("size") or ("large" if "large" in (target.model or target.name) else "small")
        return _SANDBOX[size]
    return _by_names(target, served_model, book, on)


def _by_names(target: Target, served_model: str, book: PriceBook, on: date) -> ModelPrice | None:
    preset = _preset(target)
    return _listed(book, preset, served_model, on) or _listed(book, preset, target.model or served_model, on)


def _preset(target: Target) -> str:
    return str(target.options.get("preset", target.provider))


def _listed(book: PriceBook, provider: str, model: str, on: date) -> ModelPrice | None:
    for name in _LISTS.get(provider, (provider,)):
        found = book.price(name, model, on)
        if found is not None:
            return found
    return None
