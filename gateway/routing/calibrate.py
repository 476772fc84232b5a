"""Decides up to which score a route may use its weak target, by requests of which both targets' quality is known.

Pure. Candidate thresholds are a fixed grid, chosen before any label was seen (see `gateway.guarantee.certify`). The
loss of a row is what the strong target was better by, counted over all requests of the route.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from gateway.guarantee.certificate import Certificate, Subject
from gateway.guarantee.certify import Sample, Target, Uncertified, certify, tight
from gateway.policy.choosing import Classify
from gateway.routing.metric import Floats, Rows

GRID: Final = np.linspace(-1, 1, 1001)
"""Gains that may become the threshold."""


class Promise(msgspec.Struct, frozen=True):
    """What is asked for. `strict`: a bound that holds at any n, instead of the normal approximation."""

    max_quality_loss: float
    confidence: float = 0.95
    strict: bool = False


def calibrate(
    rule: Classify,
    scores: Floats,
    rows: Rows,
    promise: Promise,
    *,
    versions: dict[str, str],
    date: str,
    data_hash: str,
    weights: Floats | None = None,
    unlabelled: Sequence[float] | None = None,
) -> Certificate | Uncertified:
    """The certificate of the boldest threshold that keeps the promise, or why there is none.

    `scores` are `float64[n]`, of the tier that the route uses; `weights` 1 / the probability with which each request
    was sampled. `versions` are those of the parts that score; the models are added. `unlabelled` scores of the route's
    traffic are what drift is measured against, instead of the sample's. ValueError: qualities whose differences are not
    in [-1, 1], NaN, arrays of different lengths.
    """
    subject = Subject(
        kind="routing", route=rule.route, date=date, data_hash=data_hash, versions={**versions, **rule.versions}
    )
    target = Target(
        alpha=promise.max_quality_loss,
        delta=1 - promise.confidence,
        accept="at_most",
        loss="graded",
        strict=promise.strict,
    )
    thresholds = tight(GRID, scores, "at_most")
    sample = Sample(scores, rows.strong - rows.weak, weights)
    return certify(sample, thresholds, target, subject, unlabelled=unlabelled)
