"""Decides which threshold a labelled sample certifies: Learn then Test, fixed sequence (Angelopoulos et al., 2021).

Candidate thresholds, chosen without the labels, are tested from the safest to the boldest, each for H: mean loss over
all requests >= alpha, at level delta; the walk ends at the first that is not rejected. A threshold whose true loss is
over alpha is accepted only if the first such one in the order is rejected by mistake: at most delta of the time, with
any number of candidates and a loss that need not grow along the way. Knows nothing of files, routes or clocks.
"""

from hashlib import sha256
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from gateway.guarantee import bounds
from gateway.guarantee.bounds import Floats, Method
from gateway.guarantee.certificate import (
    Accept,
    Certificate,
    Histogram,
    Probability,
    Subject,
    histogram,
    seal,
    share_band,
)

MOST_NEEDED: Final = 100_000_000
"""No more rows than this are ever asked for."""
_FEWEST_ACCEPTED: Final = 0.001


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator asks for.

    `loss`: `binary`, 0 or 1; `graded`, in [-1, 1]. Declared, not looked for in the sample: a graded loss may happen to
    show only zeros and ones. `strict`: a graded bound that holds at any n instead of the normal approximation.
    """

    alpha: Probability
    delta: Probability = 0.05
    accept: Accept = "at_least"
    loss: Literal["binary", "graded"] = "binary"
    strict: bool = False


class Sample(NamedTuple):
    """Labelled requests: a random sample of *all* requests of the route, also of those that cannot be accepted.

    `scores` are `float64[n]`, -inf (or inf with `at_most`) where nothing could be accepted. `losses` are `float64[n]`:
    that of accepting the row. `weights` are 1 / the probability with which each row was sampled, up to a constant;
    `None`, all alike.
    """

    scores: Floats
    losses: Floats
    weights: Floats | None = None


class Uncertified(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing passed: why, and about how many labelled rows like these it takes (`None`: no number of them does).

    `n` rows were counted by the bound. The estimate takes the loss seen for the truth: from few rows it is rough.
    """

    reason: str
    n: int
    n_needed: int | None
    alpha: float
    delta: float
    method: str


def candidates(scores: ArrayLike, accept: Accept, count: int = 200) -> Floats:
    """Thresholds from the safest to the boldest: quantiles of unlabelled scores (`float[m]`), finite and different.

    They accept from 0.1 % of the traffic, by steps that grow to 1 / `count`, up to all that have a score.
    """
    key = _keys(np.asarray(scores, dtype=np.float64), accept)
    finite = np.sort(key[np.isfinite(key)])[::-1]
    if not len(finite):
        return np.empty(0)
    few = np.geomspace(_FEWEST_ACCEPTED, 1 / count, 8, endpoint=False)
    shares = np.concatenate([few, np.linspace(1 / count, len(finite) / len(key), count)])
    at = np.minimum(np.ceil(shares * len(key)).astype(np.int64) - 1, len(finite) - 1)
    return _keys(np.unique(finite[np.sort(at)])[::-1], accept)


def tight(thresholds: ArrayLike, scores: ArrayLike, accept: Accept) -> Floats:
    """Of thresholds that accept the same of the scores the safest: what lies beyond the last score seen is not free.

    Such thresholds pass or fail together, so leaving some out does not change how far a walk comes.
    """
    keys = np.sort(_keys(np.asarray(scores, dtype=np.float64), accept))
    ordered = np.sort(_keys(np.asarray(thresholds, dtype=np.float64), accept))[::-1]
    accepted = len(keys) - np.searchsorted(keys, ordered, side="left")
    return _keys(ordered[np.diff(accepted, prepend=-1) > 0], accept)


def data_hash(sample: Sample) -> str:
    """The sha256, in hex, of the rows in their order: what a certificate was computed from."""
    arrays = [sample.scores, sample.losses, *([] if sample.weights is None else [sample.weights])]
    return sha256(b"".join(np.ascontiguousarray(array, dtype="<f8").tobytes() for array in arrays)).hexdigest()


def method_for(target: Target, n: int) -> Method:
    """The bound that a target's losses get, from what was known before the losses were seen."""
    if target.loss == "binary":
        return "binomial"
    return "betting" if target.strict or n < bounds.CLT_FROM else "clt"


