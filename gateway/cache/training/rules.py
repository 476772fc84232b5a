"""What the grammar rules share: their registry and how they draw values. Knows no rule."""

import random
from collections.abc import Callable

from gateway.cache.training.slots import Pools, tidy

Labelled = tuple[str, str, int]
"""Two questions, and 1 where one answer serves both."""
Rule = Callable[[random.Random, Pools], Labelled]

RULES: dict[str, Rule] = {}
"""Every rule by its name, once its module is imported."""


def rule(function: Rule) -> Rule:
    """Registers a rule under its name."""
    RULES[function.__name__] = function
    return function


def value(rng: random.Random, p: Pools, pool: str, *but: str) -> str:
    """A value of a pool, by its usual name, other than those of `but`."""
    return p.one(rng, pool, *((b,) for b in but))[0]


def people(rng: random.Random, p: Pools) -> tuple[str, str]:
    """Two people, both by first name or both by full name."""
    pool = rng.choice(("name", "name", "person"))
    first = value(rng, p, pool)
    return first, value(rng, p, pool, first)


def either(rng: random.Random, a: str, b: str, same: int) -> Labelled:
    """The pair in one of its two orders."""
    a, b = tidy(a), tidy(b)
    return (a, b, same) if rng.random() < 0.5 else (b, a, same)
