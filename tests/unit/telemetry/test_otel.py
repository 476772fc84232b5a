"""What a collector receives over OTLP/HTTP, and what happens to requests when there is none."""

import subprocess
import sys
import time

import msgspec
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, TraceFlags

from gateway.telemetry.gen_ai import FIRST_TOKEN_S, PER_TOKEN_S, SECONDS, TOKENS
from gateway.telemetry.otel import _BoundedProcessor, _CountingExporter, build_otel
from tests.support.otlp_receiver import Receiver, plain, refused_url, start_receiver
from tests.support.records import RECORD, USAGE, attempt, failed, record

SERVER, CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.fixture
def receiver():
    with start_receiver() as made:
        yield made


def export(receiver: Receiver, *records, **options):
    """Exports the records and waits until the collector has them."""
    consume, close = build_otel(receiver.url, {"x-api-key": "collector-key"}, **options)
    consume(list(records))
    close()
    return consume


def spans_of(receiver: Receiver, kind) -> list[Span]:
    return [span for span in receiver.spans if span.kind == kind]


def test_a_request_is_a_server_span_with_a_client_span_per_attempt_below_it(receiver):
    export(receiver, record(attempts=(failed(), attempt())))
    (server,) = spans_of(receiver, SERVER)
    clients = spans_of(receiver, CLIENT)
    assert [span.name for span in receiver.spans] == ["chat fast"] * 3
    assert {span.parent_span_id for span in clients} == {server.span_id}
    assert {span.trace_id for span in receiver.spans} == {server.trace_id}
    assert len({span.span_id for span in receiver.spans}) == 3
    assert server.parent_span_id == b""


def test_spans_have_the_times_of_the_record(receiver):
    export(receiver, RECORD)
    (server,), (client,) = spans_of(receiver, SERVER), spans_of(receiver, CLIENT)
    began = 1_700_000_000_500_000_000
    assert (server.start_time_unix_nano, server.end_time_unix_nano) == (began, began + 2_000_000_000)
    assert client.start_time_unix_nano == began + 250_000_000
    assert client.end_time_unix_nano == began + 1_750_000_000


def test_the_server_span_says_what_was_asked_answered_and_decided(receiver):
    export(receiver, record(session="conv-1", queue_s=0.125))
    (server,) = spans_of(receiver, SERVER)
    assert plain(server.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "fast",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 256,
        "gen_ai.conversation.id": "conv-1",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 51,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.usage.cache_creation.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 11,
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "farthing.request_id": "019a0000000070008000000000000001",
        "farthing.tenant": "acme",
        "farthing.key": "key-1",
        "farthing.policy": "abc123",
        "farthing.route": "default",
        "farthing.target": "gpt",
        "farthing.cache": "off",
        "farthing.outcome": "ok",
        "farthing.attempts": 1,
        "farthing.overhead_s": 0.5,
        "farthing.queue_s": 0.125,
        "farthing.cost_usd": 0.001234,
    }


def test_a_client_span_says_what_its_target_did(receiver):
    export(receiver, RECORD)
    (client,) = spans_of(receiver, CLIENT)
    assert plain(client.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "fast",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 51,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.usage.cache_creation.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 11,
        "http.response.status_code": 200,
        "farthing.target": "gpt",
        "farthing.cost_usd": 0.001234,
        "farthing.upstream_request_id": "req_1",
    }


def test_the_resource_names_the_service_and_the_collectors_headers_are_sent(receiver):
    export(receiver, RECORD, service_name="farthing-eu")
    assert receiver.resource["service.name"] == "farthing-eu"
    assert receiver.resource["service.version"]
    assert all(headers["x-api-key"] == "collector-key" for headers in receiver.headers)


def test_a_callers_trace_is_continued(receiver):
    export(receiver, record(traceparent=f"00-{TRACE}-{PARENT}-01"))
    (server,) = spans_of(receiver, SERVER)
    assert server.trace_id.hex() == TRACE
    assert server.parent_span_id.hex() == PARENT


def test_a_trace_that_begins_here_has_the_request_id_as_its_id(receiver):
    export(receiver, record(attempts=(failed(), attempt())))
    (server,) = spans_of(receiver, SERVER)
    assert server.trace_id.hex() == RECORD.request_id
    assert server.span_id.hex() == RECORD.request_id[16:]
    low = int(RECORD.request_id[16:], 16)
    assert [int(span.span_id.hex(), 16) - low for span in spans_of(receiver, CLIENT)] == [1, 2]


@pytest.mark.parametrize(
    "garbage", ["", "00-xyz", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01", "é" * 50, "00-" + "a" * 5000]
)
def test_a_traceparent_that_is_none_begins_a_trace(receiver, garbage):
    export(receiver, record(traceparent=garbage))
    (server,) = spans_of(receiver, SERVER)
    assert server.trace_id.hex() == RECORD.request_id
    assert server.parent_span_id == b""


def test_a_caller_that_does_not_sample_gets_no_spans_but_is_measured(receiver):
    consume = export(receiver, record(traceparent=f"00-{TRACE}-{PARENT}-00"))
    assert receiver.spans == []
    assert receiver.points("gen_ai.client.operation.duration")
    assert consume.dropped == 0


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ("ok", Status.STATUS_CODE_UNSET),
        ("client_error", Status.STATUS_CODE_UNSET),
        ("client_disconnect", Status.STATUS_CODE_UNSET),
        ("upstream_error", Status.STATUS_CODE_ERROR),
        ("truncated", Status.STATUS_CODE_ERROR),
        ("internal_error", Status.STATUS_CODE_ERROR),
    ],
)
def test_a_server_span_is_an_error_if_the_caller_was_failed(receiver, outcome, code):
    export(receiver, record(outcome=outcome))
    (server,) = spans_of(receiver, SERVER)
    assert server.status.code == code


