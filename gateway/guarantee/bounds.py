"""Decides what a sample of bounded losses proves about their mean: one-sided p-values and upper confidence bounds.

Knows nothing of scores, thresholds or routes. All tests are of H: mean loss >= alpha, so a small p-value says that the
mean is below alpha. The sample must be independent draws from one distribution.

| method | losses | holds | p-value |
|---|---|---|---|
| `binomial` | 0 or 1 | exactly, at any n | P(Bin(n, alpha) <= errors); inverted, Clopper and Pearson (1934) |
| `betting` | in [low, 1] | at any n | 1 / wealth of a mixture of bets against H (Waudby-Smith and Ramdas, 2024) |
| `bernstein` | in [low, 1] | at any n | Maurer and Pontil (2009), theorem 4 |
| `hoeffding_bentkus` | in [low, 1] | at any n | Bates et al. (2021), section 3.1.1 |
| `clt` | in [low, 1] | approximately, n >= 500 | normal, with `_pseudo` worst losses added against rare errors |

**Weights.** A row of weight w is one that was sampled with probability proportional to 1/w. A mean of alpha under the
unweighted distribution is E[w (loss - alpha)] = 0 under the sampled one, and w (loss - alpha) is bounded by the
greatest weight; the four graded methods test that mean, so they hold with weights as without and need no total. The
binomial method takes no weights: `certify` thins the rows to equal probability first.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Method = Literal["binomial", "betting", "bernstein", "hoeffding_bentkus", "clt"]

CLT_FROM: Final = 500
"""Rows below which the normal approximation is not offered."""
HIGH: Final = 1.0
"""The worst loss of all."""
_BETS: Final = 8
_BET_STEP: Final = 1.6
_EPSILON: Final = 1e-15
_TINY: Final = 1e-300
_TERMS: Final = 10_000
"""Enough of the continued fraction for n of 10^7."""
_RESOLUTION: Final = 1e-5
"""How close, relatively, an upper bound is computed; always rounded up."""


class Moments(NamedTuple):
    """`n` draws of values in [low, high], low < 0 < high, by their means and variances (`float64[m]`, m samples).

    The variances are those of the sample, divided by n - 1. H is that the mean is at least 0.
    """

    n: int
    mean: Floats
    variance: Floats
    low: float
    high: float


class Sums(NamedTuple):
    """What of `n` rows the graded methods but `betting` read, for m samples at once (`float64[m]` or a number).

    `w*` are sums of weights v = weight / greatest weight, `wl` of v * loss, and so on. Losses are in [low, 1].
    """

    n: int
    w: float
    w2: float
    wl: Floats
    w2l: Floats
    w2l2: Floats
    low: float

    def at(self, alpha: float) -> Moments:
        """The moments of v * (loss - alpha)."""
        total = self.wl - alpha * self.w
        squares = self.w2l2 - 2 * alpha * self.w2l + alpha * alpha * self.w2
        mean = total / self.n
        variance = np.maximum(squares - total * mean, 0.0) / max(self.n - 1, 1)
        return Moments(self.n, mean, variance, self.low - alpha, HIGH - alpha)


def sums_of(losses: Floats, low: float, weights: Floats | None = None) -> Sums:
    """The sums of one sample of at least one row."""
    v = shares(weights, len(losses))
    vl = v * losses
    wl, w2l, w2l2 = (np.array([terms.sum()]) for terms in (vl, v * vl, vl * vl))
    return Sums(len(losses), float(v.sum()), float((v * v).sum()), wl, w2l, w2l2, low)


def shares(weights: Floats | None, n: int) -> Floats:
    """Each row's weight as a share of the greatest."""
    return np.ones(n) if weights is None else weights / weights.max()


def p_value(
    method: Method,
    losses: Floats,
    alpha: float,
    *,
    low: float = 0.0,
    delta: float = 0.05,
    weights: Floats | None = None,
) -> float:
    """How well the sample agrees with a mean loss of `alpha` or more; 1 for an empty one.

    `delta` is the level at which the answer will be used: `clt` and `betting` are tuned to it, all are valid there.
    `low` is the least possible loss. ValueError: a method that does not fit the sample.
    """
    _fits(method, losses, weights)
    if not len(losses):
        return 1.0
    if method == "binomial":
        return binomial_tail(int(losses.sum()), len(losses), alpha)
    if method == "betting":
        return float(wealth_p(_log_wealth(losses, shares(weights, len(losses)), alpha, delta)))
    return float(moment_p(method, sums_of(losses, low, weights).at(alpha), delta)[0])


