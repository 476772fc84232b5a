"""A threshold for what 1,000 requests may cost: the most strong calls that keep to it, or the range there is."""

import numpy as np
import pytest

from gateway.core.errors import BadRequest
from gateway.routing.costs import Costs, calibrate_cost, expected, per_thousand

N = 2000
DICE = np.random.default_rng(5)
SCORES = DICE.normal(0.1, 0.2, N)
COSTS = Costs(np.full(N, 100.0), np.full(N, 1000.0))
ALL_WEAK, ALL_STRONG = 100_000, 1_000_000


def made(target, scores=SCORES, costs=COSTS, weights=None):
    return calibrate_cost(scores, costs, weights, target, route="r", date="2026-01-01T00:00:00+00:00", versions={})


@pytest.mark.parametrize(("target", "share"), [(ALL_WEAK, 0.0), (280_000, 0.2), (550_000, 0.5), (910_000, 0.9)])
def test_it_sends_as_many_to_the_strong_target_as_the_money_is_enough_for(target, share):
    found = made(target)
    assert found.realised == pytest.approx(share, abs=1 / N)
    assert found.cost.expected <= target < found.cost.expected + 900_000 / N + 1
    assert (found.target_cost, found.strong_share) == (target, None)


def test_the_interval_is_that_of_other_samples():
    costs = Costs(DICE.exponential(100.0, N), DICE.exponential(1000.0, N))
    found = made(400_000, costs=costs)
    low, high = found.cost.interval
    each = costs.at(SCORES, found.threshold) * 1000
    spread = 1.96 * each.std() / N**0.5
    assert (low, high) == pytest.approx((each.mean() - spread, each.mean() + spread), rel=0.02)


@pytest.mark.parametrize(
    ("target", "says"),
    [(99_999, "the least is \\$0.10/1k, all at the strong target \\$1.00/1k"), (ALL_STRONG, "no choice")],
)
def test_what_cannot_be_reached_is_refused_with_the_range(target, says):
    with pytest.raises(BadRequest, match=says):
        made(target)


def test_requests_count_by_what_they_stand_for():
    """The easy half was sampled one in nine: it is nine tenths of the traffic."""
    scores = np.concatenate([np.linspace(-1, -0.1, 500), np.linspace(0.1, 1, 500)])
    costs = Costs(np.zeros(1000), np.full(1000, 1000.0))
    found = made(100_000, scores, costs, np.repeat([9.0, 1.0], 500))
    assert found.realised == pytest.approx(0.1)
    assert scores[499] <= found.threshold < scores[500]


def test_a_weak_target_that_costs_more_on_some_requests_is_only_used_where_that_pays():
    """With every request the weak one would be dearer than with half of them."""
    scores = np.linspace(0, 1, 1000)
    costs = Costs(np.where(scores < 0.5, 100.0, 3000.0), np.full(1000, 1000.0))
    with pytest.raises(BadRequest, match=r"the least is \$0.55/1k"):
        made(500_000, scores, costs)
    assert made(550_000, scores, costs).realised == pytest.approx(0.5)


def test_ties_go_the_same_way():
    found = made(500_000, np.repeat([0.0, 1.0], 1000))
    assert (found.threshold, found.realised) == (1.0, 0.0)
    assert made(600_000, np.repeat([0.0, 1.0], 1000)).realised == 0.5


def test_too_few_requests_are_no_calibration():
    with pytest.raises(ValueError, match="at least 200"):
        made(550_000, SCORES[:199], Costs(COSTS.weak[:199], COSTS.strong[:199]))


def test_the_cost_at_a_threshold_is_that_of_both_sides():
    found = expected(np.array([0.0, 1.0]), Costs(np.array([1.0, 1.0]), np.array([10.0, 10.0])), None, 0.5)
    assert found.expected == 5500.0
    assert found.interval == (1000.0, 10_000.0)


def test_money_is_written_for_people():
    found = [per_thousand(each) for each in (800_000, 12_345_678, 123_456, 56, 0)]
    assert found == ["$0.80/1k", "$12.35/1k", "$0.123/1k", "$0.000056/1k", "$0.00/1k"]
