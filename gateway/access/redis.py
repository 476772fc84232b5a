"""Budgets, rates and slots of many replicas in one Redis: one script, one round trip, for each transition.

Fails closed for budgets (`Unavailable`, or with `degraded_share` a slice of what was left when Redis went away), open
for rates and slots (buckets of this process at limit / replicas). Ends of leases wait in memory until Redis is back.
Redis is not the truth: after a flush the ledger is asked again, and each replica brings its own open leases back.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from gateway.access.accounts import Refusal, Spent, Unavailable, Window
from gateway.access.embedded import FORGET_EXPIRED_S, EmbeddedAccounts
from gateway.access.grants import Grant
from gateway.access.owner import Owner, new_owner
from gateway.access.redis_left import Left, Rows
from gateway.access.redis_link import Away, Link
from gateway.access.redis_seen import Seen
from gateway.access.redis_wire import (
    Answer,
    Arguments,
    End,
    Held,
    finish_arguments,
    grant_of,
    refusal_of,
    reserve_arguments,
    terms_of,
    uncounted_in,
    windows_in,
)
from gateway.access.truth import Questions, Truth
from gateway.access.windows import Windows
from gateway.core.limits import Applies, Concurrency, Rate

HEARTBEAT_S = 0.5
"""How soon a replica without traffic sees a flush: well within the others' `cold_grace_s`."""
RETRY_S = 1.0
BATCH = 64
MOST_WAITING = 100_000
"""Ends that wait for Redis. At this many no lease is granted any more, so the queue never drops one."""
ROUNDS = 6
"""Calls that one reserve or extend may take: a known epoch and known windows need one, a flush needs four."""
DRAIN_S = 2.0
FORGET_S = 86_400
_ALONE = "alone"
"""The epoch of a lease that was granted while Redis was away."""

log = logging.getLogger("farthing.accounts")


