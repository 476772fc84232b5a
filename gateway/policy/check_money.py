"""The rules of budgets, limits and the baseline that join keys and entries: one limit per scope, names exist. Pure.

Everything here is an error; what is only doubtful is in `lint_money`.
"""

from collections.abc import Iterator
from typing import Any

from gateway.policy.document import Document, Entry
from gateway.policy.models import BudgetSpec, LimitSpec
from gateway.policy.problems import Problem, did_you_mean

DIRECT = "model:"
"""Begins the names of implicit routes to targets that are asked for by name."""


def check_money(document: Document) -> Iterator[Problem]:
    """All errors of the money sections; entries that are not well-formed have been reported before."""
    baseline = document.baseline
    if baseline is not None and baseline.name not in document.declared["targets"]:
        fix = did_you_mean(baseline.name, document.declared["targets"])
        yield baseline.problem((), f"unknown target {baseline.name!r}", fix)
    routes = _routes(document)
    for entry, scope in scopes(document):
        kind, _, name = scope.partition(":")
        if kind == "route" and name not in routes:
            yield entry.problem(("scope",), f"unknown route {name!r}", did_you_mean(name, routes))
    yield from _budgets(document.budgets)
    yield from _limits(document.limits)


def scopes(document: Document) -> list[tuple[Entry[Any], str]]:
    """Every budget and limit with its scope."""
    budgets: list[tuple[Entry[Any], str]] = [(entry, entry.spec.scope) for entry in document.budgets]
    return [*budgets, *((entry, entry.spec.scope) for entry in document.limits)]


def _routes(document: Document) -> set[str]:
    """Names that a request's route can have: those of routes and, where they are open, of targets."""
    direct = document.declared["targets"] if document.default.direct_targets else ()
    return {*document.declared["routes"], *(f"{DIRECT}{target}" for target in direct)}


def _budgets(entries: list[Entry[BudgetSpec]]) -> Iterator[Problem]:
    seen: dict[tuple[str, str], str] = {}
    for entry in entries:
        scope, period = entry.spec.scope, entry.spec.limit[1]
        first = seen.get((scope, period))
        if first is not None:
            yield entry.problem(("scope",), f"{scope}/{period} has a budget at {first}", "keep one of them")
        seen.setdefault((scope, period), entry.problem(("scope",), "").where)


def _limits(entries: list[Entry[LimitSpec]]) -> Iterator[Problem]:
    seen: dict[tuple[str, str], str] = {}
    for entry in entries:
        given = [key for key in ("requests", "tokens", "concurrent") if getattr(entry.spec, key) is not None]
        if not given:
            yield entry.problem((), "it limits nothing", "add requests, tokens or concurrent")
        for key in given:
            first = seen.get((entry.spec.scope, key))
            if first is not None:
                message = f"{entry.spec.scope} has a limit of {key} at {first}"
                yield entry.problem((key,), message, "keep one of them")
            seen.setdefault((entry.spec.scope, key), entry.problem((key,), "").where)
