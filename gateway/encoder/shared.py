"""One pass per request, shared by all who need it: the first to ask starts it, and whoever gives up disturbs no one."""

import asyncio

from gateway.encoder.port import Encoder, Encoding


class Pass:
    """One text's encoding, computed at most once."""

    def __init__(self, encoder: Encoder, text: str) -> None:
        self._encoder = encoder
        self._text = text
        self._task: asyncio.Task[Encoding | None] | None = None

    async def encoding(self) -> Encoding | None:
        """As `Encoder.encode`; a caller that is cancelled (its deadline passed) leaves the pass to the others."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._encoder.encode(self._text))
            self._task.add_done_callback(_seen)
        return await asyncio.shield(self._task)

    def close(self) -> None:
        """Drops a pass that nobody waits for any more; call it when the request ends. Harmless otherwise."""
        if self._task is not None:
            self._task.cancel()


def _seen(task: asyncio.Task[Encoding | None]) -> None:
    """Takes the error of a pass whose callers have all gone, so that asyncio does not log it as lost."""
    if not task.cancelled():
        task.exception()
