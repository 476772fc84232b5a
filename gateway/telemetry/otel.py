"""OpenTelemetry spans and metrics of finished records, exported over OTLP/HTTP; `gen_ai` decides what they say.

A request is a SERVER span and each of its attempts a CLIENT span below it, with the times that the record holds.
Fails open: the SDK exports on its own threads; spans beyond a bounded queue or refused by the collector are dropped
and counted. Import it only where a collector is configured: the SDK takes 0.15 s to load and 80 us per record.
"""

from collections.abc import Callable, Mapping, Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway import __version__
from gateway.core.exchange import RequestRecord
from gateway.telemetry import gen_ai

_NO_CONTEXT = Context()
_BATCH = 512
_LOW_64_BITS = (1 << 64) - 1
_ERROR = Status(StatusCode.ERROR)
_FAULTS = frozenset(["upstream_error", "truncated", "internal_error"])
"""Outcomes that make the SERVER span an error; a 4xx of the caller's making does not (HTTP conventions)."""


def build_otel(
    endpoint: str,
    headers: Mapping[str, str],
    *,
    service_name: str = "farthing",
    queue_spans: int = 8192,
    timeout_s: float = 5.0,
) -> tuple["OtelConsumer", Callable[[], None]]:
    """A consumer of records and what closes it.

    `endpoint` is the collector's base URL (`http://otel-collector:4318`), `headers` go with every export,
    `queue_spans` is the most that wait to be exported, `timeout_s` one export's limit with all its retries.
    Sampling, TLS files, compression and resource attributes follow the SDK's own OTEL_* variables.
    """
    base = endpoint.rstrip("/")
    resource = Resource.create({"service.name": service_name, "service.version": __version__})
    spans = OTLPSpanExporter(f"{base}/v1/traces", headers=headers, timeout=timeout_s)
    counted = _CountingExporter(spans)
    bounded = _BoundedProcessor(counted, queue_spans)
    ids = _Ids()
    tracing = TracerProvider(resource=resource, shutdown_on_exit=False, id_generator=ids)
    tracing.add_span_processor(bounded)
    metrics = OTLPMetricExporter(f"{base}/v1/metrics", headers=headers, timeout=timeout_s)
    metering = MeterProvider([PeriodicExportingMetricReader(metrics)], resource=resource, shutdown_on_exit=False)
    consumer = OtelConsumer(tracing, metering, ids, lambda: bounded.dropped + counted.dropped)

    def close() -> None:
        """Exports what is left; blocks, for a few times `timeout_s` if the collector does not answer."""
        counted.closing = True
        tracing.shutdown()
        metering.shutdown()

    return consumer, close