def certify(
    sample: Sample,
    thresholds: ArrayLike,
    target: Target,
    subject: Subject,
    *,
    method: Method | None = None,
    unlabelled: ArrayLike | None = None,
    seed: int = 0,
) -> Certificate | Uncertified:
    """The certificate of the boldest threshold that the walk reaches, or why there is none.

    `thresholds` must have been chosen before the losses were seen; infinite ones are left out, order and repetitions do
    not matter. `method` replaces `method_for`'s choice. `unlabelled` scores (not the sample's) make the reference
    histogram. `seed` draws the thinning of weighted binary rows; one seed, not the best of several.
    ValueError: NaN, losses out of range, arrays of different lengths, a method that does not fit.
    """
    _check(sample, target)
    rows = len(sample.scores)
    method = method or method_for(target, rows)
    if method == "binomial":
        if target.loss != "binary":
            raise ValueError("the binomial method is for binary losses")
        sample = thinned(sample, seed)
    walk = _Walk(sample, np.asarray(thresholds, dtype=np.float64), target)
    if not walk.n:
        return walk.uncertified(method, "no labelled requests", n_needed(method, np.zeros(1), target))
    if not len(walk.counts) or not walk.counts[-1]:
        return walk.uncertified(method, "no candidate threshold accepts any labelled request", None)
    last = walk.passed(method, target.alpha) - 1
    if last < 0 or not walk.counts[last]:
        return walk.short(method, rows / walk.n)
    cautious = walk.passed(method, target.alpha / 2) - 1
    share, realised = walk.share(last), walk.mean(last)
    upper = bounds.upper_bound(method, walk.losses_at(last), target.delta, low=walk.low, weights=walk.v)
    return seal(
        Certificate(
            kind=subject.kind,
            route=subject.route,
            alpha=target.alpha,
            delta=target.delta,
            method=method,
            n=walk.n,
            realised=realised,
            realised_accepted=realised / share,
            upper_bound=min(upper, target.alpha),
            threshold=walk.threshold(last),
            accept=target.accept,
            fallback=walk.threshold(cautious) if cautious >= 0 and walk.counts[cautious] else None,
            share_accepted=share,
            share_band=share_band(share, walk.n),
            date=subject.date,
            data_hash=subject.data_hash,
            versions=subject.versions,
            reference=_reference(sample) if unlabelled is None else histogram(np.asarray(unlabelled, float).tolist()),
        )
    )


def _reference(sample: Sample) -> Histogram:
    return histogram(sample.scores.tolist(), weights=None if sample.weights is None else sample.weights.tolist())


def thinned(sample: Sample, seed: int) -> Sample:
    """Rows of equal probability out of weighted ones: a row of weight w is kept with probability w / greatest weight.

    What is left is an unweighted random sample of the traffic, so that exact tests of 0/1 losses apply to it.
    """
    if sample.weights is None or not len(sample.weights):
        return sample._replace(weights=None)
    draws = np.random.default_rng(seed).random(len(sample.weights))
    kept = draws * sample.weights.max() < sample.weights
    return Sample(sample.scores[kept], sample.losses[kept])


def n_needed(method: Method, losses: Floats, target: Target, weights: Floats | None = None) -> int | None:
    """About how many rows like these (at least one) would prove a mean loss below alpha.

    `None` when their own mean is not below it, or more than `MOST_NEEDED` would be needed. With `[0.0]`: the fewest
    rows that can prove it at all.
    """
    low = _low(target)
    v = bounds.shares(weights, len(losses))
    if float((v * losses).sum()) >= target.alpha * float(v.sum()):
        return None

    p_of = bounds.outlook(method, losses, target.alpha, low=low, delta=target.delta, weights=weights)

    def proves(n: int) -> bool:
        return p_of(n) <= target.delta

    enough = 1
    while not proves(enough):
        enough *= 2
        if enough > MOST_NEEDED:
            return None
    short = enough // 2
    while enough - short > 1:
        middle = (short + enough) // 2
        short, enough = (short, middle) if proves(middle) else (middle, enough)
    return enough