def test_a_failed_attempt_is_an_error_with_its_type_under_a_request_that_went_well(receiver):
    export(receiver, record(attempts=(failed(), attempt())))
    first, last = sorted(spans_of(receiver, CLIENT), key=lambda span: span.start_time_unix_nano)
    assert first.status.code == Status.STATUS_CODE_ERROR
    assert plain(first.attributes)["error.type"] == "status_503"
    assert last.status.code == Status.STATUS_CODE_UNSET


def test_an_attempt_that_the_caller_left_is_no_error(receiver):
    export(receiver, record(attempts=(attempt(error="client_disconnect"),), outcome="client_disconnect"))
    (client,) = spans_of(receiver, CLIENT)
    assert client.status.code == Status.STATUS_CODE_UNSET


@pytest.mark.parametrize(
    ("name", "unit", "bounds"),
    [
        ("gen_ai.client.operation.duration", "s", SECONDS),
        ("gen_ai.client.token.usage", "{token}", TOKENS),
        ("gen_ai.server.time_to_first_token", "s", FIRST_TOKEN_S),
        ("gen_ai.server.time_per_output_token", "s", PER_TOKEN_S),
    ],
)
def test_histograms_have_the_conventions_units_and_boundaries(receiver, name, unit, bounds):
    export(receiver, RECORD)
    assert receiver.metrics[name].unit == unit
    for _, point in receiver.points(name):
        assert tuple(point.explicit_bounds) == bounds


def test_each_attempt_is_a_measured_operation(receiver):
    export(receiver, record(attempts=(failed(), attempt())))
    points = {
        labels.get("error.type"): (labels, point)
        for labels, point in receiver.points("gen_ai.client.operation.duration")
    }
    labels, point = points[None]
    assert labels == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "fast",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
    }
    assert (point.count, point.sum) == (1, 1.5)
    labels, point = points["status_503"]
    assert "gen_ai.response.model" not in labels
    assert (point.count, point.sum) == (1, 0.25)


def test_tokens_are_measured_by_type(receiver):
    export(receiver, RECORD)
    counted = {labels["gen_ai.token.type"]: point.sum for labels, point in receiver.points("gen_ai.client.token.usage")}
    assert counted == {"input": 100, "output": 51}


def test_estimated_tokens_are_not_measured(receiver):
    guessed = msgspec.structs.replace(USAGE, source="estimated")
    export(receiver, record(attempts=(attempt(usage=guessed),), usage=guessed))
    assert "gen_ai.client.token.usage" not in receiver.metrics


def test_the_pace_of_a_stream_is_measured(receiver):
    export(receiver, RECORD)
    ((_, first),) = receiver.points("gen_ai.server.time_to_first_token")
    ((_, rest),) = receiver.points("gen_ai.server.time_per_output_token")
    assert first.sum == 0.5
    assert rest.sum == pytest.approx(1.5 / 50)


@pytest.mark.parametrize(
    "fields", [{"stream": False}, {"outcome": "truncated"}, {"ttft_s": None}, {"endpoint": "other"}]
)
def test_what_is_no_complete_stream_has_no_pace(receiver, fields):
    export(receiver, record(**fields))
    assert "gen_ai.server.time_to_first_token" not in receiver.metrics


def test_a_collector_that_is_down_blocks_nothing_and_its_spans_are_counted():
    consume, close = build_otel(refused_url(), {}, timeout_s=0.2)
    began = time.monotonic()
    consume([RECORD] * 500)
    assert time.monotonic() - began < 2
    close()
    assert time.monotonic() - began < 10
    assert consume.dropped == 1000


def test_spans_beyond_the_queue_are_dropped_and_counted_while_the_collector_is_slow(receiver):
    receiver.open.clear()
    consume, close = build_otel(receiver.url, {}, queue_spans=64)
    consume([RECORD] * 500)
    assert consume.dropped >= 1000 - 2 * 64, "one batch may be on its way, one queue may wait"
    receiver.open.set()
    close()
    assert len(receiver.spans) + consume.dropped == 1000
    assert len(receiver.spans) >= 64


def test_a_collector_that_never_answers_cannot_hold_up_the_end_of_the_process(receiver):
    receiver.open.clear()
    consume, close = build_otel(receiver.url, {}, timeout_s=0.5)
    consume([RECORD] * 1500)
    began = time.monotonic()
    close()
    assert time.monotonic() - began < 2.5, "3000 spans are six batches, of which one was waited for"
    assert consume.dropped == 3000


def test_spans_that_the_collector_refuses_are_counted(receiver):
    receiver.status = 400
    consume = export(receiver, RECORD)
    assert consume.dropped == 2


def test_spans_that_a_sampler_only_recorded_do_not_fill_the_queue():
    exporter = _CountingExporter(InMemorySpanExporter())
    processor = _BoundedProcessor(exporter, queue_spans=4)
    for _ in range(10):
        processor.on_end(ReadableSpan("chat", SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(0))))
    processor.shutdown()
    assert (processor.dropped, exporter.taken) == (0, 0)


def test_the_sdk_is_not_loaded_with_the_rest_of_telemetry():
    code = (
        "import sys, gateway.telemetry.sink, gateway.telemetry.prometheus, gateway.telemetry.log, gateway.telemetry.gen_ai;"
        "sys.exit('opentelemetry' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
