"""The nouns of one request, shared by all rooms: who asks, what, where it goes, what it used, what is recorded.

Frozen structs but for `Exchange`, which collects what happens to one request on its way through the stages. Those with
`array_like` lie in the journal by position: new fields go to their end and have a default, none is moved or taken out.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Literal

import msgspec

Dialect = Literal["openai", "anthropic"]
"""Which wire format the caller speaks; errors are answered in it."""

Endpoint = Literal["chat", "completions", "embeddings", "responses", "messages", "other"]

UsageSource = Literal["reported", "estimated"]

Outcome = Literal[
    "ok",  # a complete answer was delivered
    "client_error",  # refused: the caller's fault (4xx of ours)
    "upstream_error",  # no target answered; the caller got an error status
    "truncated",  # bytes were sent, then the upstream failed; an error frame ended the stream
    "client_disconnect",  # the caller left; the upstream call was cancelled
    "internal_error",  # ours
    "crashed",  # the gateway died in the middle of it; charged as reserved, marked estimated
]


class Identity(msgspec.Struct, frozen=True):
    """Who asks. `key` is the public id of the credential, never the credential."""

    tenant: str
    key: str
    tags: frozenset[str] = frozenset()


class Call(msgspec.Struct, frozen=True):
    """One parsed request: only what decisions read, beside the untouched bytes.

    `headers` are lower-case pairs as received. `doc` is the decoded JSON body (read it, never send it);
    `None` for bodies that are not JSON. `max_tokens` is per choice. `query` is without `?`.
    """

    endpoint: Endpoint
    dialect: Dialect
    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    raw: bytes
    doc: dict[str, Any] | None = None
    model: str | None = None
    stream: bool = False
    wants_usage: bool = False
    n: int = 1
    max_tokens: int | None = None
    index: dict[bytes, bytes] = {}
    """The headers by name; of a repeated one, the last."""


class Usage(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Tokens of one answer in disjoint classes (except `reasoning`: the part of `output` that was thought).

    input = uncached_input + cache_read + cache_write_5m + cache_write_1h.
    """

    uncached_input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    source: UsageSource = "reported"

    @property
    def input(self) -> int:
        """All input tokens, cached or not; what tiers above N tokens look at."""
        return self.uncached_input + self.cache_read + self.cache_write_5m + self.cache_write_1h


class Deadlines(msgspec.Struct, frozen=True, gc=False):
    """Seconds. `first_token` holds for streams; an answer that is not streamed has `total` only.

    `idle` is the longest silence between two chunks of a stream.
    """

    connect_s: float = 2.0
    first_token_s: float = 60.0
    idle_s: float = 10.0
    total_s: float = 600.0


class Retries(msgspec.Struct, frozen=True, gc=False):
    """`attempts` is the most tries per target, the first included; `budget` the share of retries in all calls."""

    attempts: int = 2
    budget: float = 0.2


class Pool(msgspec.Struct, frozen=True):
    """Replicas that serve the same model. URLs carry no trailing slash and end before `/v1`."""

    name: str
    replicas: tuple[str, ...]
    health_path: str = "/health"
    health_interval_s: float = 5.0
    gpu_hour_usd: str | None = None
    gpus: int = 1
    input_tokens_per_s: float | None = None
    output_tokens_per_s: float | None = None


