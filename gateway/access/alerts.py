"""Who is told when a budget passes 80, 90, 100 % of its window, once for each; and of what else there is to announce.

Noted on the request path (one comparison per budget), announced behind it: a log line, a counter, and the policy's
webhook. Fails open: an announcement that cannot be delivered is tried three times, then counted and logged.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from gateway.access.accounts import Spent
from gateway.access.refusals import used_share

log = logging.getLogger("farthing.budgets")
MOST_WAITING = 1024
TRIES = 3


class Alert(msgspec.Struct, frozen=True):
    """A budget past one of its soft limits. Money in micro-USD, times in Unix seconds; `ends_s` is `None` for total."""

    budget: str
    scope: str
    period: str
    threshold: float
    used_micro_usd: int
    limit_micro_usd: int
    at_s: float
    ends_s: int | None


Deliver = Callable[[str, bytes], Awaitable[None]]
"""Posts a JSON body to a URL; raises `OSError` when it was not taken."""


class Alerts:
    """See the module. `webhook()` is the URL in force, `None` for none."""

    def __init__(self, webhook: Callable[[], str | None], deliver: Deliver, *, retry_s: float = 2.0) -> None:
        self._webhook = webhook
        self._deliver = deliver
        self._retry_s = retry_s
        self._highest: dict[str, tuple[float, float]] = {}
        self._waiting: deque[Alert | Mapping[str, Any]] = deque(maxlen=MOST_WAITING)
        self._wake = asyncio.Event()
        self.raised = 0
        self.undelivered = 0

    def note(self, spent: Sequence[Spent], now: float) -> None:
        """Compares each budget with its soft limits; never raises, never blocks."""
        for each in spent:
            soft = each.window.budget.soft
            if not soft:
                continue
            share = used_share(each)
            if share < soft[0]:
                continue
            threshold = max(limit for limit in soft if share >= limit)
            if threshold > self._highest.get(each.window.id, (0.0, 0.0))[0]:
                self._raise(each, threshold, now)

    def send(self, type_: str, members: Mapping[str, Any]) -> None:
        """Tells the webhook what is not of a budget, as a JSON object of this `type`; its sender has logged it."""
        self._waiting.append({"type": type_, **members})
        self._wake.set()

    def _raise(self, spent: Spent, threshold: float, now: float) -> None:
        window = spent.window
        ends_s = float("inf") if window.ends_s is None else float(window.ends_s)
        self._highest = {id_: seen for id_, seen in self._highest.items() if seen[1] > now}
        self._highest[window.id] = (threshold, ends_s)
        budget = window.budget
        used = spent.committed + spent.reserved
        self.raised += 1
        self._waiting.append(
            Alert(budget.id, budget.scope, budget.period, threshold, used, budget.limit_micro_usd, now, window.ends_s)
        )
        self._wake.set()

    async def run(self) -> None:
        """Announces until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._announce(self._waiting.popleft())

    async def _announce(self, alert: Alert | Mapping[str, Any]) -> None:
        if isinstance(alert, Alert):
            log.warning(
                "budget %s has passed %.0f %%: %d of %d micro-USD",
                alert.budget,
                alert.threshold * 100,
                alert.used_micro_usd,
                alert.limit_micro_usd,
            )
            alert = {"type": "budget.soft_limit", **msgspec.structs.asdict(alert)}
        url = self._webhook()
        if url is None:
            return
        body = msgspec.json.encode(alert)
        for attempt in range(TRIES):
            try:
                await self._deliver(url, body)
            except OSError as exc:
                problem = exc
                if attempt + 1 < TRIES:
                    await asyncio.sleep(self._retry_s * 2**attempt)
            else:
                return
        self.undelivered += 1
        log.error("the alert webhook did not take an alert: %s", problem)
