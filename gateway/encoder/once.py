"""One encoder for all who need one: the first to ask opens it, and it is ended once.

Fails open: an encoder that cannot be opened is an error for whoever asks, and the next one tries again.
"""

import threading

from gateway.encoder import BatchingEncoder, Encoder, open_encoder


class Once:
    """See the module. `name` as of `open_encoder`; `opened` is `None` until somebody has asked."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._opening = threading.Lock()
        self.opened: BatchingEncoder | None = None

    def open(self) -> Encoder:
        """The encoder. Blocks while it is opened. Raises `EncoderError`."""
        with self._opening:
            if self.opened is None:
                self.opened = open_encoder(self._name)
            return self.opened

    async def aclose(self) -> None:
        """After the last request."""
        if self.opened is not None:
            await self.opened.aclose()
