"""What a caller is told about its limits: the error of a refusal, and the headers of a grant. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.access.accounts import Refusal, Spent, first_soft
from gateway.access.grants import Grant, Level
from gateway.core.errors import BudgetExhausted, GatewayError, RateLimited
from gateway.core.money import usd

MOST_RETRY_AFTER_S = 60.0


def refused(refusal: Refusal, micro_usd: int) -> GatewayError:
    """The error for `refusal`; `micro_usd` is what the request could cost at worst."""
    if refusal.spent is not None:
        return _exhausted(refusal.spent, micro_usd, refusal.retry_after_s)
    wait_s = min(MOST_RETRY_AFTER_S, refusal.retry_after_s or 1.0)
    if refusal.level is not None:
        rate = refusal.level.rate
        what = f"{rate.per_minute:,} {rate.kind} per minute"
        return RateLimited(f"The limit of {what} ({rate.id}) is reached.", retry_after_s=wait_s)
    assert refusal.concurrency is not None, "a refusal names its limit"
    limit = refusal.concurrency
    return RateLimited(
        f"The limit of {limit.most:,} requests at once ({limit.id}) is reached.",
        code="concurrency_limit_exceeded",
        retry_after_s=wait_s,
    )


def _exhausted(spent: Spent, micro_usd: int, retry_after_s: float | None) -> BudgetExhausted:
    """Which budget, what is left, what was needed, and when it begins anew.

    While requests under way hold the rest of the budget, waiting can help: `retry_after_s` is set then, and sent.
    """
    window = spent.window
    budget = window.budget
    ends = "It does not reset." if window.ends_s is None else f"It resets at {_utc(window.ends_s)}."
    held = f", {_dollars(spent.reserved)} of it held by requests under way" if spent.reserved else ""
    used = f"{_dollars(spent.committed + spent.reserved)} of {_dollars(budget.limit_micro_usd)} are used{held}"
    error = BudgetExhausted(
        f"The budget {budget.id} is exhausted: {used}, and this request can cost up to {_dollars(micro_usd)}. {ends} "
        "A lower max_tokens lowers what a request can cost.",
        retry_after_s=retry_after_s,
    )
    if spent.committed + micro_usd <= budget.limit_micro_usd:
        error.retryable = True  # it is not spent, only held: a later try can pass
    return error


def limit_headers(grant: Grant) -> bytes:
    """OpenAI's `x-ratelimit-*` for the tightest rate of each kind, and a warning per budget past a soft limit."""
    requests: Level | None = None
    tokens: Level | None = None
    for level in grant.levels:
        if level.shown.of_tokens:
            if tokens is None or level.remaining < tokens.remaining:
                tokens = level
        elif requests is None or level.remaining < requests.remaining:
            requests = level
    lines = "" if requests is None else _lines(requests)
    if tokens is not None:
        lines += _lines(tokens)
    if grant.spent:
        lines += _warnings(grant.spent)
    return lines.encode()


def _lines(level: Level) -> str:
    """Times as OpenAI writes them: `1m30s`, `2s`, `120ms`."""
    shown, seconds = level.shown, level.full_in_s
    if seconds < 1:
        return f"{shown.remaining}{level.remaining}{shown.reset}{int(seconds * 1000 + 0.5)}ms\r\n"
    minutes, rest = divmod(round(seconds), 60)
    return f"{shown.remaining}{level.remaining}{shown.reset}{f'{minutes}m' if minutes else ''}{rest}s\r\n"


def _warnings(spent: Sequence[Spent]) -> str:
    lines = ""
    for each in spent:
        budget = each.window.budget
        if each.committed + each.reserved >= first_soft(budget):
            lines += f"x-farthing-budget-warning: {budget.id}; used={used_share(each):.0%}{_resets(each)}\r\n"
    return lines


def used_share(spent: Spent) -> float:
    """Committed and reserved money as a share of the limit; 1 for a limit of nothing."""
    limit = spent.window.budget.limit_micro_usd
    return (spent.committed + spent.reserved) / limit if limit else 1.0


def _resets(spent: Spent) -> str:
    return "" if spent.window.ends_s is None else f"; resets={_utc(spent.window.ends_s)}"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _dollars(micro_usd: int) -> str:
    return f"${usd(micro_usd)}"