class RedisAccounts:
    """The `Accounts` of many replicas. `run()` must run beside it; `aclose()` sends what is left.

    `truth` must know every request of this process that has ended, and every request of another replica within
    `ledger_lag_s`. After a flush, requests with budgets are `Unavailable` for `cold_grace_s`, so that all replicas
    bring their open leases back before one is granted. Redis is away once it was silent for `deadline_s`. All keys
    begin with `{prefix}:`. The server must not evict (`maxmemory-policy noeviction`): an error is logged if it may.
    `owner` has the leases; `disown` ends those of its earlier starts.
    """

    def __init__(
        self,
        url: str,
        truth: Truth,
        *,
        replicas: int = 1,
        degraded_share: bool = False,
        cold_grace_s: float = 2.0,
        ledger_lag_s: float = 0.5,
        deadline_s: float = 0.25,
        prefix: str = "farthing",
        owner: Owner | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.unavailable = 0
        """Requests refused because Redis was away or empty."""
        self.alone = 0
        """Requests that this process decided by itself because Redis was away."""
        self._truth = truth
        self._questions = Questions(truth, clock)
        self._replicas = replicas
        self._degraded_share = degraded_share
        self._cold_grace_s = cold_grace_s
        self._lag_ms = int(ledger_lag_s * 1000)
        self._link = Link(url, clock, f"{{{prefix}}}:", deadline_s)
        self._clock = clock
        self._name = secrets.token_hex(8)
        self._owner = owner or new_owner()
        self._left = Left()
        self._windows = Windows()
        self._open: dict[str, Held] = {}
        self._seen = Seen()
        self._ends: deque[End] = deque()
        self._local: EmbeddedAccounts | None = None
        self._epoch = ""
        self._cold_since_s: float | None = None
        self._stale = False
        self._uncounted: dict[str, Window] = {}
        self._adopting = asyncio.Lock()
        self._draining = asyncio.Lock()
        self._wake = asyncio.Event()
        self._asked_policy = False
        self._next_beat_s = 0.0
        self._next_prune_s = 0.0

    @property
    def waiting(self) -> int:
        """Ends of leases that have not reached Redis yet."""
        return len(self._ends)

    async def reserve(
        self, request_id: str, applies: Applies, micro_usd: int, tokens: int, now: float, lease_s: float
    ) -> Grant | Refusal:
        """As the port. One whose outcome is unknown is undone once Redis is back; its id cannot be used again."""
        held = self._open.get(request_id)
        if held is not None and held.over_s > self._clock():
            return held.grant
        windows = [self._windows.of(budget, now) for budget in applies.budgets]
        held = Held(windows, terms_of(applies, windows, tokens), micro_usd, self._clock() + lease_s)
        try:
            if windows and len(self._ends) >= MOST_WAITING:
                raise _unavailable("too many ends of requests wait for Redis")
            return await self._reserve(request_id, applies, held, tokens, now, lease_s)
        except Unavailable:
            self.unavailable += 1
            raise

    def reserve_at_once(
        self, request_id: str, applies: Applies, micro_usd: int, tokens: int, now: float, lease_s: float
    ) -> None:
        """Always `None`: Redis must be asked."""

    async def extend(self, request_id: str, micro_usd: int, now: float, lease_s: float) -> bool:
        """False as well when the lease is unknown or over; above 0 also when Redis is away or just counted anew."""
        held = self._open.get(request_id)
        if held is None:
            return self._local is not None and await self._local.extend(request_id, micro_usd, now, lease_s)
        try:
            extended = await self._extend_there(request_id, held, micro_usd, lease_s)
        except Unavailable:
            extended = False
        except Away:
            extended = micro_usd == 0
            if held.epoch == _ALONE and self._local is not None:
                extended = await self._local.extend(request_id, micro_usd, now, lease_s)
        if extended:
            held.reserved += micro_usd
            held.over_s = max(held.over_s, self._clock() + lease_s)
        return extended

    def settle(self, request_id: str, charged_micro_usd: int, tokens: int, now: float) -> None:
        """Queued for `run`. The request's row must be on its way to the ledger before the event loop turns."""
        if self._local is not None:
            self._local.settle(request_id, charged_micro_usd, tokens, now)
        held = self._open.pop(request_id, None)
        end = End(request_id, charged_micro_usd, tokens, self._clock())
        if held is not None:
            end = end._replace(epoch=held.epoch, terms=held.terms, windows=held.windows)
        self._ends.append(end)
        self._wake.set()

    def release(self, request_id: str, now: float) -> None:
        """As `settle`, at nothing."""
        self.settle(request_id, 0, 0, now)

    def disown(self, before: Owner, rows: Rows) -> None:
        """What every start before `before` has left is ended, by `run`, as `rows` say; without a row it is released.

        Those processes are gone, and `rows` knows all that they have journaled. What the new start holds is its own.
        """
        self._left.add(before, rows, self._clock())
        self._wake.set()

    def snapshot(self, now: float) -> list[Spent]:
        """The windows that are open now and that this replica touched, as Redis last told."""
        return self._seen.open_at(now)

    async def run(self) -> None:
        """Sends ends, watches for a flush, ends leases that are over; until cancelled."""
        while True:
            for part in (self._beat, self._drain):  # apart: ends do not wait for a ledger that does not answer
                try:
                    await part()
                except (Away, Unavailable) as exc:
                    log.debug("accounts wait: %s", exc)
                except Exception:
                    log.exception("a turn of the accounts failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._wake.wait()
            self._wake.clear()

    async def _beat(self) -> None:
        if self._clock() >= self._next_beat_s:
            self._next_beat_s = self._clock() + HEARTBEAT_S
            await self.refresh()

    async def refresh(self) -> None:
        """One heartbeat. Raises `Away`, or `Unavailable` while Redis is empty or the ledger does not answer."""
        ids = self._seen.next()
        self._seen.told(ids, (await self._ask("beat", ["", *self._owner, *ids]))[3:])
        if not self._epoch:
            await self._begin()
        if self._stale:
            await self._adopt()
        if not self._asked_policy:
            if policy := (await self._ask("policy", []))[3]:
                log.error("Redis may drop the counters of budgets; fix: maxmemory-policy noeviction, not %s", policy)
            self._asked_policy = True
        if self._clock() >= self._next_prune_s:
            self._next_prune_s = self._clock() + 60.0
            lost = self._clock() - FORGET_EXPIRED_S
            self._open = {id_: held for id_, held in self._open.items() if held.over_s > lost}
        if self._uncounted:
            await self._initialise(list(self._uncounted.values()))
        if self._left:
            await self._left.end(self._ask, self._finish)

    async def aclose(self) -> None:
        """Sends what waits, for at most two seconds, and closes. A lease that is left ends at what it reserved."""
        try:
            async with asyncio.timeout(DRAIN_S):
                while self._ends:
                    await self._drain()
        except (Away, Unavailable, TimeoutError):
            log.warning("%d ends of requests did not reach Redis; their leases will be over", len(self._ends))
        await self._link.aclose()

    # A reserve.

    async def _reserve(
        self, request_id: str, applies: Applies, held: Held, tokens: int, now: float, lease_s: float
    ) -> Grant | Refusal:
        try:
            return await self._reserve_there(request_id, applies, held, tokens, lease_s)
        except asyncio.CancelledError:
            self._undo(request_id)
            raise
        except Away as away:
            unsure = away.sent
        outcome = None
        try:
            outcome = await self._reserve_alone(request_id, applies, held, tokens, now, lease_s)
        finally:
            if unsure and not isinstance(outcome, Grant):
                self._undo(request_id)
        return outcome

    async def _reserve_there(
        self, request_id: str, applies: Applies, held: Held, tokens: int, lease_s: float
    ) -> Grant | Refusal:
        args = reserve_arguments(request_id, self._epoch, applies, held, tokens, lease_s, self._owner)
        for _ in range(ROUNDS):
            if self._stale and held.windows:
                await self._adopt()
            args[1] = self._epoch
            answer = await self._ask("reserve", args)
            status = answer[0]
            if status == "granted":
                return self._granted(request_id, applies, held, answer)
            if status == "held":
                held.terms, held.epoch = answer[3], answer[1]
                held.grant = Grant(windows_in(held.terms))
                return self._open.setdefault(request_id, held).grant
            if status == "cold":
                await self._begin()
            elif status == "missing":
                await self._initialise([held.windows[place] for place in answer[3:]])
            elif status != "changed":
                return self._refused(applies, held, answer)
        raise _unavailable("their store changes too fast")

    def _granted(self, request_id: str, applies: Applies, held: Held, answer: Answer) -> Grant:
        held.epoch = answer[1]
        held.grant = grant_of(applies, held, answer)
        for spent in held.grant.spent:
            self._seen.see(spent)
        self._open[request_id] = held
        return held.grant

    def _refused(self, applies: Applies, held: Held, answer: Answer) -> Refusal:
        refusal = refusal_of(applies, held, answer)
        if refusal is None:
            raise _unavailable("this request has ended already")
        if refusal.spent is not None:
            self._seen.see(refusal.spent)
        return refusal

    async def _reserve_alone(
        self, request_id: str, applies: Applies, held: Held, tokens: int, now: float, lease_s: float
    ) -> Grant | Refusal:
        """Without Redis: a share of everything, or `Unavailable`."""
        if held.windows and not (self._degraded_share and all(window.id in self._seen for window in held.windows)):
            raise _unavailable("their store does not answer")
        if self._local is None:
            self._local = EmbeddedAccounts(self._share_is_left)
        rates = [Rate(rate.id, rate.kind, max(1, rate.per_minute // self._replicas)) for rate in applies.rates]
        slots = [Concurrency(slot.id, max(1, slot.most // self._replicas)) for slot in applies.concurrency]
        share = Applies(applies.budgets, tuple(rates), tuple(slots))
        outcome = await self._local.reserve(request_id, share, held.reserved, tokens, now, lease_s)
        self.alone += 1
        if held.windows and isinstance(outcome, Grant):
            held.epoch = _ALONE
            held.grant = outcome
            self._open[request_id] = held
            self._stale = True
        return outcome

    async def _share_is_left(self, windows: Sequence[Window]) -> list[int]:
        """What counts as spent of windows for this replica alone: all but its share of the last known remainder."""
        shares = [self._seen[window.id].remaining // self._replicas for window in windows]
        return [window.budget.limit_micro_usd - share for window, share in zip(windows, shares, strict=True)]

    def _undo(self, request_id: str) -> None:
        self._ends.append(End(request_id, 0, 0, self._clock(), undo=True))
        self._wake.set()

    async def _extend_there(self, request_id: str, held: Held, micro_usd: int, lease_s: float) -> bool:
        args: Arguments = [request_id, micro_usd, int(lease_s * 1000)]
        args += [window.budget.limit_micro_usd for window in held.windows]
        for _ in range(ROUNDS):
            if self._stale:
                await self._adopt()
            answer = await self._ask("extend", args)
            status = answer[0]
            if status == "missing":
                await self._initialise([held.windows[place] for place in answer[3:]])
            elif status != "unknown" or not self._stale:
                return bool(status == "extended")
        return False

    # What every answer tells, and what follows from it.

    async def _ask(self, script: str, args: Sequence[str | int]) -> Answer:
        answer = await self._link.call(script, args)
        self._local = None
        if answer[1] != self._epoch:
            self._epoch = answer[1]
            self._stale = True
            # What the ledger was asked before lacks what was committed, and flushed, since: it is asked again.
            self._questions = Questions(self._truth, self._clock)
        if self._epoch:
            self._cold_since_s = None
        elif self._cold_since_s is None:
            self._cold_since_s = self._clock()
        return answer

    async def _adopt(self) -> None:
        """Brings this replica's open leases back to a Redis that lost them, before anything else is asked of it.

        Their windows are counted by the next heartbeat, before a process can die and leave its leases' rows in both:
        in Redis as reserved, in the ledger as committed.
        """
        async with self._adopting:
            if not self._stale:
                return
            leases = [(id_, held) for id_, held in self._open.items() if held.epoch != self._epoch]
            for start in range(0, len(leases), BATCH):
                args: Arguments = [*self._owner]
                now_s = self._clock()
                for id_, held in leases[start : start + BATCH]:
                    args += (id_, held.reserved, max(1, int((held.over_s - now_s) * 1000)), held.terms)
                answer = await self._ask("adopt", args)
                for _, held in leases[start : start + BATCH]:
                    held.epoch = answer[1]
                    self._uncounted.update((window.id, window) for window in held.windows)
            self._stale = any(held.epoch != self._epoch for held in self._open.values())

    async def _begin(self) -> None:
        """Redis is empty: brings leases back, waits until all replicas have, and begins an epoch."""
        if self._stale:
            await self._adopt()
        since_s = self._clock() if self._cold_since_s is None else self._cold_since_s
        left_s = since_s + self._cold_grace_s - self._clock()
        if left_s > 0:
            raise Unavailable("Budgets are being counted anew. Try again.", retry_after_s=left_s)
        await self._ask("beat", [secrets.token_hex(8), *self._owner])

    async def _initialise(self, windows: Sequence[Window]) -> None:
        """Asks the ledger for windows that Redis does not know. Raises `Unavailable`."""
        if not self._epoch:
            await self._begin()
        epoch = self._epoch
        answers = await asyncio.gather(*[self._questions.ask(window) for window in windows])
        args: Arguments = [epoch, self._name]
        ahead_ms = self._link.ahead_ms[0]
        for window, told in zip(windows, answers, strict=True):
            asked_ms = told.asked_s * 1000
            forget_s = 0 if window.ends_s is None else window.ends_s + FORGET_S
            args += (window.id, told.micro_usd, int(asked_ms + ahead_ms), repr(asked_ms), forget_s)
        await self._ask("open", args)
        for window in windows:
            self._uncounted.pop(window.id, None)

    # Ends of leases.

    async def _drain(self) -> None:
        """Sends what waits now. Raises `Away` or `Unavailable` when some must wait longer; that stays queued."""
        async with self._draining:
            left = len(self._ends)
            while left > 0:
                left -= await self._send_ends(min(left, BATCH))
            if self._uncounted:
                await self._initialise(list(self._uncounted.values()))
                self._wake.set()

    async def _send_ends(self, most: int) -> int:
        """How many were sent. Those that must wait, for Redis or until a window is counted, go to the queue's end."""
        ends = list(islice(self._ends, most))
        waiting: list[End] = []
        try:
            uncounted = await self._finish(ends)
            for place, windows in uncounted.items():
                end = ends[place]
                if end.windows:
                    waiting.append(end)
                    self._uncounted.update((end.windows[window].id, end.windows[window]) for window in windows)
        except BaseException:
            waiting = ends
            raise
        finally:
            for _ in ends:
                self._ends.popleft()
            self._ends += waiting
        return len(ends)

    async def _finish(self, ends: Sequence[End]) -> dict[int, list[int]]:
        """As `uncounted_in`."""
        args = finish_arguments(ends, self._name, self._link.ahead_ms[1], self._lag_ms)
        return uncounted_in(await self._ask("finish", args))


def _unavailable(why: str) -> Unavailable:
    return Unavailable(f"Budgets cannot be checked now: {why}. Try again.", retry_after_s=RETRY_S)
