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
_Known = dict[tuple[int, str], tuple[Target, ModelPrice | None]]


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
        self._begins_s = self._ends_s = -1
        self._on = date.min
        self._known: _Known = {}
        self._most: _Known = {}

    def forget(self) -> None:
        """After a change of policy: targets may have other prices."""
        self._known.clear()
        self._most.clear()

    def __call__(self, target: Target, model: str, usage: Usage) -> int | None:
        """Micro-USD, `None` when the price is unknown."""
        price = self.price(target, model)
        return price.cost_total(usage) if price is not None else None

    def price(self, target: Target, model: str) -> ModelPrice | None:
        """What a call that `model` answered is charged."""
        if target.pool is not None and _is_live(target):
            return self._charged(target.pool)
        return self._remembered(self._known, target, model, self._charged)

    def most(self, target: Target, model: str) -> ModelPrice | None:
        """The price that a call may come to at most."""
        if target.pool is not None and _is_live(target):
            return self._ceiling(target.pool)
        return self._remembered(self._most, target, model, self._ceiling)

    def _remembered(self, known: _Known, target: Target, model: str, hosted: PoolPrice) -> ModelPrice | None:
        key = (id(target), model)  # not the name: two policies may each have a target of that name
        found = known.get(key)
        if found is not None and found[0] is target and self._begins_s <= self._wall() < self._ends_s:
            return found[1]
        day = int(self._wall() // _DAY_S)
        if day * _DAY_S != self._begins_s:
            self.forget()
            self._begins_s, self._ends_s = day * _DAY_S, (day + 1) * _DAY_S
            self._on = datetime.fromtimestamp(self._begins_s, UTC).date()
        elif len(known) >= MAX_QUOTES:
            known.clear()
        known[key] = (target, price_of(target, model, self._book, self._on, hosted))
        return known[key][1]


def _is_live(target: Target) -> bool:
    """Its price follows from GPU-hours and load, not from a stated one."""
    return target.price_key is None and target.options.get("price") is None
