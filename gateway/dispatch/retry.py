"""Decides what follows a failed upstream attempt: again, elsewhere, or give up; the driver does the waiting.

`Failover` answers each outcome with a `Step`, as httpx's auth flows answer responses with requests. It is pure:
time, randomness and the readiness of targets are arguments. It is asked only while the caller has received nothing.
"""

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from gateway.core.exchange import Plan, Target
from gateway.dispatch.verdict import Action, Verdict
from gateway.dispatch.window import Window

BACKOFF_BASE_S: Final = 0.25
BACKOFF_CAP_S: Final = 8.0
WAIT_WITH_FALLBACK_S: Final = 5.0
"""The longest Retry-After that is waited out while another target could answer."""
WAIT_ALONE_S: Final = 10.0
"""The longest one that is waited out when none could: beyond it the caller gets the answer and its Retry-After."""
_HINT_SLACK_S: Final = 0.01  # a wait must not end a clock tick before the breaker's cooling does


class Try(msgspec.Struct, frozen=True):
    """Call `plan.targets[target]` now."""

    target: int


class Wait(msgspec.Struct, frozen=True):
    """Call `plan.targets[target]` in `seconds`; if it is no longer ready by then, ask `skip`."""

    seconds: float
    target: int


class GiveUp(msgspec.Struct, frozen=True):
    """Answer the caller with the outcome number `relay` of those given to `after` (from 0).

    `relay` is `None` when no attempt was made. `reason` is a label for metrics: the outcome was `final`, the
    `deadline` is over, targets and tries are `exhausted`, the retry `budget` is, no target was `unavailable`, or the
    caller's budgets have no room for another try (`unfunded`).
    """

    relay: int | None
    reason: Literal["final", "deadline", "exhausted", "budget", "unavailable", "unfunded"]


Step = Try | Wait | GiveUp


class AttemptOutcome(msgspec.Struct, frozen=True):
    """How one attempt ended. `siblings`: another replica of the same target is ready and untried."""

    verdict: Verdict
    retry_after_s: float | None = None
    siblings: bool = False


def backoff_s(retry: int, random: float, retry_after_s: float | None) -> float:
    """Seconds before the retry number `retry` (from 1).

    Without a hint: full jitter, `random` (in [0, 1)) times min(cap, base x 2^(retry - 1)) ("Exponential Backoff
    And Jitter", AWS Architecture Blog, 2015). With one: no sooner than asked, spread over the base.
    """
    if retry_after_s is not None:
        return retry_after_s + _HINT_SLACK_S + random * BACKOFF_BASE_S
    return random * min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(retry - 1, 16))


class RetryBudget:
    """How many retries this process may add to what its callers ask for.

    Over the last `ttl_s` seconds: retries <= ratio x calls + `floor_per_s` x `ttl_s`. The floor keeps retries
    possible at low traffic. Source: Finagle's RetryBudget (20 %, 10 per second, 10 s), tower::retry::Budget.
    """

    __slots__ = ("_reserve", "_window")

    def __init__(self, floor_per_s: float = 10.0, ttl_s: float = 10.0) -> None:
        self._window = Window(ttl_s)
        self._reserve = floor_per_s * ttl_s

    def deposit(self, now: float) -> None:
        """Once per caller's request."""
        self._window.add(now, 1, 0)

    def withdraw(self, now: float, ratio: float) -> bool:
        """Takes one retry if a budget of `ratio` has one left; `ratio` is the failed target's own."""
        window = self._window
        window.roll(now)
        if window.marked + 1 > ratio * window.total + self._reserve:
            return False
        window.add(now, 0, 1)
        return True


_TRY: Final = tuple(Try(i) for i in range(16))


class Failover:
    """The way of one request through its plan: `first`, then `after` each failed attempt, until one step ends it.

    Targets are tried in order, each at most `retries.attempts` times, and never one again that was passed by.
    Passing by a target that is not ready (breaker open, cooling) is free; all that follows a failed attempt, on
    the same target or the next, costs one from the budget. `ready_in` tells the seconds until a target admits a
    call (0.0 is now) and has no side effect; `rng` returns floats in [0, 1).
    """

    __slots__ = ("_at", "_best", "_best_rank", "_budget", "_outcomes", "_ready_in", "_rng", "_targets", "_tries")

    def __init__(
        self, plan: Plan, budget: RetryBudget, ready_in: Callable[[Target], float], rng: Callable[[], float]
    ) -> None:
        self._targets = plan.targets
        self._budget = budget
        self._ready_in = ready_in
        self._rng = rng
        self._at = 0
        self._tries = 0
        self._outcomes = 0
        self._best: int | None = None
        self._best_rank = -1

    def first(self, now: float) -> Step:
        """The first step. Counts the request for the budget."""
        self._budget.deposit(now)
        if self._ready_in(self._targets[0]) <= 0.0:
            self._tries = 1
            return _TRY[0]
        return self.skip()

    def skip(self) -> Step:
        """The target of the last step turned out not to be ready: the next one that is, free of charge."""
        other = self._other()
        if other is None:
            return GiveUp(self._best, "unavailable" if self._best is None else "exhausted")
        return self._go(other)

    def after(self, outcome: AttemptOutcome, now: float, remaining_s: float) -> Step:
        """What follows an attempt that failed; `remaining_s` is left of the request's total deadline.

        Report the outcome to the breaker first: `ready_in` is asked about what follows.
        """
        verdict = outcome.verdict
        number = self._outcomes
        self._outcomes += 1
        if verdict.rank >= self._best_rank:
            self._best, self._best_rank = number, verdict.rank
        if verdict.action is Action.FINAL:
            return GiveUp(number, "final")
        if remaining_s <= 0.0:
            return GiveUp(self._best, "deadline")
        other = self._other()
        wait_s = self._wait_on_same(outcome, remaining_s, WAIT_ALONE_S if other is None else WAIT_WITH_FALLBACK_S)
        if wait_s is None and other is None:
            return GiveUp(self._best, "exhausted")
        if not self._budget.withdraw(now, self._targets[self._at].retries.budget):
            return GiveUp(self._best, "budget")
        if wait_s is None:
            assert other is not None
            return self._go(other)
        self._tries += 1
        return Wait(wait_s, self._at) if wait_s > 0.0 else _try(self._at)

    def _wait_on_same(self, outcome: AttemptOutcome, remaining_s: float, most_s: float) -> float | None:
        """Seconds until the same target is tried again; `None` when it is not."""
        target = self._targets[self._at]
        if self._tries >= target.retries.attempts:
            return None
        if outcome.siblings and outcome.verdict.local:
            return 0.0
        if outcome.verdict.action is not Action.RETRY_SAME:
            return None
        wait_s = backoff_s(self._tries, self._rng(), outcome.retry_after_s)
        if (outcome.retry_after_s or 0.0) > most_s or wait_s >= remaining_s or self._ready_in(target) > wait_s:
            return None
        return wait_s

    def _other(self) -> int | None:
        for index in range(self._at + 1, len(self._targets)):
            if self._ready_in(self._targets[index]) <= 0.0:
                return index
        return None

    def _go(self, target: int) -> Step:
        self._at = target
        self._tries = 1
        return _try(target)


def _try(target: int) -> Try:
    return _TRY[target] if target < len(_TRY) else Try(target)
