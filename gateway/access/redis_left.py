"""Ends the leases that processes which are gone have left in Redis, at what the ledger has for their requests.

A request without a row was never journaled, and so never sent: its lease is released. Fails closed: what cannot be
asked stays reserved, and is asked again.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from gateway.access.owner import Owner
from gateway.access.redis_wire import Answer, Arguments, End

Rows = Callable[[Sequence[str]], Awaitable[Mapping[str, tuple[int, int]]]]
"""Micro-USD charged and tokens used, by request id; none for a request that the ledger does not have."""
Ask = Callable[[str, Arguments], Awaitable[Answer]]
Finish = Callable[[Sequence[End]], Awaitable[Mapping[int, Sequence[int]]]]
"""Ends leases; tells the places of those that must wait until a window is counted."""
PAGES = 8
"""Pages of 64 leases that are ended in one turn."""


class _Task(NamedTuple):
    before: Owner
    rows: Rows
    known_s: float


class Left:
    """Which owners are still to be asked for. A turn goes on where Redis or the ledger was away at the last one."""

    def __init__(self) -> None:
        self._tasks: dict[str, _Task] = {}

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def add(self, before: Owner, rows: Rows, now_s: float) -> None:
        """Every start before `before`. `rows` has all that they have journaled, since `now_s` (monotonic) at least."""
        known = self._tasks.get(before.name)
        if known is None or known.before.start < before.start:
            self._tasks[before.name] = _Task(before, rows, now_s)

    async def end(self, ask: Ask, finish: Finish) -> None:
        """One turn. Raises what `ask`, `finish` and the ledger raise."""
        for task in list(self._tasks.values()):
            if await _ended(task, ask, finish) and self._tasks.get(task.before.name) is task:
                del self._tasks[task.before.name]


async def _ended(task: _Task, ask: Ask, finish: Finish) -> bool:
    """Whether nothing is left for another turn."""
    passed = 0
    for _ in range(PAGES):
        answer = await ask("left", [task.before.name, task.before.start, passed])
        living, found, alone = answer[3:6]
        if found == 0:
            return not living and passed == 0
        ends = []
        if ids := answer[6:]:
            rows = await task.rows(ids)
            ends = [End(id_, *rows.get(id_, (0, 0)), task.known_s) for id_ in ids]
        # One whose window nobody has counted since a flush waits until somebody does.
        passed += alone + len(await finish(ends))
    return False
