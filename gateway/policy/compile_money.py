"""The money sections of a checked document into what requests look up: limits by scope, and the money rules. Pure.

Ids outlive reloads, as counters do: `tenant:shop/month`, `key:ci/requests`, `key:ci`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

from gateway.core.limits import Budget, Concurrency, Period, Rate
from gateway.policy.caching import CacheRule
from gateway.policy.choosing import Classify
from gateway.policy.document import Document
from gateway.policy.limits import LimitTable, MoneyRules, Scoped
from gateway.policy.models import BudgetSpec, LimitSpec

PERIODS: tuple[Period, ...] = get_args(Period)


def limit_table(document: Document, caching: Mapping[str, CacheRule], choosing: Iterable[Classify]) -> LimitTable:
    """Every budget and limit of a document without errors, and what the gateway's own requests may cost."""
    zone = document.money.timezone
    budgets = [_budget(entry.spec, zone) for entry in document.budgets]
    limits = [scoped for entry in document.limits for scoped in _limits(entry.spec)]
    shadows = [_shadow(rule, zone) for rule in caching.values() if rule.semantic is not None]
    compared = [_own(compare_tenant(rule.route), rule.compare_budget, zone) for rule in choosing if rule.compare]
    return LimitTable([*budgets, *limits], [*shadows, *compared])


def shadow_tenant(route: str) -> str:
    """Who asks a route's cached answers anew; no caller can be it, for a tenant's name has no colon."""
    return f"shadow:{route}"


def _shadow(rule: CacheRule, zone: str) -> Scoped:
    assert rule.semantic is not None, "asked for by the caller"
    return _own(shadow_tenant(rule.route), rule.semantic.shadow_budget, zone)


def compare_tenant(route: str) -> str:
    """Who asks a route's other target, and the judge of both answers; no caller can be it either."""
    return f"compare:{route}"


def _own(tenant: str, budget: tuple[int, str], zone: str) -> Scoped:
    micro_usd, written = budget
    scope = f"tenant:{tenant}"
    period = next(each for each in PERIODS if each == written)
    return Scoped(scope, period, Budget(f"{scope}/{period}", scope, period, micro_usd, timezone=zone))


def money_rules(document: Document, alert_webhook: str | None) -> MoneyRules:
    """The rules; `alert_webhook` is the resolved address."""
    spec = document.money
    price = spec.unknown_price
    return MoneyRules(
        timezone=spec.timezone,
        unknown_price=price if isinstance(price, int) else "allow" if price == "allow" else "refuse",
        output_tokens=spec.output_tokens,
        alert_webhook=alert_webhook,
    )


def _budget(spec: BudgetSpec, zone: str) -> Scoped:
    micro_usd, written = spec.limit
    period = next(each for each in PERIODS if each == written)
    budget = Budget(f"{spec.scope}/{period}", spec.scope, period, micro_usd, timezone=zone)
    if spec.soft is not None:
        soft = tuple(sorted(set(spec.soft)))
        budget = Budget(budget.id, spec.scope, period, micro_usd, soft, zone)
    return Scoped(spec.scope, period, budget)


def _limits(spec: LimitSpec) -> Iterator[Scoped]:
    if spec.requests is not None:
        yield Scoped(spec.scope, "requests", Rate(f"{spec.scope}/requests", "requests", spec.requests))
    if spec.tokens is not None:
        yield Scoped(spec.scope, "tokens", Rate(f"{spec.scope}/tokens", "tokens", spec.tokens))
    if spec.concurrent is not None:
        yield Scoped(spec.scope, "concurrent", Concurrency(spec.scope, spec.concurrent))
