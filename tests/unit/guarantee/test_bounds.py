"""P-values and bounds against exact arithmetic, printed tables, their own definitions and samples of known mean."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.guarantee import bounds

GRADED = ("betting", "bernstein", "hoeffding_bentkus", "clt")


def exact_tail(errors: int, n: int, p: Fraction) -> Fraction:
    return sum((math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(errors + 1)), Fraction(0))


def three_sigma(delta: float, draws: int) -> float:
    return delta + 3 * math.sqrt(delta * (1 - delta) / draws)


@given(st.integers(1, 60), st.data())
def test_the_binomial_tail_is_that_of_rational_arithmetic(n, data):
    errors = data.draw(st.integers(0, n))
    p = data.draw(st.fractions(Fraction(1, 1000), Fraction(999, 1000), max_denominator=1000))
    assert bounds.binomial_tail(errors, n, float(p)) == pytest.approx(float(exact_tail(errors, n, p)), rel=1e-10)


def test_the_binomial_tail_of_many_rows_is_the_sum_of_its_terms():
    n, p = 100_000, 0.01
    for errors in (0, 5, 900, 1000, 1100, 2000):
        log = [
            math.lgamma(n + 1)
            - math.lgamma(k + 1)
            - math.lgamma(n - k + 1)
            + k * math.log(p)
            + (n - k) * math.log1p(-p)
            for k in range(errors + 1)
        ]
        assert bounds.binomial_tail(errors, n, p) == pytest.approx(math.fsum(map(math.exp, log)), rel=1e-7)


def test_the_binomial_tail_holds_at_the_ends():
    assert bounds.binomial_tail(0, 100, 1e-20) == bounds.binomial_tail(3, 3, 0.5) == bounds.binomial_tail(0, 9, 0) == 1
    assert bounds.binomial_tail(-1, 10, 0.5) == bounds.binomial_tail(9, 10, 1) == 0
    assert bounds.binomial_tail(0, 10, 1 - 2**-53) == pytest.approx(0, abs=1e-100)
    assert bounds.binomial_tail(0, 10**7, 1e-7) == pytest.approx(math.exp(-1), rel=1e-6)


def test_the_binomial_tail_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    for errors, n, p in [(0, 10, 0.1), (3, 500, 0.01), (70, 500, 0.2), (990, 100_000, 0.01), (49, 50, 0.999)]:
        assert bounds.binomial_tail(errors, n, p) == pytest.approx(stats.binom.cdf(errors, n, p), rel=1e-9)


@pytest.mark.parametrize(
    ("errors", "n", "delta", "bound"),
    [
        (0, 10, 0.025, 0.3085),  # Clopper-Pearson 95 % two-sided limits, as printed in tables
        (1, 10, 0.025, 0.4450),
        (5, 10, 0.025, 0.8129),
        (10, 10, 0.025, 1.0),
        (0, 299, 0.05, 1 - 0.05 ** (1 / 299)),
    ],
)
def test_the_binomial_bound_is_clopper_and_pearsons(errors, n, delta, bound):
    assert bounds.binomial_upper(errors, n, delta) == pytest.approx(bound, abs=5e-5)


@given(st.integers(1, 400), st.floats(0.001, 0.5), st.floats(0.001, 0.3))
def test_the_critical_number_of_errors_is_the_last_that_proves_the_rate(n, alpha, delta):
    most = bounds.critical_errors(n, alpha, delta)
    assert most < 0 or bounds.binomial_tail(most, n, alpha) <= delta
    assert bounds.binomial_tail(most + 1, n, alpha) > delta


def test_one_percent_at_95_needs_299_rows_without_an_error():
    assert bounds.critical_errors(298, 0.01, 0.05) == -1
    assert bounds.critical_errors(299, 0.01, 0.05) == 0


def test_bernstein_is_maurer_and_pontils_inequality():
    losses = np.random.default_rng(1).uniform(-1, 1, 800)
    bound = bounds.upper_bound("bernstein", losses, 0.05, low=-1)
    log = math.log(2 / 0.05)
    expected = losses.mean() + math.sqrt(2 * losses.var(ddof=1) * log / 800) + 7 * 2 * log / (3 * 799)
    assert bound == pytest.approx(expected, rel=1e-4)


def test_hoeffding_bentkus_is_the_lesser_of_its_two_bounds():
    n, mean, null = 200, 0.05, 0.1
    kl = mean * math.log(mean / null) + (1 - mean) * math.log((1 - mean) / (1 - null))
    bentkus = math.e * bounds.binomial_tail(10, n, null)
    assert bounds.hoeffding_bentkus(mean, n, null) == pytest.approx(min(math.exp(-n * kl), bentkus))
    assert bounds.hoeffding_bentkus(null, n, null) == 1
    assert bounds.hoeffding_bentkus(0.0, n, null) == pytest.approx(0.9**n)


def test_betting_is_the_mean_wealth_of_its_bets():
    losses = np.array([0.0, 0.0, 1.0, 0.25, 0.0] * 20)
    alpha, delta = 0.4, 0.05
    wealths = [np.prod(1 + bet * (alpha - losses)) for bet in bounds.bets(100, delta, 1 - alpha)]
    assert bounds.p_value("betting", losses, alpha) == pytest.approx(1 / np.mean(wealths))


@pytest.mark.parametrize("method", ["binomial", *GRADED])
def test_a_bound_is_where_the_p_value_crosses_delta(method):
    losses = (np.random.default_rng(2).random(700) < 0.1).astype(float)
    bound = bounds.upper_bound(method, losses, 0.05)
    assert losses.mean() < bound < 0.25
    assert bounds.p_value(method, losses, bound) <= 0.05 + 1e-6
    assert bounds.p_value(method, losses, bound - 1e-4) > 0.05


@pytest.mark.parametrize("method", ["binomial", *GRADED])
def test_losses_of_1_prove_nothing_and_no_rows_prove_nothing(method):
    assert bounds.p_value(method, np.ones(600), 0.99) == pytest.approx(1, abs=1e-6)
    assert bounds.upper_bound(method, np.ones(600), 0.05) == pytest.approx(1)
    assert bounds.p_value(method, np.empty(0), 0.5) == 1
    assert bounds.upper_bound(method, np.empty(0), 0.05) == 1


def test_the_normal_approximation_is_not_offered_for_few_rows():
    with pytest.raises(ValueError, match="500"):
        bounds.p_value("clt", np.zeros(499), 0.1)


def test_binomial_refuses_graded_losses_and_weights():
    with pytest.raises(ValueError, match="0 and 1"):
        bounds.p_value("binomial", np.array([0.5]), 0.1)
    with pytest.raises(ValueError, match="weights"):
        bounds.p_value("binomial", np.array([0.0]), 0.1, weights=np.ones(1))


@pytest.mark.parametrize("errors", [0, 1, 2, 5, 20, 100])
@pytest.mark.parametrize("delta", [0.01, 0.05, 0.1])
def test_the_normal_approximation_of_rare_errors_is_no_bolder_than_the_exact_bound(errors, delta):
    losses = np.zeros(100_000)
    losses[:errors] = 1
    assert bounds.upper_bound("clt", losses, delta) >= 0.999 * bounds.binomial_upper(errors, 100_000, delta)


@pytest.mark.parametrize("method", GRADED)
@pytest.mark.parametrize("n", [500, 2000])
@pytest.mark.parametrize(
    "chances",
    [
        {1.0: 0.001},
        {1.0: 0.006, -0.2: 0.02},
        {1.0: 0.05, -1.0: 0.02},
        {1.0: 0.2, -1.0: 0.17},
        {0.3: 0.3, -0.1: 0.5, 1.0: 0.002},
    ],
    ids=["rare", "rare-and-small-gains", "some", "common", "shades"],
)
def test_a_mean_of_exactly_alpha_is_rejected_at_most_delta_of_the_time(method, n, chances):
    """The hardest truth that must not be certified, over 4,000 draws."""
    draws, delta = (4000, 0.05) if method != "hoeffding_bentkus" else (400, 0.05)
    values = np.array([0.0, *chances])
    alpha = sum(value * chance for value, chance in chances.items())
    counts = np.random.default_rng(3).multinomial(n, [1 - sum(chances.values()), *chances.values()], draws)
    if method == "betting":
        gains = np.log1p(np.outer(bounds.bets(n, delta, 1 - alpha), alpha - values))
        p = bounds.wealth_p(gains @ counts.T)
    else:
        sums = bounds.Sums(n, float(n), float(n), counts @ values, counts @ values, counts @ values**2, -1.0)
        p = bounds.moment_p(method, sums.at(alpha), delta)
    assert (p <= delta).mean() <= three_sigma(delta, draws)


@pytest.mark.parametrize("method", GRADED)
def test_equal_weights_change_nothing(method):
    losses = np.random.default_rng(4).choice([-1.0, 0.0, 1.0], 900, p=[0.1, 0.85, 0.05])
    plain = bounds.p_value(method, losses, 0.05, low=-1)
    assert bounds.p_value(method, losses, 0.05, low=-1, weights=np.full(900, 20.0)) == pytest.approx(plain)


@pytest.mark.parametrize("method", ["betting", "bernstein", "clt"])
def test_weights_undo_a_sampling_that_prefers_harmless_rows(method):
    """Rows with a loss are sampled at 20 %, others always: unweighted the mean looks like a third of what it is."""
    rng = np.random.default_rng(5)
    weighted, unweighted, draws = 0, 0, 400
    for _ in range(draws):
        risky = rng.random(3000) < 0.5
        losses = (risky & (rng.random(3000) < 0.2)).astype(float)
        chance = np.where(risky, 0.2, 1.0)
        kept = rng.random(3000) < chance
        weighted += bounds.p_value(method, losses[kept], 0.1, low=-1, weights=1 / chance[kept]) <= 0.05
        unweighted += bounds.p_value(method, losses[kept], 0.1, low=-1) <= 0.05
    assert weighted / draws <= three_sigma(0.05, draws)
    assert unweighted == draws


@pytest.mark.parametrize("method", ["binomial", *GRADED])
def test_more_rows_of_the_same_kind_prove_more(method):
    losses = np.array([1.0] + [0.0] * 99)
    p = list(map(bounds.outlook(method, losses, 0.03), (500, 1000, 4000, 16_000)))
    assert p == sorted(p, reverse=True)
    assert p[-1] < 0.001
