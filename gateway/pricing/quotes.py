"""What a call costs now: the price book, the policy's own prices and the live price of pools, looked up once a day.

Knows no request; remembers a bounded number of (target, model) pairs, because callers choose models' names.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime

from gateway.core.exchange import Pool, Target, Usage
from gateway.pricing.book import ModelPrice, PriceBook
from gateway.pricing.hosted import pool_price
from gateway.pricing.resolve import price_of

MAX_QUOTES = 4096
_DAY_S = 86_400

PoolPrice = Callable[[Pool], ModelPrice | None]
_Quote = tuple[Target, ModelPrice | None]
"""The target is held so that no other takes its id."""


class Quotes:
    """Prices by (target, served model): looked up once, forgotten at midnight UTC and when the policy changes.

    `charged` prices a pool as it is used now, `ceiling` the most that it can come to: what is reserved.
    """

    def __init__(
        self,
        book: PriceBook,
        wall: Callable[[], float],
        *,
        charged: PoolPrice = pool_price,
        ceiling: PoolPrice = pool_price,
    ) -> None:
        self._book = book
        self._wall = wall
        self._charged = charged
        self._ceiling = ceiling
        self._begins_s = self._ends_s = -1.0
        self._on = date.min
        self._known: dict[tuple[int, str], _Quote] = {}
        self._first: dict[str, _Quote] = {}
        """Of each model the quote that was asked for first, nearly always the only one: found without making a key."""

    def forget(self) -> None:
        """After a change of policy: targets may have other prices."""
        self._known.clear()
        self._first.clear()

    def __call__(self, target: Target, model: str, usage: Usage) -> int | None:
        """Micro-USD, `None` when the price is unknown."""
        price = self.price(target, model)
        return price.cost_total(usage) if price is not None else None

    def price(self, target: Target, model: str) -> ModelPrice | None:
        """What a call that `model` answered is charged."""
        first = self._first.get(model)
        if first is not None and first[0] is target and self._begins_s <= self._wall() < self._ends_s:
            return first[1]
        pool = target.pool
        return self._charged(pool) if pool is not None and _is_live(target) else self._remembered(target, model)

    def most(self, target: Target, model: str) -> ModelPrice | None:
        """The price that a call may come to at most."""
        first = self._first.get(model)
        if first is not None and first[0] is target and self._begins_s <= self._wall() < self._ends_s:
            return first[1]
        pool = target.pool
        return self._ceiling(pool) if pool is not None and _is_live(target) else self._remembered(target, model)

    def _remembered(self, target: Target, model: str) -> ModelPrice | None:
        """A price that somebody stated: to charge it and to reserve it are the same."""
        now = self._wall()
        if not self._begins_s <= now < self._ends_s:
            self.forget()
            self._begins_s = now // _DAY_S * _DAY_S
            self._ends_s = self._begins_s + _DAY_S
            self._on = datetime.fromtimestamp(self._begins_s, UTC).date()
        key = (id(target), model)  # not the name: two policies may each have a target of that name
        quote = self._known.get(key)
        if quote is None:
            if len(self._known) >= MAX_QUOTES:
                self.forget()
            quote = self._known[key] = (target, price_of(target, model, self._book, self._on))
            self._first.setdefault(model, quote)
        return quote[1]


def _is_live(target: Target) -> bool:
    """Its price follows from GPU-hours and load, not from a stated one."""
    return target.price_key is None and target.options.get("price") is None
