"""One error tree, split by whose fault it is; each error knows its status and its OpenAI-shaped body.

GatewayError
├── ClientError          the request is wrong: 4xx, never retried elsewhere
│   ├── BadRequest         400 invalid_request_error
│   ├── Unauthorized       401 invalid_api_key
│   ├── Forbidden          403 permission_error
│   ├── NotFound           404 model_not_found / unknown_url
│   ├── TooLarge           413 request_too_large
│   ├── Busy               429/503 with Retry-After: a limit of ours, not a fault
│   ├── RateLimited        429 rate_limit_exceeded with Retry-After
│   ├── BudgetExhausted    429 insufficient_quota: waiting a little does not help
│   └── NotCached          504 not_cached: the caller wanted a stored answer or none
├── PolicyError          the operator's files are wrong (file, line, key, fix): never a request's answer
├── UpstreamError        the provider failed
│   ├── UpstreamRefused    it answered with an error status: relayed as it came
│   ├── UpstreamUnreachable 502: connect, TLS, DNS
│   ├── UpstreamTimeout    504: connect, first token, idle or total deadline
│   └── UpstreamBroken     502: cut, garbage, over a limit
└── InternalError        500: ours
"""

import msgspec


class GatewayError(Exception):
    """An error that has an answer on the wire."""

    status = 500
    type = "server_error"
    code: str | None = None
    retryable: bool | None = None
    """What `x-should-retry` tells the SDK: `None` leaves it to the status."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code

    def body(self) -> bytes:
        """The error object in OpenAI's shape: all four keys, always."""
        return error_body(self.message, self.type, self.param, self.code)


def error_body(message: str, type_: str, param: str | None, code: str | None) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}` as UTF-8 JSON."""
    return msgspec.json.encode({"error": {"message": message, "type": type_, "param": param, "code": code}})


class ClientError(GatewayError):
    """The caller can fix it."""

    status = 400
    type = "invalid_request_error"


class BadRequest(ClientError):
    """400: malformed JSON, wrong types, contradicting headers."""


class Unauthorized(ClientError):
    """401: no key, or one that is not known."""

    status = 401
    code = "invalid_api_key"


class Forbidden(ClientError):
    """403: a known key that may not do this."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class NotFound(ClientError):
    """404: no such model for this caller, or no such URL."""

    status = 404
    code = "model_not_found"


class TooLarge(ClientError):
    """413: the body is over the configured cap."""

    status = 413
    code = "request_too_large"


class Busy(ClientError):
    """A limit of the gateway's own; carries Retry-After."""

    status = 503
    type = "server_error"
    code = "overloaded"
    retryable = True


class RateLimited(ClientError):
    """429: a rate or a concurrency limit of the caller; carries Retry-After."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retryable = True


class BudgetExhausted(ClientError):
    """429: no budget has room for the worst case of the request; SDKs must not try again by themselves."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"
    retryable = False


class NotCached(ClientError):
    """504, as RFC 9111 has it for only-if-cached: there is no stored answer, and no other was wanted."""

    status = 504
    code = "not_cached"
    retryable = False


class PolicyError(GatewayError):
    """A policy file cannot be used; the message names file, line, key and the fix."""

    type = "policy_error"


class UpstreamError(GatewayError):
    """The provider's fault. `kind` is a bounded label for metrics and retries."""

    status = 502
    type = "upstream_error"
    kind = "upstream"


class UpstreamUnreachable(UpstreamError):
    """No connection: refused, reset before an answer, TLS, DNS."""

    kind = "connect"
    code = "upstream_unreachable"


class UpstreamTimeout(UpstreamError):
    """A deadline passed: `phase` is connect, first_token, idle or total."""

    status = 504
    code = "upstream_timeout"
    kind = "timeout"

    def __init__(self, message: str, *, phase: str) -> None:
        super().__init__(message)
        self.phase = phase


class UpstreamBroken(UpstreamError):
    """The answer was cut, was not what its headers said, or broke a limit."""

    kind = "broken"
    code = "upstream_broken"


class InternalError(GatewayError):
    """500: a defect of the gateway. The details are in its log, not in the answer."""

    code = "internal_error"
