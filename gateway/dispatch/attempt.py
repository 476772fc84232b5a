"""The books of one upstream call: its permit, its times, what it used and what that cost.

Opened before the first byte goes out, closed exactly once however the call ends; closing reports to the breaker,
frees the replica and appends the `Attempt`. Knows no HTTP.
"""

from collections.abc import Callable

from gateway.core.exchange import Attempt, Exchange, Target, Usage
from gateway.dispatch.breaker import Breaker
from gateway.dispatch.verdict import DONE, Verdict, report
from gateway.pool.balance import Replica

Price = Callable[[Target, str, Usage], int | None]
"""(target, served model, usage) -> micro-USD, `None` when the price is unknown."""


class Running:
    """An attempt in progress."""

    __slots__ = (
        "_breaker",
        "_exchange",
        "_permit",
        "_price",
        "closed",
        "replica",
        "started",
        "status",
        "target",
        "ttft_s",
    )

    def __init__(
        self,
        exchange: Exchange,
        target: Target,
        replica: Replica | None,
        breaker: Breaker,
        permit: int,
        price: Price,
        now: float,
    ) -> None:
        self._exchange = exchange
        self._breaker = breaker
        self._permit = permit
        self._price = price
        self.target = target
        self.replica = replica
        self.started = now
        self.status: int | None = None
        self.ttft_s: float | None = None
        self.closed = False
        if replica is not None:
            replica.in_flight += 1
        exchange.tries += 1
        exchange.target = target.name
        exchange.provider = target.provider

    def first_byte(self, now: float) -> None:
        """A good answer has begun."""
        self.ttft_s = now - self.started
        self._breaker.on_first_byte(self._permit)

    def answered(self, now: float, usage: Usage | None, model: str) -> None:
        """The answer is complete."""
        self._close(now, None, usage, model)
        self._exchange.outcome = "ok"
        report(self._breaker, self._permit, DONE, now, None)

    def failed(
        self,
        now: float,
        verdict: Verdict,
        error: str,
        retry_after_s: float | None = None,
        usage: Usage | None = None,
        *,
        unseen: bool = False,
    ) -> None:
        """The call ended in an error status, a failure or a cut; `usage` is what was delivered before it.

        `unseen` as in `abandoned`.
        """
        self._close(now, error, usage, self._exchange.model, unseen=unseen)
        report(self._breaker, self._permit, verdict, now, retry_after_s)

    def abandoned(self, now: float, usage: Usage | None, *, unseen: bool = False) -> None:
        """The caller left: the call was cancelled, and what was generated until then is settled.

        `unseen`: nothing of the answer had arrived, so it may have been generated whole; it is charged as reserved.
        """
        self._close(now, "client_disconnect", usage, self._exchange.model, unseen=unseen)
        self._breaker.on_abandoned(now, self._permit)

    def _close(self, now: float, error: str | None, usage: Usage | None, model: str, *, unseen: bool = False) -> None:
        assert not self.closed, "an attempt ends once"
        self.closed = True
        if self.replica is not None:
            self.replica.in_flight -= 1
        exchange = self._exchange
        cost = self._price(self.target, model, usage) if usage is not None else None
        if unseen and cost is not None:
            cost = max(cost, self._reserved())
        exchange.attempts.append(
            Attempt(
                self.target.name,
                self.replica.url if self.replica is not None else None,
                self.status,
                error,
                self.started - exchange.started,
                now - self.started,
                self.ttft_s,
                usage,
                cost,
            )
        )
        exchange.model = model
        exchange.usage = usage if usage is not None else exchange.usage
        exchange.cost_micro_usd = total_cost(exchange.attempts)

    def _reserved(self) -> int:
        """What this call can cost at most: the reservation, without what calls before it have cost."""
        before = sum(attempt.cost_micro_usd or 0 for attempt in self._exchange.attempts)
        return (self._exchange.reserved_micro_usd or 0) - before


def total_cost(attempts: list[Attempt]) -> int | None:
    """All attempts' cost: unknown if any billed one is, 0 for attempts that an error status ended unbilled."""
    total = 0
    for attempt in attempts:
        if attempt.cost_micro_usd is not None:
            total += attempt.cost_micro_usd
        elif attempt.usage is not None or attempt.error is None:
            return None
    return total
