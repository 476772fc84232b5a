"""Prometheus metrics, accumulated from finished records in batches and rendered when scraped.

The accumulators are plain dicts, ints and bucket lists, because prometheus_client's objects cost several times the
CPU per observation: a streamed request with one attempt and full usage takes 3.3 us here (timeit, one core).
prometheus_client renders them through a custom collector. Labels are bounded: a family that has reached
`MAX_LABEL_SETS` counts every new one as `other`. Knows nothing of prompts: the record holds none.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.core.exchange import Choice, RequestRecord, Savings
from gateway.core.money import MICRO

MAX_LABEL_SETS = 200
"""Distinct label sets per family. Targets and routes are as many as the policy has; a served model can be anything."""

Labels = tuple[str, ...]
Read = Callable[[], Iterable[tuple[Labels, float]]]
"""Reads live values when scraped: (label values, value) of each series."""
Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_SIMILARITY = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99, 1.0)
_SCORE = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
_GAIN = (-0.5, -0.3, -0.2, -0.1, -0.05, 0.0, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75)
_AGE_S = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0, 604_800.0)
_OVERHEAD_S = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1)
_PER_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5)
_TOKENS_PER_S = (1, 2, 5, 10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000, 2500)
_USD = (0.000001, 0.00001, 0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 25)


class _Counter:
    """Sums of ints by label set, rendered divided by `scale`."""

    def __init__(self, name: str, help_: str, labels: Labels, scale: int = 1) -> None:
        self.name, self.help, self.labels = name, help_, labels
        self.values: dict[Labels, int] = {}
        self.folded = 0
        self._other = ("other",) * len(labels)
        self._scale = scale

    def add(self, labels: Labels, amount: int = 1) -> None:
        values = self.values
        if labels in values:
            values[labels] += amount
        elif len(values) < MAX_LABEL_SETS:
            values[labels] = amount
        else:
            self.folded += 1
            values[self._other] = values.get(self._other, 0) + amount

    def family(self) -> Family:
        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in self.values.items():
            family.add_metric(labels, value / self._scale if self._scale != 1 else value)
        return family


class _Sum(_Counter):
    """A sum that may fall: a gauge."""

    def family(self) -> Family:
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in self.values.items():
            family.add_metric(labels, value / self._scale)
        return family


class _Histogram:
    """Bucket counts by label set; the last item of a row is the sum, the ones before it count the buckets."""

    def __init__(self, name: str, help_: str, labels: Labels, bounds: Sequence[float]) -> None:
        self.name, self.help, self.labels = name, help_, labels
        self.values: dict[Labels, list[float]] = {}
        self.folded = 0
        self._bounds = tuple(bounds)
        self._other = ("other",) * len(labels)

    def observe(self, labels: Labels, value: float) -> None:
        row = self.values.get(labels)
        if row is None:
            row = self._row(labels)
        row[bisect_left(self._bounds, value)] += 1
        row[-1] += value

    def _row(self, labels: Labels) -> list[float]:
        if len(self.values) >= MAX_LABEL_SETS:
            self.folded += 1
            labels = self._other
        return self.values.setdefault(labels, [0.0] * (len(self._bounds) + 2))

    def family(self) -> Family:
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        edges = [*map(str, map(float, self._bounds)), "+Inf"]
        for labels, row in self.values.items():
            total, buckets = 0.0, []
            for edge, count in zip(edges, row[:-1], strict=True):
                total += count
                buckets.append((edge, total))
            family.add_metric(labels, buckets, row[-1])
        return family


class PrometheusMetrics(Collector):
    """All metrics of the process; `consume` is a consumer of the record sink. For one thread."""

    def __init__(self) -> None:
        by_target = ("endpoint", "route", "target")
        self._requests = _Counter("farthing_requests", "Requests by their outcome.", (*by_target, "outcome", "status"))
        self._duration = _Histogram(
            "farthing_request_duration_seconds", "From acceptance to the last byte.", by_target, _SECONDS
        )
        self._ttft = _Histogram(
            "farthing_ttft_seconds", "Time to first token of streams, as the caller sees it.", by_target, _SECONDS
        )
        self._tpot = _Histogram(
            "farthing_time_per_output_token_seconds",
            "Time per output token of streams after the first (TPOT).",
            by_target,
            _PER_TOKEN_S,
        )
        self._rate = _Histogram(
            "farthing_output_tokens_per_second",
            "Output tokens by the duration of the upstream call that made them.",
            by_target,
            _TOKENS_PER_S,
        )
        self._overhead = _Histogram(
            "farthing_overhead_seconds",
            "Time in the gateway while no upstream was waited for.",
            ("endpoint",),
            _OVERHEAD_S,
        )
        self._queue = _Histogram(
            "farthing_queue_seconds", "Time in line for a replica, of requests that a pool served.", by_target, _SECONDS
        )
        self._tokens = _Counter(
            "farthing_tokens", "Tokens by class; reasoning is a part of output.", ("target", "class")
        )
        self._cost = _Counter("farthing_cost_usd", "Known cost of all attempts.", ("route", "target"), MICRO)
        self._tenant_cost = _Counter("farthing_tenant_cost_usd", "Known cost of all attempts.", ("tenant",), MICRO)
        self._baseline = _Counter(
            "farthing_baseline_usd", "What requests would have cost at the policy's baseline.", ("route",), MICRO
        )
        self._saved = _Sum(
            "farthing_saved_usd",
            "Against the baseline, since the start; waste is negative, and so may the rest be.",
            ("route", "kind"),
            MICRO,
        )
        self._request_cost = _Histogram("farthing_request_cost_usd", "Cost of a request.", ("route",), _USD)
        self._unpriced = _Counter(
            "farthing_unpriced_requests", "Requests whose cost is unknown in whole or in part.", ("target", "model")
        )
        self._estimated = _Counter(
            "farthing_usage_estimated", "Attempts whose usage is estimated, not reported.", ("target",)
        )
        self._cache = _Counter(
            "farthing_cache_lookups",
            "Requests of routes that cache; exact, semantic and coalesced ones had no call of their own.",
            ("route", "result"),
        )
        self._cache_reasons = _Counter(
            "farthing_cache_reasons", "Why the cache did not answer, of requests with a reason.", ("route", "reason")
        )
        self._cache_similarity = _Histogram(
            "farthing_cache_similarity", "Cosine of the best stored question, served or not.", ("route",), _SIMILARITY
        )
        self._cache_score = _Histogram(
            "farthing_cache_score", "The verifier's score of the best stored question.", ("route",), _SCORE
        )
        self._cache_age = _Histogram(
            "farthing_cache_age_seconds", "Age of answers when they were served again.", ("route",), _AGE_S
        )
        self._cache_tokens = _Counter(
            "farthing_cache_saved_tokens", "Tokens of answers that were served again.", ("route", "class")
        )
        self._cache_time = _Counter(
            "farthing_cache_saved_milliseconds", "What upstreams took for answers served again.", ("route",)
        )
        self._routed = _Counter(
            "farthing_routing_decisions",
            "Requests sent to a route's weak or strong target, and by what.",
            ("route", "choice", "why"),
        )
        self._routing_score = _Histogram(
            "farthing_routing_score",
            "The gain that was expected of the strong target.",
            ("route",),
            _GAIN,
        )
        self._attempts = _Counter("farthing_attempts", "Upstream calls by their result.", ("target", "result"))
        self._live: list[tuple[type[CounterMetricFamily | GaugeMetricFamily], str, str, Labels, Read]] = []
        self.gauge("farthing_build_info", "The version that runs.", ("version",), lambda: [((__version__,), 1)])
        self._registry = CollectorRegistry()
        self._registry.register(self)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def gauge(self, name: str, help_: str, labels: Labels, read: Read) -> None:
        """A value that is read when scraped."""
        self._live.append((GaugeMetricFamily, name, help_, labels, read))

    def counter(self, name: str, help_: str, labels: Labels, read: Read) -> None:
        """A count kept elsewhere, read when scraped; `name` is without `_total`."""
        self._live.append((CounterMetricFamily, name, help_, labels, read))

    def consume(self, batch: list[RequestRecord]) -> None:
        """Adds a batch of records."""
        for record in batch:
            self._add(record)

    def _add(self, record: RequestRecord) -> None:
        labels = (record.endpoint, record.route, record.target)
        self._requests.add((*labels, record.outcome, str(record.status)))
        self._duration.observe(labels, record.duration_s)
        self._overhead.observe((record.endpoint,), record.overhead_s)
        if record.cache != "off":
            self._add_cache(record)
        if record.choice is not None:
            self._add_choice(record.route, record.choice)
        if record.savings is not None:
            self._add_savings(record.route, record.savings)
        if not record.attempts:
            return
        self._add_attempts(record)
        if record.attempts[-1].replica is not None:
            self._queue.observe(labels, record.queue_s)
        if record.outcome == "ok":
            self._add_pace(record, labels)

    def _add_attempts(self, record: RequestRecord) -> None:
        spent = 0
        for attempt in record.attempts:
            target, usage, cost = attempt.target, attempt.usage, attempt.cost_micro_usd
            self._attempts.add((target, attempt.error or "ok"))
            if cost is not None:
                spent += cost
                self._cost.add((record.route, target), cost)
            if usage is None:
                continue
            for kind, count in (
                ("uncached_input", usage.uncached_input),
                ("cache_read", usage.cache_read),
                ("cache_write", usage.cache_write_5m + usage.cache_write_1h),
                ("output", usage.output),
                ("reasoning", usage.reasoning),
            ):
                if count:
                    self._tokens.add((target, kind), count)
            if usage.source == "estimated":
                self._estimated.add((target,))
        if spent:
            self._tenant_cost.add((record.tenant,), spent)
        if record.cost_micro_usd is None:
            self._unpriced.add((record.target, record.model))
        else:
            self._request_cost.observe((record.route,), record.cost_micro_usd / MICRO)

    def _add_cache(self, record: RequestRecord) -> None:
        route, hit = record.route, record.hit
        self._cache.add((route, record.cache))
        if record.cache_reason is not None:
            self._cache_reasons.add((route, record.cache_reason))
        if record.nearest is not None:
            self._cache_similarity.observe((route,), record.nearest[0])
            self._cache_score.observe((route,), record.nearest[1])
        if hit is None or record.status >= 400:
            return
        self._cache_age.observe((route,), hit.age_s)
        self._cache_time.add((route,), round(hit.took_s * 1000))
        self._cache_tokens.add((route, "input"), hit.usage.input)
        self._cache_tokens.add((route, "output"), hit.usage.output)

    def _add_choice(self, route: str, choice: Choice) -> None:
        self._routed.add((route, choice.target, choice.why))
        if choice.score is not None:
            self._routing_score.observe((route,), choice.score)

    def _add_savings(self, route: str, savings: Savings) -> None:
        self._baseline.add((route,), savings.baseline)
        for kind, amount in (
            ("cache", savings.cache),
            ("routing", savings.routing),
            ("compression", savings.compression),
            ("waste", -savings.waste_escalation - savings.waste_retries),
            ("own", -savings.own),
        ):
            if amount:
                self._saved.add((route, kind), amount)

    def _add_pace(self, record: RequestRecord, labels: Labels) -> None:
        output = record.usage.output if record.usage is not None else 0
        answered_s = record.attempts[-1].duration_s
        if output and answered_s > 0:
            self._rate.observe(labels, output / answered_s)
        if record.stream and record.ttft_s is not None:
            self._ttft.observe(labels, record.ttft_s)
            if output > 1:
                self._tpot.observe(labels, (record.duration_s - record.ttft_s) / (output - 1))

    def _accumulated(self) -> list[_Counter | _Histogram]:
        return [value for value in vars(self).values() if isinstance(value, _Counter | _Histogram)]

    def collect(self) -> Iterator[Family]:
        """What prometheus_client renders."""
        overflow = CounterMetricFamily(
            "farthing_label_overflow", "Observations folded into `other`, by metric.", labels=("metric",)
        )
        for accumulated in self._accumulated():
            yield accumulated.family()
            overflow.add_metric((accumulated.name,), accumulated.folded)
        yield overflow
        for kind, name, help_, labels, read in self._live:
            family = kind(name, help_, labels=labels)
            for values, value in read():
                family.add_metric(values, float(value))
            yield family

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition in the format that the header `accept` prefers (OpenMetrics or text), and its type."""
        encoder, kind = choose_encoder(accept)
        return encoder(self._registry), kind
