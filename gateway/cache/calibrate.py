"""Decides which verifier score a route may serve from, by labelled pairs or by what live traffic taught.

Pure. Candidate thresholds are a fixed grid, chosen before any label was seen, so that any sample may certify one (see
`gateway.guarantee.certify`). Losses count over all requests: a row that cannot be served at any score has a score of
-inf and a loss of 0. Pairs of answers that could not be judged are left out, and what they could hide is stated.
"""

import math
from collections.abc import Sequence

import msgspec

from gateway.cache.evaluate import Labelled, Outcome
from gateway.cache.labels import UNSURE, Label, weights
from gateway.cache.wording import refuse_text
from gateway.guarantee.certificate import Certificate, Subject
from gateway.policy.caching import CacheRule

GRID = tuple(step / 1000 for step in range(1000, 0, -1))
"""Scores that may become the threshold. 0 may not: it is what the verifier gives to what it cannot judge."""
FEW = 1000
MANY_UNSURE = 0.1


class Rows(msgspec.Struct, frozen=True):
    """Requests of a route. `weights` is `None` where all count alike; `unsure` are (score, weight) of the unjudged."""

    scores: list[float]
    losses: list[float]
    weights: list[float] | None = None
    unsure: list[tuple[float, float]] = []
    hours: float | None = None
    """Between the first and the last, where that is known."""

    @property
    def wrong(self) -> int:
        """Rows whose neighbour's answer would have been wrong."""
        return int(sum(self.losses))

    @property
    def compared(self) -> int:
        """Rows with a neighbour that might be served."""
        return sum(math.isfinite(score) for score in self.scores)


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. Shares are of all requests but for `realised_accepted`; see `Certificate` for the rest.

    `certified` is `None` when nothing could be certified; then `reason` and `n_needed` say why, and how many rows like
    these it takes. `realised_if_unsure_wrong` counts every unjudged pair that would be served as wrong.
    """

    route: str
    max_error: float
    confidence: float
    rows: int
    compared: int
    wrong: int
    unsure: int
    n: int
    certified: Certificate | None = None
    realised_if_unsure_wrong: float | None = None
    reason: str | None = None
    n_needed: int | None = None
    warnings: list[str] = []


def rows_of_pairs(pairs: Sequence[Labelled], outcomes: Sequence[Outcome], rule: CacheRule) -> Rows:
    """A pair is one request `b` of the route with `a` stored; what the route's own admission refuses is not served."""
    personal = rule.semantic.personal if rule.semantic is not None else "generic"
    served = [
        outcome.refused is None and refuse_text(pair.b, user_scoped=rule.share == "user", personal=personal) is None
        for pair, outcome in zip(pairs, outcomes, strict=True)
    ]
    scores = [outcome.score if may else -math.inf for outcome, may in zip(outcomes, served, strict=True)]
    return Rows(scores, [float(may and not pair.duplicate) for pair, may in zip(pairs, served, strict=True)])


def rows_of_labels(labels: Sequence[Label]) -> Rows:
    """The route's own traffic; see `gateway.cache.labels`."""
    scores, losses, shares = weights([label for label in labels if label.loss != UNSURE])
    unsure = [(label.score, label.weight) for label in labels if label.loss == UNSURE and label.score is not None]
    hours = (labels[-1].at_s - labels[0].at_s) / 3600 if labels else None
    return Rows(scores, losses, shares if any(share != 1.0 for share in shares) else None, unsure, hours)


def calibrate(
    rows: Rows, rule: CacheRule, max_error: float, confidence: float, versions: dict[str, str], date: str
) -> Calibration:
    """The boldest threshold that the rows certify, or why there is none. `date` is ISO 8601."""
    import numpy as np  # noqa: PLC0415 - heavy

    from gateway.guarantee.certify import Sample, Target, certify, data_hash, tight  # noqa: PLC0415 - numpy

    shares = np.array(rows.weights) if rows.weights is not None else None
    sample = Sample(np.array(rows.scores, np.float64), np.array(rows.losses, np.float64), shares)
    subject = Subject(kind="cache", route=rule.route, date=date, data_hash=data_hash(sample), versions=versions)
    thresholds = tight(GRID, sample.scores, "at_least")
    found = certify(sample, thresholds, Target(alpha=max_error, delta=1 - confidence), subject)
    made = found if isinstance(found, Certificate) else None
    return Calibration(
        route=rule.route,
        max_error=max_error,
        confidence=confidence,
        rows=len(rows.scores),
        compared=rows.compared,
        wrong=rows.wrong,
        unsure=len(rows.unsure),
        n=found.n,
        certified=made,
        realised_if_unsure_wrong=_worst(rows, made.threshold) if made is not None else None,
        reason=None if isinstance(found, Certificate) else found.reason,
        n_needed=None if isinstance(found, Certificate) else found.n_needed,
        warnings=_warnings(rows, rule, max_error, confidence, found.n),
    )


def _worst(rows: Rows, threshold: float) -> float:
    shares = rows.weights or [1.0] * len(rows.scores)
    served = zip(rows.scores, rows.losses, shares, strict=True)
    wrong = sum(loss * share for score, loss, share in served if score >= threshold)
    wrong += sum(share for score, share in rows.unsure if score >= threshold)
    return wrong / (sum(shares) + sum(share for _, share in rows.unsure))


def _warnings(rows: Rows, rule: CacheRule, max_error: float, confidence: float, n: int) -> list[str]:
    found: list[str] = []
    if n < FEW:
        heavy = max(rows.weights) if rows.weights is not None else 1.0
        counted = f" of {len(rows.scores)} (hits that were asked anew weigh {heavy:g} each)" if heavy > 1 else ""
        found.append(f"few requests: {n}{counted}; with {FEW} and more the threshold is less cautious")
    judged = rows.compared + len(rows.unsure)
    if judged and len(rows.unsure) / judged > MANY_UNSURE:
        found.append(
            f"{len(rows.unsure)} of {judged} pairs of answers could not be judged and are left out; "
            "label some of them by hand and calibrate with --pairs"
        )
    if rows.hours is not None and rows.hours < 24:
        found.append(f"all labels are of {rows.hours:.1f} hours: traffic of other hours and days may differ")
    asked = rule.semantic
    if asked is not None and (max_error > asked.max_error or confidence < asked.confidence - 1e-9):
        found.append(
            f"the policy asks for max_error {asked.max_error:.2%} at {asked.confidence:.0%}: "
            "a certificate for less serves nothing"
        )
    return found
