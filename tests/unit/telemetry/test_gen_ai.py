"""What the gen_ai conventions say of a record; a collector sees the same in test_otel."""

import msgspec
import pytest

from gateway.telemetry.gen_ai import TOKENS, attempt_attributes, request_attributes, span_name
from tests.support.records import USAGE, attempt, failed, record


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("chat", "chat fast"),
        ("completions", "text_completion fast"),
        ("embeddings", "embeddings fast"),
        ("responses", "chat fast"),
        ("messages", "chat fast"),
        ("other", "other fast"),
    ],
)
def test_a_span_is_named_by_operation_and_requested_model(endpoint, name):
    assert span_name(record(endpoint=endpoint)) == name


def test_a_request_without_a_model_is_named_by_its_endpoint():
    assert span_name(record(endpoint="other", requested_model="")) == "other"


def test_what_is_not_generation_has_no_operation():
    assert "gen_ai.operation.name" not in request_attributes(record(endpoint="other"))


@pytest.mark.parametrize(
    ("provider", "name"), [("openai_compatible", "openai"), ("anthropic", "anthropic"), ("sandbox", "sandbox")]
)
def test_the_provider_is_named_by_the_convention(provider, name):
    assert request_attributes(record(provider=provider))["gen_ai.provider.name"] == name


def test_input_tokens_include_the_cached_ones():
    found = request_attributes(record())
    assert found["gen_ai.usage.input_tokens"] == 100
    assert found["gen_ai.usage.cache_read.input_tokens"] == 20
    assert found["gen_ai.usage.cache_creation.input_tokens"] == 10
    assert found["gen_ai.usage.output_tokens"] == 51
    assert found["gen_ai.usage.reasoning.output_tokens"] == 11


def test_token_classes_that_do_not_apply_are_left_out():
    usage = msgspec.structs.replace(USAGE, cache_read=0, cache_write_5m=0, cache_write_1h=0, reasoning=0)
    found = request_attributes(record(usage=usage))
    assert not [name for name in found if ("cache" in name and name.startswith("gen_ai")) or "reasoning" in name]


def test_estimated_usage_says_so():
    guessed = msgspec.structs.replace(USAGE, source="estimated")
    assert request_attributes(record(usage=guessed))["farthing.usage_estimated"] is True
    assert "farthing.usage_estimated" not in request_attributes(record())


def test_an_unknown_cost_is_left_out_and_a_zero_is_not():
    assert "farthing.cost_usd" not in request_attributes(record(cost_micro_usd=None))
    assert request_attributes(record(cost_micro_usd=0))["farthing.cost_usd"] == 0.0


def test_a_conversation_id_is_the_callers_and_bounded():
    assert request_attributes(record(session="s" * 300))["gen_ai.conversation.id"] == "s" * 256
    assert "gen_ai.conversation.id" not in request_attributes(record())


def test_a_refused_request_claims_no_provider_and_no_response():
    found = request_attributes(
        record(target="", provider="", route="", attempts=(), usage=None, response_id=None, finish_reasons=(),
               cost_micro_usd=None, status=404, outcome="client_error", error="model_not_found", ttft_s=0.001)
    )  # fmt: skip
    assert found["error.type"] == "model_not_found"
    assert found["http.response.status_code"] == 404
    assert "gen_ai.provider.name" not in found
    assert "farthing.target" not in found
    assert not [name for name in found if name.startswith(("gen_ai.response", "gen_ai.usage", "farthing.cost"))]


def test_the_models_of_a_failed_request_are_no_response_model():
    found = request_attributes(
        record(attempts=(failed("gpt"),), response_id=None, outcome="upstream_error", error="status_503")
    )
    assert "gen_ai.response.model" not in found


def test_an_attempt_at_a_replica_names_its_server():
    found = attempt_attributes(record(), attempt(replica="http://10.0.0.7:8000"))
    assert (found["server.address"], found["server.port"]) == ("10.0.0.7", 8000)


@pytest.mark.parametrize(("replica", "port"), [("http://vllm-0", 80), ("https://vllm-0", 443)])
def test_a_replicas_port_follows_its_scheme_where_the_url_has_none(replica, port):
    assert attempt_attributes(record(), attempt(replica=replica))["server.port"] == port


def test_only_the_last_attempt_has_the_response():
    first, last = failed("gpt"), attempt()
    made = record(attempts=(first, last))
    assert attempt_attributes(made, last)["gen_ai.response.id"] == "chatcmpl-1"
    assert attempt_attributes(made, last)["farthing.upstream_request_id"] == "req_1"
    assert not [name for name in attempt_attributes(made, first) if name.startswith("gen_ai.response")]


def test_an_attempt_at_another_target_does_not_borrow_its_provider():
    other = failed("vllm")
    found = attempt_attributes(record(attempts=(other, attempt())), other)
    assert found["gen_ai.provider.name"] == "_OTHER"
    assert found["farthing.target"] == "vllm"
    assert found["error.type"] == "status_503"
    assert found["http.response.status_code"] == 503


def test_an_attempt_without_an_answer_has_no_status():
    connect = failed(error="upstream_unreachable", status=None)
    assert "http.response.status_code" not in attempt_attributes(record(), connect)


def test_the_token_boundaries_are_powers_of_four():
    assert TOKENS[:4] == (1, 4, 16, 64)
    assert TOKENS[-1] == 67108864


def test_a_judges_call_is_told_from_the_answers():
    judge = attempt(target="judge", own=True)
    found = attempt_attributes(record(attempts=(judge, attempt())), judge)
    assert (found["farthing.own"], found["farthing.target"]) == (True, "judge")
    assert not {"gen_ai.request.model", "gen_ai.response.model"} & set(found)
    alone = attempt_attributes(record(attempts=(judge,), outcome="upstream_error"), judge)
    assert "gen_ai.response.id" not in alone
    assert "farthing.own" not in attempt_attributes(record(), attempt())
