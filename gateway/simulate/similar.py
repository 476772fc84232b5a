"""Which stored question a recorded one repeats in other words, by the encoder, verifier and certificate that serve.

Opened where a policy's route has a semantic cache and a certificate. Fails safe: without the certificate nothing is
found, as when the gateway serves; without encoder or verifier `missing` says why, and what would be found is unknown.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gateway.cache.admission import refuse
from gateway.cache.certificates import Certificates, Standing
from gateway.cache.keys import Partition, scope_key, user_of
from gateway.cache.lookup import admission_rule
from gateway.cache.semantic import NEIGHBOURS
from gateway.cache.verify.verifier import FLOOR, Pair, Verdict, Verifier, VerifierError, load_verifier
from gateway.core.exchange import Call
from gateway.encoder import EncoderError, Model, open_model
from gateway.policy.caching import CacheRule

if TYPE_CHECKING:
    from gateway.encoder.port import Vectors


class Question(NamedTuple):
    """One that may be answered by a similar one's answer: where it is compared, its text, `float32[d]` of unit norm."""

    scope: str
    text: str
    vector: "Vectors"


class Similar:
    """See the module. `folder` is the policy's; `encoder` names the one of the settings."""

    def __init__(self, rules: Iterable[CacheRule], folder: Path, encoder: Callable[[], str]) -> None:
        self.missing = ""
        self._model: Model | None = None
        self._verifier: Verifier | None = None
        self._certificates = Certificates(folder)
        semantic = [rule for rule in rules if rule.semantic is not None]
        if semantic and any((folder / "certificates").glob("cache-*.json")):
            self._open(encoder)
        self._vector = lru_cache(maxsize=65_536)(self._encode)
        self._verdict = lru_cache(maxsize=262_144)(self._verify)

    def standing(self, rule: CacheRule) -> Standing:
        """Whether the route's semantic cache serves, and if not why."""
        return self._certificates.standing(rule, self._versions())

    def question(self, call: Call, partition: Partition, rule: CacheRule) -> Question | None:
        """The request as the semantic cache looks it up; `None` where it does not, or serves nothing."""
        if not self.standing(rule).serves:
            return None
        scope = scope_key(call, partition, "+".join(self._versions().values()))
        text = scope.text if scope is not None else None
        user = partition.user or user_of(call)
        if scope is None or refuse(call, text, user, admission_rule(rule)) is not None:
            return None
        vector = self._vector(scope.text)
        return None if vector is None else Question(scope.key, scope.text, vector)

    def answers(self, asked: Question, stored: list[tuple[Question, bool]], rule: CacheRule) -> bool:
        """Whether one of `stored`, all of its scope, has the answer, as `gateway.cache.lookup` finds it.

        Each of them says whether it is young enough to be served.
        """
        import numpy as np  # noqa: PLC0415 - heavy

        certificate = self._certificates.of(rule, self._versions())
        if certificate is None or not stored:
            return False
        cosines = np.array([each.vector for each, _ in stored]) @ asked.vector
        near = [at for at in np.argsort(-cosines, kind="stable")[:NEIGHBOURS] if cosines[at] >= FLOOR]
        judged = [(self._verdict(stored[at][0].text, asked.text, float(cosines[at])), stored[at][1]) for at in near]
        judged.sort(key=lambda each: (each[0].veto is None, each[0].score), reverse=True)
        best = next((verdict for verdict, fresh in judged if fresh), None)
        return best is not None and best.veto is None and certificate.accepts(best.score)

    def _open(self, encoder: Callable[[], str]) -> None:
        try:
            self._model, self._verifier = open_model(encoder()), load_verifier()
        except (EncoderError, VerifierError) as exc:
            self.missing = exc.message

    def _versions(self) -> dict[str, str]:
        if self._model is None or self._verifier is None:
            return {}
        return {"encoder": self._model.version, "verifier": self._verifier.version}

    def _encode(self, text: str) -> "Vectors | None":
        """`None` for a text beyond the window, or with words that the encoder does not know."""
        assert self._model is not None, "asked for where there is one"
        try:
            reading = self._model.read(text)
            if reading is None or reading.unknown:
                return None
            vector: Vectors = self._model.run([reading])[0]
        except EncoderError:
            return None
        return vector

    def _verify(self, stored: str, asked: str, cosine: float) -> Verdict:
        assert self._verifier is not None, "asked for where there is one"
        try:
            return self._verifier.score([Pair(stored, asked, cosine)])[0]
        except VerifierError:
            return Verdict(0.0, "failed")
