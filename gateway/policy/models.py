"""The shape of a policy file: every key, its type and its meaning. Rules that join keys are in `check`.

These descriptions are what editors show (`schema`) and what the reference documents. Durations are held in
seconds, percentages as fractions, prices in pico-USD per token; secrets only as references.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from gateway.policy import units


def _read(parse: Callable[[Any], Any]) -> BeforeValidator:
    """`parse` as a pydantic validator whose error keeps the fix apart from the message."""

    def validate(value: Any) -> Any:
        try:
            return parse(value)
        except units.BadValue as exc:
            context = {"message": exc.message, "fix": exc.fix}
            raise PydanticCustomError("policy", "{message}; fix: {fix}", context) from exc

    return BeforeValidator(validate)


def _text(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


def _text_or_number(pattern: str, *examples: str, **bounds: float) -> WithJsonSchema:
    text = {"type": "string", "pattern": pattern}
    return WithJsonSchema({"anyOf": [text, {"type": "number", "minimum": 0, **bounds}], "examples": list(examples)})


Duration = Annotated[float, _read(units.seconds), _text(units.DURATION, "500ms", "2s", "5m")]
Fraction = Annotated[float, _read(units.fraction), _text_or_number(units.PERCENTAGE, "20%", exclusiveMaximum=1)]
Usd = Annotated[str, _read(units.usd_text), _text_or_number(units.MONEY, "$2.10")]
PerMillion = Annotated[int, _read(units.pico_usd_per_token), _text_or_number(units.MONEY, "$0.15")]
MicroUsdPerPeriod = Annotated[tuple[int, str], _read(units.budget), _text(units.BUDGET, "$500/month", "$20/day")]
MicroUsdPerThousand = Annotated[int, _read(units.cost_per_thousand), _text(units.COST, "$0.80/1k")]
PerMinute = Annotated[int, _read(units.rate), _text(units.RATE, "600/min", "10/s", "200k/min")]
Count = Annotated[int, _read(units.count), _text_or_number(units.COUNT, "50", "16k")]
SoftLimit = Annotated[float, _read(units.soft_limit), _text_or_number(units.PERCENTAGE, "80%", exclusiveMaximum=1)]
Scope = Annotated[str, _read(units.scope), _text(units.SCOPE, "tenant:shop", "key", "all")]
Timezone = Annotated[str, _read(units.timezone), _text(r"^[A-Za-z0-9_+/-]+$", "Europe/Berlin")]
UnknownPrice = Annotated[
    int | str, _read(units.unknown_price), _text_or_number(rf"^(refuse|allow)$|{units.MONEY}", "refuse", "$0.50")
]
Amount = Annotated[float, _read(units.amount), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]
Name = Annotated[str, _read(units.name), _text(units.NAME)]
Pattern = Annotated[str, _read(units.pattern), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 256})]
Regex = Annotated[str, _read(units.regex), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 1024})]
Keyword = Annotated[str, _read(units.keyword), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 128})]
Hours = Annotated[tuple[int, int], _read(units.hours), _text(units.HOURS, "09:00-17:30", "22:00-06:00")]
HeaderName = Annotated[str, _read(units.header_name), _text(units.HEADER_NAME)]
HeaderValue = Annotated[str, _read(units.header_value), WithJsonSchema({"type": "string", "minLength": 1})]
SecretRef = Annotated[str, _read(units.secret_ref), _text(units.SECRET_REF, "env:OPENAI_API_KEY", "file:key.txt")]
BaseUrl = Annotated[str, _read(units.base_url), _text(r"^https?://", "https://api.openai.com/v1")]
ReplicaUrl = Annotated[str, _read(units.replica_url), _text(r"^https?://", "http://vllm-0:8000")]

Provider = Literal[
    "openai", "openai_compatible", "azure", "anthropic", "vllm", "sglang", "tgi", "ollama", "llamacpp", "sandbox"
]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Latency = Literal["interactive", "batch"]
Engine = Literal["vllm", "sglang", "tgi", "ollama", "llamacpp"]
Auth = Literal["bearer", "api-key", "x-api-key", "none"]


class Spec(BaseModel):
    """A strict part of a policy: unknown keys and converted types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class DeadlinesSpec(Spec):
    """How long each wait may take. A key that is left out is inherited: route, then target, then defaults."""

    connect: Duration | None = None
    """To reach the upstream (TCP and TLS). Default 2s."""
    first_token: Duration | None = None
    """From the request to the first byte of a streamed answer. Default 60s."""
    idle: Duration | None = None
    """The longest silence between two chunks of a stream. Default 10s."""
    total: Duration | None = None
    """From the request to the last byte. Default 600s."""


