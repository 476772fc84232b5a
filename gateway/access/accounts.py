"""The port of budgets and limits: what is asked before a request, and what is told after it. No I/O, no clock.

A store answers `reserve` atomically over everything that applies; `committed + reserved <= limit` holds in every budget
window at every instant. Every transition is idempotent by request id:

    reserve -> [extend]* -> settle | release | (lease over) expired

Fails closed for budgets (`Unavailable`), open for rate limits (the store falls back to a local share).
"""

from typing import Protocol

import msgspec

from gateway.access.grants import Grant, Level
from gateway.core.errors import GatewayError
from gateway.core.limits import Applies, Budget, Concurrency


class Window(msgspec.Struct, frozen=True):
    """One period of one budget: `id` is `BUDGET_ID@START`, START its first second (Unix time, 0 for `total`).

    `ends_s` is the first second after it, `None` for `total`.
    """

    id: str
    budget: Budget
    starts_s: int
    ends_s: int | None


class Spent(msgspec.Struct, frozen=True, gc=False):
    """The state of one window, in micro-USD."""

    window: Window
    committed: int
    reserved: int

    @property
    def remaining(self) -> int:
        """What may still be reserved; never negative."""
        return max(0, self.window.budget.limit_micro_usd - self.committed - self.reserved)


def first_soft(budget: Budget) -> float:
    """The used micro-USD from which on somebody is to be warned; infinite where nobody is."""
    return budget.soft[0] * budget.limit_micro_usd if budget.soft else float("inf")


class Refusal(msgspec.Struct, frozen=True):
    """What stands in the way. Exactly one of `spent`, `level`, `concurrency` is set.

    `retry_after_s`: when a rate or a slot admits it, `None` when waiting does not help before the window ends.
    """

    spent: Spent | None = None
    level: Level | None = None
    concurrency: Concurrency | None = None
    retry_after_s: float | None = None


class Unavailable(GatewayError):
    """The store of budgets does not answer: refused, because nothing may be spent uncounted."""

    status = 503
    code = "budgets_unavailable"
    retryable = True


class Accounts(Protocol):
    """A store of counters. `now` is wall time in seconds (windows, buckets); leases use it as well.

    A `reserve` for an id that holds a lease already answers as the first one did.
    """

    async def reserve(
        self, request_id: str, applies: Applies, micro_usd: int, tokens: int, now: float, lease_s: float
    ) -> Grant | Refusal:
        """All or nothing. Raises `Unavailable` when budgets apply and the store does not answer."""
        ...

    def reserve_at_once(
        self, request_id: str, applies: Applies, micro_usd: int, tokens: int, now: float, lease_s: float
    ) -> Grant | Refusal | None:
        """As `reserve` where nothing has to be waited for; else `None`, and nothing has changed."""
        ...

    async def extend(self, request_id: str, micro_usd: int, now: float, lease_s: float) -> bool:
        """Reserves more under the same lease and renews it; False when a budget has no room (nothing is changed)."""
        ...

    def settle(self, request_id: str, charged_micro_usd: int, tokens: int, now: float) -> None:
        """The lease ends; `charged_micro_usd` is committed to its windows. Never raises, never blocks.

        Unknown or already ended ids change nothing. A store that is away gets it once it is back.
        """
        ...

    def release(self, request_id: str, now: float) -> None:
        """The lease ends and nothing is committed: no upstream was called. As `settle`."""
        ...
