"""One upstream call that several identical requests wait for; knows no store and no pipeline.

The first request flies, the others follow: live, byte for byte, where they want the answer in the same form, and from
the finished answer where they do not. A flight that fails before its first byte lets one follower fly in its place.
"""

import asyncio
import re
from collections.abc import AsyncGenerator

from gateway.cache.entry import Entry
from gateway.core.errors import GatewayError
from gateway.core.exchange import Exchange, Reply

Form = tuple[bool, bool]
"""Whether the answer is streamed, and whether the stream ends with its usage."""

_OWN_COMMENT = re.compile(rb": x-farthing-[^\n]*\n\n")
"""What `dispatch.relay` tells the caller whose request flew: its cost and its id."""


class Flight:
    """See the module. Lives from the first look-up of a key until its answer is stored, or is known not to be."""

    __slots__ = ("_changed", "chunks", "ended", "entry", "failure", "followers", "form", "leader", "reply", "settled")

    def __init__(self, leader: Exchange, form: Form) -> None:
        self.leader = leader
        self.form = form
        self.followers = 0
        self.reply: Reply | None = None
        """The leader's answer has begun: its status and headers."""
        self.chunks: list[bytes] = []
        self.failure: GatewayError | None = None
        """What the leader got instead of an answer."""
        self.ended = False
        """No chunk will follow; or it failed."""
        self.entry: Entry | None = None
        self.settled = False
        """`entry` is final: the whole answer, or `None` for one that cannot be reused."""
        self._changed = asyncio.Event()

    def followed(self) -> bool:
        """Whether anybody waits for this flight."""
        return self.followers > 0

    def begin(self, reply: Reply) -> None:
        """The answer has begun."""
        self.reply = reply
        self._tell()

    def add(self, chunk: bytes) -> None:
        """A part of a stream."""
        self.chunks.append(chunk)
        self._tell()

    def end(self) -> None:
        """The stream is complete, or was cut after its first byte."""
        self.ended = True
        self._tell()

    def fail(self, failure: GatewayError | None) -> None:
        """No answer, or none that others can have; `None` when the reason is the leader's own."""
        self.failure = failure
        self.ended = self.settled = True
        self._tell()

    def settle(self, entry: Entry | None) -> None:
        """What followers who want another form get."""
        self.entry = entry
        self.ended = self.settled = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def begun(self) -> bool:
        """Waits for the answer's beginning; `False` when there will be none."""
        while self.reply is None and not self.settled:
            await self._changed.wait()
        return self.reply is not None or self.entry is not None

    async def whole(self) -> Entry | None:
        """Waits for the finished answer; `None` when it cannot be reused."""
        while not self.settled:
            await self._changed.wait()
        return self.entry

    async def live(self, told: bytes) -> AsyncGenerator[bytes, None]:
        """The stream from its beginning, as it comes, with the comment `told` in place of the leader's own."""
        at = 0
        while True:
            while at < len(self.chunks):
                chunk = self.chunks[at]
                at += 1
                yield _OWN_COMMENT.sub(told, chunk) if b": x-farthing-" in chunk else chunk
            if self.ended:
                return
            await self._changed.wait()