class RetriesSpec(Spec):
    """How often a failed call is tried again on the same target, before the fallbacks."""

    attempts: Annotated[int, Field(ge=1, le=10)] | None = None
    """The most tries per target, the first included. Default 2."""
    budget: Fraction | None = None
    """The share of retries in all calls above which nothing is retried. Default 20%."""


class PriceSpec(Spec):
    """What a target's tokens cost, in dollars per million."""

    input: PerMillion
    """Uncached input tokens, $ per million."""
    output: PerMillion
    """Output tokens, $ per million."""
    cached: PerMillion | None = None
    """Input tokens read from the provider's prompt cache, $ per million. Default: the input price."""


Price = Annotated[
    Annotated[Name, Tag("key")] | Annotated[PriceSpec, Tag("inline")],
    Discriminator(lambda value: "inline" if isinstance(value, dict | PriceSpec) else "key"),
]


class TargetSpec(Spec):
    """Somewhere a request can go: a provider's API, one server, a pool, or the sandbox."""

    provider: Provider | None = None
    """Who answers. `openai`, `anthropic`, `vllm`, `sglang`, `tgi`, `ollama` and `llamacpp` know their usual `base_url`;
    `azure` and `openai_compatible` need one; `sandbox` answers from within. Give this or `pool`."""
    pool: Name | None = None
    """The pool of replicas that serves this target. Give this or `provider`."""
    base_url: BaseUrl | None = None
    """The API's address with its prefix, usually ending in `/v1`."""
    model: Pattern | None = None
    """The upstream's name of the model (Azure: of the deployment). Default: the name that the caller used."""
    api_key: SecretRef | None = None
    """Where the credential is: `env:NAME` or `file:PATH`. Never the credential."""
    auth: Auth | None = None
    """How the credential is sent. Default: `api-key` for azure, `x-api-key` for anthropic, else `bearer`."""
    headers: dict[HeaderName, HeaderValue] = {}
    """Headers added to every call; a value is literal, `env:NAME` or `file:PATH`."""
    query: dict[Pattern, Pattern] = {}
    """Query parameters added to every call, such as Azure's `api-version`."""
    self_hosted: bool | None = None
    """Whether prompts stay on machines of yours. Default: true for pools and local engines, else false."""
    price: Price | None = None
    """A row of the price book, or `{input, output, cached}` in dollars per million tokens. Default: the price book's
    row for the served model."""
    deadlines: DeadlinesSpec = DeadlinesSpec()
    """Deadlines of calls to this target."""
    retries: RetriesSpec = RetriesSpec()
    """Retries on this target."""
    size: Literal["small", "large"] | None = None
    """Sandbox only: which kind of model is simulated. Default: `large` when the model's name says so."""
    latency_ms: Annotated[float, Field(ge=0, le=600_000)] | None = None
    """Sandbox only: milliseconds to the first token."""
    tokens_per_s: Amount | None = None
    """Sandbox only: the pace after the first token."""
    error_rate: Fraction | None = None
    """Sandbox only: the share of calls that fail."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    """Sandbox only: the same seed gives the same answers and failures."""


class PoolSpec(Spec):
    """Replicas of yours that serve the same model."""

    replicas: Annotated[list[ReplicaUrl], Field(min_length=1)]
    """The replicas' addresses, before `/v1`."""
    engine: Engine = "vllm"
    """What runs on them."""
    health: Annotated[str, Field(pattern=r"^/[!-~]*$")] | None = None
    """The path that answers 200 when a replica can serve. Default: `/health` (ollama: `/`)."""
    interval: Duration = 5.0
    """Time between two health checks. Default 5s."""
    gpu_hour_usd: Usd | None = None
    """What one GPU costs an hour, in dollars."""
    gpus: Annotated[int, Field(ge=1, le=4096)] = 1
    """GPUs of one replica. Default 1."""
    input_tokens_per_s: Amount | None = None
    """Input tokens that one replica reads a second when busy."""
    output_tokens_per_s: Amount | None = None
    """Output tokens that one replica writes a second when busy."""


