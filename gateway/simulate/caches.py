"""Which recorded requests a policy's cache would have answered: by replay where there are bodies, else as recorded.

Pure state, no clock. With its body a request is looked up by the real key, then by its question where the route is
certified, and its answer is kept as the route's rule says; an answer that the cache may not keep (cut off, refused) is
kept here all the same. Without a body a hit is known only where the record names one.
"""

from typing import Final

import msgspec

from gateway.cache.admission import refuse_exact
from gateway.cache.controls import Controls, controls
from gateway.cache.keys import Partition, exact_key, user_of
from gateway.cache.lookup import admission_rule
from gateway.core.exchange import Call, Identity
from gateway.policy.caching import CacheRule
from gateway.simulate.similar import Question, Similar
from gateway.simulate.traffic import Recorded

_UNSEEN: Final = frozenset(["", "off", "bypass"])
_SAME: Final = frozenset(["exact", "coalesced"])


class Fill(msgspec.Struct, frozen=True):
    """Under what an answer would be kept."""

    key: str
    question: Question | None = None


class Look(msgspec.Struct, frozen=True):
    """`kind` of the hit, `None` for a miss; `fill` is what would keep the answer, `None` where nothing does.

    `unknown`: whether a hit was possible of which the record knows nothing. `only`: a miss is refused.
    """

    kind: str | None
    fill: Fill | None = None
    unknown: bool = False
    only: bool = False


class Caches:
    """The stored answers of one policy: when each was stored. Without `similar` similar ones are as recorded."""

    def __init__(self, similar: Similar | None = None) -> None:
        self._similar = similar
        self._stored: dict[str, float] = {}
        self._sighted: set[str] = set()
        self._questions: dict[str, dict[str, tuple[float, Question]]] = {}

    def look(self, recorded: Recorded, identity: Identity, rule: CacheRule, at_s: float) -> Look:
        """Raises `BadRequest` for headers that make no sense."""
        call = recorded.call
        if call is None:
            return _as_recorded(recorded, rule)
        asked = controls(call)
        user = user_of(call)
        if refuse_exact(call, user, admission_rule(rule)) is not None or not (asked.read or asked.write):
            return Look(None)
        partition = Partition(identity.tenant, call.model or "", rule.version, user if rule.share == "user" else None)
        key = exact_key(call, partition)
        if asked.read and rule.exact_ttl_s is not None:
            if self._fresh(self._stored.get(key), rule.exact_ttl_s, asked, at_s):
                return Look("exact")
            if recorded.cache in _SAME and key not in self._stored:
                return Look(recorded.cache, Fill(key))  # stored before the record began
        return self._in_other_words(recorded, call, partition, rule, asked, key, at_s)

    def keep(self, fill: Fill, rule: CacheRule, at_s: float) -> None:
        """An answer came."""
        if rule.second_sighting and fill.key not in self._sighted:
            self._sighted.add(fill.key)
            return
        self._stored[fill.key] = at_s
        if fill.question is not None:
            self._questions.setdefault(fill.question.scope, {})[fill.key] = (at_s, fill.question)

    def _in_other_words(
        self,
        recorded: Recorded,
        call: Call,
        partition: Partition,
        rule: CacheRule,
        asked: Controls,
        key: str,
        at_s: float,
    ) -> Look:
        fill = Fill(key) if asked.write and (rule.exact_ttl_s is not None or rule.semantic is not None) else None
        if rule.semantic is None:
            return Look(None, fill, only=asked.only)
        wanted = asked.read and asked.semantic
        if self._similar is None or self._similar.missing:
            if wanted and recorded.cache == "semantic":
                return Look("semantic")
            return Look(None, fill, unknown=wanted and recorded.cache in _UNSEEN, only=asked.only)
        question = self._similar.question(call, partition, rule)
        if question is None:
            return Look(None, fill, only=asked.only)
        if wanted:
            ttl_s = rule.semantic.ttl_s
            longest_s = max(ttl_s, rule.exact_ttl_s or 0.0)
            stored = [
                (each, self._fresh(stored_s, ttl_s, asked, at_s))
                for stored_s, each in self._questions.get(question.scope, {}).values()
                if at_s - stored_s <= longest_s
            ]
            if self._similar.answers(question, stored, rule):
                return Look("semantic")
        return Look(None, Fill(key, question) if fill is not None else None, only=asked.only)

    def _fresh(self, stored_s: float | None, ttl_s: float, asked: Controls, at_s: float) -> bool:
        if stored_s is None:
            return False
        age_s = at_s - stored_s
        return age_s <= ttl_s and (asked.max_age_s is None or age_s <= asked.max_age_s)


def _as_recorded(recorded: Recorded, rule: CacheRule) -> Look:
    if recorded.cache in _SAME:
        return Look(recorded.cache if rule.exact_ttl_s is not None else None)
    if recorded.cache == "semantic":
        return Look("semantic" if rule.semantic is not None else None)
    return Look(None, unknown=recorded.cache in _UNSEEN)
