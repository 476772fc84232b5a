"""A threshold for a share of strong calls, from unlabelled scores: it bounds cost, and says nothing of quality.

Pure. Such a calibration certifies nothing; who decides by it says `uncertified`. It is void, like a certificate, once
the head or the models are others.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import isnan, sqrt
from typing import Annotated, Final, Literal
from urllib.parse import quote

import msgspec

from gateway.guarantee.certificate import BadCertificate, Histogram, histogram

LEAST_SCORES: Final = 200
"""Fewer scores leave the share open by more than seven points."""
_Z: Final = 1.96

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ShareCalibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scores above `threshold` go to the strong target.

    `realised` is their share of the `n` scores, `interval` where it is in traffic like theirs (95 %). `date` is ISO
    8601.
    """

    format: Literal[1] = 1
    route: str
    strong_share: Share
    threshold: float
    n: Annotated[int, msgspec.Meta(gt=0)]
    realised: Share
    interval: tuple[Share, Share]
    date: str
    versions: dict[str, str]
    reference: Histogram
    hash: str = ""


def calibrate_share(
    scores: Sequence[float], strong_share: float, *, route: str, date: str, versions: Mapping[str, str]
) -> ShareCalibration:
    """The calibration whose share of strong calls is nearest to `strong_share` from below.

    ValueError: fewer than `LEAST_SCORES` scores, or NaN among them.
    """
    if len(scores) < LEAST_SCORES or any(isnan(score) for score in scores):
        raise ValueError(f"{len(scores)} scores; at least {LEAST_SCORES} are needed, without NaN")
    ordered = sorted(scores)
    n = len(ordered)
    spare = int(strong_share * n + 1e-9)
    threshold = ordered[n - 1 - min(spare, n - 1)]
    realised = sum(score > threshold for score in ordered) / n
    slack = _Z * sqrt(realised * (1 - realised) / n)
    made = ShareCalibration(
        route=route,
        strong_share=strong_share,
        threshold=threshold,
        n=n,
        realised=realised,
        interval=(max(0.0, realised - slack), min(1.0, realised + slack)),
        date=date,
        versions=dict(versions),
        reference=histogram(ordered),
    )
    return msgspec.structs.replace(made, hash=_fingerprint(made))


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


def share_path(route: str) -> str:
    """Where the calibration of a route lies, from the policy's folder."""
    return f"certificates/share-{quote(route, safe='')}.json"


def _fingerprint(calibration: ShareCalibration) -> str:
    return sha256(msgspec.json.encode(msgspec.structs.replace(calibration, hash=""), order="sorted")).hexdigest()
