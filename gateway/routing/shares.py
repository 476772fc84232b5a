"""A threshold for a share of strong calls, or for what requests may cost: it bounds money, and says nothing of quality.

Pure. Such a calibration certifies nothing; who decides by it says `uncertified`. It is void, like a certificate, once
the head or the models are others. Costs are chosen for in `gateway.routing.costs`.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import isnan, sqrt
from typing import Annotated, Final, Literal

import msgspec

from gateway.guarantee.certificate import BadCertificate, Histogram, bound_to, histogram, path_of, share_band

LEAST_SCORES: Final = 200
"""Fewer scores leave the share open by more than seven points."""
_Z: Final = 1.96

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What 1,000 requests cost at a threshold, in micro-USD: expected, and for others like them (95 %)."""

    expected: float
    interval: tuple[float, float]


class ShareCalibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scores above `threshold` go to the strong target.

    What was asked for is `strong_share`, or `target_cost`: micro-USD for 1,000 requests; the other is `None`.
    `realised` is the share of the `n` scores that is above, `interval` where it is in traffic like theirs (95 %).
    `cost` is `None` where it is not known. `date` is ISO 8601.
    """

    format: Literal[1] = 1
    route: str
    strong_share: Share | None = None
    target_cost: int | None = None
    threshold: float
    n: Annotated[int, msgspec.Meta(gt=0)]
    realised: Share
    interval: tuple[Share, Share]
    cost: Cost | None = None
    date: str
    versions: dict[str, str]
    reference: Histogram
    hash: str = ""

    @property
    def share_band(self) -> tuple[float, float]:
        """Where the weak share of a window of traffic should stay."""
        return share_band(1 - self.realised, self.n)

    def accepts(self, score: float) -> bool:
        """Whether a score goes to the weak target; NaN never does."""
        return score <= self.threshold


def calibrate_share(
    scores: Sequence[float],
    strong_share: float,
    *,
    route: str,
    date: str,
    versions: Mapping[str, str],
    weights: Sequence[float] | None = None,
) -> ShareCalibration:
    """The calibration whose share of strong calls is nearest to `strong_share` from below.

    `weights`: how many requests each score stands for, up to a constant; `None`, all alike. ValueError: fewer than
    `LEAST_SCORES` scores (counted as that many equal ones), or NaN among them.
    """
    check(scores, weights)
    rows = sorted(zip(scores, weights or [1.0] * len(scores), strict=True), reverse=True)
    spare = strong_share * sum(weight for _, weight in rows) * (1 + 1e-12)
    threshold = rows[-1][0]
    for score, weight in rows:
        spare -= weight
        if spare < 0:
            threshold = score
            break
    return at_threshold(
        scores, threshold, weights, route=route, date=date, versions=versions, strong_share=strong_share
    )


def at_threshold(
    scores: Sequence[float],
    threshold: float,
    weights: Sequence[float] | None,
    *,
    route: str,
    date: str,
    versions: Mapping[str, str],
    strong_share: float | None = None,
    target_cost: int | None = None,
    cost: Cost | None = None,
) -> ShareCalibration:
    """The calibration of a threshold that was chosen, with its hash."""
    counts = weights or [1.0] * len(scores)
    above = sum(weight for score, weight in zip(scores, counts, strict=True) if score > threshold)
    realised = min(1.0, above / sum(counts))
    slack = _Z * sqrt(realised * (1 - realised) / effective(counts))
    made = ShareCalibration(
        route=route,
        strong_share=strong_share,
        target_cost=target_cost,
        threshold=threshold,
        n=int(effective(counts)),
        realised=realised,
        interval=(max(0.0, realised - slack), min(1.0, realised + slack)),
        cost=cost,
        date=date,
        versions=dict(versions),
        reference=histogram(scores, weights=weights),
    )
    return msgspec.structs.replace(made, hash=_fingerprint(made))


def check(scores: Sequence[float], weights: Sequence[float] | None) -> None:
    """That the scores are enough. ValueError: see `calibrate_share`."""
    n = int(effective(weights)) if weights else len(scores)
    if n < LEAST_SCORES or any(isnan(score) for score in scores):
        raise ValueError(f"{n} scores; at least {LEAST_SCORES} are needed, without NaN")


def effective(weights: Sequence[float]) -> float:
    """How many rows of equal weight these are worth (Kish, 1965)."""
    return sum(weights) ** 2 / sum(weight * weight for weight in weights) * (1 + 1e-12)


def dump_share(calibration: ShareCalibration) -> bytes:
    """The file: indented JSON, one newline at the end."""
    return msgspec.json.format(msgspec.json.encode(calibration), indent=2) + b"\n"


def load_share(data: bytes, name: str) -> ShareCalibration:
    """The calibration in a file, which the errors call `name`. BadCertificate: not one, or changed since."""
    try:
        calibration = msgspec.json.decode(data, type=ShareCalibration)
    except msgspec.DecodeError as exc:
        raise BadCertificate(f"{name}: not a calibration ({exc}); calibrate the route again") from exc
    if calibration.hash != _fingerprint(calibration):
        raise BadCertificate(f"{name}: was changed after it was made; restore the file or calibrate the route again")
    return calibration


def share_path(route: str, binding: str | None = None) -> str:
    """Where a calibration of a route lies; see `gateway.guarantee.certificate.path_of`."""
    return path_of("share", route, binding)


def share_binding(calibration: ShareCalibration) -> str:
    """What it is for; see `gateway.guarantee.certificate.bound_to`."""
    promise = {"strong_share": calibration.strong_share, "target_cost": calibration.target_cost}
    return bound_to(promise, calibration.versions)


def _fingerprint(calibration: ShareCalibration) -> str:
    return sha256(msgspec.json.encode(msgspec.structs.replace(calibration, hash=""), order="sorted")).hexdigest()
