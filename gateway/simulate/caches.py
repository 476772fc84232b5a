"""Which recorded requests a policy's cache would have answered: exactly the same ones by replay, others as recorded.

Pure state, no clock. With its body a request is looked up by the real key, and its answer is kept as the route's rule
says; an answer that the cache may not keep (cut off, refused) is kept here all the same. In other words' terms a hit is
known only where the record names one.
"""

from typing import Final

import msgspec

from gateway.cache.admission import refuse_exact
from gateway.cache.controls import Controls, controls
from gateway.cache.keys import Partition, exact_key, user_of
from gateway.cache.lookup import admission_rule
from gateway.core.exchange import Call, Identity
from gateway.policy.caching import CacheRule
from gateway.simulate.traffic import Recorded

_UNSEEN: Final = frozenset(["", "off", "bypass"])
_SAME: Final = frozenset(["exact", "coalesced"])


class Look(msgspec.Struct, frozen=True):
    """`kind` of the hit, `None` for a miss; `fill` is the key under which the answer would be kept.

    `unknown`: whether a hit was possible of which the record knows nothing. `only`: a miss is refused.
    """

    kind: str | None
    fill: str | None = None
    unknown: bool = False
    only: bool = False


class Caches:
    """The stored answers of one policy: when each was stored."""

    def __init__(self) -> None:
        self._stored: dict[str, float] = {}
        self._sighted: set[str] = set()

    def look(self, recorded: Recorded, identity: Identity, rule: CacheRule, at_s: float) -> Look:
        """Raises `BadRequest` for headers that make no sense."""
        if recorded.call is None:
            return _as_recorded(recorded, rule)
        asked = controls(recorded.call)
        key = _key(recorded.call, identity, rule)
        if key is None or not (asked.read or asked.write):
            return Look(None)
        fill = key if asked.write and rule.exact_ttl_s is not None else None
        if asked.read and rule.exact_ttl_s is not None and self._fresh(key, rule.exact_ttl_s, asked, at_s):
            return Look("exact")
        if asked.read and rule.exact_ttl_s is not None and recorded.cache in _SAME and key not in self._stored:
            return Look(recorded.cache, fill)  # stored before the record began
        if asked.read and asked.semantic and rule.semantic is not None:
            if recorded.cache == "semantic":
                return Look("semantic")
            return Look(None, fill, unknown=recorded.cache in _UNSEEN, only=asked.only)
        return Look(None, fill, only=asked.only)

    def keep(self, key: str, rule: CacheRule, at_s: float) -> None:
        """An answer came."""
        if rule.second_sighting and key not in self._sighted:
            self._sighted.add(key)
        else:
            self._stored[key] = at_s

    def _fresh(self, key: str, ttl_s: float, asked: Controls, at_s: float) -> bool:
        stored_s = self._stored.get(key)
        if stored_s is None:
            return False
        age_s = at_s - stored_s
        return age_s <= ttl_s and (asked.max_age_s is None or age_s <= asked.max_age_s)


def _key(call: Call, identity: Identity, rule: CacheRule) -> str | None:
    user = user_of(call)
    if refuse_exact(call, user, admission_rule(rule)) is not None:
        return None
    shared = user if rule.share == "user" else None
    return exact_key(call, Partition(identity.tenant, call.model or "", rule.version, shared))


def _as_recorded(recorded: Recorded, rule: CacheRule) -> Look:
    if recorded.cache in _SAME:
        return Look(recorded.cache if rule.exact_ttl_s is not None else None)
    if recorded.cache == "semantic":
        return Look("semantic" if rule.semantic is not None else None)
    return Look(None, unknown=recorded.cache in _UNSEEN)
