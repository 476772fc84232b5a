"""What is doubtful in budgets, limits and the baseline: scopes that nobody has, prices that nobody knows. Pure.

Errors are found by `check_money`; nothing here stops a policy from being served.
"""

from collections.abc import Callable, Iterator

from gateway.core.exchange import Target
from gateway.policy.check_money import DIRECT, scopes
from gateway.policy.document import Document
from gateway.policy.models import RouteSpec
from gateway.policy.problems import Problem, Severity, did_you_mean
from gateway.policy.table import Policy


def lint_money(document: Document, policy: Policy, has_price: Callable[[Target], bool]) -> Iterator[Problem]:
    """Warnings and infos about the money sections."""
    baseline = document.baseline
    if baseline is not None and policy.baseline is not None and not has_price(policy.baseline):
        fix = "give that target a price, or name another"
        yield baseline.problem((), "no known price: savings cannot be counted", fix, "warning")
    yield from _nobody(document)


def _nobody(document: Document) -> Iterator[Problem]:
    """Scopes of no key in the policy: a slip, unless the key store has such keys."""
    known = {
        "key": set(document.keys),
        "tenant": {key.spec.tenant for key in document.keys.values()},
        "tag": {tag for key in document.keys.values() for tag in key.spec.tags},
    }
    severity: Severity = "warning" if document.keys else "info"
    for entry, scope in scopes(document):
        kind, _, name = scope.partition(":")
        if name and kind in known and name not in known[kind]:
            message = f"no key of this policy {'is' if kind == 'key' else 'has the ' + kind} {name!r}"
            fix = did_you_mean(name, known[kind]) if known[kind] else "make such a key with `farthing keys create`"
            yield entry.problem(("scope",), message, fix, severity)


def refused_unpriced(document: Document) -> dict[str, str]:
    """Targets that requests under a budget may go to, with where that budget is; empty unless unknown is refused.

    A budget of a route reaches that route's targets, every other one all targets.
    """
    reached: dict[str, str] = {}
    if document.money.unknown_price != "refuse":
        return reached
    routes = {route.name: target_names(route.spec) for route in document.routes}
    for entry in document.budgets:
        kind, _, name = entry.spec.scope.partition(":")
        direct = name.removeprefix(DIRECT)
        targets = routes.get(name, [direct]) if kind == "route" else list(document.targets)
        for target in targets:
            reached.setdefault(target, entry.problem((), "").where)
    return reached


def target_names(route: RouteSpec) -> list[str]:
    """The targets of a route, first to last."""
    arms = [arm.target for arm in route.split or ()]
    choice = route.classify
    chosen = [choice.weak, choice.strong] if choice else []
    judge = [choice.judge.target] if choice and choice.judge else []
    return [*([route.target] if route.target else []), *arms, *chosen, *route.fallbacks, *judge]
