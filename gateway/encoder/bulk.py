"""Which texts share a pass, so that padding stays small: for servers, and for commands that encode many at once."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gateway.encoder.port import EncoderError, Model, Reading

if TYPE_CHECKING:
    from gateway.encoder.port import Vectors

MOST = 16
"""Texts in a pass."""
PADDED_TOKENS = 256
"""Tokens in a pass, padding included: about the cost of one text of the full window, 20 ms on one core."""


def fits(count: int, longest: int) -> bool:
    """Whether `count` texts, the longest of `longest` tokens, may share a pass; one text always may."""
    return count == 1 or (count <= MOST and count * longest <= PADDED_TOKENS)


def passes(readings: Sequence[Reading]) -> Iterator[list[int]]:
    """Indices of `readings`, pass by pass, in the order of length; each index once."""
    batch: list[int] = []
    for index in sorted(range(len(readings)), key=lambda i: len(readings[i].ids)):
        if batch and not fits(len(batch) + 1, len(readings[index].ids)):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def encode_batch(model: Model, texts: Sequence[str]) -> "Vectors":
    """`float32[n, d]`, unit norm, row i for `texts[i]`. Raises `EncoderError` for a text beyond the window."""
    import numpy as np  # noqa: PLC0415 - heavy

    readings = []
    for index, text in enumerate(texts):
        reading = model.read(text)
        if reading is None:
            raise EncoderError(f"text {index} ({len(text)} characters) is beyond the window of {model.window} tokens")
        readings.append(reading)
    vectors = np.empty((len(readings), model.dimension), np.float32)
    for indices in passes(readings):
        vectors[indices] = model.run([readings[index] for index in indices])
    return vectors