def upper_bound(
    method: Method, losses: Floats, delta: float, *, low: float = 0.0, weights: Floats | None = None
) -> float:
    """What the mean loss is below with confidence 1 - `delta`: the least alpha whose p-value is at most `delta`."""
    _fits(method, losses, weights)
    if not len(losses):
        return HIGH
    if method == "binomial":
        return binomial_upper(int(losses.sum()), len(losses), delta)
    v = shares(weights, len(losses))
    mean = float((v * losses).sum() / v.sum())
    if method == "betting":
        rows, v, counts = _distinct(losses, v)
        return _least(lambda alpha: bool(wealth_p(_log_wealth(rows, v, alpha, delta, counts)) <= delta), mean, HIGH)
    sums = sums_of(losses, low, weights)
    return _least(lambda alpha: bool(moment_p(method, sums.at(alpha), delta)[0] <= delta), mean, HIGH)


def outlook(
    method: Method,
    losses: Floats,
    alpha: float,
    *,
    low: float = 0.0,
    delta: float = 0.05,
    weights: Floats | None = None,
) -> Callable[[int], float]:
    """From a number of rows to the p-value that they have if spread like these (at least one); 1 where not offered."""
    _fits(method, losses, weights)
    if method == "binomial":
        rate = float(losses.mean())
        return lambda n: binomial_tail(math.ceil(n * rate - 1e-9), n, alpha)
    if method == "betting":
        rows, v, counts = _distinct(losses, shares(weights, len(losses)))
        return lambda n: float(wealth_p(_log_wealth(rows, v, alpha, delta, counts * (n / len(losses)))))
    moments = sums_of(losses, low, weights).at(alpha)
    if method == "clt":
        return lambda n: float(_clt(moments._replace(n=n), delta)[0]) if n >= CLT_FROM else 1.0
    return lambda n: float(moment_p(method, moments._replace(n=n), delta)[0])


def moment_p(method: Method, moments: Moments, delta: float) -> Floats:
    """The p-values of a method that needs only moments. `float64[m]`, in [0, 1]."""
    if method == "bernstein":
        return _bernstein(moments)
    if method == "hoeffding_bentkus":
        span = moments.high - moments.low
        null = -moments.low / span
        means = (moments.mean - moments.low) / span
        return np.array([hoeffding_bentkus(float(mean), moments.n, null) for mean in means])
    if method == "clt":
        return _clt(moments, delta)
    raise ValueError(f"{method} needs more than moments")


def binomial_tail(errors: int, n: int, p: float) -> float:
    """P(Bin(n, p) <= errors), by the continued fraction of the incomplete beta function."""
    if errors < 0:
        return 0.0
    if errors >= n or p <= 0:
        return 1.0
    if p >= 1:
        return 0.0
    return _incomplete_beta(n - errors, errors + 1, 1 - p, p)


@lru_cache(maxsize=4096)  # resampling studies ask the same again and again
def binomial_upper(errors: int, n: int, delta: float) -> float:
    """Clopper and Pearson's upper bound: the greatest p with P(Bin(n, p) <= errors) >= delta; 1 when all are errors."""
    if errors >= n:
        return 1.0
    return _least(lambda p: binomial_tail(errors, n, p) <= delta, errors / n, 1.0)


@lru_cache(maxsize=4096)
def critical_errors(n: int, alpha: float, delta: float) -> int:
    """The most errors with which n rows still prove a rate below alpha; -1 when even none would not."""
    if binomial_tail(0, n, alpha) > delta:
        return -1
    passes, fails = 0, n
    while fails - passes > 1:
        middle = (passes + fails) // 2
        if binomial_tail(middle, n, alpha) <= delta:
            passes = middle
        else:
            fails = middle
    return passes


def hoeffding_bentkus(mean: float, n: int, null: float) -> float:
    """The p-value of H: mean >= null for n values in [0, 1]: the lesser of Hoeffding's tight bound and Bentkus'."""
    mean = min(max(mean, 0.0), 1.0)
    if mean >= null:
        return 1.0
    kl = (mean * math.log(mean / null) if mean > 0 else 0.0) + (
        (1 - mean) * math.log((1 - mean) / (1 - null)) if null < 1 else math.inf
    )
    # Rounding must not lift a whole number of errors to the next.
    errors = math.ceil(n * mean - 1e-9)
    return min(1.0, math.exp(-n * kl), math.e * binomial_tail(errors, n, null))


