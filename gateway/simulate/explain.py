"""What a policy would do with one request, and why: every rule looked at, the choice, the plan, the price, the limits.

Pure, and by the functions that serve: `reasons` are those of `x-farthing-route`. Asks no store: whether an answer is
kept, and what budgets have left, is the running gateway's to say.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from gateway.cache.admission import refuse, refuse_exact
from gateway.cache.controls import controls
from gateway.cache.explain import WHY
from gateway.cache.keys import Partition, exact_key, scope_key, user_of
from gateway.cache.lookup import admission_rule
from gateway.core.errors import GatewayError
from gateway.core.exchange import Call, Choice, Identity, Plan, Target, Usage
from gateway.core.limits import Applies
from gateway.core.money import usd
from gateway.policy.caching import CacheRule
from gateway.policy.resolve import tried
from gateway.policy.table import Policy, Route
from gateway.pricing.book import ModelPrice
from gateway.pricing.worst_case import Refuse, plan_worst_case, reservation
from gateway.routing.caps import StrongCaps
from gateway.routing.decide import ScoreOf, ThresholdOf, decide

BYTES_PER_TOKEN = 4


class Looked(msgspec.Struct, frozen=True):
    """A rule that was looked at, and why it did or did not take the request."""

    route: str
    taken: bool
    because: str


class Price(msgspec.Struct, frozen=True):
    """Micro-USD; `None` is unknown. `reserved`: where a budget applies, and `why` says what is unknown or refused."""

    worst: int | None
    reserved: int | None
    expected: int | None
    expected_input_tokens: int
    expected_output_tokens: int
    assumed: bool
    why: str = ""


class CacheVerdict(msgspec.Struct, frozen=True):
    """What the cache may do with the request; `None` refuses nothing, else the reason and its words."""

    exact: str | None
    exact_key: str | None
    semantic: str | None
    text: str | None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """See the module. `refused` is the error that the caller would get; what comes after it is then `None`."""

    object: str = "policy.explanation"
    policy: str
    tenant: str
    key: str
    tags: tuple[str, ...]
    model: str | None
    rules: tuple[Looked, ...]
    refused: dict[str, Any] | None = None
    route: str | None = None
    targets: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    sensitive: str | None = None
    choice: Choice | None = None
    threshold: str | None = None
    price: Price | None = None
    cache: CacheVerdict | None = None
    limits: tuple[str, ...] = ()


class Asked(msgspec.Struct, frozen=True):
    """A request and when it comes; `draw` is uniform in [0, 1), `output_tokens` those expected of an answer."""

    call: Call
    identity: Identity
    wall_s: float
    draw: float = 0.0
    output_tokens: int | None = None


PriceOf = Callable[[Target, str], ModelPrice | None]
ASSUMED_OUTPUT = 256


def explain(
    asked: Asked, policy: Policy, price_of: PriceOf, threshold_of: ThresholdOf, score_of: ScoreOf
) -> Explanation:
    """The explanation; never raises for a request that the gateway would refuse."""
    call, identity = asked.call, asked.identity
    told = Explanation(
        policy=policy.hash,
        tenant=identity.tenant,
        key=identity.key,
        tags=tuple(sorted(identity.tags)),
        model=call.model,
        rules=tuple(looked_at(policy, identity, call, asked.wall_s)),
    )
    try:
        decision = decide(
            policy,
            identity,
            call,
            wall_s=asked.wall_s,
            draw=asked.draw,
            threshold_of=threshold_of,
            score_of=score_of,
            caps=StrongCaps(),
        )
        rule = policy.caching.get(decision.plan.route)
        cache = cache_verdict(call, identity, rule) if rule is not None else None
    except GatewayError as exc:
        error = {"status": exc.status, "code": exc.code, "message": exc.message}
        return msgspec.structs.replace(told, refused=error)
    plan = decision.plan
    route = next((route for route in policy.routes if route.name == plan.route), None)
    choosing = route.classify if route is not None else None
    applies = policy.limits(identity, plan.route)
    return msgspec.structs.replace(
        told,
        route=plan.route,
        targets=tuple(target.name for target in plan.targets),
        reasons=plan.reasons,
        sensitive=plan.sensitive,
        choice=decision.choice,
        threshold=threshold_of(choosing).why if choosing is not None else None,
        price=_price(asked, plan, policy, price_of, applies),
        cache=cache,
        limits=tuple(_limits(applies)),
    )


def looked_at(policy: Policy, identity: Identity, call: Call, wall_s: float) -> Iterator[Looked]:
    """The rules in order, up to the one that takes the request."""
    questions = {each.route: each for each in tried(policy, identity, call, wall_s)}
    for route in policy.routes:
        question = questions.pop(route.name, None)
        if question is None:
            yield Looked(route.name, False, _not_for(route, identity, call.model))
            continue
        if question.taken:
            met = ", ".join(name for name, _ in question.conditions)
            yield Looked(route.name, True, f"caller and model fit{f', and {met}' if met else ''}")
            return
        failed = ", ".join(name for name, met in question.conditions if not met)
        yield Looked(route.name, False, f"not met: {failed}")
    for direct in questions:
        yield Looked(direct, True, "no route takes it, and a target has that name")


def _not_for(route: Route, identity: Identity, model: str | None) -> str:
    rule = route.rule
    if rule.tenants is not None and identity.tenant not in rule.tenants:
        return f"the tenant {identity.tenant} is not among {', '.join(sorted(rule.tenants))}"
    if rule.tags is not None and rule.tags.isdisjoint(identity.tags):
        return f"the caller has none of the tags {', '.join(sorted(rule.tags))}"
    names = ", ".join([*sorted(rule.models or ()), *rule.globs])
    return f"the request names no model, and it is for {names}" if model is None else f"{model} is not among {names}"


def cache_verdict(call: Call, identity: Identity, rule: CacheRule) -> CacheVerdict:
    """What admission says of the request, by the look-up's own functions. Raises `BadRequest` for its headers."""
    asked = controls(call)
    user, admission = user_of(call), admission_rule(rule)
    reason = refuse_exact(call, user, admission)
    if reason is None and not (asked.read or asked.write):
        reason = "asked"
    partition = Partition(identity.tenant, call.model or "", rule.version, user if rule.share == "user" else None)
    key = exact_key(call, partition) if reason is None else None
    if rule.semantic is None:
        return CacheVerdict(reason if rule.exact_ttl_s is not None else "not kept", key, "not kept", None)
    scope = scope_key(call, partition, "") if reason is None else None
    text = scope.text if scope is not None else None
    similar = reason or refuse(call, text, user, admission)
    if similar is None and not asked.semantic:
        similar = "asked"
    return CacheVerdict(reason if rule.exact_ttl_s is not None else "not kept", key, similar, text)


