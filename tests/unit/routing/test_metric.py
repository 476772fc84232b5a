"""APGR and CPT against their definition, and against what random and perfect scores must have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.metric import Rows, curve, interval, oracle_curve, random_curve


def by_definition(scores, rows):
    """The published evaluation, step by step."""
    thresholds = np.unique(np.quantile(scores, np.linspace(0, 1, 11)))
    points = []
    for number, threshold in enumerate(thresholds):
        strong = scores > threshold if number == len(thresholds) - 1 else scores >= threshold
        points.append((100 * strong.mean(), np.where(strong, rows.strong, rows.weak).mean()))
    share, quality = map(np.array, zip(*sorted(points), strict=True))
    weak, strong = rows.weak.mean(), rows.strong.mean()
    apgr = np.trapezoid((quality - weak) / (strong - weak), share / 100)
    return apgr, *[float(np.interp(weak + part * (strong - weak), quality, share)) for part in (0.5, 0.8)]


def world(n, seed, *, signal=0.0, distinct=None):
    dice = np.random.default_rng(seed)
    hard = dice.random(n)
    weak = (dice.random(n) > hard).astype(float)
    strong = (dice.random(n) > hard * 0.4).astype(float)
    scores = signal * hard + dice.random(n)
    return (scores if distinct is None else np.round(scores * distinct)), Rows(weak, strong)


@pytest.mark.parametrize(("n", "signal", "distinct"), [(50, 0, None), (500, 1, None), (2_000, 3, None), (400, 1, 3)])
def test_the_figures_are_those_of_the_definition(n, signal, distinct):
    for seed in range(5):
        scores, rows = world(n, seed, signal=signal, distinct=distinct)
        assert curve(scores, rows) == pytest.approx(by_definition(scores, rows))


def test_graded_qualities_count_as_they_are():
    dice = np.random.default_rng(1)
    rows = Rows(dice.random(300), dice.random(300) + 0.3)
    scores = dice.random(300)
    assert curve(scores, rows) == pytest.approx(by_definition(scores, rows))


@given(st.integers(0, 10_000))
def test_only_the_order_of_distinct_scores_matters(seed):
    scores, rows = world(101, seed, signal=1)  # at 101 rows the deciles are rows
    ranks = np.argsort(np.argsort(scores)).astype(float)
    if rows.strong.mean() > rows.weak.mean():
        assert curve(ranks, rows) == pytest.approx(curve(ranks**2, rows))


def test_random_scores_recover_half_and_the_oracle_more_than_any():
    scores, rows = world(4_000, 0, signal=2)
    random, oracle = random_curve(rows, seed=0), oracle_curve(rows)
    assert random.apgr == pytest.approx(0.5, abs=0.02)
    assert (random.cpt50, random.cpt80) == pytest.approx((50, 80), abs=4)
    assert random.apgr < curve(scores, rows).apgr < oracle.apgr


def test_the_interval_holds_the_figure_and_narrows_with_rows():
    widths = []
    for n in (300, 4_800):
        scores, rows = world(n, 3, signal=1)
        low, high = interval(scores, rows, seed=0, resamples=200).apgr
        assert low < curve(scores, rows).apgr < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.4)


def test_the_same_seed_gives_the_same_interval():
    scores, rows = world(200, 0)
    assert interval(scores, rows, seed=1, resamples=50) == interval(scores, rows, seed=1, resamples=50)
    assert interval(scores, rows, seed=1, resamples=50) != interval(scores, rows, seed=2, resamples=50)


@pytest.mark.parametrize(
    ("scores", "weak", "strong", "words"),
    [
        ([], [], [], "at least 1"),
        ([np.nan], [0], [1], "without NaN"),
        ([1, 2], [0], [1], "one length"),
        ([1, 2], [1, 1], [1, 1], "not better"),
        ([1, 2], [1, 1], [0, 1], "not better"),
    ],
)
def test_rows_without_a_gap_have_no_figures(scores, weak, strong, words):
    arrays = [np.array(values, float) for values in (scores, weak, strong)]
    with pytest.raises(ValueError, match=words):
        curve(arrays[0], Rows(*arrays[1:]))
