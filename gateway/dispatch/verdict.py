"""Decides what the end of one upstream call means: final, worth a retry, or a case for the next target.

Knows statuses, failures and error bodies; knows nothing of plans, budgets or time.

Choices that are not obvious:
- 404 and 405 go to the next target (a wrong URL, or a model that this target lacks), and are relayed when none
  helps. They count as signs of life: a caller who invents model names must not open a breaker.
- 401 and 402 are about *our* account: the next target, an open breaker, and never the upstream's own words, which
  would tell the caller that their key is wrong. So are an exhausted quota (429) and the 400s listed below.
- 403 is treated likewise but counts as one plain failure: some providers use it for what the caller wrote.
- A content filter's refusal is final whatever its status: routing around it would defeat it.
- A silent target is not asked again: what hung once hangs twice.
"""

import enum
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, Final, Literal

import msgspec

from gateway.core.errors import UpstreamError, UpstreamTimeout
from gateway.dispatch.breaker import Breaker, Failure

Kind = Literal["connect", "timeout_connect", "timeout_first_token", "timeout_idle", "timeout_total", "broken"]
"""How a call ended that has no status: `connect` covers refusals, TLS, DNS and resets before the first byte."""


class Action(enum.Enum):
    """What may follow."""

    FINAL = enum.auto()
    """Relay it: another try would end the same way, or must not be made."""
    RETRY_SAME = enum.auto()
    """The same target after a pause, then the next one."""
    NEXT_TARGET = enum.auto()
    """Not this target again for this request (another replica of it may do)."""


class Verdict(msgspec.Struct, frozen=True):
    """What one ended call means.

    `failure` counts for the breaker; `None` is a sign of life. `cools` marks a request for quiet (429).
    `masked` is the error code of the 502 to answer with in place of the upstream's response; `None` relays that.
    When no try succeeds, the outcome with the highest `rank` is the one to relay.
    """

    action: Action
    failure: Failure | None = None
    cools: bool = False
    masked: str | None = None
    rank: int = 0

    @property
    def local(self) -> bool:
        """Whether it may be one replica's trouble only, so that another one is worth asking at once."""
        return self.cools or self.failure not in (None, "auth")


# Ranks: what tells the caller most about when and whether to come back. A busy primary beats a broken one, and a
# 404 comes last: behind an unreachable primary, a fallback without the model must not say "no such model".
DONE: Final = Verdict(Action.FINAL)
BUSY: Final = Verdict(Action.RETRY_SAME, cools=True, rank=4)
FAILED: Final = Verdict(Action.RETRY_SAME, failure="status", rank=3)
UNSUPPORTED: Final = Verdict(Action.NEXT_TARGET, failure="status", rank=3)
REDIRECTED: Final = Verdict(Action.NEXT_TARGET, failure="broken", masked="upstream_broken", rank=1)
UNPAID: Final = Verdict(Action.NEXT_TARGET, failure="auth", masked="upstream_quota_exceeded", rank=1)
UNAUTHORIZED: Final = Verdict(Action.NEXT_TARGET, failure="auth", masked="upstream_auth_failed", rank=1)
FORBIDDEN: Final = Verdict(Action.NEXT_TARGET, failure="status", masked="upstream_auth_failed", rank=1)
ABSENT: Final = Verdict(Action.NEXT_TARGET, rank=0)

_BY_STATUS: Final[dict[int, Verdict]] = {
    401: UNAUTHORIZED,
    402: UNPAID,
    403: FORBIDDEN,
    404: ABSENT,
    405: ABSENT,
    408: FAILED,
    429: BUSY,
    501: UNSUPPORTED,
}

_BY_KIND: Final[dict[Kind, Verdict]] = {
    "connect": Verdict(Action.RETRY_SAME, failure="connect", rank=2),
    "broken": Verdict(Action.RETRY_SAME, failure="broken", rank=2),
    "timeout_connect": Verdict(Action.NEXT_TARGET, failure="timeout", rank=2),
    "timeout_first_token": Verdict(Action.NEXT_TARGET, failure="timeout", rank=2),
    "timeout_idle": Verdict(Action.NEXT_TARGET, failure="timeout", rank=2),
    "timeout_total": Verdict(Action.FINAL, failure="timeout", rank=2),
}

_CONTENT_CODES: Final = frozenset(
    ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation", "moderation_blocked")
)
_QUOTA_CODES: Final = frozenset(("insufficient_quota", "billing_hard_limit_reached", "billing_not_active"))
# Refusals of our account under the status of a bad request. Only the start of the message counts: further on it
# may quote the caller, who must not be able to open a breaker.
_UNPAID_400: Final = ("Your credit balance is too low",)  # Anthropic
_UNAUTHORIZED_400: Final = ("API key not valid", "API key expired")  # Gemini

