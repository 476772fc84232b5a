"""What OpenTelemetry's gen_ai conventions say of a record: names, attributes, bucket boundaries. No SDK, no I/O.

Source: semantic conventions 1.41.1, docs/gen-ai, the last release that has them: 1.42 moved gen_ai to a repository
of its own, which renames some and has no release yet.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from gateway.core.exchange import Attempt, Endpoint, RequestRecord, Usage
from gateway.core.money import MICRO

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.1"

OPERATIONS: Mapping[Endpoint, str] = {
    "chat": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "responses": "chat",
    "messages": "chat",
}
"""`gen_ai.operation.name`; other endpoints have none, and no gen_ai metrics."""

_PROVIDERS = {"openai_compatible": "openai"}
"""`gen_ai.provider.name` where it is not the adapter's name: the dialect spoken, as the convention asks."""
_OTHER = "_OTHER"
"""The provider of an attempt at another target than the one that ended the request: the record does not say."""

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = tuple(float(4**power) for power in range(14))
FIRST_TOKEN_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
PER_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

Attributes = dict[str, str | int | float | bool | Sequence[str]]

_MAX_SESSION = 256
"""Characters kept of a conversation id: the caller chooses it."""


def span_name(record: RequestRecord) -> str:
    """`{gen_ai.operation.name} {gen_ai.request.model}`; the endpoint where there is no operation."""
    return f"{OPERATIONS.get(record.endpoint, record.endpoint)} {record.requested_model}".rstrip()


def request_attributes(record: RequestRecord) -> Attributes:
    """Attributes of the SERVER span; what is unknown is left out."""
    found: Attributes = {
        "http.response.status_code": record.status,
        "url.path": record.path,
        "farthing.request_id": record.request_id,
        "farthing.tenant": record.tenant,
        "farthing.key": record.key,
        "farthing.policy": record.policy,
        "farthing.route": record.route,
        "farthing.target": record.target,
        "farthing.cache": record.cache,
        "farthing.outcome": record.outcome,
        "farthing.attempts": len(record.attempts),
        "farthing.overhead_s": record.overhead_s,
        "farthing.queue_s": record.queue_s,
    }
    found = operation_attributes(record, record.target) | {name: value for name, value in found.items() if value != ""}
    if record.stream:
        found["gen_ai.request.stream"] = True
    if record.max_tokens is not None:
        found["gen_ai.request.max_tokens"] = record.max_tokens
    if record.session is not None:
        found["gen_ai.conversation.id"] = record.session[:_MAX_SESSION]
    if record.error is not None:
        found["error.type"] = record.error
    if record.outcome == "ok" or record.response_id is not None:
        found |= _response(record)
        if record.stream and record.ttft_s is not None:
            found["gen_ai.response.time_to_first_chunk"] = record.ttft_s
    return found | _billed(record.usage, record.cost_micro_usd)


def attempt_attributes(record: RequestRecord, attempt: Attempt) -> Attributes:
    """Attributes of an attempt's CLIENT span. The response's own are those of the last attempt, if it had one."""
    found: Attributes = {**called(record, attempt), "farthing.target": attempt.target}
    if attempt.own:
        found["farthing.own"] = True
    if attempt.replica is not None:
        url = urlsplit(attempt.replica)
        found["server.address"] = url.hostname or attempt.replica
        found["server.port"] = url.port or (443 if url.scheme == "https" else 80)
    if attempt.status is not None:
        found["http.response.status_code"] = attempt.status
    if attempt.error is not None:
        found["error.type"] = attempt.error
    if attempt is record.attempts[-1] and not attempt.own and (attempt.error is None or record.response_id is not None):
        found |= _response(record)
        if record.upstream_request_id is not None:
            found["farthing.upstream_request_id"] = record.upstream_request_id
    if attempt.ttft_s is not None:
        found["gen_ai.response.time_to_first_chunk"] = attempt.ttft_s
    return found | _billed(attempt.usage, attempt.cost_micro_usd)


def operation_attributes(record: RequestRecord, target: str) -> Attributes:
    """What spans and metrics share: operation, provider and requested model of a call to `target`."""
    found: Attributes = {}
    operation = OPERATIONS.get(record.endpoint)
    if operation is not None:
        found["gen_ai.operation.name"] = operation
    if target:
        known = _PROVIDERS.get(record.provider, record.provider)
        found["gen_ai.provider.name"] = known if target == record.target else _OTHER
    if record.requested_model:
        found["gen_ai.request.model"] = record.requested_model
    return found


def called(record: RequestRecord, attempt: Attempt) -> Attributes:
    """The same of an attempt; one of the gateway's own is a chat with a model that the caller did not ask for."""
    found = operation_attributes(record, attempt.target)
    if attempt.own:
        found.pop("gen_ai.request.model", None)
        found["gen_ai.operation.name"] = OPERATIONS["chat"]
    return found


def _response(record: RequestRecord) -> Attributes:
    found: Attributes = {}
    if record.model:
        found["gen_ai.response.model"] = record.model
    if record.response_id is not None:
        found["gen_ai.response.id"] = record.response_id
    if record.finish_reasons:
        found["gen_ai.response.finish_reasons"] = record.finish_reasons
    return found


def _billed(usage: Usage | None, cost_micro_usd: int | None) -> Attributes:
    found: Attributes = {}
    if usage is not None:
        found["gen_ai.usage.input_tokens"] = usage.input
        found["gen_ai.usage.output_tokens"] = usage.output
        written = usage.cache_write_5m + usage.cache_write_1h
        for name, count in (
            ("gen_ai.usage.cache_read.input_tokens", usage.cache_read),
            ("gen_ai.usage.cache_creation.input_tokens", written),
            ("gen_ai.usage.reasoning.output_tokens", usage.reasoning),
        ):
            if count:
                found[name] = count
        if usage.source == "estimated":
            found["farthing.usage_estimated"] = True
    if cost_micro_usd is not None:
        found["farthing.cost_usd"] = cost_micro_usd / MICRO
    return found
