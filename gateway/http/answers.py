"""How an answer looks on the wire: errors in the caller's dialect, and the gateway's headers on every reply."""

from functools import lru_cache

import msgspec

from gateway.core.errors import GatewayError
from gateway.core.exchange import Dialect, Exchange, Reply
from gateway.core.money import usd

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


def gateway_headers(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """`x-request-id` and `x-farthing-*`. A stream carries its cost at its end."""
    plan = exchange.plan
    id_ = exchange.id.encode()
    headers = [
        (b"x-request-id", id_),
        (b"x-farthing-request-id", id_),
        (b"x-farthing-attempts", b"%d" % exchange.tries),
        *_decided(
            exchange.target,
            exchange.model,
            "; ".join(plan.reasons) if plan else "",
            exchange.policy,
            exchange.cache,
        ),
    ]
    if not exchange.call.stream and exchange.attempts:
        headers.append((b"x-farthing-cost-usd", usd(exchange.cost_micro_usd).encode()))
    if exchange.upstream_request_id is not None:
        headers.append((b"x-farthing-upstream-request-id", _value(exchange.upstream_request_id)))
    return headers


@lru_cache(maxsize=4096)
def _decided(target: str, model: str, route: str, policy: str, cache: str) -> tuple[tuple[bytes, bytes], ...]:
    pairs = (
        (b"x-farthing-model", model),
        (b"x-farthing-target", target),
        (b"x-farthing-route", route),
        (b"x-farthing-cache", cache),
        (b"x-farthing-policy", policy),
    )
    return tuple([(name, _value(value)) for name, value in pairs if value])


def _value(text: str) -> bytes:
    """A header value: printable ASCII, whatever a caller or an upstream put into a name."""
    return "".join([c if " " <= c <= "~" else "?" for c in text[:256]]).encode("ascii")