class KeySpec(Spec):
    """A credential of a caller."""

    tenant: Name
    """Who the caller is: what routes, budgets and reports go by."""
    secret: SecretRef
    """Where the key is: `env:NAME` or `file:PATH`; at least 16 characters."""
    tags: list[Name] = []
    """Labels that routes can match."""


class MatchSpec(Spec):
    """Which requests a route takes. All given keys must match; of a list any one; `{}` matches everything."""

    models: Annotated[list[Pattern], Field(min_length=1)] | None = None
    """Names of models as callers write them; `*` stands for any text."""
    tenants: Annotated[list[Name], Field(min_length=1)] | None = None
    """Tenants, by name."""
    tags: Annotated[list[Name], Field(min_length=1)] | None = None
    """Tags of the caller's key: one of these is enough."""
    headers: Annotated[dict[HeaderName, Pattern], Field(min_length=1)] | None = None
    """Request headers that must all be there; `*` in a value stands for any text."""
    regex: Annotated[list[Regex], Field(min_length=1)] | None = None
    """Regular expressions in RE2's syntax, looked for in the text; `(?i)` in front ignores case."""
    keywords: Annotated[list[Keyword], Field(min_length=1)] | None = None
    """Words and phrases, looked for in the text as whole words in any case."""
    text: Literal["last", "all"] = "last"
    """Where `regex` and `keywords` look: the last user text, or `all` text of the request. Default last."""
    min_input_tokens: Count | None = None
    """The fewest input tokens, estimated: four bytes of the request a token."""
    max_input_tokens: Count | None = None
    """The most input tokens, estimated in the same way."""
    tools: bool | None = None
    """Whether the request offers tools."""
    images: bool | None = None
    """Whether the request holds images."""
    structured: bool | None = None
    """Whether the request asks for an answer in JSON (`response_format`)."""
    hours: Annotated[list[Hours], Field(min_length=1)] | None = None
    """Spans of the day; one that ends before it begins goes past midnight."""
    days: Annotated[list[Day], Field(min_length=1)] | None = None
    """Days of the week, `mon` to `sun`; a span past midnight belongs to the day that it begins on."""
    timezone: Timezone | None = None
    """Where `hours` and `days` are meant: an IANA name. Default: `money.timezone`."""
    sensitive: bool | None = None
    """Whether the request is sensitive: by its header `x-farthing-sensitive` or by the `sensitive` section."""
    latency: Latency | None = None
    """The class that the header `x-farthing-latency` names; `interactive` where it names none."""


class JudgeSpec(Spec):
    """A model that rates: how difficult a request is (`tier: judge`), or how good two answers to it are (`compare`)."""

    target: Name
    """Who rates: a cheap target for `tier: judge`, a good one for `compare`. Needs a `model` of its own."""
    timeout: Duration = 2.0
    """How long a request waits for the rating of its difficulty; after it, it goes to the strong target. Default 2s."""


