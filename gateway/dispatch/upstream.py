"""One call to one target: the bytes of the request, the connection they go over, the response to read.

Upstream URLs come from the policy alone. Of the caller's headers only a short list goes on; of the upstream's
headers all but the hop's own come back, so that rate limits and processing times reach the SDK. The sandbox
target answers in process through the same port.
"""

from typing import Protocol

import msgspec

from gateway.core.exchange import Call, Target
from gateway.dispatch.client import HttpClient, Origin
from gateway.dispatch.sandbox import Sandbox, profile

Headers = list[tuple[bytes, bytes]]

_FORWARDED = frozenset([
    b"accept", b"anthropic-beta", b"anthropic-version", b"endpoint-load-metrics-format", b"idempotency-key",
    b"openai-beta", b"range", b"traceparent", b"tracestate", b"x-session-id",
])  # fmt: skip
_NOT_RELAYED = frozenset([
    b"alt-svc", b"connection", b"content-encoding", b"content-length", b"date", b"keep-alive", b"nel",
    b"proxy-authenticate", b"proxy-connection", b"report-to", b"server", b"set-cookie", b"strict-transport-security",
    b"te", b"trailer", b"transfer-encoding", b"upgrade", b"via", b"x-accel-buffering", b"x-request-id",
])  # fmt: skip


class Response(Protocol):
    """What a call returns once the head is here; see `client.Response`."""

    status: int
    headers: Headers

    def header(self, name: bytes) -> bytes | None:
        """The first value by lower-case name."""
        ...

    async def chunk(self, idle_s: float) -> bytes:
        """Bytes as they arrive; `b""` at the end."""
        ...

    async def read(self, limit: int) -> bytes:
        """All of the body."""
        ...

    def unread(self) -> bytes:
        """What has arrived and was not read."""
        ...

    def close(self) -> None:
        """Ends the exchange, aborting it if unfinished."""
        ...


class Wire:
    """A target (or one replica of its pool) ready to call: its origin and the headers that never change."""

    __slots__ = ("_static", "_static_names", "origin", "query")

    def __init__(self, origin: Origin, target: Target) -> None:
        self.origin = origin
        self.query = target.query.encode()
        lines = [b"host: " + origin.authority, b"accept-encoding: identity", b"user-agent: farthing"]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in target.headers]
        self._static = b"\r\n".join(lines) + b"\r\n"
        self._static_names = frozenset(name.encode() for name, _ in target.headers)

    def request(self, call: Call, path: str, body: bytes, request_id: str) -> bytes:
        """The exact bytes of one HTTP/1.1 request. `path` is below the base URL and starts with `/`."""
        query = b"&".join([q for q in (call.query, self.query) if q])
        head = [
            call.method.encode(),
            b" ",
            self.origin.path,
            path.encode("ascii"),
            b"?" + query if query else b"",
            b" HTTP/1.1\r\n",
            self._static,
            b"x-request-id: ",
            request_id.encode(),
        ]
        index = call.index
        if not _FORWARDED.isdisjoint(index):
            for name in _FORWARDED & index.keys() - self._static_names:
                head += (b"\r\n", name, b": ", index[name])
        kind = (
            b"application/json" if call.endpoint != "other" else index.get(b"content-type", b"application/octet-stream")
        )
        if body or call.method in ("POST", "PUT", "PATCH"):
            head.append(b"\r\ncontent-type: %b\r\ncontent-length: %d" % (kind, len(body)))
        head += (b"\r\n\r\n", body)
        return b"".join(head)


class Upstreams:
    """Calls targets: over HTTP, or in process for the sandbox. Keeps one `Wire` per target and replica."""

    def __init__(self, client: HttpClient, sandbox: Sandbox) -> None:
        self._client = client
        self._sandbox = sandbox
        self._wires: dict[tuple[int, str], tuple[Target, Wire]] = {}

    def forget(self) -> None:
        """Drops prepared requests, those of targets that no policy has any more among them."""
        self._wires.clear()

    async def send(
        self, target: Target, replica: str | None, call: Call, path: str, body: bytes, request_id: str, total_s: float
    ) -> Response:
        """The head of the answer; raises `UpstreamError`. `replica` is the URL chosen from the target's pool."""
        limits = target.deadlines
        head_s = limits.first_token_s if call.stream else total_s
        if target.provider == "sandbox":
            doc = msgspec.json.decode(body) if body[:1] == b"{" else None
            return await self._sandbox.send(profile(target), path, doc, body, head_s=head_s, total_s=total_s)
        wire = self._wire(target, replica)
        return await self._client.send(
            wire.origin,
            wire.request(call, path, body, request_id),
            connect_s=limits.connect_s,
            head_s=head_s,
            total_s=total_s,
            no_body=call.method == "HEAD",
        )

    def _wire(self, target: Target, replica: str | None) -> Wire:
        key = (id(target), replica or "")  # not the name: two policies may each have a target of that name
        known = self._wires.get(key)
        if known is not None and known[0] is target:
            return known[1]
        base = f"{replica}/v1" if replica is not None else target.base_url
        assert base is not None, "the policy gives every HTTP target a base URL or a pool"
        wire = Wire(self._client.origin(base), target)
        self._wires[key] = (target, wire)
        return wire


def relayed_headers(headers: Headers) -> Headers:
    """The upstream's headers that the caller sees, its Retry-After and rate limits among them."""
    return [pair for pair in headers if pair[0] not in _NOT_RELAYED]


def request_id(headers: Headers) -> str | None:
    """The upstream's own id of a call, for its support desk; it reaches the caller under a name of ours."""
    for name, value in headers:
        if name in (b"x-request-id", b"request-id"):
            return value.decode("latin-1")
    return None