# What an error event in a stream that began with 200 would have been as a status, by its code or type.
_EVENT_STATUS: Final[dict[str, int]] = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
    **dict.fromkeys(_QUOTA_CODES, 429),
}


def kind_of(error: UpstreamError) -> Kind:
    """The `Kind` of a call that raised instead of answering."""
    if isinstance(error, UpstreamTimeout):
        phase: dict[str, Kind] = {
            "connect": "timeout_connect",
            "first_token": "timeout_first_token",
            "idle": "timeout_idle",
        }
        return phase.get(error.phase, "timeout_total")
    return "connect" if error.kind == "connect" else "broken"


def classify(status: int | None, kind: Kind | None = None, body_head: bytes = b"") -> Verdict:
    """What a call means that ended with `status`, or with failure `kind` when `status` is `None`.

    `body_head` is the start of an error's body, whole if it can be had (16 KiB do): it is read for 4xx only.
    """
    if status is None:
        return _BY_KIND[kind or "broken"]
    if status < 300:
        return DONE
    if status < 400:
        return REDIRECTED
    if status >= 500:
        return _BY_STATUS.get(status, FAILED)
    codes, message, _ = _error_of(body_head)
    if codes & _CONTENT_CODES:
        return DONE
    if codes & _QUOTA_CODES or (status == 400 and message.startswith(_UNPAID_400)):
        return UNPAID
    if status == 400 and message.startswith(_UNAUTHORIZED_400):
        return UNAUTHORIZED
    return _BY_STATUS.get(status, DONE)


def event_status(payload: bytes) -> int:
    """The status that an error event stands for which came in place of a stream's first event; 502 if it is unclear.

    `classify(event_status(payload), None, payload)` is what it means: a content filter speaks in events too.
    """
    codes, _, number = _error_of(payload)
    if codes & _CONTENT_CODES:
        return 400
    if number is not None:
        return number
    # The largest, because OpenAI says `invalid_request_error` beside the code that says more.
    return max((_EVENT_STATUS[code] for code in codes if code in _EVENT_STATUS), default=502)


def report(breaker: Breaker, permit: int, verdict: Verdict, now: float, retry_after_s: float | None) -> None:
    """Tells the breaker how the call ended that held `permit`."""
    if verdict.cools:
        breaker.on_cool(now, permit, now + (retry_after_s or 0.0))
    elif verdict.failure is not None:
        breaker.on_failure(now, permit, verdict.failure)
    else:
        breaker.on_success(now, permit)


def retry_after_s(retry_after: str | None, retry_after_ms: str | None, now_wall: float) -> float | None:
    """Seconds to wait by the headers `retry-after-ms`, else `retry-after`: seconds or an HTTP date (RFC 9110, 10.2.3).

    `None` when neither can be read; a date in the past is 0.0. `now_wall` is seconds since the Unix epoch.
    """
    for value, unit_s in ((retry_after_ms, 0.001), (retry_after, 1.0)):
        try:
            seconds = float(value) * unit_s if value is not None else -1.0
        except ValueError:
            continue
        if isfinite(seconds) and seconds >= 0.0:
            return seconds
    if retry_after is None:
        return None
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_wall)


class _Body(msgspec.Struct):
    error: Any = None


def _error_of(body: bytes) -> tuple[frozenset[str], str, int | None]:
    """The codes, the message and the status of an error object in OpenAI's, Azure's, Anthropic's or Google's shape.

    The status is the one that vLLM, OpenRouter and Google repeat as a numeric `code`.
    """
    try:
        # Google answers some errors as a list of one.
        decoded = msgspec.json.decode(body, type=_Body | list[_Body])
    except (ValueError, RecursionError):
        return frozenset(), "", None
    if isinstance(decoded, list):
        decoded = decoded[0] if decoded else _Body()
    error = decoded.error
    if not isinstance(error, dict):
        return frozenset(), "", None
    inner = error.get("innererror")
    metadata = error.get("metadata")  # OpenRouter marks moderation by what it flagged, not by a code
    code = error.get("code")
    found = [code, error.get("type"), inner.get("code") if isinstance(inner, dict) else None]
    if isinstance(metadata, dict) and "flagged_input" in metadata:
        found.append("content_filter")
    message = error.get("message")
    return (
        frozenset(c for c in found if isinstance(c, str)),
        message if isinstance(message, str) else "",
        code if isinstance(code, int) and 400 <= code <= 599 else None,
    )
