"""Asks the ledger what windows have cost so far: each once, and all that came meanwhile together. Knows no counters.

Fails closed: a ledger that cannot answer makes the budget `Unavailable`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from gateway.access.accounts import Unavailable, Window

Truth = Callable[[Sequence[Window]], Awaitable[Sequence[int]]]
"""The committed micro-USD of each window, by every request of this process that ended before the call."""

log = logging.getLogger("farthing.accounts")


class Told(NamedTuple):
    """The ledger's answer, and the reading of the clock just before it was asked."""

    micro_usd: int
    asked_s: float


class Questions:
    """One call of a `Truth` at a time: what is asked meanwhile goes into the next. At midnight every budget is new."""

    def __init__(self, truth: Truth, clock: Callable[[], float]) -> None:
        self._truth = truth
        self._clock = clock
        self._answers: dict[str, asyncio.Future[Told | None]] = {}
        self._next: list[Window] = []
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, window: Window) -> Told:
        """Raises `Unavailable` when the ledger does not answer; a later call asks again."""
        answer = self._answers.get(window.id)
        if answer is None:
            answer = self._answers[window.id] = asyncio.get_running_loop().create_future()
            self._next.append(window)
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask())
        # Shielded: the caller who came first may leave without taking the others' answer away.
        told = await asyncio.shield(answer)
        if told is None:
            raise Unavailable(
                f"The ledger cannot say what budget {window.budget.id} has spent. Try again.", retry_after_s=1.0
            )
        return told

    async def _ask(self) -> None:
        try:
            while self._next:
                windows, self._next = self._next, []
                asked_s = self._clock()
                told: list[Told | None] = [None] * len(windows)
                try:
                    told = [Told(micro_usd, asked_s) for micro_usd in await self._truth(windows)]
                except Exception:
                    log.exception("the ledger did not say what %d windows have spent", len(windows))
                finally:
                    for window, answer in zip(windows, told, strict=True):
                        self._answers.pop(window.id).set_result(answer)
        finally:
            self._asking = None
