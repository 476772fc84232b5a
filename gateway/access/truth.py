"""Asks the ledger what a window has cost so far: once for all who wait. Knows nothing of counters.

Fails closed: a ledger that cannot answer makes the budget `Unavailable`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from gateway.access.accounts import Unavailable, Window

Truth = Callable[[Window], Awaitable[int]]
"""The committed micro-USD of a window, by every request of this process that ended before the call."""

log = logging.getLogger("farthing.accounts")


class Told(NamedTuple):
    """The ledger's answer, and the reading of the clock just before it was asked."""

    micro_usd: int
    asked_s: float


class Questions:
    """The calls of a `Truth` that are under way, by window id."""

    def __init__(self, truth: Truth, clock: Callable[[], float]) -> None:
        self._truth = truth
        self._clock = clock
        self._asked: dict[str, asyncio.Task[Told | None]] = {}

    async def ask(self, window: Window) -> Told:
        """Raises `Unavailable` when the ledger does not answer; a later call asks again."""
        task = self._asked.get(window.id)
        if task is None:
            task = self._asked[window.id] = asyncio.create_task(self._answer(window))
        # Shielded: the caller who came first may leave without taking the others' answer away.
        told = await asyncio.shield(task)
        if told is None:
            raise Unavailable(
                f"The ledger cannot say what budget {window.budget.id} has spent. Try again.", retry_after_s=1.0
            )
        return told

    async def _answer(self, window: Window) -> Told | None:
        asked_s = self._clock()
        try:
            return Told(await self._truth(window), asked_s)
        except Exception:
            log.exception("the ledger did not say what %s has spent", window.id)
            return None
        finally:
            del self._asked[window.id]