class OtelConsumer:
    """A consumer of the record sink: makes spans and measurements, hands them to the SDK, never waits for it."""

    def __init__(
        self, tracing: TracerProvider, metering: MeterProvider, ids: "_Ids", dropped: Callable[[], int]
    ) -> None:
        self._ids = ids
        self._dropped = dropped
        self._tracer = tracing.get_tracer("farthing", __version__, schema_url=gen_ai.SCHEMA_URL)
        self._propagator = TraceContextTextMapPropagator()
        meter = metering.get_meter("farthing", __version__, schema_url=gen_ai.SCHEMA_URL)

        def histogram(name: str, unit: str, description: str, bounds: Sequence[float]) -> Histogram:
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=bounds)

        self._duration = histogram("gen_ai.client.operation.duration", "s", "GenAI operation duration.", gen_ai.SECONDS)
        self._tokens = histogram(
            "gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.", gen_ai.TOKENS
        )
        self._first_token = histogram(
            "gen_ai.server.time_to_first_token",
            "s",
            "Time to generate first token for successful responses.",
            gen_ai.FIRST_TOKEN_S,
        )
        self._per_token = histogram(
            "gen_ai.server.time_per_output_token",
            "s",
            "Time per output token generated after the first token for successful responses.",
            gen_ai.PER_TOKEN_S,
        )

    @property
    def dropped(self) -> int:
        """Spans that the collector did not get."""
        return self._dropped()

    def __call__(self, batch: list[RequestRecord]) -> None:
        """Takes a batch."""
        for record in batch:
            self._trace(record)
            if record.endpoint in gen_ai.OPERATIONS:
                self._measure(record)

    def _trace(self, record: RequestRecord) -> None:
        name = gen_ai.span_name(record)
        began = int(record.started_s * 1e9)
        parent = _NO_CONTEXT
        if record.traceparent is not None:
            parent = self._propagator.extract({"traceparent": record.traceparent}, parent)
        self._ids.next(record.request_id)
        server = self._start(name, parent, SpanKind.SERVER, began, gen_ai.request_attributes(record))
        if record.outcome in _FAULTS:
            server.set_status(_ERROR)
        below = set_span_in_context(server, _NO_CONTEXT)
        for attempt in record.attempts:
            start = began + int(attempt.offset_s * 1e9)
            client = self._start(name, below, SpanKind.CLIENT, start, gen_ai.attempt_attributes(record, attempt))
            if attempt.error is not None and attempt.error != "client_disconnect":
                client.set_status(_ERROR)
            client.end(start + int(attempt.duration_s * 1e9))
        server.end(began + int(record.duration_s * 1e9))

    def _start(self, name: str, parent: Context, kind: SpanKind, start_ns: int, attributes: gen_ai.Attributes) -> Span:
        return self._tracer.start_span(name, parent, kind, attributes, start_time=start_ns)

    def _measure(self, record: RequestRecord) -> None:
        for attempt in record.attempts:
            labels = gen_ai.called(record, attempt)
            if attempt.error is None and not attempt.own:
                labels["gen_ai.response.model"] = record.model
            ended = labels if attempt.error is None else {**labels, "error.type": attempt.error}
            self._duration.record(attempt.duration_s, ended)
            usage = attempt.usage
            if usage is not None and usage.source == "reported":  # the convention wants no estimates
                self._tokens.record(usage.input, {**labels, "gen_ai.token.type": "input"})
                self._tokens.record(usage.output, {**labels, "gen_ai.token.type": "output"})
        if record.stream and record.outcome == "ok" and record.ttft_s is not None:
            labels = gen_ai.operation_attributes(record, record.target)
            labels["gen_ai.response.model"] = record.model
            self._first_token.record(record.ttft_s, labels)
            if record.usage is not None and record.usage.output > 1:
                rest_s = record.duration_s - record.ttft_s
                self._per_token.record(rest_s / (record.usage.output - 1), labels)


class _Ids(IdGenerator):
    """Ids made of the request's, so that one found in a log or a header finds its trace.

    A trace that begins here has the request id as its id. The low 64 bits of it are the SERVER span's id, and
    attempt k (from 1) has that plus k. The low 56 bits of a UUIDv7 are random, as trace ids need to be.
    """

    def __init__(self) -> None:
        self._trace_id = 0
        self._span_id = 0

    def next(self, request_id: str) -> None:
        """The spans that follow are of this request (32 hex digits)."""
        self._trace_id = int(request_id, 16)
        self._span_id = self._trace_id & _LOW_64_BITS

    def generate_trace_id(self) -> int:
        return self._trace_id

    def generate_span_id(self) -> int:
        taken = self._span_id
        self._span_id = (taken + 1) & _LOW_64_BITS
        return taken

    def is_trace_id_random(self) -> bool:
        return True


class _CountingExporter(SpanExporter):
    """Counts what the SDK takes to be exported, and what of it was lost.

    Once `closing` is set, a collector that has just failed is not asked again, so that a dead one cannot hold up
    the end of the process.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False
        self.closing = False
        self.taken = 0
        self.dropped = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        if not (self.closing and self._failing):
            self._failing = self._exporter.export(spans) is not SpanExportResult.SUCCESS
        if self._failing:
            self.dropped += len(spans)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._exporter.shutdown()


class _BoundedProcessor(SpanProcessor):
    """The SDK's batch processor behind a count of its own: that one drops from a full queue without saying so."""

    def __init__(self, exporter: _CountingExporter, queue_spans: int) -> None:
        self._exporter = exporter
        self._limit = queue_spans
        self._submitted = 0
        self._batches = BatchSpanProcessor(
            exporter,
            max_queue_size=queue_spans,
            schedule_delay_millis=1000,
            max_export_batch_size=min(_BATCH, queue_spans),
        )
        self.dropped = 0

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self._submitted - self._exporter.taken >= self._limit:
            self.dropped += 1
            return
        self._submitted += 1
        self._batches.on_end(span)

    def shutdown(self) -> None:
        self._batches.shutdown()  # type: ignore[no-untyped-call]