class Target(msgspec.Struct, frozen=True):
    """Somewhere a request can go, ready to use: secrets are resolved, so never log or encode one.

    `base_url` includes the API's prefix (`https://api.openai.com/v1`) and is `None` for a pool or the sandbox.
    `model` is the upstream's name; `None` forwards the name that the caller used.
    `headers` are added to every call (authentication included), lower-case names.
    """

    name: str
    provider: Literal["openai_compatible", "anthropic", "sandbox"]
    model: str | None = None
    base_url: str | None = None
    pool: Pool | None = None
    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""
    deadlines: Deadlines = Deadlines()
    retries: Retries = Retries()
    self_hosted: bool = False
    price_key: str | None = None
    """Row of the price book; `None` looks up `provider`'s rows for the served model."""
    options: dict[str, Any] = {}
    """Adapter options: the sandbox's latency and error rates, for one."""
    apart: str = ""
    """Tells it from the target of the same name and other content in the policy that serves beside its own."""

    @property
    def place(self) -> str:
        """What its breaker is kept under: the name, with what tells it apart."""
        return f"{self.name}@{self.apart}" if self.apart else self.name

    def __repr__(self) -> str:
        """Without headers: they hold secrets."""
        return f"Target({self.name!r}, {self.provider!r}, model={self.model!r})"


class Plan(msgspec.Struct, frozen=True):
    """Where a request goes: targets in the order they are tried, and why (`x-farthing-route` says the same)."""

    route: str
    targets: tuple[Target, ...]
    reasons: tuple[str, ...] = ()
    sensitive: str | None = None
    """Why it must not leave self-hosted targets, which are all that it has then; `None` when it may."""


