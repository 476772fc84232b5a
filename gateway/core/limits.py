"""What may limit a caller: budgets in money, rates in requests and tokens, concurrency. Declared by policy and keys."""

from typing import Literal

import msgspec

Period = Literal["day", "week", "month", "total"]


class Budget(msgspec.Struct, frozen=True):
    """Money per period. `id` is stable over policy reloads and unique per (scope, period): `tenant:shop/month`.

    `scope` is `tenant:NAME`, `key:NAME`, `route:NAME`, `tag:NAME` or `all`. `soft` holds fractions in rising order.
    """

    id: str
    scope: str
    period: Period
    limit_micro_usd: int
    soft: tuple[float, ...] = (0.8, 0.9, 1.0)
    timezone: str = "UTC"
    """IANA name; days, weeks (from Monday) and months begin at its midnight."""


class Rate(msgspec.Struct, frozen=True):
    """A token bucket: `per_minute` requests or tokens, its size the same. `id` such as `key:ci/requests`."""

    id: str
    kind: Literal["requests", "tokens"]
    per_minute: int


class Concurrency(msgspec.Struct, frozen=True):
    """The most requests of a scope under way at once; leases count, so a dead worker's slots come back."""

    id: str
    most: int


class Applies(msgspec.Struct, frozen=True):
    """Everything that limits one caller on one route."""

    budgets: tuple[Budget, ...] = ()
    rates: tuple[Rate, ...] = ()
    concurrency: tuple[Concurrency, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to ask."""
        return bool(self.budgets or self.rates or self.concurrency)
