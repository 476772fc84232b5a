"""Decides whether a canary is to be aborted: by its errors, its refusals or its cost beside the policy in force. Pure.

May be asked after every request: the bounds hold at all times together, so that looking often makes no false alarm
likelier. A share of requests has a confidence sequence of each side, from a Beta mixture (Robbins, 1970): the chance
that its likelihood ratio against the truth ever reaches 1 / delta is at most delta, at any n. Mean costs have an
asymptotic one (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, 2024), which needs `LEAST` requests of either side.
Requests count as independent of each other. Fails open: what cannot be told aborts nothing.
"""

from collections.abc import Sequence
from math import lgamma, log, log1p, sqrt
from typing import Final

from gateway.core.conditions import Condition, parse_conditions
from gateway.core.errors import BadRequest
from gateway.rollout.tally import Counts, Side

CONFIDENCE: Final = 0.95
"""That no condition aborts a canary that keeps all of them, however long it runs."""
LEAST: Final = 200
"""Requests of known cost on either side before costs are compared."""
METRICS: Final = ("errors", "refused", "cost")
OPTION: Final = "--abort-on"
_EXAMPLE: Final = "errors>+2%,cost>+10%"
_STEPS: Final = 50
_PRIOR: Final = 0.5


def parse_guard(text: str) -> tuple[Condition, ...]:
    """The conditions of an argument; errors and refusals in points of all requests, cost relative.

    Raises `BadRequest` naming the part that is wrong.
    """
    found = parse_conditions(text, METRICS, option=OPTION, example=_EXAMPLE, shares=METRICS)
    for each in found:
        if each.side == "<":
            raise BadRequest(f"{OPTION}: {each.text!r}: a canary is held up by what is more; fix: {each.metric}>+2%")
    return found


def broken(conditions: Sequence[Condition], counts: Counts) -> str | None:
    """The first condition that the counts show to be broken, with the figures; `None` while none is."""
    delta = (1 - CONFIDENCE) / max(1, len(conditions))
    for condition in conditions:
        judge = _dearer if condition.metric == "cost" else _oftener
        why = judge(condition, counts, delta)
        if why is not None:
            return f"{condition.text}: {why}"
    return None


def _oftener(condition: Condition, counts: Counts, delta: float) -> str | None:
    new, old = counts.candidate, counts.in_force
    failed, of_old = (new.errors, old.errors) if condition.metric == "errors" else (new.refused, old.refused)
    if not new.requests or not old.requests:
        return None
    least, most = lowest(failed, new.requests, delta / 2), highest(of_old, old.requests, delta / 2)
    if least - most <= condition.limit:
        return None
    what = "failed" if condition.metric == "errors" else "were refused"
    here, there = f"{failed / new.requests:.2%} of {new.requests:,}", f"{of_old / old.requests:.2%} of {old.requests:,}"
    return f"{here} requests on trial {what}, {there} in force"


def _dearer(condition: Condition, counts: Counts, delta: float) -> str | None:
    sides = (counts.candidate, counts.in_force)
    (n, mean, variance), (m, base, spread) = (_cost(side) for side in sides)
    least = min(n, m)
    if least < LEAST:
        return None
    times = 1 + condition.limit
    more = mean - times * base
    noise = variance / n + times * times * spread / m
    if more <= sqrt(noise * 2 * (1 + LEAST / least) * log(sqrt(1 + least / LEAST) / delta)):
        return None
    shown = [f"${each / 1_000_000:.6f} a request" for each in (mean, base)]
    return f"{shown[0]} on trial, over {n:,}, {shown[1]} in force, over {m:,}"


def _cost(side: Side) -> tuple[int, float, float]:
    """Requests of known cost, and the mean and variance of that in micro-USD."""
    n = side.requests - side.unpriced
    if n <= 0:
        return 0, 0.0, 0.0
    mean = side.micro_usd / n
    return n, mean, max(0.0, side.squares / n - mean * mean)


def lowest(hits: int, n: int, delta: float) -> float:
    """A bound from below on a share, from `hits` of `n`, that is ever wrong with a chance of at most delta."""
    return 1 - highest(n - hits, n, delta)


def highest(hits: int, n: int, delta: float) -> float:
    """The same from above."""
    if hits >= n:
        return 1.0
    mixed = _log_beta(_PRIOR + hits, _PRIOR + n - hits) - _log_beta(_PRIOR, _PRIOR)
    low, high = hits / n, 1.0
    for _ in range(_STEPS):
        share = (low + high) / 2
        ratio = mixed - (hits * log(share) if hits else 0.0) - (n - hits) * log1p(-share) if share < 1 else float("inf")
        low, high = (share, high) if ratio < log(1 / delta) else (low, share)
    return high


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