class ClassifySpec(Spec):
    """Two targets: requests that the strong one would hardly answer better go to the weak one, which costs less.

    Without a certificate for `max_quality_loss`, or a calibrated `strong_share` or `target_cost`, all go to the strong
    one.
    """

    weak: Name
    """The target that costs less."""
    strong: Name
    """The target that answers better: where requests go in doubt, and when the weak one fails."""
    tier: Literal["light", "embed", "neighbours", "judge"] = "light"
    """What looks at a request: its structure (`light`, below a millisecond), its meaning too (`embed`: the encoder's
    pass, which a semantic cache shares), the tenant's labelled requests that are most like it as well (`neighbours`),
    or a model (`judge`: an upstream call). Default light."""
    max_quality_loss: Fraction | None = None
    """How much quality may be lost on average, over all requests of the route, against the strong target alone; in the
    units of the labels that it was certified on."""
    confidence: Fraction = 0.95
    """How sure the certificate must be of it. Default 95%."""
    strong_share: Fraction | None = None
    """Instead of `max_quality_loss`: the share of requests that go to the strong target. It bounds cost, not loss."""
    target_cost: MicroUsdPerThousand | None = None
    """Instead of either: what 1,000 requests of the route may cost on average. It bounds cost, not loss."""
    strong_cap_per_key: Fraction | None = None
    """The largest share of one key's requests that the classifier may send to the strong target, over about a hundred
    of them: it blunts prompts that are made to look hard."""
    judge: JudgeSpec | None = None
    """The model that rates, for `tier: judge` and for `compare`."""
    compare: Fraction = 0.0
    """The share of requests whose other target is asked too, after the caller has the answer: the labels that
    certificates and neighbours are made of. It costs money. Default 0, none."""
    compare_budget: MicroUsdPerPeriod = (1_000_000, "day")
    """What comparing may cost, ratings included. Default $1/day."""


class ArmSpec(Spec):
    """One side of a split."""

    target: Name
    """The target of this share of the requests."""
    weight: Annotated[float, Field(ge=0, le=1_000_000)]
    """Its share, relative to the other weights (best as percentages); 0 pauses it."""
    sticky: Literal["session"] | None = None
    """`session`: requests of one session keep to one side. Said on any side, it holds for the whole split."""


class SemanticSpec(Spec):
    """Answers to near-identical questions at an error rate of yours. Without a certificate it only watches (shadow)."""

    ttl: Duration
    """How long an answer may be served."""
    max_error: Fraction = 0.01
    """The share of all requests of the route that may get a wrong answer. Default 1%."""
    confidence: Fraction = 0.95
    """How sure the certificate must be of it. Default 95%."""
    personal: Literal["refuse", "generic", "allow"] = "generic"
    """Questions in the first person: `refuse` all, refuse those about the caller's own state (`generic`), or `allow`.
    A cache shared by `user` allows them. Default generic."""
    max_temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    """Requests with a higher temperature want variety and are not answered from the cache. Default 1."""
    shadow: Fraction = 0.02
    """The share of hits that are asked anew to measure the error. Default 2%."""
    shadow_budget: MicroUsdPerPeriod = (1_000_000, "day")
    """What asking anew may cost. Default $1/day."""


class CacheSpec(Spec):
    """Which answers are kept and reused. `{}` keeps none, where the defaults would."""

    exact: Duration | None = None
    """How long the answer to exactly the same request may be served; identical requests at once share one call."""
    semantic: SemanticSpec | None = None
    """Answers to the same question in other words."""
    share: Literal["tenant", "user"] = "tenant"
    """Who shares answers: all callers of a tenant, or only the same `user` of a request. Default tenant."""
    tags: list[Name] = []
    """Labels of what the answers depend on; `farthing cache purge --tag` removes them."""
    second_sighting: bool = False
    """Keep an answer only when its question comes a second time. Default false."""


class RouteSpec(Spec):
    """Where matching requests go. The first route that matches wins."""

    name: Name
    """The route's name in headers, metrics and reports."""
    match: MatchSpec
    """Which requests it takes; `{}` takes all."""
    target: Name | None = None
    """Where they go. Give this, `split` or `classify`."""
    split: Annotated[list[ArmSpec], Field(min_length=1)] | None = None
    """Shares of them to several targets. Give this, `target` or `classify`."""
    classify: ClassifySpec | None = None
    """To a weak or a strong target, by what the request asks for. Give this, `target` or `split`. Without `models` in
    `match` the route takes the models `auto`, `auto:cheap` and `auto:best`."""
    sensitive: bool = False
    """Its requests never leave self-hosted targets. Default false."""
    fallbacks: list[Name] = []
    """Targets tried in this order when the first fails before it has answered."""
    deadlines: DeadlinesSpec = DeadlinesSpec()
    """Deadlines for this route, above those of its targets."""
    retries: RetriesSpec = RetriesSpec()
    """Retries for this route, above those of its targets."""
    cache: CacheSpec | None = None
    """What is answered from earlier answers. Default: as `defaults` says, else nothing."""


