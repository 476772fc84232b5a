"""What an encoder is: text in, one unit vector out, or `None` for a text that does not fit its window whole."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from gateway.core.errors import GatewayError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


class EncoderError(GatewayError):
    """The encoder cannot be opened, is closed, or failed on a batch; callers go on without a vector."""

    status = 503
    code = "encoder_unavailable"


class Encoding(msgspec.Struct, frozen=True):
    """One text's vector.

    `vector` is `float32[d]`, unit norm, read-only: the dot product of two is their cosine. `tokens` counts the special
    ones too. `unknown` counts words that the vocabulary lacks (an emoji, a run of over 100 characters): texts that
    differ only in those have one and the same vector, so a lookup by vector must not trust it alone.
    """

    vector: "Vectors"
    tokens: int
    unknown: int = 0


class Reading(msgspec.Struct, frozen=True):
    """A text that fits the window, ready for a pass: `ids` with the special tokens, and how many are unknown."""

    text: str
    ids: Sequence[int]
    unknown: int = 0


class Encoder(Protocol):
    """An encoder for a server: asked from the event loop, never blocks it. See `BatchingEncoder`."""

    version: str
    """Changes with weights, tokenizer and pooling: part of every cache scope and certificate that rests on vectors."""
    dimension: int
    window: int
    """The most tokens of a text, special ones included."""

    async def encode(self, text: str) -> Encoding | None:
        """The text's vector; `None` when it does not fit the window whole. Raises `EncoderError`."""
        ...

    async def aclose(self) -> None:
        """Ends the encoder; what still waits fails with `EncoderError`."""
        ...


class Model(Protocol):
    """A loaded model: synchronous, its methods called by one thread at a time."""

    version: str
    dimension: int
    window: int

    def read(self, text: str) -> Reading | None:
        """The text as tokens; `None` when it does not fit the window whole."""
        ...

    def run(self, readings: Sequence[Reading]) -> "Vectors":
        """One pass: `float32[n, d]`, unit norm, row i for `readings[i]`; a row does not depend on its neighbours."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> "Vectors":
        """Any number of texts: `float32[n, d]`, unit norm. Raises `EncoderError` for a text beyond the window."""
        ...