class Attempt(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One upstream call. Offsets and durations in seconds; `status` is `None` when no answer came."""

    target: str
    replica: str | None
    status: int | None
    error: str | None
    offset_s: float
    duration_s: float
    ttft_s: float | None = None
    usage: Usage | None = None
    cost_micro_usd: int | None = None
    own: bool = False
    """A call for the gateway's own ends, such as a judge's: not one of those that were to answer the caller."""


class Savings(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What the request saved against the policy's baseline, in micro-USD; each part may be negative.

    baseline - charged = cache + routing + compression - waste_escalation - waste_retries - own, to the micro-dollar.
    `baseline` is a counterfactual: the original prompt and the served completion at the baseline target's price.
    """

    baseline: int
    cache: int = 0
    routing: int = 0
    compression: int = 0
    waste_escalation: int = 0
    waste_retries: int = 0
    own: int = 0

    @property
    def net(self) -> int:
        """What is left of the savings after all waste and the gateway's own cost."""
        return self.cache + self.routing + self.compression - self.waste_escalation - self.waste_retries - self.own


class CacheHit(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An answer that no upstream was asked for. `usage` is of the answer when it was made; nothing of it is charged.

    `similarity` is the cosine in [-1, 1] and `score` the verifier's in [0, 1] of a semantic hit. `took_s` is what the
    upstream had needed, `age_s` how long ago.
    """

    kind: Literal["exact", "semantic", "coalesced"]
    entry: str
    usage: Usage
    took_s: float
    age_s: float
    similarity: float | None = None
    score: float | None = None


class Choice(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Which of a route's two targets was chosen, and by what; `why` is a name from a fixed list.

    `score` is the gain that is expected of the strong target, `None` where none was asked for or none came; up to
    `threshold` the weak one is chosen. `certificate` begins the hash of what certifies that threshold. `scorer` is what
    scored, as a certificate's `versions` name it: the head, for `judge` the model that rated; `None` with `score`.
    """

    target: Literal["weak", "strong"]
    why: str
    tier: Literal["light", "embed", "neighbours", "judge"] | None = None
    score: float | None = None
    threshold: float | None = None
    certificate: str | None = None
    scorer: str | None = None


class Shadowed(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What the policy in shadow would have done with a request, beside what was done; it changed nothing.

    `origin` and `target` are the first of each plan, `refused` where there is none. `micro_usd` is what it would have
    cost more at the same tokens, `None` where that is unknown. `undecided`: to know it would take a model's pass.
    """

    policy: str
    verdict: Literal["same", "other", "undecided", "failed"]
    origin: str = ""
    target: str = ""
    micro_usd: int | None = None


class Admission(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is durable before the first upstream byte: enough to account for the request if the gateway dies now.

    `reserved_micro_usd` is the worst case of the plan; `None` when its price is unknown. `windows` are the ids of the
    budget windows that hold the reservation.
    """

    request_id: str
    started_s: float
    tenant: str
    key: str
    tags: tuple[str, ...]
    dialect: Dialect
    endpoint: Endpoint
    policy: str
    route: str
    requested_model: str
    target: str
    provider: str
    model: str
    stream: bool
    reserved_micro_usd: int | None
    windows: tuple[str, ...] = ()


class RequestRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What happened, once per request; headers, metrics, spans and (later) ledger rows are built from it.

    Durations in seconds. `ttft_s` is from acceptance to the first byte for the caller. `overhead_s` is the part
    of `duration_s` in which no upstream was being waited for, `queue_s` the part spent in line for a
    replica. `cost_micro_usd` is `None` when a price is unknown.
    """

    request_id: str
    started_s: float
    tenant: str
    key: str
    dialect: Dialect
    endpoint: Endpoint
    path: str
    policy: str
    route: str
    requested_model: str
    target: str
    provider: str
    model: str
    stream: bool
    status: int
    outcome: Outcome
    error: str | None
    attempts: tuple[Attempt, ...]
    usage: Usage | None
    cost_micro_usd: int | None
    cache: str
    ttft_s: float | None
    duration_s: float
    overhead_s: float
    queue_s: float = 0.0
    finish_reasons: tuple[str, ...] = ()
    response_id: str | None = None
    upstream_request_id: str | None = None
    session: str | None = None
    traceparent: str | None = None
    max_tokens: int | None = None
    tags: tuple[str, ...] = ()
    admitted: bool = False
    """It was accepted: a row of the ledger is owed."""
    reserved_micro_usd: int | None = None
    savings: Savings | None = None
    """`None` without a baseline in the policy, or when a price is unknown."""
    windows: tuple[str, ...] = ()
    """Ids of the budget windows that it is charged to."""
    hit: CacheHit | None = None
    cache_reason: str | None = None
    """Why the cache was not asked, or what it refused; a name from a fixed list."""
    nearest: tuple[float, float] | None = None
    """Cosine and the verifier's score of the best stored question, served or not."""
    reasons: tuple[str, ...] = ()
    """Why it went where it went, as `x-farthing-route` says."""
    choice: Choice | None = None
    """`None` where the route left nothing to choose."""
    shadow: Shadowed | None = None
    """`None` where no policy was in shadow, or this request was not compared."""


class Reply:
    """An answer on its way to the caller: a whole `body`, or a `stream` that yields bytes until it ends.

    `headers` are lower-case pairs without content-length and without the gateway's own. A stream is closed with
    `aclose()` by whoever ends it, also when the caller has left.
    """

    __slots__ = ("body", "headers", "status", "stream")

    def __init__(
        self,
        status: int,
        headers: list[tuple[bytes, bytes]],
        body: bytes = b"",
        stream: AsyncGenerator[bytes, None] | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.stream = stream


class Exchange:
    """One request on its way through the stages; each stage writes down what it decided and what it saw.

    `outcome` is `None` until it is decided; `tries` counts upstream calls begun, `attempts` holds those that ended.
    """

    __slots__ = (
        "admitted",
        "attempts",
        "cache",
        "cache_headers",
        "cache_reason",
        "call",
        "choice",
        "choosing",
        "cost_micro_usd",
        "decided_by",
        "draw",
        "error",
        "finish_reasons",
        "hit",
        "id",
        "identity",
        "limit_headers",
        "model",
        "more",
        "nearest",
        "outcome",
        "plan",
        "policy",
        "provider",
        "queue_s",
        "reserved_micro_usd",
        "response_id",
        "savings",
        "scored",
        "shadow",
        "shared",
        "started",
        "started_wall",
        "status",
        "target",
        "ticket",
        "tries",
        "ttft_s",
        "upstream_request_id",
        "usage",
        "windows",
    )

    def __init__(self, id_: str, call: Call, started: float, started_wall: float) -> None:
        self.id = id_
        self.call = call
        self.started = started
        self.started_wall = started_wall
        self.identity: Identity | None = None
        self.policy = ""
        self.decided_by: Any = None
        """The policy that serves it to its end, whatever is reloaded meanwhile; `None` before one is resolved."""
        self.draw = 0.0
        """Uniform in [0, 1): which side of a split it takes."""
        self.plan: Plan | None = None
        self.attempts: list[Attempt] = []
        self.tries = 0
        self.target = ""
        self.provider = ""
        self.model = ""
        self.status = 0
        self.outcome: Outcome | None = None
        self.error: str | None = None
        self.usage: Usage | None = None
        self.cost_micro_usd: int | None = None
        self.cache = "off"
        self.cache_reason: str | None = None
        self.cache_headers = b""
        """Ready header lines about a cached answer."""
        self.hit: CacheHit | None = None
        self.nearest: tuple[float, float] | None = None
        self.shared: Callable[[], bool] | None = None
        """Whether others wait for this request's answer: then it goes on when its caller leaves."""
        self.ticket: Any = None
        """What the cache's look-up leaves for its own second stage."""
        self.ttft_s: float | None = None
        self.queue_s = 0.0
        self.finish_reasons: tuple[str, ...] = ()
        self.response_id: str | None = None
        self.upstream_request_id: str | None = None
        self.admitted = False
        self.reserved_micro_usd: int | None = None
        self.windows: tuple[str, ...] = ()
        self.more: Callable[[Exchange, int], Awaitable[bool]] | None = None
        """Reserves so much more, for a call after one that may be billed; `None` without a reservation.

        Is told the exchange instead of holding it: a cycle would leave every request to the garbage collector.
        """
        self.savings: Savings | None = None
        self.limit_headers = b""
        """Ready header lines about limits (`x-ratelimit-*`)."""
        self.choosing: Any = None
        """The rule by which a target is still to be chosen; `None` when the plan is settled."""
        self.choice: Choice | None = None
        self.scored: Any = None
        """What the choice was made from, for those who learn from it."""
        self.shadow: Shadowed | None = None

    def header(self, name: bytes) -> str | None:
        """A request header by its lower-case name, decoded as Latin-1."""
        value = self.call.index.get(name)
        return None if value is None else value.decode("latin-1")

    def record(self, now: float) -> RequestRecord:
        """The finished record; `now` is monotonic and ends the request."""
        call, identity, duration = self.call, self.identity, now - self.started
        waited = 0.0
        for attempt in self.attempts:
            waited += attempt.duration_s
        return RequestRecord(  # positional, in the order of the fields: it is built once per request
            self.id,
            self.started_wall,
            identity.tenant if identity else "",
            identity.key if identity else "",
            call.dialect,
            call.endpoint,
            call.path,
            self.policy,
            self.plan.route if self.plan else "",
            call.model or "",
            self.target,
            self.provider,
            self.model,
            call.stream,
            self.status,
            self.outcome or "ok",
            self.error,
            tuple(self.attempts),
            self.usage,
            0 if self.admitted and not self.attempts else self.cost_micro_usd,
            self.cache,
            self.ttft_s,
            duration,
            max(0.0, duration - waited),
            self.queue_s,
            self.finish_reasons,
            self.response_id,
            self.upstream_request_id,
            self.header(b"x-farthing-session"),
            self.header(b"traceparent"),
            call.max_tokens,
            tuple(sorted(identity.tags)) if identity and identity.tags else (),
            self.admitted,
            self.reserved_micro_usd,
            self.savings,
            self.windows,
            self.hit,
            self.cache_reason,
            self.nearest,
            self.plan.reasons if self.plan else (),
            self.choice,
            self.shadow,
        )


Next = Callable[[Exchange], Awaitable[Reply]]
"""What a stage calls to pass a request on (see `gateway.pipeline`)."""