class DefaultsSpec(Spec):
    """What holds where a target and a route say nothing."""

    deadlines: DeadlinesSpec = DeadlinesSpec()
    """Deadlines of all targets."""
    retries: RetriesSpec = RetriesSpec()
    """Retries of all targets."""
    direct_targets: bool = True
    """Whether a request that no route takes may name a target, or a target's model, and go straight to it."""
    cache: CacheSpec | None = None
    """What routes cache that say nothing of it themselves, and requests that go straight to a target."""


class SensitiveSpec(Spec):
    """Which requests never leave self-hosted targets, on every route. Any one of these is enough."""

    regex: list[Regex] = []
    """Regular expressions in RE2's syntax, looked for in all text of a request."""
    keywords: list[Keyword] = []
    """Words and phrases, looked for in all text of a request as whole words in any case."""
    tenants: list[Name] = []
    """Tenants, by name."""
    tags: list[Name] = []
    """Tags of the caller's key."""


class BudgetSpec(Spec):
    """Money that a scope may spend in a period; nothing is sent that could pass it."""

    scope: Scope
    """Whose money: `all`, `tenant:NAME`, `key:NAME`, `route:NAME`, `tag:NAME`; `tenant` or `key` gives each one its
    own, except for those with a budget of the same period by name."""
    limit: MicroUsdPerPeriod
    """How much: dollars per `day`, `week` (from Monday), `month`, or in `total`: `$500/month`."""
    soft: list[SoftLimit] | None = None
    """The shares of it that are announced when they are passed. Default: 80%, 90% and 100%."""


class LimitSpec(Spec):
    """How fast a scope may ask. At least one of `requests`, `tokens`, `concurrent`."""

    scope: Scope
    """Whose requests, as in `budgets`."""
    requests: PerMinute | None = None
    """Requests per `s`, `min` or `hour`; a minute's worth may come at once."""
    tokens: PerMinute | None = None
    """Tokens, input and output, per `s`, `min` or `hour`; `k` and `M` are thousands and millions."""
    concurrent: Count | None = None
    """The most requests under way at once."""


class MoneySpec(Spec):
    """Where periods begin, and what holds where prices or answers are not bounded."""

    timezone: Timezone = "UTC"
    """Where days, weeks and months begin: an IANA name. Default UTC."""
    unknown_price: UnknownPrice = "refuse"
    """Of a request whose price is unknown and that a budget applies to: `refuse` it, reserve this many dollars, or
    `allow` it (counted, never budgeted). Default refuse."""
    output_tokens: Count = 16_384
    """The output assumed for a reservation where neither the request nor the price book bounds it. Default 16384."""
    alert_webhook: SecretRef | None = None
    """Where soft limits are announced: `env:NAME` or `file:PATH` that holds an http(s) URL."""


class PolicyFile(Spec):
    """A Farthing policy. All *.yaml files of a directory together are one policy."""

    version: Literal[1]
    """The version of the policy language."""
    targets: dict[Name, TargetSpec] = {}
    """Where requests can go, by name."""
    pools: dict[Name, PoolSpec] = {}
    """Replicas of yours, by name of the pool."""
    keys: dict[Name, KeySpec] = {}
    """Callers' credentials, by public name of the key. Without any, the gateway is open on loopback only."""
    defaults: DefaultsSpec = DefaultsSpec()
    """What holds where nothing else is said; in one file only."""
    routes: list[RouteSpec] = []
    """Which requests go where, first match wins; over several files in the order of their names."""
    baseline: Name | None = None
    """The target that savings are counted against: what every request would have cost there. In one file only."""
    budgets: list[BudgetSpec] = []
    """What may be spent, by whom and when."""
    limits: list[LimitSpec] = []
    """How fast callers may ask."""
    money: MoneySpec = MoneySpec()
    """How money is counted; in one file only."""
    sensitive: SensitiveSpec = SensitiveSpec()
    """Which requests never leave self-hosted targets; in one file only."""
