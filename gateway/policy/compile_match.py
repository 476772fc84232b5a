"""The conditions of a checked document into what requests are matched by: patterns, minutes of the week. Pure."""

from zoneinfo import ZoneInfo

from gateway.policy.conditions import Conditions, Week
from gateway.policy.facts import SensitiveRules
from gateway.policy.models import MatchSpec, RouteSpec, SensitiveSpec
from gateway.policy.patterns import AnyOf, Pattern, keywords
from gateway.policy.table import Rule
from gateway.policy.units import MINUTES

VIRTUAL = "auto"
"""What callers name who leave the choice of the model to a route."""
PICKS = (":cheap", ":best")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LOOKING = ("regex", "keywords", "min_input_tokens", "max_input_tokens", "tools", "images", "structured", "hours",
            "days", "sensitive", "latency")  # fmt: skip


def rule(route: RouteSpec, timezone: str) -> Rule:
    """When the route matches; `timezone` holds where it names none."""
    match = route.match
    models = models_of(route)
    return Rule(
        models=frozenset(m for m in models if "*" not in m) if models is not None else None,
        globs=tuple(m for m in models or () if "*" in m),
        tenants=frozenset(match.tenants) if match.tenants is not None else None,
        tags=frozenset(match.tags) if match.tags is not None else None,
        headers=tuple((name.encode(), pattern) for name, pattern in (match.headers or {}).items()),
        conditions=conditions(match, timezone),
    )


def models_of(route: RouteSpec) -> list[str] | None:
    """The patterns of models that a route takes, `None` for all.

    One that classifies takes the virtual models, or those that it names, each also as `NAME:cheap` and `NAME:best`: a
    model that it does not name is never rerouted by it.
    """
    models = route.match.models
    if route.classify is None:
        return models
    picked = [f"{name}{pick}" for name in models or [VIRTUAL] if "*" not in name for pick in PICKS]
    return list(dict.fromkeys([*(models or [VIRTUAL]), *picked]))


def conditions(match: MatchSpec, timezone: str) -> Conditions | None:
    """What the route asks of the request itself; `None` when nothing."""
    names = tuple(name for name in _LOOKING if getattr(match, name) is not None)
    if not names:
        return None
    return Conditions(
        names=names,
        min_input_tokens=match.min_input_tokens,
        max_input_tokens=match.max_input_tokens,
        latency=match.latency,
        tools=match.tools,
        images=match.images,
        structured=match.structured,
        week=week(match, timezone),
        sensitive=match.sensitive,
        regex=AnyOf([Pattern(source) for source in match.regex]) if match.regex is not None else None,
        keywords=keywords(match.keywords) if match.keywords is not None else None,
        everywhere=match.text == "all",
    )


def week(match: MatchSpec, timezone: str) -> Week | None:
    """The minutes of the week in which it holds; `None` for all."""
    if match.hours is None and match.days is None:
        return None
    minutes = bytearray(7 * MINUTES)
    for day in (DAYS.index(name) for name in match.days or DAYS):
        for begin, end in match.hours or [(0, MINUTES)]:
            length = end - begin if end > begin else end - begin + MINUTES
            for minute in range(begin, begin + length):
                minutes[(day * MINUTES + minute) % len(minutes)] = 1
    return Week(ZoneInfo(match.timezone or timezone), bytes(minutes))


def sensitive_rules(spec: SensitiveSpec) -> SensitiveRules | None:
    """The section; `None` when it says nothing."""
    if not (spec.regex or spec.keywords or spec.tenants or spec.tags):
        return None
    patterns = {f"regex[{index}]": Pattern(source) for index, source in enumerate(spec.regex)}
    if spec.keywords:
        patterns["keywords"] = keywords(spec.keywords)
    return SensitiveRules(
        text=AnyOf(list(patterns.values())) if patterns else None,
        names=tuple(patterns),
        tenants=frozenset(spec.tenants),
        tags=frozenset(spec.tags),
    )
