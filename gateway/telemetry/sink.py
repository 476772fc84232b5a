"""Where finished records go: one append on the request's path, everything else in batches behind it.

Fails open: a full queue drops the new record and counts it; a consumer that raises is counted and logged.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from gateway.core.exchange import RequestRecord

log = logging.getLogger("farthing.telemetry")

Consumer = Callable[[list[RequestRecord]], None]
_SLICE = 2000
_LOG_EVERY = 240
"""Failures between two log lines: about a minute's worth of drains."""


class RecordSink:
    """A bounded queue of records and the consumers that are fed from it."""

    def __init__(self, consumers: Sequence[Consumer], capacity: int = 65536) -> None:
        self._consumers = consumers
        self._capacity = capacity
        self._queue: deque[RequestRecord] = deque()
        self.dropped = 0
        self.failures = 0

    def put(self, record: RequestRecord) -> None:
        """Takes one record; never blocks, never raises."""
        queue = self._queue
        if len(queue) >= self._capacity:
            self.dropped += 1
        else:
            queue.append(record)

    def drain(self, most: int = 1 << 30) -> None:
        """Hands up to `most` waiting records to every consumer."""
        queue = self._queue
        batch = [queue.popleft() for _ in range(min(len(queue), most))]
        if not batch:
            return
        for consume in self._consumers:
            try:
                consume(batch)
            except Exception:
                if self.failures % _LOG_EVERY == 0:
                    log.exception("a consumer of records failed; %d records are not in it", len(batch))
                self.failures += 1

    async def run(self, interval_s: float = 0.25) -> None:
        """Drains until cancelled, then once more."""
        try:
            while True:
                await asyncio.sleep(interval_s)
                while len(self._queue) > _SLICE:
                    self.drain(_SLICE)
                    await asyncio.sleep(0)
                self.drain()
        finally:
            self.drain()
