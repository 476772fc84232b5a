"""The shared sentence encoder: one pass over a request's text, read by the semantic cache, routing and compression.

`open_model` for commands that encode in bulk, `open_encoder` for a server. Knows nothing of requests, scopes or
thresholds. Fails open: whoever asks goes on without a vector and records that.
"""

from gateway.encoder.batching import BatchingEncoder
from gateway.encoder.port import Encoder, EncoderError, Encoding, Model, Reading
from gateway.encoder.shared import Pass

SHIPPED = "minilm"

__all__ = [
    "SHIPPED",
    "BatchingEncoder",
    "Encoder",
    "EncoderError",
    "Encoding",
    "Model",
    "Pass",
    "Reading",
    "open_encoder",
    "open_model",
]


def open_model(name: str = SHIPPED, *, threads: int = 1) -> Model:
    """The model `name`: `minilm` (shipped), else a sentence-transformers model by local path or hub id.

    `threads` are those of one pass. Raises `EncoderError` where the model cannot be had, with the fix.
    """
    if name == SHIPPED:
        from gateway.encoder.minilm import MiniLm  # noqa: PLC0415 - ONNX Runtime loads when it is asked for

        return MiniLm(threads=threads)
    from gateway.encoder.sentence import SentenceModel  # noqa: PLC0415 - an extra

    return SentenceModel(name, threads=threads)


def open_encoder(name: str = SHIPPED, *, threads: int = 1) -> BatchingEncoder:
    """The same, off the event loop and in micro-batches; end it with `aclose`. Raises `EncoderError`."""
    return BatchingEncoder(open_model(name, threads=threads))
