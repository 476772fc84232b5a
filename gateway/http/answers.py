"""How an answer looks on the wire: errors in the caller's dialect, and the gateway's headers on every reply."""

from functools import lru_cache

import msgspec

from gateway.core.errors import GatewayError
from gateway.core.exchange import Dialect, Exchange, Reply
from gateway.core.money import usd

MOST_CHARS = 1024
"""Of a header value; the reasons of a plan with long names fit."""
JSON = (b"content-type", b"application/json")
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_reply(error: GatewayError, dialect: Dialect) -> Reply:
    """The error as the caller's SDK expects it, with Retry-After and x-should-retry where they apply."""
    headers = [JSON]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after_s))).encode()))
        headers.append((b"retry-after-ms", str(round(error.retry_after_s * 1000)).encode()))
    if error.retryable is not None:
        headers.append((b"x-should-retry", b"true" if error.retryable else b"false"))
    if dialect == "anthropic":
        kind = _ANTHROPIC_TYPES.get(error.status, "api_error")
        body = msgspec.json.encode({"type": "error", "error": {"type": kind, "message": error.message}})
    else:
        body = error.body()
    return Reply(error.status, headers, body)


def gateway_headers(exchange: Exchange) -> bytes:
    """`x-request-id` and `x-farthing-*` as header lines. A stream carries its cost at its end."""
    plan = exchange.plan
    id_ = exchange.id
    lines = f"x-request-id: {id_}\r\nx-farthing-request-id: {id_}\r\nx-farthing-attempts: {exchange.tries}\r\n"
    if not exchange.call.stream and (exchange.attempts or exchange.hit is not None):
        lines += f"x-farthing-cost-usd: {usd(exchange.cost_micro_usd)}\r\n"
    if exchange.upstream_request_id is not None:
        lines += f"x-farthing-upstream-request-id: {_value(exchange.upstream_request_id)}\r\n"
    reasons = plan.reasons if plan is not None else ()
    return (
        lines.encode()
        + exchange.limit_headers
        + exchange.cache_headers
        + _decided(exchange.target, exchange.model, reasons, exchange.policy, exchange.cache)
    )


@lru_cache(maxsize=4096)
def _decided(target: str, model: str, reasons: tuple[str, ...], policy: str, cache: str) -> bytes:
    pairs = (
        ("x-farthing-model", model),
        ("x-farthing-target", target),
        ("x-farthing-route", "; ".join(reasons)),
        ("x-farthing-cache", cache),
        ("x-farthing-policy", policy),
    )
    return "".join([f"{name}: {_value(value)}\r\n" for name, value in pairs if value]).encode()


def _value(text: str) -> str:
    """A header value: printable ASCII, whatever a caller or an upstream put into a name."""
    return "".join([c if " " <= c <= "~" else "?" for c in text[:MOST_CHARS]])