def _price(asked: Asked, plan: Plan, policy: Policy, price_of: PriceOf, applies: Applies) -> Price:
    call = asked.call
    worst = plan_worst_case(call, plan, price_of, policy.money)
    amount = reservation(worst, policy.money) if applies.budgets else None
    refusal = f"refused: {amount.why}" if isinstance(amount, Refuse) else ""
    first = plan.targets[0]
    price = price_of(first, first.model or call.model or "")
    tokens_in = len(call.raw) // BYTES_PER_TOKEN
    stated = asked.output_tokens if asked.output_tokens is not None else call.max_tokens
    tokens_out = stated if stated is not None else ASSUMED_OUTPUT
    expected = price.cost_total(Usage(tokens_in, output=tokens_out * call.n)) if price is not None else None
    return Price(
        worst=worst.micro_usd,
        reserved=None if isinstance(amount, Refuse) else amount,
        expected=expected,
        expected_input_tokens=tokens_in,
        expected_output_tokens=tokens_out * call.n,
        assumed=asked.output_tokens is None,
        why=refusal or worst.why,
    )


def _limits(applies: Applies) -> Iterator[str]:
    for budget in applies.budgets:
        yield f"budget {budget.id}: ${usd(budget.limit_micro_usd)}"
    for rate in applies.rates:
        yield f"rate {rate.id}: {rate.per_minute}/min"
    for slot in applies.concurrency:
        yield f"concurrency {slot.id}: {slot.most}"


def as_text(told: Explanation) -> str:
    """For people."""
    lines = [
        f"policy {told.policy}",
        f"request tenant {told.tenant}, key {told.key}, tags {', '.join(told.tags) or 'none'}, model {told.model}",
        "rules",
        *(f"  {'>' if each.taken else '-'} {each.route}: {each.because}" for each in told.rules),
    ]
    if told.refused is not None:
        lines.append(f"refused with {told.refused['status']} {told.refused['code']}: {told.refused['message']}")
        return "\n".join(lines) + "\n"
    if told.sensitive is not None:
        lines.append(f"sensitive ({told.sensitive}): it keeps to self-hosted targets")
    lines += _choice_lines(told)
    lines.append(f"targets {', then '.join(told.targets)}")
    lines.append(f"x-farthing-route: {'; '.join(told.reasons)}")
    lines += _price_lines(told.price)
    lines += _cache_lines(told.cache)
    lines += ["limits", *(f"  {each}" for each in told.limits)] if told.limits else ["limits none"]
    return "\n".join(lines) + "\n"


def _choice_lines(told: Explanation) -> Iterator[str]:
    choice = told.choice
    if choice is None:
        return
    score = "none" if choice.score is None else f"{choice.score:.4f} by {choice.scorer}"
    threshold = f"none, {told.threshold}" if choice.threshold is None else f"{choice.threshold:.4f} ({told.threshold})"
    yield f"choice {choice.target}, because {choice.why}: score {score}, threshold {threshold}"


def _price_lines(price: Price | None) -> Iterator[str]:
    if price is None:
        return
    unknown = f" ({price.why})" if price.why else ""
    yield f"price at most {_dollars(price.worst)}{unknown}" + (
        "" if price.reserved is None else f", {_dollars(price.reserved)} reserved"
    )
    assumed = "; assumed, see --output-tokens" if price.assumed else ""
    yield (
        f"price expected {_dollars(price.expected)}: about {price.expected_input_tokens} tokens in, "
        f"{price.expected_output_tokens} out{assumed}"
    )


def _cache_lines(cache: CacheVerdict | None) -> Iterator[str]:
    if cache is None:
        yield "cache off: the route keeps nothing"
        return
    for name, reason in (("exact", cache.exact), ("semantic", cache.semantic)):
        yield f"cache {name}: " + (
            "may be answered from it" if reason is None else "not kept by the route" if reason == "not kept"
            else f"no, {WHY.get(reason, reason)}"
        )  # fmt: skip


def _dollars(micro_usd: int | None) -> str:
    return "unknown" if micro_usd is None else f"${usd(micro_usd)}"
