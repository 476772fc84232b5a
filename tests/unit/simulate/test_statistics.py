"""Intervals of means, of a ratio of totals, and of a change that only a part shows."""

import random
from math import sqrt

import pytest

from gateway.simulate.statistics import Mean, Pairs, of_part, quantile


@pytest.mark.parametrize(("n", "t"), [(2, 12.706), (3, 4.303), (5, 2.776), (11, 2.228), (31, 2.042), (1001, 1.962)])
def test_quantiles_are_those_of_students_t(n, t):
    assert quantile(n) == pytest.approx(t, rel=0.09 if n == 3 else 0.005)


def test_a_mean_has_the_interval_of_the_textbook():
    mean = Mean()
    for value in (1.0, 2.0, 3.0, 4.0, 5.0):
        mean.add(value)
    found = mean.estimate()
    half = 2.776 * sqrt(2.5 / 5)
    assert found.value == 3.0
    assert (found.low, found.high) == (pytest.approx(3 - half, abs=0.01), pytest.approx(3 + half, abs=0.01))


def test_nothing_has_no_mean_and_one_has_no_interval():
    mean = Mean()
    assert mean.estimate() is None
    mean.add(1.0)
    assert mean.estimate().low is None


def test_the_same_amounts_differ_by_nothing_for_sure():
    pairs = Pairs()
    for cost in (10, 2000, 3, 77):
        pairs.add(cost, cost)
    change = pairs.change()
    assert change.value == 0
    assert change.high == pytest.approx(0, abs=1e-6)


def test_a_change_from_nothing_to_something_is_unknown():
    pairs = Pairs()
    pairs.add(0, 5)
    assert pairs.change() is None


def test_intervals_of_a_ratio_cover_the_truth_as_often_as_they_say():
    dice = random.Random(5)
    covered = 0
    for _ in range(400):
        pairs = Pairs()
        for _ in range(300):
            old = int(dice.lognormvariate(6, 1))
            pairs.add(old, int(old * dice.choice((0.2, 1.0, 1.2))))  # 0.8 in the mean
        change = pairs.change()
        covered += change.low <= -0.2 <= change.high
    assert 0.92 <= covered / 400 <= 0.98


def test_a_part_that_is_labelled_speaks_for_all_that_changed():
    part = Mean()
    for value in [-1.0] * 10 + [0.0] * 30:
        part.add(value)
    found = of_part(part, changed=400, everything=1000)
    assert found.value == pytest.approx(-0.1)
    assert found.low < -0.1 < found.high
    assert found.n == 40


def test_a_change_without_a_label_is_unknown_and_no_change_is_none():
    assert of_part(Mean(), changed=3, everything=10) is None
    assert of_part(Mean(), changed=0, everything=10).value == 0.0
