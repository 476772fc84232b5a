"""Server-sent events out of bytes in any split, and back (WHATWG HTML, section 9.2), whatever they carry."""

import re

import msgspec

from gateway.core.errors import UpstreamBroken

DONE = b"data: [DONE]\n\n"
MAX_EVENT_BYTES = 32 << 20
_BOM = b"\xef\xbb\xbf"
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event. `event` is its type, `None` where it has none; `data` has no final line end.

    `raw` is the event's own bytes with its blank line; stray line ends before it belong to no event.
    """

    event: str | None
    data: bytes
    raw: bytes


def frame(data: bytes, event: str | None = None) -> bytes:
    """An event as LF lines; `data` must hold no line end (JSON never does)."""
    if event is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"


class Parser:
    """Events out of one response body.

    LF, CR and CRLF end lines; comments, `id` and `retry` are read over, and so is an event without data. Whole LF
    events cost one `bytes.split`. Bytes that wait for their blank line are bounded: past `max_event_bytes` `feed`
    raises `UpstreamBroken`.
    """

    __slots__ = ("_cr", "_max", "_started", "_tail")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._tail = bytearray()
        self._started = False
        self._cr = False
        self._max = max_event_bytes

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes, in order; the rest is kept."""
        tail = self._tail
        if not self._started:
            data = bytes(tail) + data
            tail.clear()
            if len(data) < len(_BOM) and _BOM.startswith(data):
                tail += data
                return []
            self._started = True
            data = data.removeprefix(_BOM)
        if not self._cr and b"\r" in data:
            self._cr = True
        if tail:
            seam = bytes(tail[-3:]) + data
            tail += data
            if not (_BLANK_LINE.search(seam) if self._cr else b"\n\n" in seam):
                self._check_size()  # still the same event: not copied, however long it is
                return []
            data = bytes(tail)
            tail.clear()
        return self._split_cr(data) if self._cr else self._split(data)

    def _split(self, data: bytes) -> list[Event]:
        parts = data.split(b"\n\n")
        rest = parts.pop()
        if rest:
            self._tail += rest
            self._check_size()
        return [event for part in parts if (event := _parse(part.lstrip(b"\n"), b"\n\n")) is not None]

    def _split_cr(self, data: bytes) -> list[Event]:
        events = []
        start = 0
        for blank in _BLANK_LINE.finditer(data):
            if blank.end() == len(data) and data.endswith(b"\r"):
                break  # perhaps half of a CRLF
            event = _parse(data[start : blank.start()].lstrip(b"\r\n"), blank[0])
            start = blank.end()
            if event is not None:
                events.append(event)
        self._tail += data[start:]
        self._check_size()
        return events

    def _check_size(self) -> None:
        if len(self._tail) > self._max:
            raise UpstreamBroken(f"The upstream sent an event over {self._max} bytes.")

    def finish(self) -> list[Event]:
        """The body ended: an event whose blank line never came, as if it had come (at most one)."""
        rest = bytes(self._tail).lstrip(b"\r\n")
        self._tail.clear()
        blank = _BLANK_LINE.search(rest)  # one that waited for the second half of a CRLF
        event = _parse(rest[: blank.start()], blank[0]) if blank else _parse(rest.rstrip(b"\r\n"), b"\n\n")
        return [] if event is None else [event]


def _parse(block: bytes, blank_line: bytes) -> Event | None:
    if block.startswith(b"data: ") and b"\n" not in block and b"\r" not in block:
        return Event(None, block[6:], block + blank_line)
    kind = b""
    data = None
    for line in block.splitlines():
        field, _, value = line.partition(b":")
        if field == b"data":
            value = value.removeprefix(b" ")
            data = value if data is None else data + b"\n" + value
        elif field == b"event":
            kind = value.removeprefix(b" ")
    if data is None:
        return None
    return Event(kind.decode("utf-8", "replace") or None, data, block + blank_line)
