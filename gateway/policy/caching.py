"""What a route caches, compiled: for how long, shared by whom, at which error rate. Look-ups only."""

from typing import Literal

import msgspec


class SemanticRule(msgspec.Struct, frozen=True):
    """Answers to the same question in other words. `shadow_budget` is micro-USD and the period that it is for."""

    ttl_s: float
    max_error: float = 0.01
    confidence: float = 0.95
    personal: Literal["refuse", "generic", "allow"] = "generic"
    max_temperature: float = 1.0
    shadow: float = 0.02
    shadow_budget: tuple[int, str] = (1_000_000, "day")


class CacheRule(msgspec.Struct, frozen=True):
    """What one route caches; at least one of `exact_ttl_s` and `semantic`.

    `version` changes with everything that gives answers their meaning: the route, its targets and this rule. Entries
    of another version are never found.
    """

    route: str
    version: str
    exact_ttl_s: float | None = None
    semantic: SemanticRule | None = None
    share: Literal["tenant", "user"] = "tenant"
    tags: tuple[str, ...] = ()
    second_sighting: bool = False
