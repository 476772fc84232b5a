"""Scores of bodies that come without one, by the heads and the encoder that serve, opened where a policy needs them.

Fails safe: what cannot be opened gives no scores, says why, and leaves everything to the strong target.
"""

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.core.exchange import Call, Identity
from gateway.encoder import EncoderError, Model, open_model
from gateway.policy.choosing import Classify
from gateway.routing.decide import MEANING, Scored, Tier
from gateway.routing.light import HeadError
from gateway.routing.reading import read_request
from gateway.routing.scorer import Scorer, open_scorer

if TYPE_CHECKING:
    from gateway.encoder.port import Vectors

_NO_PARTS: Mapping[str, str] = {"head": ""}


class Scores:
    """See the module. `missing` says what could not be opened, empty when nothing is missing."""

    def __init__(self, tiers: Collection[Tier], encoder: Callable[[], str]) -> None:
        self.missing = ""
        self.tiers = frozenset(tiers)
        self._last: tuple[Call, Identity, Tier, Scored] | None = None
        self._scorer: Scorer | None = None
        self._model: Model | None = None
        self._parts: dict[Tier, Mapping[str, str]] = {}
        if not tiers:
            return
        embed = not MEANING.isdisjoint(tiers)
        try:
            self._scorer = open_scorer(embed=embed)
            self._model = open_model(encoder()) if embed else None
        except (HeadError, EncoderError) as exc:
            self.missing = exc.message
        self._vector = lru_cache(maxsize=16_384)(self._encode)

    def versions(self, tier: Tier) -> Mapping[str, str]:
        """The parts that its scores depend on, the same object each time."""
        if self._scorer is None:
            return _NO_PARTS
        if tier not in self._parts:
            version = self._model.version if self._model is not None else None
            self._parts[tier] = self._scorer.versions(tier, version)
        return self._parts[tier]

    def __call__(self, rule: Classify, call: Call, identity: Identity) -> Scored | None:
        """The score; `None` without what the rule's tier needs: a judge is not asked, labels are not at hand."""
        if (
            rule.tier not in ("light", "embed")
            or self._scorer is None
            or (rule.tier == "embed" and self._model is None)
        ):
            return None
        last = self._last
        if last is not None and last[0] is call and last[1] == identity and last[2] == rule.tier:
            return last[3]  # two policies ask about the same request, one after the other
        request = read_request(call)
        vector = self._vector(request.text) if rule.tier == "embed" else None
        scored = self._scorer.score(request, identity, vector)
        self._last = (call, identity, rule.tier, scored)
        return scored

    def _encode(self, text: str) -> "Vectors | None":
        """`float32[d]`, unit norm; `None` for a text beyond the window."""
        assert self._model is not None, "asked for where there is one"
        try:
            reading = self._model.read(text)
            vector: Vectors | None = self._model.run([reading])[0] if reading is not None else None
        except EncoderError:
            return None
        return vector
