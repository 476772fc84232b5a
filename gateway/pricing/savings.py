"""What a request saved against the policy's baseline, term by term; the terms add up to the micro-dollar. Pure.

    baseline - charged = cache + routing + compression - waste_escalation - waste_retries - own

`baseline` is a counterfactual: the original prompt and the served answer at the baseline's price, with the share of
the prompt that was cached on this request. Tokens are counted as the model that answered counts them.
"""

from collections.abc import Sequence

from gateway.core.exchange import Attempt, Savings, Usage
from gateway.pricing.book import ModelPrice


def savings(
    baseline: ModelPrice | None,
    original: Usage | None,
    attempts: Sequence[Attempt],
    hit: bool = False,
    compression: int = 0,
    waste_escalation: int = 0,
) -> Savings | None:
    """The savings of a finished request; `None` without a baseline's price, or when an attempt's cost is unknown.

    `original` is what the caller's own prompt and the answer that was served use; `None` when the caller got an error
    instead: then all that was billed is waste. The last attempt is the one that served it, unless it was a cache `hit`.
    `waste_escalation` (drafts thrown away) is part of the attempts' cost, and so are the gateway's `own` calls.
    """
    if baseline is None:
        return None
    final = before = own = 0
    for attempt in attempts:
        cost = attempt.cost_micro_usd
        if cost is None:
            if attempt.usage is not None or attempt.error is None:
                return None
            cost = 0
        if attempt.own:
            own += cost
        else:
            before += final
            final = cost
    counterfactual = baseline.cost_total(original) if original is not None else 0
    if hit or original is None:
        return Savings(counterfactual, counterfactual, 0, 0, waste_escalation, before + final - waste_escalation, own)
    routing = counterfactual - final - compression
    return Savings(counterfactual, 0, routing, compression, waste_escalation, before - waste_escalation, own)
