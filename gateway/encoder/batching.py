"""Runs a model off the event loop: one thread takes whatever waits, as many as fit a pass, and never waits for more.

Knows nothing of deadlines: a caller that stops waiting cancels, and what is cancelled before its pass is dropped.
Fails open: an error of the model reaches those who wait for that pass, and the next pass runs as if nothing happened.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gateway.encoder.bulk import fits
from gateway.encoder.port import EncoderError, Encoding, Model, Reading

if TYPE_CHECKING:
    from gateway.encoder.port import Vectors

Future = asyncio.Future[Encoding | None]
Outcome = Encoding | EncoderError | None


class _Waiting:
    """One caller: its text and its future, on its loop."""

    __slots__ = ("future", "loop", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.loop = asyncio.get_running_loop()
        self.future: Future = self.loop.create_future()


_Read = tuple[_Waiting, Reading]


class BatchingEncoder:
    """An `Encoder` over a `Model`; at most one pass at a time, callers in the order in which they came."""

    def __init__(self, model: Model) -> None:
        self.version = model.version
        self.dimension = model.dimension
        self.window = model.window
        self._model = model
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    async def encode(self, text: str) -> Encoding | None:
        """The text's vector; `None` when it does not fit the window whole. Raises `EncoderError`."""
        waiting = _Waiting(text)
        with self._changed:
            if self._closed:
                raise EncoderError("the encoder is closed")
            self._waiting.append(waiting)
            self._changed.notify()
        return await waiting.future

    async def aclose(self) -> None:
        """Ends the thread after the pass under way; what still waits fails with `EncoderError`."""
        with self._changed:
            self._closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify()
        _resolve((waiting, EncoderError("the encoder is closed")) for waiting in left)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _work(self) -> None:
        carried: _Read | None = None
        while True:
            first = carried or self._next(wait=True)
            if first is None:
                return
            batch, carried = self._fill(first)
            batch = [(waiting, reading) for waiting, reading in batch if not waiting.future.cancelled()]
            if batch:
                outcomes = self._pass([reading for _, reading in batch])
                _resolve(zip((waiting for waiting, _ in batch), outcomes, strict=True))

    def _fill(self, first: _Read) -> tuple[list[_Read], _Read | None]:
        """`first` and those behind it that fit the same pass; then the one that did not, for the next."""
        batch, longest = [first], len(first[1].ids)
        while (following := self._next(wait=False)) is not None:
            longest = max(longest, len(following[1].ids))
            if not fits(len(batch) + 1, longest):
                return batch, following
            batch.append(following)
        return batch, None

    def _next(self, *, wait: bool) -> _Read | None:
        """The next caller whose text fits the window; those whose text does not are answered here.

        `None` when nobody waits, or, with `wait`, when the encoder is closed.
        """
        while True:
            with self._changed:
                while wait and not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return None
                waiting = self._waiting.popleft()
            if waiting.future.cancelled():
                continue
            outcome = self._read(waiting.text)
            if isinstance(outcome, Reading):
                return waiting, outcome
            _resolve([(waiting, outcome)])

    def _read(self, text: str) -> Reading | EncoderError | None:
        try:
            return self._model.read(text)
        except Exception as exc:  # noqa: BLE001 - the root of a thread: the caller gets it
            return _error(exc)

    def _pass(self, readings: list[Reading]) -> Sequence[Encoding | EncoderError]:
        try:
            vectors = self._model.run(readings)
            return [_encoding(vectors[row], reading) for row, reading in enumerate(readings)]
        except Exception as exc:  # noqa: BLE001 - the root of a thread: the callers get it
            return [_error(exc) for _ in readings]


def _encoding(row: "Vectors", reading: Reading) -> Encoding:
    vector = row.copy()  # a kept vector must not keep those of its pass
    vector.flags.writeable = False
    return Encoding(vector, len(reading.ids), reading.unknown)


def _error(exc: Exception) -> EncoderError:
    """An error of each caller's own: one raised in several places collects all their tracebacks."""
    error = EncoderError(exc.message if isinstance(exc, EncoderError) else f"the encoder failed: {exc!r}")
    error.__cause__ = exc
    return error


def _resolve(outcomes: Iterable[tuple[_Waiting, Outcome]]) -> None:
    """Hands outcomes to their loops, one hop per loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Future, Outcome]]] = {}
    for waiting, outcome in outcomes:
        by_loop.setdefault(waiting.loop, []).append((waiting.future, outcome))
    for loop, settled in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, settled)
        except RuntimeError:  # the loop is closed: nobody waits there
            continue


def _settle(settled: list[tuple[Future, Outcome]]) -> None:
    for future, outcome in settled:
        if future.done():
            continue
        if isinstance(outcome, EncoderError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
