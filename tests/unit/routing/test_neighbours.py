"""When labelled neighbours speak, what they say, and how much it counts."""

import numpy as np
import pytest

from gateway.routing.fit import blended
from gateway.routing.neighbours import LEAST, NEAR, PRIOR, K, Local, blend, local_gain


def test_few_or_far_neighbours_say_nothing():
    assert local_gain(np.full(LEAST - 1, 0.9), np.ones(LEAST - 1)) is None
    assert local_gain(np.full(100, NEAR - 0.01), np.ones(100)) is None
    assert local_gain(np.empty(0), np.empty(0)) is None


def test_equal_neighbours_are_worth_their_number():
    found = local_gain(np.full(40, 0.8), np.repeat([1.0, 0.0], 20))
    assert found == pytest.approx(Local(0.5, 40))


def test_nearer_neighbours_count_more():
    found = local_gain(np.repeat([0.9, 0.4], 20), np.repeat([1.0, 0.0], 20))
    assert found.gain > 0.9
    assert 20 < found.worth < 26


def test_a_head_stands_alone_without_neighbours_and_moves_with_what_they_are_worth():
    assert blend(0.3, None) == 0.3
    assert blend(0.0, Local(1.0, PRIOR)) == pytest.approx(0.5)
    assert blend(0.0, Local(1.0, PRIOR * 9)) == pytest.approx(0.9)


def test_in_bulk_each_row_gets_what_serving_gives_it():
    dice = np.random.default_rng(0)
    known = dice.normal(size=(3_000, 6))
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    lonely = np.eye(6)[:1] * -1
    known[known[:, 0] < 0] *= -1
    gains, asked = dice.normal(size=3_000), np.concatenate([known[:20], lonely])
    found = blended(np.full(21, 0.4), known, gains, asked)
    for row, score in zip(asked, found, strict=True):
        nearest = np.argsort(-(known @ row))[:K]
        assert score == pytest.approx(blend(0.4, local_gain((known @ row)[nearest], gains[nearest])))
    assert found[-1] == 0.4
