"""Behaviours of the fake upstream: pure functions from a request to the steps on its connection, good or bad.

A `Behaviour` takes a `Request` and yields steps: bytes to write, `Pause`, `Wait`, `Stall`, `Reset`, `Close`,
`CloseOnReuse`.
A behaviour that ends without `Close` or `Reset` leaves the connection open for the next request. Where one counts
events, the event of index 0 is the first one of the body: `after=0` is after the headers, `after=1` after the
role chunk of a chat stream. A body that is not a stream counts as four events of equal size.

A client picks a fault through its model's name: `fault:429`, `fault:429:7`, `fault:reset:2`; see `FAULTS`.
"""

import asyncio
import dataclasses
import email.utils
import itertools
import json
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.support.answers import JSON_TYPE, Reply, Shape, answer, error_doc, json_reply

_REASONS = {200: "OK", 307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
_REASONS |= {429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable"}
_SLICES = 4


@dataclasses.dataclass(eq=False)
class Request:
    """One request as it came, and what became of its answer. Times are readings of `time.monotonic`."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    """As received, order and case kept."""
    body: bytes
    time: float
    connection: int
    """Number of the connection, from 0: two requests with the same one shared it."""
    nth: int
    """How many requests with the same path and model came before."""
    sent: int = 0
    """Steps of bytes handed to the socket so far, the head included."""
    completed: bool = False
    """The behaviour played to its end."""
    aborted: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    """Set when the client left, or `Upstream.stop` ended the connection, before the answer was complete."""
    aborted_at: float | None = None
    over: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    """Set when the answer is complete, or was given up by either side."""

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever its case; `None` when it was not sent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def model(self) -> str:
        """The model that the body names, or nothing."""
        name = self.json.get("model")
        return name if isinstance(name, str) else ""

    def echo(self) -> dict[str, Any]:
        """What an unknown path answers."""
        body = self.body.decode("utf-8", "replace")
        return {"method": self.method, "path": self.path, "query": self.query, "headers": self.headers, "body": body}


@dataclasses.dataclass(frozen=True)
class Pause:
    """Nothing for so many seconds; ends early when the client leaves."""

    seconds: float


@dataclasses.dataclass(frozen=True)
class Wait:
    """Nothing until the test sets `event`."""

    event: asyncio.Event


@dataclasses.dataclass(frozen=True)
class Stall:
    """Nothing until the client leaves or the server stops."""


@dataclasses.dataclass(frozen=True)
class Reset:
    """The connection ends with RST."""


@dataclasses.dataclass(frozen=True)
class Close:
    """The connection ends with FIN, after what was written."""


@dataclasses.dataclass(frozen=True)
class CloseOnReuse:
    """The connection stays open, and ends with RST at the first byte of a next request: the keep-alive race."""


Step = bytes | Pause | Wait | Stall | Reset | Close | CloseOnReuse
Behaviour = Callable[[Request], Iterable[Step]]


# --- framing ---------------------------------------------------------------------------------------------------


def head(reply: Reply, length: int | None) -> bytes:
    """The status line and headers of `reply`, with what its framing needs."""
    headers = [*reply.headers]
    if reply.framing == "chunked":
        headers.append(("transfer-encoding", "chunked"))
        headers += [("trailer", name) for name, _ in reply.trailers]
    elif reply.framing == "length":
        headers.append(("content-length", str(length)))
    else:
        headers.append(("connection", "close"))
    lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def wire(reply: Reply, *, end: bool = True, longer: int = 0) -> Iterator[Step]:
    """`reply` as steps: the head, then one step per event; the last chunk goes out with the last event.

    Without `end` the terminating chunk is missing; `longer` is added to the announced length.
    """
    events: Iterable[bytes | float] = reply.events
    length = None
    if reply.framing == "length":
        events = list(reply.events)
        length = sum(len(event) for event in events if isinstance(event, bytes)) + longer
    yield head(reply, length)
    closing = b""
    if reply.framing == "chunked" and end:
        closing = b"0\r\n" + b"".join(f"{k}: {v}\r\n".encode() for k, v in reply.trailers) + b"\r\n"
    held = b""  # one event is held back, so that the last one carries the end of the body
    for event in events:
        if held:
            yield held
            held = b""
        if isinstance(event, bytes):
            held = _framed(event, reply)
        else:
            yield Pause(event)
    if held or closing:
        yield held + closing
    if reply.framing == "close":
        yield Close()


def _framed(event: bytes, reply: Reply) -> bytes:
    if reply.framing != "chunked" or not event:
        return event
    extension = b';name="value; x"' if reply.extensions else b""
    return b"%x%s\r\n%s\r\n" % (len(event), extension, event)


def good(request: Request, shape: Shape | None = None) -> Reply:
    """The well-formed answer to `request`, with the headers that an API sends."""
    reply = answer(request.path, request.json, request.echo(), shape or Shape())
    api = (
        ("x-request-id", f"req_up_{request.nth}"),
        ("openai-processing-ms", "7"),
        ("x-ratelimit-remaining-requests", "99"),
    )
    return dataclasses.replace(reply, headers=(*reply.headers, *api))


def _sliced(reply: Reply) -> Reply:
    """`reply` with a body that can be cut: one that is not a stream becomes four events."""
    if reply.stream:
        return reply
    body = b"".join(event for event in reply.events if isinstance(event, bytes))
    size = max(1, -(-len(body) // _SLICES))
    return dataclasses.replace(reply, events=[body[at : at + size] for at in range(0, len(body), size)])


def _until(steps: Iterable[Step], after: int) -> Iterator[Step]:
    """The head and the first `after` events."""
    left = after + 1
    for step in steps:
        if isinstance(step, bytes):
            left -= 1
        if left < 0:
            return
        yield step


# --- well-formed answers, in unusual clothes -------------------------------------------------------------------


def ok(shape: Shape | None = None) -> Behaviour:
    """The well-formed answer."""
    return lambda request: wire(good(request, shape))


def held(until: asyncio.Event, *, after: int = 1) -> Behaviour:
    """The well-formed answer; what comes after the first `after` events waits for `until`."""

    def behave(request: Request) -> Iterator[Step]:
        steps = iter(wire(good(request)))
        yield from itertools.islice(steps, after + 1)
        yield Wait(until)
        yield from steps

    return behave


def dressed(**changes: Any) -> Behaviour:
    """The well-formed answer with fields of its `Reply` replaced (`framing`, `extensions`, `trailers`, ...)."""
    return lambda request: wire(dataclasses.replace(good(request), **changes))


def segmented(size: int = 1, pause_s: float = 0.0, inner: Behaviour | None = None) -> Behaviour:
    """The answer of `inner` in TCP segments of `size` bytes, whatever the event bounds; `pause_s` between them."""

    def behave(request: Request) -> Iterator[Step]:
        for step in (inner or ok())(request):
            if not isinstance(step, bytes):
                yield step
                continue
            for at in range(0, len(step), size):
                yield step[at : at + size]
                if pause_s:
                    yield Pause(pause_s)

    return behave


def coalesced(inner: Behaviour | None = None) -> Behaviour:
    """The whole answer of `inner`, head included, in one write."""

    def behave(request: Request) -> Iterator[Step]:
        steps = list((inner or ok())(request))
        yield b"".join(step for step in steps if isinstance(step, bytes))
        yield from (step for step in steps if isinstance(step, Close | Reset | Stall | CloseOnReuse))

    return behave


def interim(*blocks: bytes) -> Behaviour:
    """1xx responses before the answer: 100 Continue and 103 Early Hints unless others are given."""
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n"
    return lambda request: itertools.chain(blocks or (b"HTTP/1.1 100 Continue\r\n\r\n", early), ok()(request))


def gzipped(request: Request) -> Iterator[Step]:
    """The answer in gzip, whatever Accept-Encoding said; a stream is flushed after each event."""
    reply = good(request)
    press = zlib.compressobj(wbits=31)

    def events() -> Iterator[bytes | float]:
        for event in reply.events:
            yield press.compress(event) + press.flush(zlib.Z_SYNC_FLUSH) if isinstance(event, bytes) else event
        yield press.flush()

    return wire(dataclasses.replace(reply, events=events(), headers=(*reply.headers, ("content-encoding", "gzip"))))


def odd_headers(request: Request) -> Iterator[Step]:
    """Repeated, empty, padded, long, Latin-1 and hop-by-hop headers."""
    odd = (
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x-repeated", "one"),
        ("x-repeated", "two"),
        ("x-empty", ""),
        ("x-padded", "  spaces  "),
        ("x-long", "l" * 8000),
        ("x-latin", "caf\u00e9"),
        ("connection", "keep-alive, x-hop"),
        ("keep-alive", "timeout=5"),
        ("x-hop", "for one hop only"),
    )
    reply = good(request)
    return wire(dataclasses.replace(reply, headers=(*reply.headers, *odd)))


def upper_case(request: Request) -> Iterator[Step]:
    """Every header name in capitals."""
    first, *rest = wire(good(request))
    status, *lines = bytes(first).split(b"\r\n")
    upper = [name.upper() + colon + value for name, colon, value in (line.partition(b":") for line in lines)]
    return iter([b"\r\n".join([status, *upper]), *rest])


# --- errors that are answers -----------------------------------------------------------------------------------


def status(code: int, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None) -> Behaviour:
    """An error answer, in the shape of the API unless a `body` is given."""

    def behave(request: Request) -> Iterator[Step]:
        if body is not None:
            kind = () if any(name.lower() == "content-type" for name, _ in headers) else (JSON_TYPE,)
            return wire(Reply(code, (*kind, *headers), [body]))
        doc = error_doc(request.path, code, f"The upstream answered {code}.")
        return wire(json_reply(doc, code, (*headers, ("x-request-id", f"req_up_{request.nth}"))))

    return behave


def retry_after(seconds: float = 1, form: str = "seconds", code: int = 429) -> Behaviour:
    """429 with when to come back: as whole `seconds`, as a `date`, or in `ms`."""
    if form == "date":

        def behave(request: Request) -> Iterable[Step]:
            date = email.utils.formatdate(time.time() + seconds, usegmt=True)
            return status(code, [("retry-after", date)])(request)

        return behave
    if form == "ms":
        return status(code, [("retry-after-ms", str(int(seconds * 1000)))])
    return status(code, [("retry-after", str(int(seconds)))])


def content_filter(request: Request) -> Iterable[Step]:
    """400 because of what the prompt says: no other target may be asked."""
    error = {
        "message": "The prompt was filtered.",
        "type": "invalid_request_error",
        "param": "prompt",
        "code": "content_filter",
    }
    return status(400, body=json.dumps({"error": error}).encode())(request)


def html(code: int = 502) -> Behaviour:
    """An error page of a proxy in between."""
    page = f"<html><head><title>{code}</title></head><body><h1>{code}</h1><hr>nginx</body></html>".encode()
    return status(code, [("content-type", "text/html")], page)


def redirect(location: str = "http://127.0.0.1:9/elsewhere", code: int = 307) -> Behaviour:
    """A redirect, which a gateway must not follow: the key would go along."""
    return status(code, [("location", location)], b"")


def flaky(times: int = 1, inner: Behaviour | None = None) -> Behaviour:
    """`inner` (503) for the first `times` requests to the same path and model, then the well-formed answer."""
    return lambda request: ((inner or status(503)) if request.nth < times else ok())(request)


# --- connections that fail -------------------------------------------------------------------------------------


def reset(after: int | None = None) -> Behaviour:
    """RST before any byte, or after `after` events."""

    def behave(request: Request) -> Iterator[Step]:
        if after is not None:
            yield from _until(wire(_sliced(good(request))), after)
        yield Reset()

    return behave


def hang_up(request: Request) -> Iterator[Step]:
    """FIN before any byte."""
    del request
    yield Close()


def stall(after: int | None = None) -> Behaviour:
    """Silence before any byte (a half-open connection), or after `after` events."""

    def behave(request: Request) -> Iterator[Step]:
        if after is not None:
            yield from _until(wire(_sliced(good(request))), after)
        yield Stall()

    return behave


def cut(after: int = 2) -> Behaviour:
    """FIN after `after` events: a chunked body without its last chunk, or one shorter than its length."""

    def behave(request: Request) -> Iterator[Step]:
        yield from _until(wire(_sliced(good(request)), end=False), after)
        yield Close()

    return behave


def clean_cut(after: int = 2) -> Behaviour:
    """A stream that HTTP ends properly after `after` events, with neither finish_reason nor `[DONE]`."""

    def behave(request: Request) -> Iterator[Step]:
        reply = _sliced(good(request))
        pieces = [event for event in reply.events if isinstance(event, bytes)]
        return wire(dataclasses.replace(reply, events=pieces[:after]))

    return behave


def short_length(request: Request) -> Iterator[Step]:
    """The whole body, then FIN, 100 bytes before the length that was announced."""
    reply = dataclasses.replace(good(request), framing="length")
    yield from wire(reply, longer=100)
    yield Close()


def no_last_chunk(request: Request) -> Iterator[Step]:
    """All events, `[DONE]` included, then FIN without the terminating chunk."""
    yield from wire(dataclasses.replace(good(request), framing="chunked"), end=False)
    yield Close()


def stale(request: Request) -> Iterator[Step]:
    """A good answer on a connection that the server ends exactly when it is used again."""
    yield CloseOnReuse()
    yield from wire(good(request))


# --- streams that go wrong -------------------------------------------------------------------------------------


def inserted(data: bytes, after: int = 2) -> Behaviour:
    """`data` as one more event of the body, after `after` good ones."""

    def behave(request: Request) -> Iterator[Step]:
        reply = _sliced(good(request))
        events = iter(reply.events)
        mixed = itertools.chain(itertools.islice(events, after), [data], events)
        return wire(dataclasses.replace(reply, events=mixed))

    return behave


def garbage(after: int = 2) -> Behaviour:
    """One event that is not JSON between good ones."""
    return inserted(b"data: {this is not json\n\n", after)


def binary(after: int = 2) -> Behaviour:
    """Bytes that are no UTF-8 and no event between good ones."""
    return inserted(bytes(range(256)) + b"\n\n", after)


def huge(size: int = 16 << 20, after: int = 1) -> Behaviour:
    """One event of `size` bytes between good ones: a well-formed chunk with a long content."""

    def behave(request: Request) -> Iterable[Step]:
        entry = {"index": 0, "delta": {"content": "x" * size}, "finish_reason": None}
        doc = {"id": "chatcmpl-upstream", "object": "chat.completion.chunk", "model": request.model, "choices": [entry]}
        return inserted(b"data: " + json.dumps(doc).encode() + b"\n\n", after)(request)

    return behave


def error_frame(after: int = 2) -> Behaviour:
    """An error as an event in the middle of a stream, as the API does; HTTP ends properly after it."""

    def behave(request: Request) -> Iterator[Step]:
        doc = error_doc(request.path, 500, "The server had an error while it generated the answer.")
        name = b"event: error\n" if request.path.endswith("/messages") else b""
        reply = good(request)
        pieces = [event for event in reply.events if isinstance(event, bytes)][:after]
        last = name + b"data: " + json.dumps(doc).encode() + b"\n\n"
        return wire(dataclasses.replace(reply, events=[*pieces, last], framing="chunked"))

    return behave


def endless(pause_s: float = 0.0) -> Behaviour:
    """A stream whose content never ends."""

    def behave(request: Request) -> Iterator[Step]:
        reply = good(request, Shape(chunks=2))
        pieces = [event for event in reply.events if isinstance(event, bytes)]
        rest = itertools.chain.from_iterable((pieces[1], pause_s) for _ in itertools.count())
        return wire(dataclasses.replace(reply, events=itertools.chain(pieces[:1], rest)))

    return behave


def replay(source: Path | bytes) -> Behaviour:
    """Recorded bytes, as they are: a whole response if they begin with `HTTP/`, else the body of an event stream.

    The connection is closed after them, since only the recording knows whether it is complete.
    """

    def behave(request: Request) -> Iterator[Step]:
        del request
        raw = source if isinstance(source, bytes) else source.read_bytes()
        if not raw.startswith(b"HTTP/"):
            yield head(Reply(200, (("content-type", "text/event-stream"),), [], framing="close"), None)
        yield raw
        yield Close()

    return behave


# --- faults by name --------------------------------------------------------------------------------------------

FAULTS: dict[str, Callable[..., Behaviour]] = {
    "binary": binary,
    "clean-cut": clean_cut,
    "close-framing": lambda: dressed(framing="close"),
    "coalesced": coalesced,
    "comments": lambda: ok(Shape(comments=True)),
    "content-filter": lambda: content_filter,
    "crlf": lambda: ok(Shape(newline="\r\n")),
    "cut": cut,
    "endless": endless,
    "error-frame": error_frame,
    "extensions": lambda: dressed(framing="chunked", extensions=True, trailers=(("x-trailer", "late"),)),
    "extra": lambda: ok(Shape(extra=True)),
    "flaky": flaky,
    "garbage": garbage,
    "gzip": lambda: gzipped,
    "half-open": stall,
    "hang-up": lambda: hang_up,
    "html": html,
    "huge": huge,
    "interim": interim,
    "no-done": lambda: ok(Shape(done=False)),
    "no-last-chunk": lambda: no_last_chunk,
    "odd-headers": lambda: odd_headers,
    "reasoning": lambda: ok(Shape(reasoning=True)),
    "redirect": redirect,
    "reset": reset,
    "retry-after-date": lambda seconds=1: retry_after(seconds, "date"),
    "retry-after-ms": lambda seconds=1: retry_after(seconds, "ms"),
    "segmented": segmented,
    "short-length": lambda: short_length,
    "slow": lambda size=1, pause_s=0.001: segmented(size, pause_s),
    "stale": lambda: stale,
    "stall": stall,
    "tool-calls": lambda: ok(Shape(tool_calls=True)),
    "upper-case": lambda: upper_case,
}
"""Each takes the numbers after its name: `fault:stall:3` is `stall(3)`. Three digits are a status: `fault:503`."""


def by_model(model: str) -> Behaviour | None:
    """The behaviour that a model's name asks for; `None` for a name that does not begin with `fault:`.

    `fault:429:7` adds `Retry-After: 7`. Raises `KeyError` for an unknown fault.
    """
    kind, *rest = model.split(":")
    if kind != "fault" or not rest:
        return None
    name, *numbers = rest
    args = [float(number) if "." in number else int(number) for number in numbers]
    if name.isdigit():
        return retry_after(args[0], code=int(name)) if args else status(int(name))
    return FAULTS[name](*args)