class _Walk:
    """The sample, best score first, and what each candidate threshold accepts of it, the safest candidate first."""

    def __init__(self, sample: Sample, thresholds: Floats, target: Target) -> None:
        self.target = target
        self.low = _low(target)
        self.n = len(sample.scores)
        keys = _keys(sample.scores, target.accept)
        order = np.argsort(-keys, kind="stable")
        self.thresholds = np.unique(_keys(thresholds[np.isfinite(thresholds)], target.accept))[::-1]
        self.counts = np.searchsorted(-keys[order], -self.thresholds, side="right")
        self.losses = sample.losses[order]
        self.v = None if sample.weights is None else bounds.shares(sample.weights, self.n)[order]

    def threshold(self, i: int) -> float:
        return float(_keys(self.thresholds[i], self.target.accept))

    def share(self, i: int) -> float:
        """The share of the traffic that candidate i accepts."""
        count = int(self.counts[i])
        return count / self.n if self.v is None else float(self.v[:count].sum() / self.v.sum())

    def mean(self, i: int) -> float:
        """The mean loss of the traffic with candidate i."""
        return float(np.average(self.losses_at(i), weights=self.v))

    def losses_at(self, i: int) -> Floats:
        """Each row's loss with candidate i: 0 where it is not accepted."""
        return np.where(np.arange(self.n) < self.counts[i], self.losses, 0.0)

    def passed(self, method: Method, alpha: float) -> int:
        """How many candidates pass before the first that does not."""
        delta = self.target.delta
        if method == "binomial":
            passes = self._until(self.losses) <= bounds.critical_errors(self.n, alpha, delta)
        elif method == "betting":
            passes = self._betting_p(alpha) <= delta
        else:
            passes = bounds.moment_p(method, self._sums().at(alpha), delta) <= delta
        return len(passes) if passes.all() else int(np.argmin(passes))

    def short(self, method: Method, per_row: float) -> Uncertified:
        """Why not even the safest candidate that accepts anything passes; `per_row`: rows labelled for one counted."""
        i = max(self.passed(method, self.target.alpha), int(np.argmax(self.counts > 0)))
        losses, mean = self.losses_at(i), self.mean(i)
        upper = bounds.upper_bound(method, losses, self.target.delta, low=self.low, weights=self.v)
        needed = n_needed(method, losses, self.target, self.v)
        found = f"the safest threshold that accepts any of {self.n} requests shows a loss of {mean:.4g}"
        reason = f"{found}, at most {upper:.4g} with confidence {1 - self.target.delta:g}: over {self.target.alpha:g}"
        return self.uncertified(method, reason, None if needed is None else int(np.ceil(needed * per_row)))

    def uncertified(self, method: Method, reason: str, needed: int | None) -> Uncertified:
        target = self.target
        return Uncertified(
            reason=reason, n=self.n, n_needed=needed, alpha=target.alpha, delta=target.delta, method=method
        )

    def _until(self, terms: Floats) -> Floats:
        """The sum of the accepted rows' terms, for each candidate."""
        return np.concatenate([[0.0], np.cumsum(terms)])[self.counts]

    def _sums(self) -> bounds.Sums:
        v = np.ones(self.n) if self.v is None else self.v
        vl = v * self.losses
        wl, w2l, w2l2 = self._until(vl), self._until(v * vl), self._until(vl * vl)
        return bounds.Sums(self.n, float(v.sum()), float((v * v).sum()), wl, w2l, w2l2, self.low)

    def _betting_p(self, alpha: float) -> Floats:
        v = np.ones(self.n) if self.v is None else self.v
        wealths = []
        for bet in bounds.bets(self.n, self.target.delta, bounds.HIGH - alpha):
            rejected = np.log1p(bet * alpha * v)
            wealths.append(rejected.sum() + self._until(np.log1p(bet * v * (alpha - self.losses)) - rejected))
        return bounds.wealth_p(np.stack(wealths))


def _low(target: Target) -> float:
    return 0.0 if target.loss == "binary" else -1.0


def _keys(scores: Floats, accept: Accept) -> Floats:
    """Scores of which the greater are the safer, and back."""
    return scores if accept == "at_least" else -scores


def _check(sample: Sample, target: Target) -> None:
    scores, losses, weights = sample
    if not scores.ndim == losses.ndim == 1 or len(scores) != len(losses) or np.isnan(scores).any():
        raise ValueError("scores and losses are two arrays of one length, without NaN")
    if target.loss == "binary" and not np.isin(losses, (0.0, 1.0)).all():
        raise ValueError("binary losses are 0 or 1")
    if not ((losses >= -1) & (losses <= 1)).all():
        raise ValueError("graded losses are in [-1, 1]")
    if weights is not None and (weights.shape != scores.shape or not (np.isfinite(weights) & (weights > 0)).all()):
        raise ValueError("weights are positive numbers, one for each row")
