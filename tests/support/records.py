"""Finished records for tests: one streamed answer from `gpt`, with any field replaced."""

from typing import Any

import msgspec

from gateway.core.exchange import Attempt, RequestRecord, Usage

USAGE = Usage(uncached_input=70, cache_read=20, cache_write_5m=6, cache_write_1h=4, output=51, reasoning=11)
ANSWERED = Attempt(
    target="gpt",
    replica=None,
    status=200,
    error=None,
    offset_s=0.25,
    duration_s=1.5,
    ttft_s=0.25,
    usage=USAGE,
    cost_micro_usd=1234,
)
RECORD = RequestRecord(
    request_id="019a0000000070008000000000000001",
    started_s=1_700_000_000.5,
    tenant="acme",
    key="key-1",
    dialect="openai",
    endpoint="chat",
    path="/v1/chat/completions",
    policy="abc123",
    route="default",
    requested_model="fast",
    target="gpt",
    provider="openai_compatible",
    model="gpt-4o-2024-08-06",
    stream=True,
    status=200,
    outcome="ok",
    error=None,
    attempts=(ANSWERED,),
    usage=USAGE,
    cost_micro_usd=1234,
    cache="off",
    ttft_s=0.5,
    duration_s=2.0,
    overhead_s=0.5,
    finish_reasons=("stop",),
    response_id="chatcmpl-1",
    upstream_request_id="req_1",
    max_tokens=256,
)


def record(**fields: Any) -> RequestRecord:
    """`RECORD` with `fields` replaced."""
    return msgspec.structs.replace(RECORD, **fields)


def attempt(**fields: Any) -> Attempt:
    """`ANSWERED` with `fields` replaced."""
    return msgspec.structs.replace(ANSWERED, **fields)


def failed(target: str = "vllm", error: str = "status_503", status: int | None = 503, **fields: Any) -> Attempt:
    """An attempt that got no answer and cost nothing."""
    made = attempt(target=target, error=error, status=status, offset_s=0.0, duration_s=0.25)
    return msgspec.structs.replace(made, ttft_s=None, usage=None, cost_micro_usd=None, **fields)
