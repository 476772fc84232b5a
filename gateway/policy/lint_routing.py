"""What is doubtful in choices, sensitivity and patterns: what matches all, what cannot pay, what refuses all. Pure.

Errors are found by `check_routing`; nothing here stops a policy from being served.
"""

from collections.abc import Callable, Iterator
from typing import Any

from gateway.core.exchange import Target
from gateway.policy.choosing import Classify
from gateway.policy.document import Document, Entry
from gateway.policy.models import RouteSpec
from gateway.policy.patterns import Pattern
from gateway.policy.problems import Path, Problem
from gateway.policy.table import Policy

INPUT_PER_OUTPUT = 3
"""Tokens read for each one written, where two targets' prices are compared: about what chat traffic has."""

Cost = Callable[[Target], float | None]
"""What a target charges for `INPUT_PER_OUTPUT` input tokens and one output token, in any one unit; `None`: unknown."""

WeakShare = Callable[[Classify], float | str | None]
"""The share of a route's requests that its certificate lets the weak target serve; why none of those that it has fits
the policy; `None` without one."""


def inline_cost(target: Target) -> float | None:
    """The cost by the price that stands in the policy itself."""
    price: dict[str, Any] | None = target.options.get("price")
    return None if price is None else float(INPUT_PER_OUTPUT * price["input"] + price["output"])


def lint_routing(document: Document, policy: Policy, cost: Cost, weak_share: WeakShare) -> Iterator[Problem]:
    """Warnings and infos."""
    yield from _patterns(document)
    yield from _sensitive(document, policy)
    for route in document.routes:
        if route.spec.classify is not None:
            rule = next(each.classify for each in policy.routes if each.name == route.spec.name)
            share = weak_share(rule) if rule is not None else None
            yield from _classify(route)
            if isinstance(share, str):
                message = f"no certificate of the route fits: {share}; everything goes to the strong target"
                fix = f"farthing calibrate routing --route {route.spec.name}"
                yield route.problem(("classify", "max_quality_loss"), message, fix, "warning")
            yield from _pays(route, policy, cost, share if isinstance(share, float) else None)


def _patterns(document: Document) -> Iterator[Problem]:
    written: list[tuple[Entry[Any], Path, list[str] | None]] = [
        (route, ("match", "regex"), route.spec.match.regex) for route in document.routes
    ]
    if document.sensitive_rules is not None:
        written.append((document.sensitive_rules, ("regex",), document.sensitive.regex))
    for entry, at, sources in written:
        for index, source in enumerate(sources or ()):
            if Pattern(source).finds(b""):
                message = "the expression matches the empty text, so it matches every request"
                yield entry.problem((*at, index), message, "make part of it required, or remove it", "warning")


def _sensitive(document: Document, policy: Policy) -> Iterator[Problem]:
    if policy.sensitive is None:
        return
    assert document.sensitive_rules is not None, "there are rules"
    if document.targets and not any(target.self_hosted for target in policy.targets.values()):
        message = "no target is self-hosted: every sensitive request is refused"
        yield document.sensitive_rules.problem((), message, "add a self-hosted target", "warning")
        return
    for route, entry in zip(policy.routes, document.routes, strict=True):
        if not any(target.self_hosted for target in route.targets):
            message = "no target of it is self-hosted: sensitive requests that it takes are refused"
            fix = "add a self-hosted fallback, or put a route with `match: {sensitive: true}` before it"
            if not _caught_before(route.name, document):
                yield entry.problem((), message, fix, "info")


def _caught_before(name: str, document: Document) -> bool:
    """Whether a route for all sensitive requests comes before this one."""
    for route in document.routes:
        if route.spec.name == name:
            return False
        match = route.spec.match
        if match.sensitive and match.model_fields_set == {"sensitive"} and route.spec.classify is None:
            return True
    return False


def _classify(route: Entry[RouteSpec]) -> Iterator[Problem]:
    spec = route.spec.classify
    assert spec is not None, "asked for by the caller"
    if spec.max_quality_loss is None and spec.strong_share is None and spec.target_cost is None:
        fix = "add `max_quality_loss: 3%` (needs labels) or `strong_share: 30%` (needs traffic), and calibrate"
        message = "nothing says when the weak target is good enough: everything goes to the strong one"
        yield route.problem(("classify",), message, fix, "warning")
    if spec.strong_cap_per_key is not None and spec.max_quality_loss is not None:
        message = "requests over the cap go to the weak target, and no certificate speaks of them"
        fix = "keep it where a bound on cost counts for more than the bound on loss"
        yield route.problem(("classify", "strong_cap_per_key"), message, fix, "info")
    if spec.judge is not None and spec.tier != "judge" and not spec.compare:
        fix = "add `compare: 2%` or `tier: judge`, or remove it"
        yield route.problem(("classify", "judge"), "nothing asks the judge", fix, "info")
    if spec.judge is not None and spec.compare and spec.judge.target in (spec.weak, spec.strong):
        message = f"the target {spec.judge.target!r} rates its own answers, and models favour theirs"
        yield route.problem(("classify", "judge", "target"), message, "name a third target", "info")
    if spec.weak in route.spec.fallbacks:
        at = ("fallbacks", route.spec.fallbacks.index(spec.weak))
        message = f"the weak target {spec.weak!r} answers when the strong one fails, also what needs the strong one"
        fix = "keep it if an answer counts for more than its quality; its losses are in no certificate"
        yield route.problem(at, message, fix, "info")


def _pays(route: Entry[RouteSpec], policy: Policy, cost: Cost, share: float | None) -> Iterator[Problem]:
    spec = route.spec.classify
    assert spec is not None, "asked for by the caller"
    weak, strong = cost(policy.targets[spec.weak]), cost(policy.targets[spec.strong])
    if weak is None or strong is None or not strong:
        return
    at = ("classify", "weak")
    ratio = weak / strong
    if ratio >= 1:
        message = f"the weak target {spec.weak!r} costs {ratio:.2f} times what the strong one does"
        yield route.problem(at, message, "exchange them, or send everything to the cheaper one", "warning")
        return
    if share is not None and ratio > share:
        message = (
            f"its certificate lets the weak target serve {share:.0%} of the requests, at {ratio:.0%} of the strong "
            f"one's price: a cascade cannot pay, and choosing saves {share * (1 - ratio):.0%} at most"
        )
        yield route.problem(at, message, "take a cheaper weak target, or allow a larger loss", "warning")
