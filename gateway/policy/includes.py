"""Whether one route's conditions take every request that another's take. Pure; in doubt it says no."""

from gateway.policy.compile_match import models_of, week
from gateway.policy.globs import covers, matches
from gateway.policy.models import MatchSpec, RouteSpec

_EQUAL = ("tools", "images", "structured", "sensitive", "latency")


def matched(route: RouteSpec) -> MatchSpec:
    """The conditions of a route with the models that it takes in fact."""
    return route.match.model_copy(update={"models": models_of(route)})


def includes(wide: MatchSpec, narrow: MatchSpec, timezone: str = "UTC") -> bool:
    """Whether every request that `narrow` takes is taken by `wide`; `timezone` holds where they name none."""
    required = wide.headers or {}
    given = narrow.headers or {}
    return (
        covers(wide.models, narrow.models)
        and _subset(wide.tenants, narrow.tenants)
        and _subset(wide.tags, narrow.tags)
        and all(name in given and matches(pattern, given[name]) for name, pattern in required.items())
        and _in_text(wide, narrow)
        and _in_size(wide, narrow)
        and _in_time(wide, narrow, timezone)
        and all(getattr(wide, key) in (None, getattr(narrow, key)) for key in _EQUAL)
    )


def _subset(wide: list[str] | None, narrow: list[str] | None) -> bool:
    return wide is None or (narrow is not None and set(narrow) <= set(wide))


def _in_text(wide: MatchSpec, narrow: MatchSpec) -> bool:
    """The last user text is part of all text, up to where a long text is cut: so only like is compared with like."""
    if wide.regex is None and wide.keywords is None:
        return True
    words = {word.casefold() for word in narrow.keywords or ()}
    known = {word.casefold() for word in wide.keywords or ()}
    return (
        wide.text == narrow.text
        and _subset(wide.regex, narrow.regex)
        and (wide.keywords is None or (narrow.keywords is not None and words <= known))
    )


def _in_size(wide: MatchSpec, narrow: MatchSpec) -> bool:
    least, most = wide.min_input_tokens, wide.max_input_tokens
    return (least is None or (narrow.min_input_tokens is not None and narrow.min_input_tokens >= least)) and (
        most is None or (narrow.max_input_tokens is not None and narrow.max_input_tokens <= most)
    )


def _in_time(wide: MatchSpec, narrow: MatchSpec, timezone: str) -> bool:
    open_, inside = week(wide, timezone), week(narrow, timezone)
    if open_ is None or all(open_.open_):
        return True
    if inside is None or inside.zone.key != open_.zone.key:
        return False
    return all(there or not here for there, here in zip(open_.open_, inside.open_, strict=True))
