"""Decides what a certificate says, whether it was altered, and whether it still speaks of the parts that serve.

A certificate is a small JSON file beside the policy, `certificates/<kind>-<route>-<binding>.json`: a route has one for
each promise and set of parts that it was made for. Its hash shows that it was changed by accident or by hand; it is no
signature, and who can write the policy can write a certificate. Everything here fails closed: what cannot be read as a
whole certificate is an error, and the feature it would allow stays off.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from itertools import accumulate
from math import isfinite, isnan, sqrt
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

import msgspec

from gateway.core.errors import PolicyError

Kind = Literal["cache", "routing", "escalation"]
Accept = Literal["at_least", "at_most"]
"""Which scores are accepted: those at least the threshold (a cache hit, a kept draft) or at most (a route to weak)."""

Probability = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

WINDOW: Final = 1000
"""Requests over which the share accepted and the scores of live traffic are looked at."""
_BINDING_DIGITS: Final = 8
_BAND_SLACK: Final = 0.25
_BAND_Z: Final = 3.0


class BadCertificate(PolicyError):
    """A certificate that was altered, cut or is of another format: it certifies nothing."""

    code = "bad_certificate"


class Histogram(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How scores were spread: `shares[i]` of them in (edges[i - 1], edges[i]], the outer bins open. Sums to 1."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]

    def bin_of(self, score: float) -> int:
        """The bin of a score; NaN falls into the last."""
        return len(self.edges) if isnan(score) else bisect_left(self.edges, score)


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a certificate is about.

    `date` is ISO 8601, `data_hash` that of the labelled rows, `versions` those of every part that a score or an answer
    depends on (`encoder`, `verifier`, `head`, the models' names ...).
    """

    kind: Kind
    route: str
    date: str
    data_hash: str
    versions: dict[str, str]


class Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With confidence 1 - delta over the calibration sample, the mean loss over all requests is at most alpha.

    `n` rows were counted by the bound, `realised` is their mean loss, `realised_accepted` the same over the accepted
    ones. `fallback` is where to go when traffic has drifted: the boldest threshold that also passed at half of alpha;
    `None`, accept nothing. `share_band` is where the share accepted in a window of `WINDOW` requests should stay.
    """

    format: Literal[1] = 1
    kind: Kind
    route: str
    alpha: Probability
    delta: Probability
    method: str
    n: Annotated[int, msgspec.Meta(gt=0)]
    realised: float
    realised_accepted: float
    upper_bound: float
    threshold: float
    accept: Accept
    fallback: float | None
    share_accepted: Share
    share_band: tuple[Share, Share]
    date: str
    data_hash: str
    versions: dict[str, str]
    reference: Histogram
    hash: str = ""

    @property
    def issued_s(self) -> float:
        """When it was made, in Unix seconds."""
        return datetime.fromisoformat(self.date).timestamp()

    def accepts(self, score: float) -> bool:
        """Whether a decision of this score is covered; NaN never is."""
        return score >= self.threshold if self.accept == "at_least" else score <= self.threshold


def seal(certificate: Certificate) -> Certificate:
    """The certificate with its hash."""
    return msgspec.structs.replace(certificate, hash=fingerprint(certificate))


def fingerprint(certificate: Certificate) -> str:
    """The sha256, in hex, of the canonical JSON (sorted keys, no spaces, shortest floats) with an empty `hash`."""
    return sha256(msgspec.json.encode(msgspec.structs.replace(certificate, hash=""), order="sorted")).hexdigest()


def dump(certificate: Certificate) -> bytes:
    """The file of a sealed certificate: indented JSON, one newline at the end."""
    return msgspec.json.format(msgspec.json.encode(certificate), indent=2) + b"\n"


def load(data: bytes, name: str = "certificate") -> Certificate:
    """The certificate in a file, which the errors call `name`. BadCertificate: not one, or not as it was sealed."""
    try:
        certificate = msgspec.json.decode(data, type=Certificate)
    except msgspec.DecodeError as exc:
        raise BadCertificate(f"{name}: not a certificate ({exc}); calibrate the route again") from exc
    if certificate.hash != fingerprint(certificate):
        raise BadCertificate(f"{name}: was changed after it was sealed; restore the file or calibrate the route again")
    if certificate.upper_bound > certificate.alpha:
        raise BadCertificate(f"{name}: its upper bound is over its alpha; calibrate the route again")
    return certificate


def path_of(kind: str, route: str, binding: str | None = None) -> str:
    """Where a certificate of a route lies, from the policy's folder; a name without binding serves as well."""
    name = f"{kind}-{quote(route, safe='')}"
    return f"certificates/{name}.json" if binding is None else f"certificates/{name}-{binding}.json"


def bound_to(promise: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """What a calibration is for, in eight hex digits: the promise and the parts.

    A newer one for the same has the same name and takes its place; those for other policies keep theirs.
    """
    of = msgspec.json.encode([promise, versions], order="sorted")
    return sha256(of).hexdigest()[:_BINDING_DIGITS]


def binding_of(alpha: float, delta: float, versions: Mapping[str, str]) -> str:
    """That of a certificate."""
    return bound_to({"alpha": alpha, "delta": round(delta, 12)}, versions)


def voids(certified: Mapping[str, str], versions: Mapping[str, str]) -> str | None:
    """Why what was certified for the first versions does not speak of parts with the second; `None` when it does."""
    for part in sorted(certified.keys() | versions.keys()):
        then, now = certified.get(part), versions.get(part)
        if then != now:
            return f"{part} was {then or 'absent'} when certified and is {now or 'absent'}"
    return None


def histogram(scores: Iterable[float], bins: int = 10, weights: Iterable[float] | None = None) -> Histogram:
    """The deciles of scores; infinite ones fall into the outer bins. `weights`: how many requests each stands for.

    ValueError: no scores, or NaN among them.
    """
    rows = sorted(zip(scores, weights, strict=True)) if weights is not None else sorted((each, 1.0) for each in scores)
    if not rows or any(isnan(score) for score, _ in rows):
        raise ValueError("a histogram needs scores, without NaN")
    ordered = [score for score, _ in rows]
    up_to = [0.0, *accumulate(weight for _, weight in rows)]
    total = up_to[-1]
    cuts = {ordered[min(bisect_right(up_to, total * i / bins) - 1, len(ordered) - 1)] for i in range(1, bins)}
    edges = tuple(sorted(cut for cut in cuts if isfinite(cut)))
    ends = [up_to[bisect_right(ordered, edge)] for edge in edges]
    return Histogram(edges, tuple((b - a) / total for a, b in zip([0.0, *ends], [*ends, total], strict=True)))


def share_band(share: float, n: int) -> tuple[float, float]:
    """Where the share accepted in a window of traffic should stay.

    A quarter of it more or less (of the share that is not accepted, where that is smaller), and three standard errors
    of the window and of the `n` calibration rows.
    """
    slack = _BAND_SLACK * min(share, 1 - share) + _BAND_Z * sqrt(share * (1 - share) * (1 / WINDOW + 1 / n))
    return max(0.0, share - slack), min(1.0, share + slack)