def bets(n: int, delta: float, high: float) -> Floats:
    """The stakes of the betting method, for n values that are at most `high` over the null.

    With a variance of s^2 the bet sqrt(2 ln(1 / delta) / n) / s needs the least gap to win 1 / delta: bets for s from
    1 down, as far as none is ruined by a single worst loss. From n alone, never from the losses.
    """
    wanted = math.sqrt(2 * math.log(1 / delta) / n) * _BET_STEP ** np.arange(_BETS)
    return np.asarray(np.minimum(wanted, (1 - 1 / (n + 1)) / high))


def wealth_p(log_wealth: Floats) -> Floats:
    """1 / the mean of the bets' wealths, at most 1, from their logarithms (`float64[bets, m]` or `float64[bets]`)."""
    top = log_wealth.max(axis=0)
    log_mean = top + np.log(np.exp(log_wealth - top).mean(axis=0))
    return np.asarray(np.exp(-np.maximum(log_mean, 0.0)))


def _log_wealth(losses: Floats, v: Floats, alpha: float, delta: float, counts: Floats | None = None) -> Floats:
    """What each bet has made of 1, as a logarithm; row i counts `counts[i]` times."""
    n = len(losses) if counts is None else round(counts.sum())
    gains = np.log1p(np.outer(bets(n, delta, HIGH - alpha), v * (alpha - losses)))
    return gains @ (np.ones(n) if counts is None else counts)


def _distinct(losses: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
    """The different rows and how often each occurs: few, where losses are 0 and 1 or -1."""
    rows, counts = np.unique(losses + 1j * v, return_counts=True)
    return rows.real, rows.imag, counts.astype(np.float64)


def _bernstein(moments: Moments) -> Floats:
    """Solves mean + sqrt(2 V x / n) + 7 span x / (3 (n - 1)) = 0 for x = ln(2 / p)."""
    n = moments.n
    if n < 2:
        return np.ones_like(moments.mean)
    slow = np.sqrt(2 * moments.variance / n)
    fast = 7 * (moments.high - moments.low) / (3 * (n - 1))
    gap = np.maximum(-moments.mean, 0.0)
    root = 2 * gap / (slow + np.sqrt(slow * slow + 4 * fast * gap) + _TINY)
    return np.asarray(np.minimum(1.0, 2 * np.exp(-root * root)))


def _pseudo(delta: float) -> float:
    """How many worst losses `clt` adds: (z^2 + 2) / 3.

    With them the normal bound k + c + z sqrt(k + c) of a Poisson count k meets or exceeds the exact one (its expansion
    is k + z sqrt(k) + (z^2 + 2) / 3 + ...), at k = 0 too, where the plain normal bound is 0 and proves anything.
    """
    z = NormalDist().inv_cdf(1 - delta)
    return (z * z + 2) / 3


def _clt(moments: Moments, delta: float) -> Floats:
    if moments.n < CLT_FROM:
        raise ValueError(f"clt needs {CLT_FROM} rows")
    extra = _pseudo(delta)
    n = moments.n + extra
    mean = (moments.n * moments.mean + extra * moments.high) / n
    squares = (moments.n - 1) * moments.variance + moments.n * moments.mean**2 + extra * moments.high**2
    error = np.sqrt(np.maximum(squares / n - mean * mean, _TINY) / n)
    return np.array([0.5 * math.erfc(z / math.sqrt(2)) for z in -mean / error])


def _fits(method: Method, losses: Floats, weights: Floats | None) -> None:
    if method == "binomial" and (weights is not None or not np.isin(losses, (0.0, 1.0)).all()):
        raise ValueError("binomial is for losses of 0 and 1 without weights")


def _least(passes: Callable[[float], bool], fails: float, until: float) -> float:
    """The least number in (fails, until] that passes, from above; `until` when none below it does."""
    for _ in range(60):
        middle = (fails + until) / 2
        if until - fails < _RESOLUTION * max(abs(until), _RESOLUTION):
            break
        if passes(middle):
            until = middle
        else:
            fails = middle
    return until


def _incomplete_beta(a: float, b: float, x: float, y: float) -> float:
    """The regularised incomplete beta function I_x(a, b), y = 1 - x > 0 (Numerical Recipes, 3rd edition, 6.4)."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, y, x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(y)
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, _TERMS):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away_from_zero(1 + numerator * d)
            c = _away_from_zero(1 + numerator / c)
            fraction *= c * d
        if abs(c * d - 1) < _EPSILON:
            break
    return min(1.0, math.exp(front) * fraction / a)


def _away_from_zero(x: float) -> float:
    return x if abs(x) > _TINY else _TINY
