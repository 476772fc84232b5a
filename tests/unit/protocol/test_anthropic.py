import msgspec
import pytest

from gateway.protocol.anthropic import (
    FINISH_REASONS,
    STOP_REASONS,
    anthropic_error_body,
    anthropic_error_from_openai,
    chat_usage,
    messages_usage,
    openai_error_from_anthropic,
)
from gateway.protocol.usage import from_anthropic, from_openai

decode = msgspec.json.decode


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_the_status_names_the_anthropic_type(status, kind):
    assert decode(anthropic_error_body(status, "no")) == {"type": "error", "error": {"type": kind, "message": "no"}}


def test_a_given_type_wins():
    assert decode(anthropic_error_body(400, "no", "billing_error"))["error"]["type"] == "billing_error"


@pytest.mark.parametrize(
    ("kind", "status", "type_", "code"),
    [
        ("authentication_error", 401, "invalid_request_error", "invalid_api_key"),
        ("rate_limit_error", 429, "rate_limit_error", "rate_limit_exceeded"),
        ("overloaded_error", 529, "server_error", "overloaded"),
        ("api_error", 500, "server_error", None),
        ("invalid_request_error", 400, "invalid_request_error", None),
        ("not_found_error", 404, "invalid_request_error", "model_not_found"),
    ],
)
def test_an_anthropic_error_becomes_an_openai_one(kind, status, type_, code):
    body = anthropic_error_body(status, "why", kind)
    error = {"message": "why", "type": type_, "param": None, "code": code}
    assert decode(openai_error_from_anthropic(body, status)) == {"error": error}


def test_a_prompt_over_the_window_gets_the_code_that_clients_look_for():
    body = anthropic_error_body(400, "prompt is too long: 208310 tokens > 200000 maximum")
    assert decode(openai_error_from_anthropic(body, 400))["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"why","type":"x","param":null,"code":null}}', "why"),
        (b'{"object":"error","message":"why","code":400}', "why"),
        (b'{"error":"why"}', "why"),
        (b'{"detail":"why"}', "why"),
        (b'{"detail":[{"msg":"m"}]}', '{"detail":[{"msg":"m"}]}'),
        (b"<html>bad gateway</html>", "<html>bad gateway</html>"),
        (b"[" * 100_000, "[" * 2_000),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"", "The upstream answered with status 502 and no message."),
    ],
)
def test_every_shape_of_error_body_becomes_an_error_in_both_formats(body, message):
    assert decode(anthropic_error_from_openai(body, 502)) == decode(anthropic_error_body(502, message))
    assert decode(openai_error_from_anthropic(body, 502))["error"]["message"] == message


def test_every_stop_reason_has_a_finish_reason_that_exists():
    assert set(FINISH_REASONS.values()) == set(STOP_REASONS) - {"function_call"}


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": 10, "output_tokens": 3},
        {"input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 40, "output_tokens": 3},
        {"input_tokens": 0, "cache_read_input_tokens": None, "output_tokens": 0},
    ],
)
def test_usage_survives_the_round_trip(usage):
    there = chat_usage(usage)
    assert there["prompt_tokens"] + there["completion_tokens"] == there["total_tokens"]
    assert from_anthropic(messages_usage(there)) == from_anthropic(usage)
    assert from_openai(there).input == from_anthropic(usage).input


def test_damaged_usage_never_counts_below_zero():
    usage = {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}, "completion_tokens": "many"}
    assert messages_usage(usage) == {
        "input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 5,
        "output_tokens": 0,
    }
